"""The one table from reasons to HTTP: status, OpenAI error type, and whether a client should send again.

Rows exist for every `ErrorReason` of the contract and for the few reasons that only HTTP has. The `code` of an error
body is the reason in lower case, but for the two that OpenAI's clients know by names of their own. Anthropic's type
follows from the status, as at Anthropic; a row names another status where Anthropic has one of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.edge.core.answer_headers import REPLAYED, duration_text
from services.edge.core.errors import EdgeError, MethodNotAllowed

INVALID = "invalid_request_error"
SERVER = "server_error"
RATE = "rate_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Row:
    """One reason over HTTP.

    `retry` becomes the header x-should-retry, which the OpenAI clients obey over their own rules (they send again
    after 408, 409, 429 and 5xx). None leaves the choice to them. False stands where a second try costs money again
    or cannot succeed.
    """

    http_status: int
    type: str
    retry: bool | None = None
    code: str = ""
    anthropic_status: int = 0


BY_REASON: Mapping[str, Row] = MappingProxyType(
    {
        "INVALID_FIELD": Row(400, INVALID),
        "CREDENTIAL_INVALID": Row(401, "authentication_error"),
        "PERMISSION_DENIED": Row(403, "permission_error"),
        "NOT_FOUND": Row(404, INVALID),
        "REQUEST_ID_REUSED": Row(409, INVALID, retry=False),
        "ALREADY_EXISTS": Row(409, INVALID, retry=False),
        "BUDGET_EXHAUSTED": Row(429, "insufficient_quota", retry=False, code="insufficient_quota"),
        "RATE_LIMITED": Row(429, RATE, code="rate_limit_exceeded"),
        "OVERLOADED": Row(503, SERVER, anthropic_status=529),
        "DEADLINE_EXCEEDED": Row(504, SERVER, retry=False),
        # A client that left reads nothing; the row exists for logs and metrics.
        "CANCELLED": Row(499, INVALID, retry=False),
        "GUARD_BLOCKED": Row(400, INVALID),
        "OUTPUT_BLOCKED": Row(422, INVALID),
        "GUARD_UNAVAILABLE": Row(503, SERVER),
        "BUDGET_UNAVAILABLE": Row(503, SERVER),
        "MODEL_UNPRICED": Row(400, INVALID),
        "MODEL_NOT_FOUND": Row(404, INVALID),
        "UPSTREAM_UNAVAILABLE": Row(502, SERVER),
        "UPSTREAM_RATE_LIMITED": Row(429, RATE),
        "UPSTREAM_REJECTED": Row(400, INVALID),
        "UPSTREAM_CREDENTIAL": Row(502, SERVER, retry=False),
        "UPSTREAM_STREAM_CUT": Row(502, SERVER, retry=False),
        "CONTEXT_TOO_LONG": Row(400, INVALID),
        "PROMPT_VARIABLES": Row(400, INVALID),
        "PROMPT_NOT_FOUND": Row(404, INVALID),
        "REGISTRY_UNAVAILABLE": Row(503, SERVER),
        "RESERVATION_STATE": Row(500, SERVER, retry=False),
        "VERSION_TOO_LOW": Row(400, INVALID),
        "SERVICE_UNAVAILABLE": Row(503, SERVER),
        "INTERNAL": Row(500, SERVER, retry=False),
        "UNSUPPORTED": Row(501, SERVER, retry=False),
        "SCHEMA_MISMATCH": Row(422, INVALID),
        "SHUTTING_DOWN": Row(503, SERVER, retry=True, anthropic_status=529),
        "STORAGE_UNAVAILABLE": Row(503, SERVER),
        "LEDGER_RESTORED": Row(503, SERVER),
        "IDEMPOTENCY_IN_PROGRESS": Row(409, INVALID, retry=True),
        "ANSWER_NOT_KEPT": Row(409, INVALID, retry=False),
        # Reasons of HTTP alone.
        "METHOD_NOT_ALLOWED": Row(405, INVALID),
        "RECEIPT_TIMEOUT": Row(408, INVALID),
        "BODY_TOO_LARGE": Row(413, INVALID),
        "MEDIA_TYPE_REFUSED": Row(415, INVALID),
        "MALFORMED_HTTP": Row(400, INVALID),
        "SLOW_READER": Row(408, INVALID, retry=False),
    }
)

# For reasons newer than this edge: the canonical status decides (google/rpc/code.proto gives the HTTP mapping).
BY_STATUS: Mapping[str, Row] = MappingProxyType(
    {
        "CANCELLED": Row(499, INVALID, retry=False),
        "UNKNOWN": Row(500, SERVER, retry=False),
        "INVALID_ARGUMENT": Row(400, INVALID),
        "DEADLINE_EXCEEDED": Row(504, SERVER, retry=False),
        "NOT_FOUND": Row(404, INVALID),
        "ALREADY_EXISTS": Row(409, INVALID, retry=False),
        "PERMISSION_DENIED": Row(403, "permission_error"),
        "UNAUTHENTICATED": Row(401, "authentication_error"),
        "RESOURCE_EXHAUSTED": Row(429, RATE),
        "FAILED_PRECONDITION": Row(400, INVALID),
        "ABORTED": Row(409, INVALID),
        "OUT_OF_RANGE": Row(400, INVALID),
        "UNIMPLEMENTED": Row(501, SERVER, retry=False),
        "INTERNAL": Row(500, SERVER, retry=False),
        "UNAVAILABLE": Row(503, SERVER),
        "DATA_LOSS": Row(500, SERVER, retry=False),
    }
)
_UNKNOWN = BY_STATUS["UNKNOWN"]

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FIRST_SERVER_STATUS = 500

# The OpenAI parameter at fault where the reason alone tells it.
_PARAM_BY_REASON = {
    "MODEL_NOT_FOUND": "model",
    "MODEL_UNPRICED": "model",
    "CONTEXT_TOO_LONG": "messages",
    "GUARD_BLOCKED": "messages",
    "PROMPT_NOT_FOUND": "llmops.prompt",
    "PROMPT_VARIABLES": "llmops.variables",
}
# Metadata of failures that is a header of the same name.
_PASSED_ON = (
    REPLAYED,
    *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
)


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as HTTP: status, headers, JSON body."""

    http_status: int
    headers: dict[str, str]
    body: bytes


def row_of(error: EdgeError) -> Row:
    """The row of an error: by reason, else by status, else 500."""
    return BY_REASON.get(error.reason) or BY_STATUS.get(error.status, _UNKNOWN)


def openai_error(
    error: EdgeError, request_id: str = "", trace_id: str = ""
) -> tuple[dict[str, object], dict[str, object]]:
    """OpenAI's `error` object, and ours."""
    shown: dict[str, object] = {
        "message": str(error),
        "type": row_of(error).type,
        "param": error.param or _PARAM_BY_REASON.get(error.reason),
        "code": row_of(error).code or error.reason.lower(),
    }
    llmops: dict[str, object] = {
        "request_id": request_id or None,
        "trace_id": trace_id or None,
        "status": error.status,
        "reason": error.reason,
        "retry_after_s": error.retry_after_s,
        "metadata": error.metadata,
    }
    return shown, llmops


def error_body(error: EdgeError, request_id: str = "", trace_id: str = "") -> bytes:
    """OpenAI's `error` object and ours beside it, as compact JSON in ASCII: safe inside one SSE line."""
    shown, llmops = openai_error(error, request_id, trace_id)
    return _encode({"error": shown, "llmops": llmops})


def anthropic_error_body(error: EdgeError, request_id: str = "", trace_id: str = "") -> bytes:
    """Anthropic's error object and ours beside it, likewise. Anthropic names no parameter: messages begin with it."""
    _, llmops = openai_error(error, request_id, trace_id)
    message = str(error)
    if error.param and not message.startswith(error.param):
        message = f"{error.param}: {message}"
    shown = {"type": _anthropic_type(anthropic_status(row_of(error))), "message": message}
    return _encode({"type": "error", "error": shown, "request_id": request_id or None, "llmops": llmops})


def anthropic_status(row: Row) -> int:
    """The status of a row where Anthropic's clients ask."""
    return row.anthropic_status or row.http_status


def _anthropic_type(http_status: int) -> str:
    other = "api_error" if http_status >= _FIRST_SERVER_STATUS else "invalid_request_error"
    return _ANTHROPIC_TYPES.get(http_status, other)


def _encode(content: dict[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def anthropic_error_answer(error: EdgeError, request_id: str = "", trace_id: str = "") -> ErrorAnswer:
    """`error_answer` for Anthropic's clients."""
    row = row_of(error)
    body = anthropic_error_body(error, request_id, trace_id)
    headers = {"request-id": request_id} if request_id else {}
    return ErrorAnswer(anthropic_status(row), headers | _error_headers(error, row), body)


def error_answer(error: EdgeError, request_id: str = "", trace_id: str = "") -> ErrorAnswer:
    """The whole answer to a request that failed before its first byte."""
    row = row_of(error)
    return ErrorAnswer(row.http_status, _error_headers(error, row), error_body(error, request_id, trace_id))


def _error_headers(error: EdgeError, row: Row) -> dict[str, str]:
    headers: dict[str, str] = {}
    retry = False if _is_final(error) else row.retry
    if retry is not None:
        headers["x-should-retry"] = "true" if retry else "false"
    headers |= {name: _header(name, error.metadata[name]) for name in _PASSED_ON if name in error.metadata}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
        headers["retry-after-ms"] = str(max(0, math.ceil(error.retry_after_s * 1000)))
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    if row.http_status == 401:  # noqa: PLR2004 - RFC 9110 asks for the challenge on 401
        headers["www-authenticate"] = "Bearer"
    return headers


def _header(name: str, value: str) -> str:
    """Times come in milliseconds and leave as on answers."""
    milliseconds = value.removesuffix("ms")
    if "-reset-" in name and milliseconds.isdecimal():
        return duration_text(int(milliseconds) / 1000)
    return value


def _is_final(error: EdgeError) -> bool:
    """Whether asking again gives the same: a kept failure, or a rate limit that lets nothing through at all."""
    return REPLAYED in error.metadata or (error.reason == "RATE_LIMITED" and error.retry_after_s is None)
