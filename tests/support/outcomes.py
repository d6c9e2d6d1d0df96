"""What a caller saw, as plain data, and the same without what differs from run to run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from meshkit.errors import Failure

# Values that are new in every run: their presence is compared, not what they are.
_FRESH = frozenset(
    {
        "accept_time",
        "accepted_at",
        "cache_entry_id",
        "created",
        "duration",
        "duration_ms",
        "entry_id",
        "error_id",
        "id",
        "policy_digest",
        "request_id",
        "retry-after",
        "retry-after-ms",
        "retry_after_s",
        "trace_id",
        "x-request-id",
        "x-trace-id",
    }
)
_HEADERS = (
    "content-type",
    "retry-after",
    "retry-after-ms",
    "www-authenticate",
    "x-cache",
    "x-llmops-cost-nano-usd",
    "x-llmops-model",
    "x-llmops-prompt",
    "x-request-id",
    "x-should-retry",
    "x-trace-id",
)


@dataclass
class Outcome:
    """One exchange. `error` is set when it failed; a stream that broke off has both text and error."""

    request_id: str
    text: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    http_status: int = 0
    finish: str = ""
    started: dict[str, Any] = field(default_factory=dict)
    done: bool = False
    error: Failure | None = None

    @property
    def cache(self) -> str:
        """The cache status over either protocol: "miss", "exact", …"""
        status = self.report.get("cache_status") or (self.report.get("cache") or {}).get("status") or ""
        return str(status).removeprefix("CACHE_STATUS_").lower()

    @property
    def reason(self) -> str:
        """The reason of a failure over either protocol, empty for success."""
        return self.error.reason if self.error is not None else ""

    @property
    def cost_nano_usd(self) -> int:
        """What the report says."""
        return int(self.report.get("cost_nano_usd") or 0)

    def compared(self) -> dict[str, Any]:
        """What must be the same in every deployment and every run."""
        left_out = {"request_id", "report", "text"} if self.body and not self.started else {"request_id"}
        if self.http_status == 0:
            left_out = {"request_id", "text"} if self.body else {"request_id"}
        shown = {name: value for name, value in asdict(self).items() if value and name not in left_out}
        if self.headers:
            shown["headers"] = {name: self.headers[name] for name in _HEADERS if name in self.headers}
        result: dict[str, Any] = normalised(shown)
        return result


def normalised(value: Any, name: str = "") -> Any:
    """Replaces what is fresh in every run. Steps keep their names; their order is a race between parallel checks."""
    if name in _FRESH and value not in (None, ""):
        return f"<{name}>"
    if name == "steps":
        return sorted(step["step"] for step in value)
    if name == "attempts_json":
        return normalised(json.loads(value))
    if isinstance(value, Mapping):
        if value.get("estimated"):
            value = {**value, "output_tokens": "<estimated>"}
        return {key: normalised(entry, key) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [normalised(entry) for entry in value]
    return value
