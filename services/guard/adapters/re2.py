"""Custom patterns on RE2: linear time whatever the pattern. google-re2 comes with the extra `guard`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.guard.core.errors import InvalidPatternError
from services.guard.core.ports import CompiledPattern

# RE2's own budget for a compiled pattern; a larger one is refused as too complex.
_MAX_PROGRAM_BYTES = 8 << 20


class Re2Engine:
    """The port PatternEngine. The library is loaded when the first pattern is compiled."""

    def compile(self, pattern: str) -> CompiledPattern:
        """See PatternEngine."""
        try:
            import re2  # noqa: PLC0415 - optional: only policies with custom patterns need it
        except ModuleNotFoundError as error:
            raise InvalidPatternError("custom patterns need google-re2: install the extra `guard`") from error
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _MAX_PROGRAM_BYTES
        try:
            return _Re2Pattern(re2.compile(pattern, options))
        except re2.error as error:
            reason = error.args[0] if error.args else "unknown reason"
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            raise InvalidPatternError(text) from error


class _Re2Pattern:
    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def spans(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        """See CompiledPattern."""
        for found in self._compiled.finditer(text, start):
            if found.end() > found.start():
                yield found.start(), found.end()
