"""Failures on the wire: a status code, a message and `google.rpc` details, in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from meshkit.errors import DOMAIN, Failure

DETAILS_KEY = "grpc-status-details-bin"
# gRPC's own clients wait this long before they repeat, or not at all when it is negative (proposal A6).
PUSHBACK_KEY = "grpc-retry-pushback-ms"
_NEVER = "-1"
_CODES = {code.name: code for code in grpc.StatusCode}
_NUMBERS = {code.name: code.value[0] for code in grpc.StatusCode}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
# What a failure that did not come from a handler of ours means: the transport's own words stay out of it.
_TRANSPORT_REASONS = {
    "UNAVAILABLE": "SERVICE_UNAVAILABLE",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "CANCELLED": "CANCELLED",
    "RESOURCE_EXHAUSTED": "OVERLOADED",
    "UNIMPLEMENTED": "UNSUPPORTED",
}


def encode(failure: Failure) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes | str], ...]]:
    """The code, the message and the trailing metadata of a failure."""
    code = _CODES.get(failure.status, grpc.StatusCode.UNKNOWN)
    details = (DETAILS_KEY, details_of(failure))
    pushback = _pushback(failure)
    return code, failure.message, (details, (PUSHBACK_KEY, pushback)) if pushback else (details,)


def _pushback(failure: Failure) -> str:
    """What a refusal for lack of quota tells a client that repeats by itself; empty when it tells nothing.

    A budget comes back with its window, in hours or weeks: no call lasts that long. A rate limit that waiting does not
    help says so by naming no time.
    """
    if failure.reason == "BUDGET_EXHAUSTED":
        return _NEVER
    if failure.status != "RESOURCE_EXHAUSTED":
        return ""
    if failure.retry_after_s is not None:
        return str(math.ceil(failure.retry_after_s * 1000))
    return _NEVER if failure.reason == "RATE_LIMITED" else ""


def code_number(failure: Failure) -> int:
    """The number of a failure's status code."""
    return int(_NUMBERS.get(failure.status, 2))


def code_of(number: int) -> grpc.StatusCode:
    """The status code of a number; UNKNOWN for a number of the future."""
    return _BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)


def details_of(failure: Failure) -> bytes:
    """A failure as a serialised google.rpc.Status."""
    status = status_pb2.Status(code=code_number(failure), message=failure.message)
    _pack(status, error_details_pb2.ErrorInfo(domain=DOMAIN, reason=failure.reason, metadata=dict(failure.metadata)))
    if failure.field_violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in failure.field_violations
        ]
        _pack(status, error_details_pb2.BadRequest(field_violations=violations))
    if failure.quota_violations:
        quotas = [
            error_details_pb2.QuotaFailure.Violation(subject=s, description=d) for s, d in failure.quota_violations
        ]
        _pack(status, error_details_pb2.QuotaFailure(violations=quotas))
    if failure.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(failure.retry_after_s * 1e9))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    serialised: bytes = status.SerializeToString()
    return serialised


def _pack(status: status_pb2.Status, detail: object) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)  # type: ignore[arg-type]
    status.details.append(packed)


def decode(code: grpc.StatusCode, message: str, trailers: Sequence[tuple[str, bytes | str]], path: str) -> Failure:
    """The failure that a call ended with. Trailers without our details come from the transport."""
    for key, value in trailers or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return _decode_details(code, value)
    reason = _TRANSPORT_REASONS.get(code.name, "INTERNAL")
    service = path.strip("/").split("/", 1)[0]
    text = (
        f"{path} did not answer in time" if code.name == "DEADLINE_EXCEEDED" else f"{service}: {message or code.name}"
    )
    return Failure(code.name, reason, text, {"service": service} if code.name == "UNAVAILABLE" else {})


def failure_of(details: bytes) -> Failure:
    """A failure from its serialised google.rpc.Status; `details_of` made it."""
    return _decode_details(code_of(status_pb2.Status.FromString(details).code), details)


def _decode_details(code: grpc.StatusCode, value: bytes) -> Failure:
    status = status_pb2.Status.FromString(value)
    info = error_details_pb2.ErrorInfo()
    bad, quota, retry = error_details_pb2.BadRequest(), error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in status.details:
        for known in (info, bad, quota):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
        if detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return Failure(
        code.name,
        info.reason or "INTERNAL",
        status.message,
        dict(info.metadata),
        tuple((v.field, v.description) for v in bad.field_violations),
        tuple((v.subject, v.description) for v in quota.violations),
        retry_after_s,
    )
