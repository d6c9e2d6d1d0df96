"""Conversations as providers want them whose roles must alternate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.router.core.chat import Message

_INSTRUCTIONS = frozenset({"system", "developer"})


def alternating_turns(
    messages: Iterable[Message],
    parts_of: Callable[[Message], list[dict[str, Any]]],
    *,
    assistant: str = "assistant",
    parts_key: str = "content",
) -> list[dict[str, Any]]:
    """Turns of the user and of `assistant`, without instructions, which go elsewhere; turns of no parts are left out.

    Neighbours of one role join: the roles must alternate, and tool results of one round must share one turn.
    """
    rows: list[dict[str, Any]] = []
    for message in messages:
        if message.role in _INSTRUCTIONS:
            continue
        role = assistant if message.role == "assistant" else "user"
        parts = parts_of(message)
        if rows and rows[-1]["role"] == role:
            rows[-1][parts_key].extend(parts)
        elif parts:
            rows.append({"role": role, parts_key: parts})
    return rows
