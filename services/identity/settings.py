"""Section `identity` of mesh.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from meshkit.settings import Secret

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ORIGIN = re.compile(r"[^\s+]{1,200}")
_MIN_PEPPER_CHARS = 16


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Names, defaults and limits of identity."""

    # Whose operators create organisations, act in any of them and read the whole audit log.
    platform_organisation: str = "platform"
    # Secrets under which keys are stored, by id; the launcher puts `auth.pepper` here as "auth" when there are none.
    # Keep an old one until every key was used once since the change: a key whose pepper is gone opens nothing.
    peppers: dict[str, Secret] = field(default_factory=dict)
    current_pepper: str = ""
    # How long a rotated key's older secret works when the request does not say.
    default_overlap_s: float = 86_400.0
    max_overlap_s: float = 30 * 86_400.0
    # Keys of an organisation that are not revoked.
    max_keys: int = 10_000
    # How late, at most, this process sees what another replica changed.
    poll_interval_s: float = 0.2
    # How often watchers hear that nothing changed.
    beat_interval_s: float = 5.0
    max_watchers: int = 1_000
    storage_timeout_s: float = 1.5
    # How long a repeated request_id gets its first answer.
    request_retention_h: float = 168.0
    # Name of the audit log in its checkpoints, and what signs them: 32 bytes in base64 (`llmops audit keygen`).
    audit_origin: str = "llmops-mesh/audit"
    audit_signing_key: Secret = Secret()  # noqa: RUF009 - immutable
    # A checkpoint is written every so many events, and after so long when something happened.
    checkpoint_events: int = 64
    checkpoint_interval_s: float = 300.0

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        if not _NAME.fullmatch(self.platform_organisation):
            raise ValueError("platform_organisation must be lower-case letters, digits, '.', '_' and '-'")
        if not _ORIGIN.fullmatch(self.audit_origin):
            raise ValueError("audit_origin must be 1 to 200 characters without spaces and '+'")
        if self.peppers and self.current_pepper not in self.peppers:
            raise ValueError(f"current_pepper {self.current_pepper!r} is not among peppers; name one of them")
        short = [name for name, pepper in self.peppers.items() if len(pepper.reveal()) < _MIN_PEPPER_CHARS]
        if short:
            raise ValueError(f"pepper {short[0]!r} must have at least {_MIN_PEPPER_CHARS} characters")
        if not 0 <= self.default_overlap_s <= self.max_overlap_s:
            raise ValueError("need 0 <= default_overlap_s <= max_overlap_s")
        for name in ("poll_interval_s", "beat_interval_s", "storage_timeout_s", "checkpoint_interval_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        for name in ("max_keys", "max_watchers", "checkpoint_events", "request_retention_h"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
