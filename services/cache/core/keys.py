"""What makes two requests the same: the fingerprint, and the partition of the semantic tier.

Both are SHA-256 over one unambiguous encoding. `frame` writes every part behind its length, so no two different lists
of parts have the same encoding, whatever bytes the parts hold. The request itself comes in as bytes from an injective
encoding (api.py says which): this module compares bytes and never interprets them. Texts are compared byte for byte:
no trimming, no Unicode or JSON normalisation, because a needless miss costs one model call and a wrong hit costs trust.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Protocol

from services.cache.core.errors import InvalidRequest, NoOrganisation

# Changing the encoding below must change these marks: old entries are then never found, instead of found wrongly.
_FINGERPRINT_MARK = b"cache-fingerprint-1"
_PARTITION_MARK = b"cache-partition-1"
_PAYLOAD_MARK = b"cache-payload-1"


class Caller(Protocol):
    """Who calls; the chassis' principal has this shape."""

    @property
    def organisation(self) -> str:
        """Tenant."""

    @property
    def team(self) -> str:
        """Team, possibly empty."""

    @property
    def user(self) -> str:
        """User of the key, possibly empty."""

    @property
    def key_id(self) -> str:
        """Id of the API key."""


class Scope(Enum):
    """Who may be served an entry."""

    ORGANISATION = b"organisation"
    TEAM = b"team"
    USER = b"user"


@dataclass(frozen=True, slots=True)
class RequestKey:
    """One request, as bytes that compare.

    Attributes:
        scope: Who may share the answer.
        end_user: The application's user; counts in scope USER only.
        content: Injective encoding of everything else: model policy, prompt, guard policy, messages, tools, parameters.
        prompt_digest: Digest of the prompt version, for invalidation; it is in `content` as well.
        direct: A caller asks by itself, without the mesh, whose guard judges what the mesh stores.
    """

    scope: Scope
    end_user: str
    content: bytes
    prompt_digest: str
    direct: bool


@dataclass(frozen=True, slots=True)
class Question:
    """The last user message as the semantic tier reads it.

    Attributes:
        text: Its text.
        surroundings: The request's `content` with this text left out: earlier messages, policies, tools, parameters.
        language: ISO 639-1 code, or empty when the guard did not say.
        embedding_model: Model and file digest of the vector.
        vector: float32, little endian, L2 norm 1.
    """

    text: str
    surroundings: bytes
    language: str
    embedding_model: str
    vector: bytes


def frame(parts: Sequence[bytes]) -> bytes:
    """Encodes a list of byte strings so that different lists always differ."""
    pieces: list[bytes] = []
    for part in parts:
        pieces += (len(part).to_bytes(8, "big"), part)
    return b"".join(pieces)


def tenant(caller: Caller, key: RequestKey) -> list[bytes]:
    """The parts that say who may share the answer; a part more for direct callers, so they share nothing with the mesh.

    Raises:
        NoOrganisation, InvalidRequest: See `_sharers`.
    """
    sharers = _sharers(caller, key)
    return [*sharers, b"direct"] if key.direct else sharers


def _sharers(caller: Caller, key: RequestKey) -> list[bytes]:
    """Four parts that name who the scope means.

    An end user is named by an application, and two applications may name different people alike: the end user counts
    together with the caller's team. A scope that the credential cannot fill is refused, not widened.

    Raises:
        NoOrganisation: The credential belongs to no organisation.
        InvalidRequest: Scope TEAM without a team, scope USER without any user.
    """
    if not caller.organisation:
        raise NoOrganisation
    organisation = caller.organisation.encode()
    if key.scope is Scope.ORGANISATION:
        return [organisation, b"organisation", b"", b""]
    if key.scope is Scope.TEAM:
        if not caller.team:
            raise InvalidRequest("key.scope", "the credential has no team: choose another scope")
        return [organisation, b"team", caller.team.encode(), b""]
    if key.end_user:
        return [organisation, b"end-user", caller.team.encode(), key.end_user.encode()]
    if not caller.user:
        raise InvalidRequest("key.scope", "no end_user is named and the credential has no user: choose another scope")
    return [organisation, b"user", b"", caller.user.encode()]


def fingerprint(caller: Caller, key: RequestKey) -> bytes:
    """Names a request: 32 bytes, equal for the same tenant and the same request only.

    Raises:
        NoOrganisation: See `tenant`.
        InvalidRequest: See `tenant`.
    """
    return _digest([_FINGERPRINT_MARK, *tenant(caller, key), key.content])


def partition(caller: Caller, key: RequestKey, question: Question) -> bytes:
    """Names the set of entries that a question may be compared with: 32 bytes.

    Only the text of the last message may differ inside a partition. Tenant, policies, prompt, tools, parameters, every
    earlier message, language, embedding model and vector length are part of the name, so no similarity, however
    high, reaches across them.
    """
    return _digest(
        [
            _PARTITION_MARK,
            *tenant(caller, key),
            question.surroundings,
            question.language.encode(),
            question.embedding_model.encode(),
            len(question.vector).to_bytes(8, "big"),
        ]
    )


def payload_digest(operation: str, *parts: bytes) -> bytes:
    """Names a mutation's payload, to tell a retry from a reused request_id."""
    return _digest([_PAYLOAD_MARK, operation.encode(), *parts])


def _digest(parts: list[bytes]) -> bytes:
    return sha256(frame(parts)).digest()
