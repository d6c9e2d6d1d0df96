"""Who calls: principals, and the port that turns a credential into one.

Keys of the configuration file are the first source; an identity service takes its place behind the same port.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from meshkit.errors import Unauthenticated

KEY_PREFIX = "llmops-"
ROLES = frozenset({"caller", "operator", "service"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call. `key_id` names the credential without revealing it."""

    organisation: str
    team: str
    user: str
    key_id: str
    roles: frozenset[str]
    guard_policy: str = ""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: the digest identifies it, the secret is nowhere."""

    digest: str
    principal: Principal


class Authenticator(Protocol):
    """Turns a credential into a principal."""

    def authenticate(self, credential: str) -> Principal:
        """Returns the principal. Raises Unauthenticated with a sentence that says what to send."""
        ...


def new_key() -> str:
    """A fresh 256-bit API key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_digest(pepper: bytes, key: str) -> str:
    """HMAC-SHA256 of a key under the pepper, hex: what the configuration stores."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()


class ConfiguredKeys:
    """Authenticates against a fixed set of keys. A look-up costs one HMAC and one dictionary access."""

    def __init__(self, pepper: bytes, keys: Iterable[StoredKey]) -> None:
        self._pepper = pepper
        self._principals = {bytes.fromhex(k.digest): k.principal for k in keys}
        # Keys seen before, by a keyed digest that only this process can make: an HMAC costs ten times as much.
        self._cache_key = secrets.token_bytes(32)
        self._seen: dict[bytes, Principal] = {}

    def authenticate(self, credential: str) -> Principal:
        """See Authenticator."""
        if not credential:
            raise Unauthenticated("no API key was sent; send `authorization: Bearer <key>`")
        mark = hashlib.blake2s(credential.encode(), key=self._cache_key).digest()
        seen = self._seen.get(mark)
        if seen is not None:
            return seen
        principal = self._principals.get(hmac.digest(self._pepper, credential.encode(), "sha256"))
        if principal is None:
            raise Unauthenticated("this API key is not known here; check it, or create one with `llmops keys create`")
        # Only known keys are kept, so there are never more than the configuration has.
        self._seen[mark] = principal
        return principal
