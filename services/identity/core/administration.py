"""What people change: decided from what is stored and who asks, one after the other over all replicas.

What a caller may do is decided before the store is asked, so no answer tells what exists elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from services.identity.core import audit, rights
from services.identity.core.audit import Deed
from services.identity.core.encoding import Entity, for_audit, from_plain, to_plain
from services.identity.core.errors import AlreadyExists, InvalidRequest, KeyEnded, NotFound, RequestIdReused
from services.identity.core.model import SETTLING, Actor, Key, KeySecret, Organisation, Scopes, Team, User, earliest
from services.identity.core.notary import Notary
from services.identity.core.ports import Books, Clock, Observer, PastRequest, Randomness, Store, Written
from services.identity.core.secret_keys import Peppers, has_key, key_text

# Whoever comes by token works without being known, and can be disabled when they are.
_UNKNOWN_USER = "ListUsers names those that there are; make one known who comes by token with CreateUser first"

E = TypeVar("E", Organisation, Team, User, Key)
# Secrets that a key keeps: its newest and those that rotation has not ended yet.
MAX_SECRETS = 4
_BOOTSTRAP_ROLES = ("approver", "auditor", "author", "caller", "operator", "publisher", "viewer")


class KeyWish(NamedTuple):
    """A key as it is asked for."""

    organisation: str
    team: str
    user: str
    display_name: str
    roles: tuple[str, ...]
    scopes: Scopes
    guard_policy: str
    expire_time: datetime | None


class UserChange(NamedTuple):
    """What to change about a user; None stays."""

    team: str | None
    display_name: str | None
    disabled: bool | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration decides."""

    platform: str
    default_overlap: timedelta
    max_overlap: timedelta
    max_keys: int
    request_retention: timedelta
    checkpoint_events: int


class Change(NamedTuple):
    """What a mutation comes to: what is written, what is answered, and what the log says."""

    entities: tuple[Entity, ...]
    deed: Deed
    secret: str = ""


class Administration:
    """The mutations. Each is one transaction with its audit event; a repetition gets the first answer."""

    def __init__(
        self,
        store: Store,
        peppers: Peppers,
        randomness: Randomness,
        clock: Clock,
        notary: Notary,
        observer: Observer,
        rules: Rules,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called after each mutation: watchers look at once."""
        self._store = store
        self._peppers = peppers
        self._randomness = randomness
        self._clock = clock
        self._notary = notary
        self._observer = observer
        self._rules = rules
        self._on_change = on_change

    async def create_organisation(self, actor: Actor, request_id: str, name: str, display_name: str) -> Organisation:
        """See identity.proto."""
        rights.require_platform(actor, self._rules.platform, "create organisations")

        async def decide(books: Books) -> Change:
            if await books.organisation(name) is not None:
                raise AlreadyExists("organisation", name)
            made = Organisation(name, display_name, self._clock.now())
            return Change((made,), Deed("organisation.create", name, f"organisation/{name}", {}, for_audit(made)))

        return (await self._do(actor, request_id, Organisation, [name, display_name], decide))[0]

    async def create_team(self, actor: Actor, request_id: str, organisation: str, name: str, display_name: str) -> Team:
        """See identity.proto."""
        owner = self._owner(actor, organisation)

        async def decide(books: Books) -> Change:
            if await books.team(owner, name) is not None:
                raise AlreadyExists("team", name)
            made = Team(owner, name, display_name, self._clock.now())
            deed = Deed("team.create", owner, f"team/{name}", {}, for_audit(made))
            return Change((*await self._own(books, actor, owner), made), deed)

        return (await self._do(actor, request_id, Team, [owner, name, display_name], decide))[0]

    async def create_user(
        self, actor: Actor, request_id: str, organisation: str, name: str, team: str, display_name: str
    ) -> User:
        """See identity.proto."""
        owner = self._owner(actor, organisation)

        async def decide(books: Books) -> Change:
            own = await self._own(books, actor, owner)
            await _require_team(books, owner, team)
            if await books.user(owner, name) is not None:
                raise AlreadyExists("user", name)
            made = User(owner, name, team, display_name, disabled=False, create_time=self._clock.now())
            return Change((*own, made), Deed("user.create", owner, f"user/{name}", {}, for_audit(made)))

        return (await self._do(actor, request_id, User, [owner, name, team, display_name], decide))[0]

    async def update_user(
        self, actor: Actor, request_id: str, organisation: str, name: str, change: UserChange
    ) -> User:
        """See identity.proto."""
        owner = self._owner(actor, organisation)

        async def decide(books: Books) -> Change:
            user = await books.user(owner, name)
            if user is None:
                raise NotFound("user", name, _UNKNOWN_USER)
            if change.team is not None:
                await _require_team(books, owner, change.team)
            disabled = user.disabled if change.disabled is None else change.disabled
            changed = replace(
                user,
                team=user.team if change.team is None else change.team,
                display_name=user.display_name if change.display_name is None else change.display_name,
                disabled=disabled,
                disable_time=(user.disable_time or self._clock.now()) if disabled else None,
            )
            deed = Deed("user.update", owner, f"user/{name}", for_audit(user), for_audit(changed))
            return Change((changed,), deed)

        return (await self._do(actor, request_id, User, [owner, name, *change], decide))[0]

    async def create_key(self, actor: Actor, request_id: str, asked: KeyWish) -> tuple[Key, str]:
        """The key and its secret; without the secret when the request is a repetition. See identity.proto."""
        owner = self._owner(actor, asked.organisation)
        wish = asked._replace(
            organisation=owner,
            roles=tuple(sorted(set(asked.roles) or {"caller"})),
            guard_policy=asked.guard_policy or actor.guard_policy,
            # No key outlives the credential that made it.
            expire_time=earliest(asked.expire_time, actor.expire_time),
        )
        rights.require_grant(actor, wish.roles, wish.scopes, wish.guard_policy)
        payload = [*wish[:5], _scopes_text(wish.scopes), wish.guard_policy, str(asked.expire_time)]

        async def decide(books: Books) -> Change:
            now = self._clock.now()
            if wish.expire_time is not None and wish.expire_time <= now:
                raise InvalidRequest("expire_time", "has passed already; leave it out for a key that does not end")
            own = await self._own(books, actor, owner)
            team = await self._subject(books, wish)
            key, secret = self._new_key(wish._replace(team=team), now)
            return Change((*own, key), Deed("key.create", owner, f"key/{key.key_id}", {}, for_audit(key)), secret)

        return await self._do(actor, request_id, Key, payload, decide)

    async def rotate_key(
        self, actor: Actor, request_id: str, organisation: str, key_id: str, overlap: timedelta | None
    ) -> tuple[Key, str]:
        """The key with a new secret, as `create_key`. See identity.proto."""
        owner = self._owner(actor, organisation)
        grace = self._rules.default_overlap if overlap is None else overlap
        if not timedelta(0) <= grace <= self._rules.max_overlap:
            raise InvalidRequest("overlap", f"must be between 0 and {self._rules.max_overlap.total_seconds():.0f} s")

        async def decide(books: Books) -> Change:
            key = await _existing_key(books, owner, key_id)
            # Whoever rotates a key holds its secret: that must not be a way to more.
            rights.require_grant(actor, key.roles, key.scopes, key.guard_policy)
            rights.require_lasting(actor, key.expire_time)
            now = self._clock.now()
            _require_live(key, now)
            fresh, secret = self._new_secret(now)
            ending = [replace(s, expire_time=earliest(s.expire_time, now + grace)) for s in key.secrets]
            working = [s for s in ending if s.expire_time is not None and s.expire_time > now - SETTLING]
            rotated = replace(key, secrets=(*working[-(MAX_SECRETS - 1) :], fresh))
            deed = Deed("key.rotate", owner, f"key/{key_id}", for_audit(key), for_audit(rotated))
            return Change((rotated,), deed, secret)

        return await self._do(actor, request_id, Key, [owner, key_id, grace.total_seconds()], decide)

    async def revoke_key(self, actor: Actor, request_id: str, organisation: str, key_id: str) -> Key:
        """See identity.proto."""
        owner = self._owner(actor, organisation)

        async def decide(books: Books) -> Change:
            key = await _existing_key(books, owner, key_id)
            revoked = replace(key, revoke_time=key.revoke_time or self._clock.now())
            deed = Deed("key.revoke", owner, f"key/{key_id}", for_audit(key), for_audit(revoked))
            return Change((revoked,), deed)

        return (await self._do(actor, request_id, Key, [owner, key_id], decide))[0]

    async def bootstrap(self) -> str:
        """On an empty store: the platform's organisation and a key for its first administrator. Returns the secret.

        Replicas that start together make one; whoever comes second, and every later start, gets "".
        """
        platform = self._rules.platform
        actor = Actor(platform, "", "bootstrap", frozenset(_BOOTSTRAP_ROLES))
        if await self._store.revision():
            return ""
        async with self._store.changing() as books:
            if books.revision:
                return ""
            now = self._clock.now()
            wish = KeyWish(platform, "", "", "first administrator", _BOOTSTRAP_ROLES, Scopes(), "", None)
            key, secret = self._new_key(wish, now)
            home = Organisation(platform, "", now)
            deed = Deed("bootstrap", platform, f"key/{key.key_id}", {}, for_audit(key))
            await self._write(books, Change((home, key), deed), actor, "bootstrap", None)
        self._on_change()
        return secret

    def _owner(self, actor: Actor, organisation: str) -> str:
        return rights.organisation_of(actor, organisation, self._rules.platform)

    async def _own(self, books: Books, actor: Actor, owner: str) -> Sequence[Entity]:
        """Nothing, or the actor's own organisation where only the configuration's keys knew it until now."""
        if await books.organisation(owner) is not None:
            return ()
        if owner != actor.organisation:
            raise NotFound("organisation", owner, "CreateOrganisation makes it")
        return (Organisation(owner, "", self._clock.now()),)

    async def _subject(self, books: Books, wish: KeyWish) -> str:
        """Checks whom a key is for. Returns its team."""
        team = wish.team
        if wish.user:
            user = await books.user(wish.organisation, wish.user)
            if user is None:
                raise NotFound("user", wish.user, "CreateUser makes it")
            if user.disabled:
                raise InvalidRequest("user", f"{wish.user} is disabled; enable the user first")
            team = team or user.team
        await _require_team(books, wish.organisation, team)
        if await books.live_keys(wish.organisation, self._clock.now()) >= self._rules.max_keys:
            raise InvalidRequest(
                "organisation", f"has {self._rules.max_keys} keys, as many as identity.max_keys allows; revoke some"
            )
        return team

    def _new_key(self, wish: KeyWish, now: datetime) -> tuple[Key, str]:
        fresh, secret = self._new_secret(now)
        key = Key(
            key_id=f"key-{self._randomness.hex(8)}",
            organisation=wish.organisation,
            team=wish.team,
            user=wish.user,
            display_name=wish.display_name,
            roles=tuple(wish.roles),
            scopes=wish.scopes,
            guard_policy=wish.guard_policy,
            create_time=now,
            expire_time=wish.expire_time,
            secrets=(fresh,),
        )
        return key, secret

    def _new_secret(self, now: datetime) -> tuple[KeySecret, str]:
        prefix = self._randomness.hex(8)
        text = key_text(prefix, self._randomness.secret())
        pepper_id = self._peppers.current
        return KeySecret(prefix, pepper_id, self._peppers.digest(pepper_id, text), now), text

    async def _do(
        self,
        actor: Actor,
        request_id: str,
        kind: type[E],
        payload: Sequence[object],
        decide: Callable[[Books], Awaitable[Change]],
    ) -> tuple[E, str]:
        refuse_unkeepable(request_id, payload)
        digest = hashlib.sha256(audit.canonical([kind.__name__, *payload]).encode()).hexdigest()
        async with self._store.changing() as books:
            past = await books.past_request(actor.organisation, request_id)
            if past is not None:
                if past.payload_digest != digest:
                    raise RequestIdReused
                return from_plain(kind, json.loads(past.answer)), ""
            change = await decide(books)
            made = change.entities[-1]
            assert isinstance(made, kind)
            answer = audit.canonical(to_plain(made))
            request = PastRequest(actor.organisation, request_id, digest, answer, self._clock.now())
            event = await self._write(books, change, actor, request_id, request)
        self._observer.done(event, change.deed.action)
        self._on_change()
        if event.sequence % self._rules.checkpoint_events == 0:
            await self._notary.checkpoint_if_possible()
        return made, change.secret

    async def _write(
        self, books: Books, change: Change, actor: Actor, request_id: str, request: PastRequest | None
    ) -> audit.Event:
        event, head = audit.append(books.head, change.deed, actor, request_id, self._clock.now())
        await books.write(Written(books.revision + 1, change.entities, event, head, request))
        return event


async def _require_team(books: Books, organisation: str, team: str) -> None:
    if team and await books.team(organisation, team) is None:
        raise NotFound("team", team, "CreateTeam makes it")


async def _existing_key(books: Books, organisation: str, key_id: str) -> Key:
    key = await books.key(organisation, key_id)
    if key is None:
        raise NotFound("key", key_id, "ListKeys names those that there are")
    return key


def _require_live(key: Key, now: datetime) -> None:
    if key.revoke_time is not None:
        raise KeyEnded("revoked")
    if key.expire_time is not None and key.expire_time <= now:
        raise KeyEnded("expired")


def refuse_unkeepable(request_id: str, payload: Sequence[object]) -> None:
    """Raises InvalidRequest for a NUL, which PostgreSQL does not keep, and for a key that stands in the wrong field."""
    for text in (request_id, *_texts(payload)):
        if "\x00" in text:
            raise InvalidRequest("request", "must not contain a NUL character")
        if has_key(text):
            raise InvalidRequest("request", "holds an API key; keys are named by their id, as ListKeys shows it")


def _texts(parts: Iterable[object]) -> Iterator[str]:
    """Every text of a payload as it is: how a list prints hides what cannot be printed."""
    for part in parts:
        if isinstance(part, list):
            yield from _texts(part)
        else:
            yield str(part)


def _scopes_text(scopes: Scopes) -> list[list[str]]:
    return [sorted(scopes.models), sorted(scopes.routes), sorted(scopes.environments)]
