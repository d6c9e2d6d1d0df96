"""What a request's headers say: who asks, under which ids, until when."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.edge.core.errors import BadCredential, InvalidRequest

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Version 00 only: later versions may be longer, and are read as 00 by cutting them, which nobody sends yet.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# As identity takes them: a token with many claims has kilobytes. The limit of a header line comes first by default.
_MAX_CREDENTIAL_CHARS = 16_384
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# LiteLLM's names come second, so that clients written for it keep their deadlines.
_TIMEOUT_HEADERS = ("x-llmops-timeout-s", "x-litellm-timeout")
_STREAM_TIMEOUT_HEADERS = ("x-llmops-timeout-s", "x-litellm-stream-timeout", "x-litellm-timeout")
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Origin:
    """Ids of a request. `traceparent` is empty when neither the client nor the tracer gave one."""

    request_id: str
    traceparent: str

    @property
    def trace_id(self) -> str:
        """32 hex digits, or empty."""
        return self.traceparent[3:35]


@dataclass(frozen=True, slots=True)
class CallTerms:
    """How a call into the mesh is made. `timeout_s` is from now."""

    origin: Origin
    credential: str = field(repr=False)
    idempotency_key: str
    timeout_s: float

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """As call metadata; absent values are left out."""
        pairs = [("x-request-id", self.origin.request_id)]
        if self.credential:
            pairs.append(("authorization", "Bearer " + self.credential))
        if self.origin.traceparent:
            pairs.append(("traceparent", self.origin.traceparent))
        if self.idempotency_key:
            pairs.append(("idempotency-key", self.idempotency_key))
        return tuple(pairs)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a request may take: without a wish of the client, and at most."""

    unary_s: float
    stream_s: float
    max_s: float


def request_id7(time_ns: int, random_bits: int) -> str:
    """A UUID version 7 (RFC 9562): 48 bits of milliseconds, then 74 of `random_bits`. Sorts by time."""
    digits = (
        f"{time_ns // 1_000_000 & 0xFFFFFFFFFFFF:012x}7{random_bits >> 62 & 0xFFF:03x}"
        f"{0x8 | random_bits >> 60 & 0x3:x}{random_bits & 0xFFFFFFFFFFFFFFF:015x}"
    )
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def sent_request_id(headers: Mapping[str, str]) -> str:
    """The client's x-request-id, or empty when it is absent or could harm a log."""
    sent = headers.get("x-request-id")
    return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else ""


def sent_traceparent(headers: Mapping[str, str]) -> str:
    """The client's traceparent, or empty: a malformed one is ignored, as the W3C recommendation asks."""
    sent = headers.get("traceparent")
    return sent if sent is not None and _TRACEPARENT.fullmatch(sent) else ""


def credential_of(headers: Mapping[str, str]) -> str:
    """The bearer token, else x-api-key, else empty: whether one is needed is the mesh's decision.

    Raises BadCredential for another scheme, for characters that no key has, and for too many of them.
    """
    authorization = headers.get("authorization")
    if authorization is None:
        credential = headers.get("x-api-key", "")
    elif authorization[:7].lower() == _BEARER:
        credential = authorization[7:].strip()
    else:
        raise BadCredential("The authorization header must be `Bearer <key>`.")
    if len(credential) > _MAX_CREDENTIAL_CHARS:
        raise BadCredential(f"The API key or token has more than {_MAX_CREDENTIAL_CHARS} characters.")
    if not credential.isascii() or not credential.isprintable():
        raise BadCredential("The API key holds characters that no key of this server has.")
    return credential


def terms_of(headers: Mapping[str, str], origin: Origin, deadlines: Deadlines, *, stream: bool) -> CallTerms:
    """Reads the rest of the headers. Raises BadCredential or InvalidRequest, which names the header."""
    idempotency_key = headers.get("idempotency-key", "")
    if (idempotency_key or "idempotency-key" in headers) and not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise InvalidRequest(
            "The header idempotency-key must be 1 to 255 printable ASCII characters without spaces; leave it out to "
            "send a request that nothing protects from being done twice."
        )
    return CallTerms(origin, credential_of(headers), idempotency_key, timeout_s_of(headers, deadlines, stream=stream))


def timeout_s_of(headers: Mapping[str, str], deadlines: Deadlines, *, stream: bool) -> float:
    """The client's wish, capped; the default without one. Raises InvalidRequest when it is no positive number."""
    for name in _STREAM_TIMEOUT_HEADERS if stream else _TIMEOUT_HEADERS:
        sent = headers.get(name)
        if sent is None:
            continue
        try:
            wish_s = float(sent)
        except ValueError:
            wish_s = math.nan
        if not 0 < wish_s < math.inf:
            raise InvalidRequest(f"The header {name} must be a positive number of seconds.")
        return min(wish_s, deadlines.max_s)
    return min(deadlines.stream_s if stream else deadlines.unary_s, deadlines.max_s)
