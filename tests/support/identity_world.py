"""Identity without a process: its two halves over a store, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from services.identity.adapters.memory import (
    CountedValues,
    MemoryStore,
    NoSignature,
    NoTokens,
    RecordingObserver,
    SetClock,
)
from services.identity.core.actions import Actions
from services.identity.core.administration import Administration, KeyWish, Rules
from services.identity.core.checkpoints import Signer
from services.identity.core.model import GRANTABLE_ROLES, Actor, Key, Scopes
from services.identity.core.notary import Notary
from services.identity.core.ports import Randomness, Store, Tokens
from services.identity.core.proofs import Proofs
from services.identity.core.secret_keys import Peppers
from services.identity.core.service import Identity

START = datetime(2026, 11, 28, 12, tzinfo=UTC)
PEPPERS = Peppers({"old": "an-older-pepper-of-tests", "new": "the-pepper-of-all-tests"}, "new")
RULES = Rules(
    platform="platform",
    default_overlap=timedelta(hours=1),
    max_overlap=timedelta(days=1),
    max_keys=5,
    request_retention=timedelta(days=7),
    checkpoint_events=4,
)
ADMIN = Actor("platform", "", "admin", GRANTABLE_ROLES)
ACME = Actor("acme", "ada", "acme-operator", frozenset({"operator", "caller"}))
GLOBEX = Actor("globex", "", "globex-operator", frozenset({"operator", "caller"}))
WISH = KeyWish("", "", "", "", ("caller",), Scopes(), "", None)


@dataclass
class World:
    """One replica of identity."""

    store: Store = field(default_factory=MemoryStore)
    clock: SetClock = field(default_factory=lambda: SetClock(START))
    peppers: Peppers = PEPPERS
    tokens: Tokens = field(default_factory=NoTokens)
    signer: Signer = field(default_factory=NoSignature)
    rules: Rules = RULES
    randomness: Randomness = field(default_factory=CountedValues)
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    def __post_init__(self) -> None:
        self._numbers = count(1)
        notary = Notary(self.store, self.clock, self.signer, self.observer, "test/audit")
        self.identity = Identity(
            self.store, self.peppers, self.tokens, self.clock, notary, self.observer, self.rules, 2
        )
        self.proofs = Proofs(self.store, self.rules)
        self.actions = Actions(self.store, self.clock, notary, self.observer, self.rules)
        self.administration = Administration(
            self.store,
            self.peppers,
            self.randomness,
            self.clock,
            notary,
            self.observer,
            self.rules,
            self.identity.feed.beat,
        )

    def request_id(self) -> str:
        return f"r-{next(self._numbers)}"

    async def organisation(self, name: str) -> None:
        await self.administration.create_organisation(ADMIN, self.request_id(), name, "")

    async def key(self, actor: Actor = ACME, **wish: Any) -> tuple[Key, str]:
        return await self.administration.create_key(actor, self.request_id(), WISH._replace(**wish))

    async def who(self, credential: str) -> str:
        """The key that a credential is of, or "nobody"."""
        answer = await self.identity.authenticate(credential)
        return answer.who.key_id if answer.who is not None else "nobody"

    def replica(self, **changed: Any) -> World:
        """Another replica on the same store."""
        return replace(self, observer=RecordingObserver(), **changed)
