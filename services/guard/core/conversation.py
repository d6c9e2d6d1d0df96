"""Conversations and answers as the guard sees them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Trust(Enum):
    """Who wrote a message: the application and the model, or someone outside."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """A message's texts (its content, or its text parts in order) and the arguments of its tool calls."""

    trust: Trust
    texts: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    is_user: bool = False

    @property
    def text(self) -> str:
        """All its text."""
        return "".join(self.texts)

    @property
    def char_count(self) -> int:
        """Code points of all its texts."""
        count = sum(map(len, self.arguments)) if self.arguments else 0
        for text in self.texts:
            count += len(text)
        return count


@dataclass(frozen=True, slots=True, repr=False)
class Tool:
    """A tool that is offered: what the model reads about it."""

    description: str
    parameters_json_schema: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class CallFragment:
    """A tool call, or the next fragment of one."""

    index: int
    arguments: str
    id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class AnswerDelta:
    """An answer, or the next piece of one. Citations hold the quotes only; the api keeps the rest."""

    content: str = ""
    refusal: str = ""
    calls: tuple[CallFragment, ...] = ()
    quotes: tuple[str, ...] = ()

    @property
    def char_count(self) -> int:
        """Code points of all its texts."""
        calls = sum(len(call.arguments) for call in self.calls) if self.calls else 0
        return len(self.content) + len(self.refusal) + calls
