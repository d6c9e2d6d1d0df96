"""Entities as JSON: for answers that are repeated, and for the audit log. Neither holds a digest."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from services.identity.core.model import Key, KeySecret, Organisation, Scopes, Team, User

Entity = Organisation | Team | User | Key
E = TypeVar("E", bound=Entity)
# What people wrote about themselves stays out of a log that is never erased.
_PERSONAL = frozenset({"display_name"})


def to_plain(entity: Entity) -> dict[str, object]:
    """An entity as plain data."""
    if isinstance(entity, Key):
        return {
            "key_id": entity.key_id,
            "organisation": entity.organisation,
            "team": entity.team,
            "user": entity.user,
            "display_name": entity.display_name,
            "roles": list(entity.roles),
            "scopes": {
                "models": sorted(entity.scopes.models),
                "routes": sorted(entity.scopes.routes),
                "environments": sorted(entity.scopes.environments),
            },
            "guard_policy": entity.guard_policy,
            "create_time": entity.create_time.isoformat(),
            "expire_time": _text(entity.expire_time),
            "revoke_time": _text(entity.revoke_time),
            "secrets": [
                {
                    "prefix": secret.prefix,
                    "create_time": secret.create_time.isoformat(),
                    "expire_time": _text(secret.expire_time),
                }
                for secret in entity.secrets
            ],
        }
    plain: dict[str, object] = {name: getattr(entity, name) for name in entity.__dataclass_fields__}
    plain["create_time"] = entity.create_time.isoformat()
    if isinstance(entity, User):
        del plain["disable_time"]
        # An older program, which reads this beside a newer one, does not know it.
        if entity.disable_time is not None:
            plain["disable_time"] = _text(entity.disable_time)
    return plain


def for_audit(entity: Entity | None) -> dict[str, object]:
    """What the log keeps of an entity."""
    if entity is None:
        return {}
    return {name: value for name, value in to_plain(entity).items() if name not in _PERSONAL}


def from_plain(kind: type[E], plain: dict[str, Any]) -> E:
    """Reads what `to_plain` made. The digests of a key's secrets are not in it."""
    fields = dict(plain)
    for name in ("create_time", "expire_time", "revoke_time", "disable_time"):
        if name in fields:
            fields[name] = _time(fields[name])
    if kind is Key:
        fields["roles"] = tuple(fields["roles"])
        fields["scopes"] = Scopes(**{name: frozenset(values) for name, values in fields["scopes"].items()})
        fields["secrets"] = tuple(
            KeySecret(s["prefix"], "", b"", datetime.fromisoformat(s["create_time"]), _time(s["expire_time"]))
            for s in fields["secrets"]
        )
    return kind(**fields)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
