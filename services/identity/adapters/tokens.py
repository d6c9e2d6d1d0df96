"""Tokens of trusted issuers (OIDC, JWT), verified with PyJWT.

A token is judged by the configuration alone: its issuer chooses the entry, the entry says which algorithms and which
keys, and `kid` chooses among those. Headers that bring keys or addresses along are a reason to refuse, never to fetch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from meshkit.credentials import has_credential_form
from services.identity.core.audit import canonical
from services.identity.core.model import Identified
from services.identity.settings import ASYMMETRIC, ORGANISATION_NAME, IssuerSettings

# Headers that would let a token choose its key, or ask for something that we do not know.
_REFUSED_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"})
_MAX_NAME_CHARS = 128
# As the contract has it of users, so that everybody who comes in can be disabled: a subject of OIDC fits.
_MAX_USER_BYTES = 256
# As long as any issuer and subject may be, an id has 36 characters: limits and the cache take 128 bytes.
_KEY_ID_DIGITS = 32
# The kind of key that an algorithm signs with: a key is never used for another.
_KINDS = {algorithm: {"R": "RSA", "P": "RSA", "E": "EC"}[algorithm[0]] for algorithm in ASYMMETRIC} | {"EdDSA": "OKP"}


# Kind, algorithm (where the key names one) and the key.
_Key = tuple[str, str, Any]


class _Issuer:
    """An entry of the configuration with its keys by id."""

    def __init__(self, settings: IssuerSettings) -> None:
        self.settings = settings
        self.keys = _read_keys(settings)
        kept = settings.algorithms
        if not any(_signs(key, algorithm) for key in self.keys.values() for algorithm in kept):
            kinds = ", ".join(sorted({key[1] or key[0] for key in self.keys.values()}))
            raise ValueError(f"no key is for {', '.join(kept)}: they are {kinds}; name their algorithms")

    def key(self, header: Mapping[str, Any], algorithm: str) -> Any:
        """The key of a token, or None. Without `kid` there must be one key only."""
        kid = header.get("kid")
        if kid is None:
            found = next(iter(self.keys.values())) if len(self.keys) == 1 else None
        else:
            found = self.keys.get(kid) if isinstance(kid, str) else None
        return found[2] if found is not None and _signs(found, algorithm) else None


class JwtTokens:
    """See `core.ports.Tokens`."""

    def __init__(self, issuers: Iterable[IssuerSettings], platform: str) -> None:
        """Reads the keys. Raises ValueError with what is wrong, ModuleNotFoundError without PyJWT and cryptography."""
        self._issuers: dict[str, _Issuer] = {}
        for issuer in issuers:
            try:
                self._issuers[issuer.issuer] = _Issuer(issuer)
            except ValueError as error:
                raise ValueError(f"{issuer.issuer}: {error}") from None
        self._platform = platform

    def is_token(self, credential: str) -> bool:
        """See Tokens."""
        return "." in credential and has_credential_form(credential)

    def verify(self, credential: str, now: datetime, grace: timedelta) -> Identified | None:
        """See Tokens."""
        import jwt  # noqa: PLC0415 - only where an issuer is trusted

        if not self.is_token(credential):
            return None
        try:
            header = jwt.get_unverified_header(credential)
            said = jwt.decode(credential, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        issuer, algorithm = self._issuer_of(said), header.get("alg")
        if issuer is None or algorithm not in issuer.settings.algorithms or not _REFUSED_HEADERS.isdisjoint(header):
            return None
        key = issuer.key(header, algorithm)
        if key is None:
            return None
        try:
            claims = jwt.decode(
                credential,
                key,
                algorithms=[algorithm],
                audience=issuer.settings.audience,
                issuer=issuer.settings.issuer,
                # The moments are checked below, by the clock that everything here goes by.
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return self._identified(issuer.settings, claims, now, grace)

    def _issuer_of(self, said: Mapping[str, Any]) -> _Issuer | None:
        name = said.get("iss")
        return self._issuers.get(name) if isinstance(name, str) else None

    def _identified(
        self, issuer: IssuerSettings, claims: Mapping[str, Any], now: datetime, grace: timedelta
    ) -> Identified | None:
        ends = _ends(issuer, claims, now, grace)
        organisation = issuer.organisation or _name(claims, issuer.organisation_claim)
        user = _user(claims, issuer.user_claim)
        roles = _roles(issuer, claims)
        if ends is None or not organisation or not user or not roles:
            return None
        if not issuer.organisation and not _may_claim(issuer, organisation, self._platform):
            return None
        team = _name(claims, issuer.team_claim) if issuer.team_claim else ""
        return Identified(organisation, team, user, key_id(issuer.issuer, user), roles, expire_time=ends)


def key_id(issuer: str, user: str) -> str:
    """What stands for the key of whoever comes with tokens: one per issuer and user, and the same for every token.

    Limits per key, idempotency keys and the audit log tell callers apart by it.
    """
    return f"jwt:{hashlib.sha256(canonical([issuer, user]).encode()).hexdigest()[:_KEY_ID_DIGITS]}"


def _may_claim(issuer: IssuerSettings, organisation: str, platform: str) -> bool:
    """A claim names one of the issuer's organisations; without a list, any but the platform's own.

    In both cases it is a name as CreateOrganisation takes it: "*" means every organisation elsewhere.
    """
    if not ORGANISATION_NAME.fullmatch(organisation):
        return False
    return organisation in issuer.organisations if issuer.organisations else organisation != platform


def _ends(issuer: IssuerSettings, claims: Mapping[str, Any], now: datetime, grace: timedelta) -> datetime | None:
    """When a token ends, with the leeway; None when it has ended, has not begun, or does not say so in numbers."""
    now_s, leeway_s = now.timestamp(), issuer.leeway_s
    moments = {name: _seconds(claims[name]) for name in ("exp", "nbf", "iat") if name in claims}
    if any(math.isnan(at_s) for at_s in moments.values()):
        return None
    if moments["exp"] + leeway_s + grace.total_seconds() <= now_s or any(
        moments.get(name, 0.0) - leeway_s > now_s for name in ("nbf", "iat")
    ):
        return None
    try:
        return datetime.fromtimestamp(moments["exp"] + leeway_s, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _seconds(said: Any) -> float:
    """A moment as a claim says it; NaN where that is no number, or one that no clock will show."""
    if isinstance(said, bool) or not isinstance(said, int | float):
        return math.nan
    try:
        return float(said) if math.isfinite(said) else math.nan
    except OverflowError:
        return math.nan


def _name(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    usable = isinstance(value, str) and len(value) <= _MAX_NAME_CHARS and value.isprintable()
    return str(value) if usable else ""


def _user(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        return ""
    return value if len(value.encode()) <= _MAX_USER_BYTES else ""


def _roles(issuer: IssuerSettings, claims: Mapping[str, Any]) -> tuple[str, ...]:
    said = claims.get(issuer.roles_claim, ()) if issuer.roles_claim else ()
    names = said.split() if isinstance(said, str) else said if isinstance(said, list) else ()
    claimed = {name for name in names if isinstance(name, str)} & set(issuer.claimable_roles)
    return tuple(sorted(claimed | set(issuer.roles)))


def _signs(key: _Key, algorithm: str) -> bool:
    return key[0] == _KINDS[algorithm] and key[1] in ("", algorithm)


def _read_keys(issuer: IssuerSettings) -> dict[str, _Key]:
    """The keys for signatures, by id. Raises ValueError."""
    from jwt import PyJWK, PyJWTError  # noqa: PLC0415

    try:
        text = issuer.jwks or Path(issuer.jwks_file).read_text(encoding="utf-8")
        entries = list(json.loads(text)["keys"])
    except OSError as error:
        raise ValueError(f"jwks_file {issuer.jwks_file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('the keys are not a JSON Web Key Set: {"keys": [...]}') from None
    keys: dict[str, _Key] = {}
    for at, entry in enumerate(entries):
        kind = entry.get("kty") if isinstance(entry, dict) else None
        if kind not in ("RSA", "EC", "OKP") or "d" in entry:
            raise ValueError(f"key {at}: only public keys of kty RSA, EC and OKP are taken")
        if entry.get("use", "sig") != "sig":
            continue
        kid, signs_with = entry.get("kid", ""), entry.get("alg") or ""
        if not (isinstance(kid, str) and isinstance(signs_with, str)):
            name = "alg" if isinstance(kid, str) else "kid"
            raise ValueError(f"key {at}: its {name} is no text")  # noqa: TRY004 - of the file, as the others
        if kid in keys:
            name = f"kid {kid!r}" if kid else "no kid"
            raise ValueError(f"key {at}: another key has {name} too, and a token must say which of them signed it")
        try:
            keys[kid] = (kind, signs_with, PyJWK(entry).key)
        except PyJWTError as error:
            raise ValueError(f"key {at}: {error}") from None
    if not keys:
        raise ValueError("there is no key for signatures")
    return keys
