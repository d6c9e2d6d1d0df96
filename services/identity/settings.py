"""Section `identity` of mesh.yaml."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from meshkit.identity import ROLES, require_organisation
from meshkit.settings import Secret

# As CreateOrganisation takes it, and as a claim must have it.
ORGANISATION_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ORIGIN = re.compile(r"[^\s+]{1,200}")
_MIN_PEPPER_CHARS = 16
_MAX_LEEWAY_S = 300.0
_SEED_BYTES = 32
# Signatures that who checks cannot make. HMAC and "none" are not among them and cannot be configured.
ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An issuer of tokens that are accepted beside keys. Its keys are read at start; nothing is ever fetched."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256",)
    # A JSON Web Key Set, as a file or written here.
    jwks_file: str = ""
    jwks: str = ""
    # Whose its tokens are: one organisation, or the one that a claim names. With `organisations` the claim must be one
    # of them; without, it may be any but the platform's own.
    organisation: str = ""
    organisation_claim: str = ""
    organisations: tuple[str, ...] = ()
    user_claim: str = "sub"
    team_claim: str = ""
    # Every token has `roles`; a claim may add those that are claimable.
    roles: tuple[str, ...] = ("caller",)
    roles_claim: str = ""
    claimable_roles: tuple[str, ...] = ()
    leeway_s: float = 30.0

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        if not self.issuer or not self.audience:
            raise ValueError("issuer and audience must not be empty")
        wrong = [name for name in self.algorithms if name not in ASYMMETRIC]
        if wrong or not self.algorithms:
            raise ValueError(f"algorithms must be among {', '.join(ASYMMETRIC)}; found {', '.join(wrong) or 'none'}")
        if bool(self.jwks_file) == bool(self.jwks):
            raise ValueError("give the keys as jwks_file or as jwks, one of them")
        if bool(self.organisation) == bool(self.organisation_claim):
            raise ValueError("give organisation or organisation_claim, one of them")
        if self.organisation:
            require_organisation(self.organisation)
        wrong = [name for name in self.organisations if not ORGANISATION_NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"organisations: {wrong[0]!r} must be lower-case letters, digits, '.', '_' and '-'")
        unknown = {*self.roles, *self.claimable_roles} - ROLES
        if unknown:
            raise ValueError(f"roles must be among {', '.join(sorted(ROLES))}; found {', '.join(sorted(unknown))}")
        if not 0 <= self.leeway_s <= _MAX_LEEWAY_S:
            raise ValueError(f"leeway_s must be between 0 and {_MAX_LEEWAY_S:.0f}")


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Names, defaults and limits of identity."""

    # Whose operators create organisations, act in any of them and read the whole audit log.
    platform_organisation: str = "platform"
    # Secrets under which keys are stored, by id; the launcher puts `auth.pepper` here as "auth" when there are none.
    # A new one is named at every replica before it becomes current at any: the others would refuse its keys. Keep an
    # old one until the gauge llmops_identity_secrets shows none under it: its keys would open nothing.
    peppers: dict[str, Secret] = field(default_factory=dict)
    current_pepper: str = ""
    # How long a rotated key's older secret works when the request does not say.
    default_overlap_s: float = 86_400.0
    max_overlap_s: float = 30 * 86_400.0
    # Keys of an organisation that are neither revoked nor expired.
    max_keys: int = 10_000
    # How late, at most, this process sees what another replica changed.
    poll_interval_s: float = 0.2
    # How often watchers hear that nothing changed.
    beat_interval_s: float = 5.0
    # Each holds one of the places of admission (`admission.max_in_flight`, 1024): keep it well below.
    max_watchers: int = 512
    storage_timeout_s: float = 1.5
    # How long a repeated request_id gets its first answer.
    request_retention_h: float = 168.0
    # Name of the audit log in its checkpoints, and what signs them: 32 bytes in base64 (`llmops audit keygen`).
    audit_origin: str = "llmops-mesh/audit"
    audit_signing_key: Secret = Secret()  # noqa: RUF009 - immutable
    # A checkpoint is written every so many events, and after so long when something happened.
    checkpoint_events: int = 64
    checkpoint_interval_s: float = 300.0
    # Whose tokens are accepted beside keys.
    issuers: tuple[IssuerSettings, ...] = ()

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        if not ORGANISATION_NAME.fullmatch(self.platform_organisation):
            raise ValueError("platform_organisation must be lower-case letters, digits, '.', '_' and '-'")
        if not _ORIGIN.fullmatch(self.audit_origin):
            raise ValueError("audit_origin must be 1 to 200 characters without spaces and '+'")
        names = [issuer.issuer for issuer in self.issuers]
        if len(set(names)) != len(names):
            raise ValueError("issuers: two entries have the same issuer; keep one")
        if not 0 <= self.default_overlap_s <= self.max_overlap_s:
            raise ValueError("need 0 <= default_overlap_s <= max_overlap_s")
        for name in ("poll_interval_s", "beat_interval_s", "storage_timeout_s", "checkpoint_interval_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        for name in ("max_keys", "max_watchers", "checkpoint_events", "request_retention_h"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.audit_signing_key and not _is_seed(self.audit_signing_key.reveal()):
            raise ValueError("audit_signing_key must be 32 bytes in base64; `llmops audit keygen` makes one")
        self._validate_peppers()

    def _validate_peppers(self) -> None:
        if self.peppers and self.current_pepper not in self.peppers:
            raise ValueError(f"current_pepper {self.current_pepper!r} is not among peppers; name one of them")
        short = [name for name, pepper in self.peppers.items() if len(pepper.reveal()) < _MIN_PEPPER_CHARS]
        if short:
            raise ValueError(f"pepper {short[0]!r} must have at least {_MIN_PEPPER_CHARS} characters")


def _is_seed(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _SEED_BYTES
    except ValueError:
        return False
