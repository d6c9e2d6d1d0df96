"""What identity needs from outside. `adapters/memory.py` holds a twin of each that keeps state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from services.identity.core.audit import Event, LogHead
from services.identity.core.checkpoints import Checkpoint
from services.identity.core.encoding import Entity
from services.identity.core.model import Identified, Key, KeySecret, Organisation, Team, User


class FoundSecret(NamedTuple):
    """A secret with the key that it opens, as they stand."""

    secret: KeySecret
    key: Key
    user_disable_time: datetime | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed up to a revision. `everything`: more than can be listed, or an older state was restored."""

    revision: int
    key_ids: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class PastRequest:
    """A mutation that was answered. Belongs to the organisation of who asked; a recorded action to "action/" of it."""

    organisation: str
    request_id: str
    payload_digest: str
    answer: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Written:
    """All that one mutation writes. `revision` is the new one."""

    revision: int
    entities: tuple[Entity, ...]
    event: Event
    head: LogHead
    request: PastRequest | None = None


class Books(Protocol):
    """The store during one mutation: nobody else changes it meanwhile."""

    @property
    def revision(self) -> int:
        """Where the store stands."""
        ...

    @property
    def head(self) -> LogHead:
        """Where the audit log ends."""
        ...

    async def past_request(self, organisation: str, request_id: str) -> PastRequest | None:
        """A request that was answered within the retention."""
        ...

    async def organisation(self, name: str) -> Organisation | None:
        """An organisation."""
        ...

    async def team(self, organisation: str, name: str) -> Team | None:
        """A team."""
        ...

    async def user(self, organisation: str, name: str) -> User | None:
        """A user."""
        ...

    async def key(self, organisation: str, key_id: str) -> Key | None:
        """A key with its secrets."""
        ...

    async def live_keys(self, organisation: str, now: datetime) -> int:
        """How many keys are neither revoked nor expired."""
        ...

    async def write(self, written: Written) -> None:
        """Writes; durable when the mutation ends without an error."""
        ...


class Store(Protocol):
    """Keeps everything. Every method raises StorageUnavailable."""

    def changing(self) -> AbstractAsyncContextManager[Books]:
        """A mutation: all or nothing, one after the other over all replicas."""
        ...

    async def find_secret(self, prefix: str) -> tuple[FoundSecret | None, int]:
        """A secret by its prefix, and the revision at which it was read."""
        ...

    async def find_user(self, organisation: str, name: str) -> tuple[User | None, int]:
        """A user, and the revision at which it was read."""
        ...

    async def keep_digest(self, prefix: str, old: bytes, pepper_id: str, new: bytes) -> None:
        """Stores the digest of a secret anew, unless somebody else did."""
        ...

    async def move_other_peppers(self, current: str) -> int:
        """Lets every live key with a secret under another pepper count as changed. Returns how many there are."""
        ...

    async def secrets_by_pepper(self, ending_after: datetime) -> dict[str, int]:
        """How many secrets that end after a moment, with their keys or by themselves, or never, each pepper keeps."""
        ...

    async def revision(self) -> int:
        """Where the store stands. One row."""
        ...

    async def changes_after(self, revision: int, limit: int) -> Changes:
        """What changed since. A store that was restored answers `everything` with its lower revision."""
        ...

    async def organisations(self, only: str, after: str, size: int) -> list[Organisation]:
        """By name; only that one, or all when `only` is empty."""
        ...

    async def teams(self, organisation: str, after: str, size: int) -> list[Team]:
        """By name."""
        ...

    async def users(self, organisation: str, after: str, size: int) -> list[User]:
        """By name."""
        ...

    async def keys(self, organisation: str, user: str, after: str, size: int) -> list[Key]:
        """By id; only that user's, or all when `user` is empty. Fewer when they would be more than a page holds."""
        ...

    async def events(self, organisation: str, after: int, size: int) -> list[Event]:
        """In the order of the log; only about that organisation, or all when it is empty. Fewer as `keys`."""
        ...

    async def leaf_hashes(self, after: int, size: int) -> list[bytes]:
        """Hashes of events in the order of the log, without their text."""
        ...

    async def checkpoints(self, after: int, size: int) -> list[Checkpoint]:
        """In the order of the log."""
        ...

    async def head(self) -> LogHead:
        """Where the audit log ends."""
        ...

    async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keeps a checkpoint, unless there is one over as many events."""
        ...

    async def forget_requests(self, before: datetime) -> None:
        """Drops requests that were answered before a time."""
        ...


class Randomness(Protocol):
    """Unpredictable values."""

    def hex(self, count_bytes: int) -> str:
        """Random bytes as hex."""
        ...

    def secret(self) -> str:
        """256 bits in URL-safe base64: 43 characters."""
        ...


class Tokens(Protocol):
    """Tokens of issuers that the configuration trusts."""

    def is_token(self, credential: str) -> bool:
        """Whether this looks like a token rather than a key."""
        ...

    def verify(self, credential: str, now: datetime, grace: timedelta) -> Identified | None:
        """Whose token it is; None when no trusted issuer signed it, for us, for now or until `grace` ago."""
        ...


class Clock(Protocol):
    """Wall time."""

    def now(self) -> datetime:
        """UTC, aware."""
        ...


class Observer(Protocol):
    """Hears what happened; never a secret."""

    def authenticated(self, outcome: str) -> None:
        """A credential was asked about: key, token, unknown, ended."""
        ...

    def done(self, event: Event, action: str) -> None:
        """An admin action is in the log."""
        ...

    def secrets_counted(self, by_pepper: Mapping[str, int]) -> None:
        """How many secrets are kept under each pepper."""
        ...

    def digest_renewed(self, pepper_id: str) -> None:
        """A key is kept under the current pepper now."""
        ...

    def log_rewritten(self, problem: str) -> None:
        """The stored log does not continue the one that was seen: somebody must look."""
        ...

    def store_failed(self, error: Exception) -> None:
        """The store did not answer a look for changes."""
        ...


class Announce(Protocol):
    """Shows the first admin key to whoever started the process, once."""

    def __call__(self, organisation: str, secret: str, /) -> None:
        """Shows it."""
        ...
