"""Who there is. Entities are values: a change makes a new one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# How long after its end a credential may still end what was begun with it: longer than any call and its booking.
SETTLING = timedelta(minutes=15)
# Names, roles and four secrets of a key, at most.
_KEY_BYTES = 1024
# Role service belongs to the processes of the mesh and to nobody who can be created.
GRANTABLE_ROLES = frozenset({"viewer", "author", "approver", "publisher", "operator", "auditor", "caller"})


@dataclass(frozen=True, slots=True)
class Scopes:
    """With what a key may be used. An empty set allows everything of its kind."""

    models: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    environments: frozenset[str] = frozenset()

    @property
    def size_bytes(self) -> int:
        """What it takes on the wire, nearly."""
        return sum(len(name.encode()) for names in (self.models, self.routes, self.environments) for name in names)

    def within(self, outer: Scopes) -> bool:
        """Whether this allows nothing that `outer` does not."""
        pairs = (
            (self.models, outer.models),
            (self.routes, outer.routes),
            (self.environments, outer.environments),
        )
        # Where routes limit, a model that the key names may be used beside them: naming one is more than naming none.
        names_no_more = not outer.routes or self.models <= outer.models
        return names_no_more and all(not theirs or (mine and mine <= theirs) for mine, theirs in pairs)


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever makes a request: the principal, in the core's own terms, and until when its credential works."""

    organisation: str
    user: str
    key_id: str
    roles: frozenset[str]
    scopes: Scopes = Scopes()
    guard_policy: str = ""
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Organisation:
    """The tenant."""

    name: str
    display_name: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Team:
    """A team of an organisation."""

    organisation: str
    name: str
    display_name: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class User:
    """A user of an organisation."""

    organisation: str
    name: str
    team: str
    display_name: str
    disabled: bool
    create_time: datetime
    # None while the user is not disabled.
    disable_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeySecret:
    """One secret of a key: what is kept of it is a digest under the pepper of that id."""

    prefix: str
    pepper_id: str
    digest: bytes
    create_time: datetime
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """What a secret opens. Keeps its id, and so its budgets, when its secret is rotated."""

    key_id: str
    organisation: str
    team: str
    user: str
    display_name: str
    roles: tuple[str, ...]
    scopes: Scopes
    guard_policy: str
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    secrets: tuple[KeySecret, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What it takes on the wire, nearly; at most, beside its scopes."""
        return _KEY_BYTES + self.scopes.size_bytes


@dataclass(frozen=True, slots=True)
class Identified:
    """Who a credential stands for, and until when by itself."""

    organisation: str
    team: str
    user: str
    key_id: str
    roles: tuple[str, ...]
    scopes: Scopes = Scopes()
    guard_policy: str = ""
    expire_time: datetime | None = None


def earliest(*times: datetime | None) -> datetime | None:
    """The first of some moments, where None means never."""
    return min((time for time in times if time is not None), default=None)
