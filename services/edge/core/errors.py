"""What the edge refuses, and how a failure of the mesh looks from here.

EdgeError
├── InvalidRequest        a parameter is wrong or not served; `param` names it
├── BadCredential         the credential cannot be one
├── RouteUnknown          no such path
├── ModelUnknown          no such model
├── MethodNotAllowed      the path takes other methods
├── BodyTooLarge          the body exceeds the limit
├── MediaTypeRefused      the body is not plain JSON
├── ReceiptTimeout        headers and body did not arrive in time
├── MalformedHttp         the bytes are no HTTP request
├── EdgeOverloaded        too many requests at once; nothing was started
├── CallFailed            the mesh answered with an error, or its stream broke off
└── SlowReader            the client does not read its stream
"""

from __future__ import annotations

from collections.abc import Mapping


class EdgeError(Exception):
    """Root. `reason` is a row of the error table; `param` names the parameter in OpenAI's spelling."""

    status = "INTERNAL"
    reason = "INTERNAL"
    # After it, the rest of the request is not worth reading.
    closes_connection = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


class InvalidRequest(EdgeError):
    """A parameter is wrong, or is not served here."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"


class BadCredential(EdgeError):
    """The header holds something that cannot be a credential."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIAL_INVALID"


class RouteUnknown(EdgeError):
    """No such path."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"


class ModelUnknown(EdgeError):
    """No such model or route."""

    status = "NOT_FOUND"
    reason = "MODEL_NOT_FOUND"


class MethodNotAllowed(EdgeError):
    """The path takes other methods."""

    status = "UNIMPLEMENTED"
    reason = "METHOD_NOT_ALLOWED"

    def __init__(self, path: str, allowed: str) -> None:
        super().__init__(f"{path} takes {allowed}.")
        self.allowed = allowed


class BodyTooLarge(EdgeError):
    """The body exceeds the limit."""

    status = "INVALID_ARGUMENT"
    reason = "BODY_TOO_LARGE"
    closes_connection = True

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes, the limit of this server.")


class MediaTypeRefused(EdgeError):
    """The body is compressed or declared as something else than JSON."""

    status = "INVALID_ARGUMENT"
    reason = "MEDIA_TYPE_REFUSED"


class ReceiptTimeout(EdgeError):
    """Headers and body did not arrive in time."""

    status = "DEADLINE_EXCEEDED"
    reason = "RECEIPT_TIMEOUT"
    closes_connection = True

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The request did not arrive completely within {limit_s:g} seconds.")


class MalformedHttp(EdgeError):
    """The bytes are no HTTP request, or its headers exceed the limits."""

    status = "INVALID_ARGUMENT"
    reason = "MALFORMED_HTTP"
    closes_connection = True


class EdgeOverloaded(EdgeError):
    """Too many requests, or too many bytes of them, at once; nothing was started."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"


class CallFailed(EdgeError):
    """The mesh answered with an error. `status` and `reason` are those of the failing service."""

    def __init__(
        self,
        status: str,
        reason: str,
        message: str,
        *,
        param: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=param, metadata=metadata, retry_after_s=retry_after_s)
        self.status = status
        self.reason = reason


class SlowReader(EdgeError):
    """The client stopped reading its stream; the connection is cut."""

    status = "DEADLINE_EXCEEDED"
    reason = "SLOW_READER"
    closes_connection = True
