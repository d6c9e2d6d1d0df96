"""What the router refuses, and how a caller learns of it.

RouterError
├── ModelNotFound         no route or model of that name
├── InvalidRequest        a field is not what the contract asks
├── Unsupported           no candidate offers what the request needs
├── ContextTooLong        no candidate's window holds the conversation
├── UpstreamRejected      a provider called the request malformed
├── UpstreamCredential    a provider refused our credentials
├── UpstreamRateLimited   a provider limits us, no candidate is left
├── UpstreamUnavailable   every candidate failed
├── UpstreamStreamCut     a stream ended before it was complete
└── DeadlineExceeded      the caller's time passed

Errors of a call that was planned carry `attempts_json` in their metadata, an empty list when nobody was asked.
"""

from __future__ import annotations


class RouterError(Exception):
    """Root: `str(error)` is what the caller reads, and never holds content or secrets."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(
        self, message: str, *, metadata: dict[str, str] | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after_s = retry_after_s


class ModelNotFound(RouterError):
    """NOT_FOUND: metadata `model`."""

    status = "NOT_FOUND"
    reason = "MODEL_NOT_FOUND"


class InvalidRequest(RouterError):
    """INVALID_ARGUMENT with the field's path."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field_path: str, description: str) -> None:
        super().__init__(f"{field_path}: {description}")
        self.field_violations = [(field_path, description)]


class RequestIdReused(RouterError):
    """ALREADY_EXISTS: the id belongs to another request."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"


class Unsupported(RouterError):
    """UNIMPLEMENTED: metadata `feature`."""

    status = "UNIMPLEMENTED"
    reason = "UNSUPPORTED"


class ContextTooLong(RouterError):
    """INVALID_ARGUMENT: the conversation does not fit."""

    status = "INVALID_ARGUMENT"
    reason = "CONTEXT_TOO_LONG"


class UpstreamRejected(RouterError):
    """INVALID_ARGUMENT: metadata `provider`, `provider_code` and, where the provider names it, `provider_param`."""

    status = "INVALID_ARGUMENT"
    reason = "UPSTREAM_REJECTED"


class UpstreamCredential(RouterError):
    """FAILED_PRECONDITION: an operator must act."""

    status = "FAILED_PRECONDITION"
    reason = "UPSTREAM_CREDENTIAL"


class UpstreamRateLimited(RouterError):
    """RESOURCE_EXHAUSTED, with the time to wait where it is known."""

    status = "RESOURCE_EXHAUSTED"
    reason = "UPSTREAM_RATE_LIMITED"


class UpstreamUnavailable(RouterError):
    """UNAVAILABLE: nothing was delivered."""

    status = "UNAVAILABLE"
    reason = "UPSTREAM_UNAVAILABLE"


class UpstreamStreamCut(RouterError):
    """UNAVAILABLE: part of the answer was delivered."""

    status = "UNAVAILABLE"
    reason = "UPSTREAM_STREAM_CUT"


class DeadlineExceeded(RouterError):
    """DEADLINE_EXCEEDED."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"
