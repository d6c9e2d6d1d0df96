"""Scans take time in proportion to the text, whatever stands in it."""

from __future__ import annotations

from services.guard.core.phones import find_phones
from services.guard.core.shape import Shape


class Counted(str):
    """Counts how often all of it is searched."""

    __slots__ = ("searches",)

    searches: int

    def __contains__(self, part: object) -> bool:
        self.searches += 1
        return super().__contains__(part)  # type: ignore[operator]


def test_a_text_is_searched_once_for_words_for_a_telephone() -> None:
    """Many numbers behind "tlf" made each of them search the whole text: 6.5 s for 96,000 characters."""
    searches = []
    for numbers in (5, 500):
        shape = Shape("tlf 1234567 " * numbers)
        lower = Counted(shape.lower)
        lower.searches = 0
        shape._lower = lower
        assert not list(find_phones(shape))
        searches.append(lower.searches)
    assert searches[0] == searches[1] > 0
