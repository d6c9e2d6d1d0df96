"""Settings that change while a process runs: prepared by everyone whom they concern, then taken over, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# Gets a target's new settings, which are valid by themselves, and makes whatever they need: connections, tables.
# Returns what takes them over, which must not wait and must not fail. Raises ValueError with a sentence when they
# cannot be used.
Prepare = Callable[[Any], Awaitable[Callable[[], None]]]


async def take_over(callbacks: Mapping[str, Prepare], changed: Mapping[str, Any]) -> None:
    """Lets every target prepare its new settings, then changes all at once. Raises what the first says that cannot."""
    commits = [await callbacks[name](settings) for name, settings in changed.items()]
    for commit in commits:
        commit()
