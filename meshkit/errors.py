"""The one mapping between errors and what callers see, the same on every transport.

A domain exception needs no import from here: it carries the attributes `status` (canonical gRPC name) and `reason`
(an `ErrorReason` without its prefix), and optionally `metadata`, `field_violations`, `quota_violations` and
`retry_after_s`. Anything else becomes INTERNAL with an id; its text stays in the log.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DOMAIN = "llmops"
# Metadata of a deadline that was refused beforehand: whoever pays for the call learns that it cost nothing.
NOT_BEGUN = {"begun": "false"}

logger = logging.getLogger("meshkit.errors")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a caller learns about a call that did not succeed."""

    status: str
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    field_violations: Sequence[tuple[str, str]] = ()
    quota_violations: Sequence[tuple[str, str]] = ()
    retry_after_s: float | None = None


class MeshError(Exception):
    """Root of the errors that the runtime itself raises.

    MeshError
    ├── CallError          a call through a stub failed
    ├── InvalidField       a field breaks a rule
    ├── Overloaded         a bounded queue is full
    ├── DeadlineExceeded   too little time was left
    ├── Unauthenticated    no credential, or an unknown one
    ├── PermissionDenied   the credential does not cover this
    └── Unavailable        a dependency does not answer
    """

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.metadata: dict[str, str] = dict(metadata or {})
        self.field_violations: list[tuple[str, str]] = []
        self.quota_violations: list[tuple[str, str]] = []
        self.retry_after_s = retry_after_s


class CallError(MeshError):
    """A call failed; `status` and `reason` are those of the callee. What every stub raises, on every transport.

    `unheard`: the connection broke when the callee had the call, or may have had it: whether it did anything is not
    known. Only a multiplexed stream knows that; over plain gRPC it is never set.
    """

    unheard = False

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, metadata=failure.metadata, retry_after_s=failure.retry_after_s)
        self.failure = failure
        self.status = failure.status
        self.reason = failure.reason
        self.field_violations = list(failure.field_violations)
        self.quota_violations = list(failure.quota_violations)


class InvalidField(MeshError):
    """A field breaks a rule; `field` is its path in the request."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field_path: str, description: str) -> None:
        super().__init__(f"{field_path}: {description}")
        self.field_violations = [(field_path, description)]


class Overloaded(MeshError):
    """A bounded queue is full; nothing was started."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float = 0.1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class DeadlineExceeded(MeshError):
    """The deadline passed, or too little of it was left to begin."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Unauthenticated(MeshError):
    """No credential, or one that is not a key of this mesh."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIAL_INVALID"


class PermissionDenied(MeshError):
    """The credential is known and does not cover this call."""

    status = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class Unavailable(MeshError):
    """A dependency does not answer."""

    status = "UNAVAILABLE"
    reason = "SERVICE_UNAVAILABLE"

    def __init__(self, message: str, *, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        if reason:
            self.reason = reason


def describe(error: BaseException) -> Failure:
    """Turns any exception into what its caller may know. An unexpected one is logged here, once, with its id."""
    if isinstance(error, CallError):
        return error.failure
    status, reason = getattr(error, "status", None), getattr(error, "reason", None)
    if isinstance(status, str) and isinstance(reason, str):
        return Failure(
            status=status,
            reason=reason,
            message=str(error),
            metadata=getattr(error, "metadata", None) or {},
            field_violations=tuple(getattr(error, "field_violations", ())),
            quota_violations=tuple(getattr(error, "quota_violations", ())),
            retry_after_s=getattr(error, "retry_after_s", None),
        )
    if isinstance(error, asyncio.CancelledError):
        return Failure("CANCELLED", "CANCELLED", "the caller left")
    if isinstance(error, TimeoutError):
        return Failure("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "the time for this call has passed")
    error_id = secrets.token_hex(8)
    logger.error("unexpected error", exc_info=error, extra={"fields": {"error_id": error_id}})
    return Failure(
        "INTERNAL", "INTERNAL", f"internal error; the log has it as {error_id}", metadata={"error_id": error_id}
    )
