"""Who calls: principals, and the port that turns a credential into one.

Keys of the configuration file are the first source; `meshkit.authentication` asks the identity service for the others.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from meshkit.errors import PermissionDenied, Unauthenticated
from meshkit.lasting import Outlast

KEY_PREFIX = "llmops-"
# What a key may be given; role service belongs to the mesh's own key.
ROLES = frozenset({"caller", "viewer", "author", "approver", "publisher", "operator", "auditor"})


@dataclass(frozen=True, slots=True)
class Scopes:
    """With what a credential may be used. An empty set allows everything of its kind."""

    models: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    environments: frozenset[str] = frozenset()

    def allow_route(self, name: str, candidates: Iterable[str], *, is_model: bool) -> bool:
        """Whether a route may be used, or a model that is named directly (`is_model`), given who may answer.

        Every kind must agree: with models, each candidate is one of them; with routes, the name is one of them, or is
        a model that the key names.
        """
        if self.models and not self.models.issuperset(candidates):
            return False
        return not self.routes or name in self.routes or (is_model and name in self.models)

    def allow_prompt(self, reference: str, default_environment: str) -> bool:
        """Whether a prompt may be used: with environments, it is named by one of them, and not by version or digest."""
        if not self.environments:
            return True
        if "/" in reference or reference.startswith("sha256:"):
            return False
        _, _, environment = reference.partition("@")
        return (environment or default_environment) in self.environments

    def require_prompt(self, reference: str, default_environment: str) -> None:
        """Raises PermissionDenied when a prompt may not be used, before anybody looks whether it is there."""
        if not self.allow_prompt(reference, default_environment):
            raise PermissionDenied(
                f"this key may not use prompt {reference!r}; it is limited to prompts of some environments, named by "
                "`name@environment`"
            )


EVERYTHING = Scopes()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call. `key_id` names the credential without revealing it; `expire_ns` is when it ends by itself."""

    organisation: str
    team: str
    user: str
    key_id: str
    roles: frozenset[str]
    guard_policy: str = ""
    scopes: Scopes = EVERYTHING
    # Not a part of who somebody is: two secrets of one key are the same principal.
    expire_ns: int | None = field(default=None, compare=False)


# Before a call is identified, and for calls of the mesh itself.
NOBODY = Principal("", "", "", "", frozenset())


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: the digest identifies it, the secret is nowhere."""

    digest: str
    principal: Principal


class Authenticator(Protocol):
    """Turns a credential into a principal: at once when it is known here, else with something to wait for."""

    def authenticate(self, credential: str) -> Principal | Awaitable[Principal]:
        """The principal. Raises Unauthenticated with a sentence that says what to send, at once or when awaited."""
        ...

    def settle(self, credential: str) -> Principal | Awaitable[Principal]:
        """As `authenticate`, also for a credential that ended a short while ago: to end what was begun with it."""
        ...

    def outlast(self, credential: str) -> Outlast | None:
        """Something to wait for that raises Unauthenticated when a credential ends, within a second of the news.

        None for one that ends with this process. Also raises Unavailable, when a call would be refused with it.
        """
        ...


def require_organisation(name: str) -> None:
    """Raises ValueError for a name of an organisation that means something else, or looks like another one."""
    if name == "*" or any(letter.isspace() or not letter.isprintable() for letter in name):
        raise ValueError(
            f"organisation {name!r} cannot be used: '*' means every organisation elsewhere, and a name has no spaces "
            "and no control characters; write another name"
        )


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
            raise no_credential()
        principal = self.find(credential, self.mark(credential))
        if principal is None:
            raise unknown_credential()
        return principal

    def settle(self, credential: str) -> Principal:
        """See Authenticator: these keys end with their process."""
        return self.authenticate(credential)

    def outlast(self, credential: str) -> Outlast | None:
        """See Authenticator."""
        return None

    def mark(self, credential: str) -> bytes:
        """What stands for a credential in the memory of this process. Raises Unauthenticated when it is no text."""
        try:
            written = credential.encode()
        except UnicodeEncodeError:
            raise unknown_credential() from None
        return hashlib.blake2s(written, key=self._cache_key).digest()

    def find(self, credential: str, mark: bytes) -> Principal | None:
        """The principal of a key of the configuration; `mark` is the credential's."""
        seen = self._seen.get(mark)
        if seen is not None:
            return seen
        principal = self._principals.get(hmac.digest(self._pepper, credential.encode(), "sha256"))
        if principal is not None:
            # Only known keys are kept, so there are never more than the configuration has.
            self._seen[mark] = principal
        return principal


def no_credential() -> Unauthenticated:
    """The refusal of a call without a key."""
    return Unauthenticated("no API key was sent; send `authorization: Bearer <key>`")


def unknown_credential() -> Unauthenticated:
    """The refusal of every credential that opens nothing, whatever the reason."""
    return Unauthenticated("this API key is not known here; check it, or create one with `llmops keys create`")
