"""How long a provider asks us to wait.

The Retry-After header in seconds or as an HTTP date (RFC 9110 section 10.2.3), OpenAI's and Azure's milliseconds beside
it, and the `retryDelay` of google.rpc.RetryInfo in Gemini's error bodies.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# The longest legal HTTP date has 33 characters.
_MAX_CHARS = 64


def parse_retry_after(header: str, header_ms: str, now: datetime) -> float | None:
    """Seconds to wait, never negative; None when neither header says anything usable.

    Absurd values are returned as they are: the caller caps them, so that a metric can still show them.
    """
    for text, scale in ((header_ms, 1000.0), (header, 1.0)):
        seconds = _number(text)
        if seconds is not None:
            return seconds / scale
    return _date(header, now)


def parse_retry_delay(text: str) -> float | None:
    """A protobuf duration as JSON (`34.07s`) in seconds, never negative; None when it is none."""
    return _number(text.removesuffix("s")) if text.endswith("s") else None


def _number(text: str) -> float | None:
    if len(text) > _MAX_CHARS:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _date(text: str, now: datetime) -> float | None:
    if not text or len(text) > _MAX_CHARS:
        return None
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
