"""Who may do what to whom. Every function decides from the actor and the request alone: nothing is looked up first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.identity.core.errors import InvalidRequest, PermissionDenied
from services.identity.core.model import GRANTABLE_ROLES, Actor, Scopes


def organisation_of(actor: Actor, asked: str, platform: str) -> str:
    """The organisation that a request is about. Raises PermissionDenied for another's, whether it exists or not."""
    if asked in ("", actor.organisation):
        if not actor.organisation:
            raise PermissionDenied("this credential belongs to no organisation; use a key of a person")
        return actor.organisation
    require_platform(actor, platform, f"act in organisation {asked!r}")
    return asked


def require_platform(actor: Actor, platform: str, what: str) -> None:
    """Raises PermissionDenied unless the actor's key is one of the platform's own organisation."""
    if actor.organisation != platform:
        raise PermissionDenied(
            f"only keys of organisation {platform!r} may {what}; this one is of {actor.organisation!r}"
        )


def require_lasting(actor: Actor, expire_time: datetime | None) -> None:
    """Raises PermissionDenied when a key outlives who would hold its secret: a loan must not grow."""
    if actor.expire_time is not None and (expire_time is None or expire_time > actor.expire_time):
        raise PermissionDenied(
            f"this credential ends at {actor.expire_time.isoformat()}, and the key does not; use one that lasts as long"
        )


def require_grant(actor: Actor, roles: Iterable[str], scopes: Scopes, guard_policy: str) -> None:
    """Raises PermissionDenied when a key would get more than its maker has: no way leads upwards."""
    wanted = frozenset(roles)
    unknown = wanted - GRANTABLE_ROLES
    if unknown:
        raise InvalidRequest("roles", f"{', '.join(sorted(unknown))} cannot be given to a key")
    beyond = wanted - actor.roles
    if beyond:
        raise PermissionDenied(
            f"this key is {', '.join(sorted(actor.roles))} and cannot give {', '.join(sorted(beyond))}; "
            "a key gets no role that its maker has not"
        )
    if not scopes.within(actor.scopes):
        raise PermissionDenied("this key is limited to some models, routes or environments; give no more than those")
    if actor.guard_policy and guard_policy != actor.guard_policy:
        raise PermissionDenied(f"this key is pinned to guard policy {actor.guard_policy!r}; keys that it makes are too")
