"""Which browsers may call this server. Off unless origins are configured."""

from __future__ import annotations

from collections.abc import Mapping

EVERYONE = "*"
_EXPOSED = ", ".join(
    (
        *("x-request-id", "x-trace-id", "x-cache", "x-llmops-model", "x-llmops-prompt", "x-llmops-cost-nano-usd"),
        *("retry-after", "x-should-retry", "idempotent-replayed", "x-llmops-degraded", "request-id"),
        *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
    )
)
_MAX_AGE_S = "600"


def allowed_origin(headers: Mapping[str, str], origins: tuple[str, ...]) -> str:
    """The value of access-control-allow-origin for a request; empty when its origin is not allowed.

    Credentials travel in a header that scripts set themselves, so cookies are never allowed.
    """
    if EVERYONE in origins:
        return EVERYONE
    origin = headers.get("origin", "")
    return origin if origin in origins else ""


def cors_headers(headers: Mapping[str, str], origins: tuple[str, ...]) -> dict[str, str]:
    """Headers for an answer; empty when CORS is off or the origin is not allowed."""
    allowed = allowed_origin(headers, origins) if origins else ""
    if not allowed:
        return {}
    return {"access-control-allow-origin": allowed, "access-control-expose-headers": _EXPOSED, "vary": "origin"}


def preflight_headers(headers: Mapping[str, str], methods: str) -> dict[str, str]:
    """Headers for the answer to a preflight of an allowed origin, beside those of `cors_headers`."""
    return {
        "access-control-allow-methods": methods,
        "access-control-allow-headers": headers.get("access-control-request-headers", "authorization, content-type"),
        "access-control-max-age": _MAX_AGE_S,
    }
