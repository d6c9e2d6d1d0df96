"""Counting tokens where no provider did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from meshkit.errors import Overloaded
from services.router.core.tokens import tokens_of_characters


class CharacterTokenCounter:
    """Four characters a token: exact in nothing, available everywhere, and without cost."""

    async def count(self, texts: Sequence[str]) -> int:
        """ceil(characters / 4) of all texts together."""
        return tokens_of_characters(sum(len(text) for text in texts))


class _Counts(Protocol):
    def count_tokens(self, text: str) -> int: ...


class _Executor(Protocol):
    def run(self, work: Callable[..., Any], /, *arguments: Any) -> Awaitable[Any]: ...


class EncoderTokenCounter:
    """The encoder's tokenizer, off the event loop; by length alone beyond `max_characters` (about 1 us a token)."""

    def __init__(self, encoder: _Counts, executor: _Executor, max_characters: int) -> None:
        self._encoder = encoder
        self._executor = executor
        self._max_characters = max_characters

    async def count(self, texts: Sequence[str]) -> int:
        """Word pieces of all texts together."""
        characters = sum(len(text) for text in texts)
        if characters > self._max_characters:
            return tokens_of_characters(characters)
        try:
            return int(await self._executor.run(self._count, [text for text in texts if text]))
        except Overloaded:
            # The answer is there and paid for: a rougher count is better than losing both.
            return tokens_of_characters(characters)

    def _count(self, texts: list[str]) -> int:
        return sum(self._encoder.count_tokens(text) for text in texts)
