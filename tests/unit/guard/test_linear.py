"""Scans take time in proportion to the text, whatever stands in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

from services.guard.core.active_policy import activate
from services.guard.core.conversation import AnswerDelta
from services.guard.core.output_check import OutputCheck
from services.guard.core.phones import find_phones
from services.guard.core.policy import DEFAULT, CustomPattern
from services.guard.core.shape import Shape


def test_many_numbers_behind_words_for_a_telephone_are_each_looked_at_once() -> None:
    """Behind "tlf" each of them searched the whole text for another word: 6.5 s for 96,000 characters."""
    looks = []
    for numbers in (5, 500):
        lower = Counted("tlf 1234567 " * numbers)
        shape = Shape(lower)
        shape._lower = lower
        assert len(list(find_phones(shape))) == numbers
        looks.append(lower.read_chars // numbers)
    assert looks[1] <= looks[0] + 64


def test_a_stream_without_a_place_to_cut_is_not_read_again_for_each_delta() -> None:
    """With a custom pattern it was: 4 s for 20,000 characters of base64."""
    custom = replace(DEFAULT, custom=(CustomPattern("falcon", "falcon seven", "mask"),))
    for chars in (2_000, 16_000, 20_000):
        engine = CountingEngine()
        check = OutputCheck(activate("p", custom, engine), (), (), None)
        shown = 0
        for fed in range(5, chars + 1, 5):
            released = check.feed(AnswerDelta(content="x1Yz9"))
            shown += len(released.content) if released is not None else 0
            assert fed - shown <= custom.stream_max_hold_chars + 2 * 256
        check.finish()
        assert chars <= engine.read_chars <= 40 * chars


class CountingEngine:
    """Patterns that are nowhere; counts the characters that they were looked for in."""

    def __init__(self) -> None:
        self.read_chars = 0

    def compile(self, pattern: str) -> CountingEngine:
        return self

    def spans(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        self.read_chars += len(text) - start
        return iter(())


class Counted(str):
    """Counts the characters that were cut out of it or searched in it."""

    __slots__ = ("read_chars",)

    read_chars: int

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.read_chars = 0
        return made

    def __getitem__(self, part: Any) -> str:
        found = super().__getitem__(part)
        self.read_chars += len(found)
        return found

    def __contains__(self, part: object) -> bool:
        self.read_chars += len(self)
        return super().__contains__(part)  # type: ignore[operator]
