"""Response headers that tell what happened to a request."""

from __future__ import annotations

import math
from urllib.parse import quote

from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.origin import Origin

# Instead of the HTTP library's own, which tells versions.
SERVER_NAME = "llmops"
# On answers, and on failures, that were made for an earlier request with the same idempotency key.
REPLAYED = "idempotent-replayed"
_MS_PER_S = 1000


def id_headers(origin: Origin) -> dict[str, str]:
    """On every answer of /v1, errors included."""
    if origin.traceparent:
        return {"x-request-id": origin.request_id, "x-trace-id": origin.trace_id}
    return {"x-request-id": origin.request_id}


def dialect_headers(origin: Origin, dialect: str) -> dict[str, str]:
    """What the clients of a dialect look for under a name of their own: Anthropic's, the request's id."""
    return {"request-id": origin.request_id} if dialect == "messages" else {}


def answer_headers(origin: Origin, facts: AnswerFacts) -> dict[str, str]:
    """On answers. What is not known is absent."""
    headers = {"x-request-id": origin.request_id}
    if trace_id := facts.trace_id or origin.trace_id:
        headers["x-trace-id"] = trace_id
    if facts.cache_status:
        headers["x-cache"] = facts.cache_status
    if facts.model:
        headers["x-llmops-model"] = _ascii(facts.model)
    if facts.prompt_version:
        headers["x-llmops-prompt"] = _ascii(facts.prompt_version)
    if facts.cost_nano_usd is not None:
        headers["x-llmops-cost-nano-usd"] = str(facts.cost_nano_usd)
    if facts.replayed:
        headers[REPLAYED] = "true"
    if facts.degraded:
        headers["x-llmops-degraded"] = ",".join(facts.degraded)
    for rate in facts.rates:
        headers[f"x-ratelimit-limit-{rate.unit}"] = str(rate.limit_count)
        headers[f"x-ratelimit-remaining-{rate.unit}"] = str(max(0, rate.remaining_count))
        headers[f"x-ratelimit-reset-{rate.unit}"] = duration_text(rate.reset_after_s)
    return headers


def duration_text(duration_s: float) -> str:
    """A time as OpenAI writes it in x-ratelimit-reset-…: "120ms", "1s", "6m0s". Rounded up: nobody comes too early."""
    ms = math.ceil(duration_s * 1000)
    if ms < _MS_PER_S:
        return f"{max(0, ms)}ms"
    seconds = -(-ms // _MS_PER_S)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _ascii(value: str) -> str:
    """Header values are printable ASCII; names outside it are percent-encoded."""
    return value if value.isascii() and value.isprintable() else quote(value, safe="/ ")
