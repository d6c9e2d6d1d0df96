"""Memory twins of the ports: the reference the real adapters are tested against."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.identity.core.audit import Event, LogHead
from services.identity.core.checkpoints import Checkpoint
from services.identity.core.model import Identified, Key, Organisation, Team, User, earliest
from services.identity.core.ports import Changes, FoundSecret, PastRequest, Written


@dataclass(slots=True)
class _State:
    revision: int = 0
    head: LogHead = LogHead()  # noqa: RUF009 - immutable
    organisations: dict[str, Organisation] = field(default_factory=dict)
    teams: dict[tuple[str, str], Team] = field(default_factory=dict)
    users: dict[tuple[str, str], User] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    moved: dict[object, int] = field(default_factory=dict)
    requests: dict[tuple[str, str], PastRequest] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)


class MemoryStore:
    """A store that lasts as long as the process. See `core.ports.Store`."""

    def __init__(self) -> None:
        """Begins empty, at revision 0."""
        self._state = _State()
        self._changing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[MemoryBooks]:
        """See Store."""
        async with self._changing:
            draft = copy.copy(self._state)
            for name in ("organisations", "teams", "users", "keys", "moved", "requests", "events", "checkpoints"):
                setattr(draft, name, copy.copy(getattr(draft, name)))
            yield MemoryBooks(draft)
            self._state = draft

    async def find_secret(self, prefix: str) -> tuple[FoundSecret | None, int]:
        """See Store."""
        state = self._state
        for key in state.keys.values():
            for secret in key.secrets:
                if secret.prefix == prefix:
                    user = state.users.get((key.organisation, key.user))
                    found = FoundSecret(secret, replace(key, secrets=()), user.disable_time if user else None)
                    return found, state.revision
        return None, state.revision

    async def find_user(self, organisation: str, name: str) -> tuple[User | None, int]:
        """See Store."""
        return self._state.users.get((organisation, name)), self._state.revision

    async def keep_digest(self, prefix: str, old: bytes, pepper_id: str, new: bytes) -> None:
        """See Store."""
        async with self._changing:
            for key in self._state.keys.values():
                kept = tuple(
                    replace(s, pepper_id=pepper_id, digest=new) if (s.prefix, s.digest) == (prefix, old) else s
                    for s in key.secrets
                )
                self._state.keys[key.key_id] = replace(key, secrets=kept)

    async def move_other_peppers(self, current: str) -> int:
        """See Store."""
        async with self._changing:
            state = self._state
            live = (key for key in state.keys.values() if key.revoke_time is None)
            moved = [key.key_id for key in live if any(s.pepper_id != current for s in key.secrets)]
            state.revision += bool(moved)
            state.moved.update(dict.fromkeys(moved, state.revision))
            return len(moved)

    async def secrets_by_pepper(self, ending_after: datetime) -> dict[str, int]:
        """See Store."""
        found: Counter[str] = Counter()
        for key in self._state.keys.values():
            for secret in key.secrets:
                ends = earliest(key.revoke_time, key.expire_time, secret.expire_time)
                found[secret.pepper_id] += ends is None or ends > ending_after
        return dict(+found)

    async def revision(self) -> int:
        """See Store."""
        return self._state.revision

    async def changes_after(self, revision: int, limit: int) -> Changes:
        """See Store."""
        state = self._state
        moved = sorted((at, name) for name, at in state.moved.items() if at > revision)
        key_ids = tuple(name for _, name in moved if isinstance(name, str) and "/" not in name)
        users = tuple(name for _, name in moved if isinstance(name, str) and "/" in name)
        if state.revision < revision or len(key_ids) > limit or len(users) > limit:
            return Changes(state.revision, everything=True)
        return Changes(state.revision, key_ids, users)

    async def organisations(self, only: str, after: str, size: int) -> list[Organisation]:
        """See Store."""
        found = (o for name, o in sorted(self._state.organisations.items()) if only in ("", name) and name > after)
        return list(found)[:size]

    async def teams(self, organisation: str, after: str, size: int) -> list[Team]:
        """See Store."""
        found = (t for _, t in sorted(self._state.teams.items()) if t.organisation == organisation and t.name > after)
        return list(found)[:size]

    async def users(self, organisation: str, after: str, size: int) -> list[User]:
        """See Store."""
        found = (u for _, u in sorted(self._state.users.items()) if u.organisation == organisation and u.name > after)
        return list(found)[:size]

    async def keys(self, organisation: str, user: str, after: str, size: int) -> list[Key]:
        """See Store."""
        found = (
            key
            for key_id, key in sorted(self._state.keys.items())
            if key.organisation == organisation and user in ("", key.user) and key_id > after
        )
        return list(found)[:size]

    async def events(self, organisation: str, after: int, size: int) -> list[Event]:
        """See Store."""
        found = (e for e in self._state.events if organisation in ("", e.organisation) and e.sequence > after)
        return list(found)[:size]

    async def leaf_hashes(self, after: int, size: int) -> list[bytes]:
        """See Store."""
        return [e.leaf_hash for e in self._state.events if e.sequence > after][:size]

    async def checkpoints(self, after: int, size: int) -> list[Checkpoint]:
        """See Store."""
        return [c for count, c in sorted(self._state.checkpoints.items()) if count > after][:size]

    async def head(self) -> LogHead:
        """See Store."""
        return self._state.head

    async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See Store."""
        self._state.checkpoints.setdefault(checkpoint.leaf_count, checkpoint)

    async def forget_requests(self, before: datetime) -> None:
        """See Store."""
        async with self._changing:
            kept = {at: past for at, past in self._state.requests.items() if past.create_time >= before}
            self._state.requests = kept


class MemoryBooks:
    """See `core.ports.Books`: a draft that takes the state's place when the mutation ends well."""

    def __init__(self, state: _State) -> None:
        """`state` is a copy."""
        self._state = state

    @property
    def revision(self) -> int:
        """See Books."""
        return self._state.revision

    @property
    def head(self) -> LogHead:
        """See Books."""
        return self._state.head

    async def past_request(self, organisation: str, request_id: str) -> PastRequest | None:
        """See Books."""
        return self._state.requests.get((organisation, request_id))

    async def organisation(self, name: str) -> Organisation | None:
        """See Books."""
        return self._state.organisations.get(name)

    async def team(self, organisation: str, name: str) -> Team | None:
        """See Books."""
        return self._state.teams.get((organisation, name))

    async def user(self, organisation: str, name: str) -> User | None:
        """See Books."""
        return self._state.users.get((organisation, name))

    async def key(self, organisation: str, key_id: str) -> Key | None:
        """See Books."""
        key = self._state.keys.get(key_id)
        return key if key is not None and key.organisation == organisation else None

    async def live_keys(self, organisation: str, now: datetime) -> int:
        """See Books."""
        return sum(
            key.organisation == organisation
            and key.revoke_time is None
            and (key.expire_time is None or key.expire_time > now)
            for key in self._state.keys.values()
        )

    async def write(self, written: Written) -> None:
        """See Books."""
        state = self._state
        for entity in written.entities:
            if isinstance(entity, Organisation):
                state.organisations[entity.name] = entity
            elif isinstance(entity, Team):
                state.teams[entity.organisation, entity.name] = entity
            elif isinstance(entity, User):
                state.users[entity.organisation, entity.name] = entity
                state.moved[f"{entity.organisation}/{entity.name}"] = written.revision
            else:
                state.keys[entity.key_id] = entity
                state.moved[entity.key_id] = written.revision
        state.revision, state.head = written.revision, written.head
        state.events.append(written.event)
        if written.request is not None:
            state.requests[written.request.organisation, written.request.request_id] = written.request


@dataclass(slots=True)
class SetClock:
    """Stands still until it is set."""

    time: datetime

    def now(self) -> datetime:
        """See Clock."""
        return self.time


class CountedValues:
    """Randomness that counts, so that tests can read it. Never for a process that serves."""

    def __init__(self) -> None:
        """Begins at one."""
        self._count = 0

    def hex(self, count_bytes: int) -> str:
        """See Randomness."""
        self._count += 1
        return f"{self._count:0{2 * count_bytes}x}"

    def secret(self) -> str:
        """See Randomness."""
        self._count += 1
        return f"{self._count:043d}"


class NoTokens:
    """No issuer is trusted."""

    def is_token(self, credential: str) -> bool:
        """See Tokens."""
        return False

    def verify(self, credential: str, now: datetime, grace: timedelta) -> Identified | None:
        """See Tokens."""
        return None


class NoSignature:
    """Nothing signs checkpoints: chain and tree alone."""

    def signature_line(self, body: bytes) -> str:
        """See Signer."""
        return ""

    def signed(self, note: str) -> bool:
        """See Signer."""
        return False


@dataclass(slots=True)
class RecordingObserver:
    """Remembers what it heard."""

    events: list[str] = field(default_factory=list)

    def authenticated(self, outcome: str) -> None:
        """See Observer."""
        self.events.append(f"authenticated {outcome}")

    def done(self, event: Event, action: str) -> None:
        """See Observer."""
        self.events.append(f"{action} {event.sequence}")

    def secrets_counted(self, by_pepper: Mapping[str, int]) -> None:
        """See Observer."""
        self.events.append(f"secrets {dict(by_pepper)}")

    def digest_renewed(self, pepper_id: str) -> None:
        """See Observer."""
        self.events.append(f"renewed {pepper_id}")

    def log_rewritten(self, problem: str) -> None:
        """See Observer."""
        self.events.append(f"rewritten: {problem}")

    def store_failed(self, error: Exception) -> None:
        """See Observer."""
        self.events.append(f"failed {type(error).__name__}")
