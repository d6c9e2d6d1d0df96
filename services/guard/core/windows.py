"""Untrusted text in windows that a classifier reads: at sentence ends where there are any."""

from __future__ import annotations

from collections.abc import Iterable

WINDOW_CHARS = 800
_ENDS = (". ", "! ", "? ", "\n")


def windows_of(texts: Iterable[str], max_windows: int) -> list[str]:
    """At most `max_windows` windows of at most 800 code points; the end of a longer input is read before its middle."""
    windows: list[str] = []
    for text in texts:
        start = 0
        while start < len(text):
            end = _end_of_window(text, start)
            windows.append(text[start:end])
            start = end
    if len(windows) <= max_windows:
        return windows
    head = (max_windows + 1) // 2
    return windows[:head] + windows[len(windows) - (max_windows - head) :]


def _end_of_window(text: str, start: int) -> int:
    limit = start + WINDOW_CHARS
    if limit >= len(text):
        return len(text)
    last = max(text.rfind(end, start, limit) + len(end) for end in _ENDS)
    return last if last > start + WINDOW_CHARS // 2 else limit
