"""Response headers that tell what happened to a request."""

from __future__ import annotations

from urllib.parse import quote

from services.edge.core.origin import Origin
from services.edge.core.ports import AnswerFacts

# Instead of the HTTP library's own, which tells versions.
SERVER_NAME = "llmops"


def id_headers(origin: Origin) -> dict[str, str]:
    """On every answer of /v1, errors included."""
    if origin.traceparent:
        return {"x-request-id": origin.request_id, "x-trace-id": origin.trace_id}
    return {"x-request-id": origin.request_id}


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
    return headers


def _ascii(value: str) -> str:
    """Header values are printable ASCII; names outside it are percent-encoded."""
    return value if value.isascii() and value.isprintable() else quote(value, safe="/ ")
