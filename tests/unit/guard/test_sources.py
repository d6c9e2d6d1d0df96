"""Known personal data: many values cost one reading of the sources."""

from __future__ import annotations

from services.guard.core.pii import KINDS
from services.guard.core.sources import Sources


class Watched(str):
    """A text that counts how often it is searched."""

    __slots__ = ()
    searches = 0

    def __contains__(self, value: object) -> bool:
        Watched.searches += 1
        return isinstance(value, str) and super().__contains__(value)


def test_many_values_do_not_search_a_long_source_each() -> None:
    Watched.searches = 0
    known = [f"a{n}@corp.test" for n in range(300)]
    sources = Sources([Watched(" ".join(known) + " word" * 400_000)], frozenset(KINDS))
    assert all(sources.hold(value) for value in known)
    assert not any(sources.hold(f"b{n}@corp.test") for n in range(300))
    assert Watched.searches < 100


def test_a_value_inside_a_longer_word_is_known_as_before() -> None:
    sources = Sources(["id415-555-2671x and x+ann@corp.test" + " word" * 400_000], frozenset(KINDS))
    for n in range(10):
        assert not sources.hold(f"b{n}@corp.test")
    assert sources.hold("415-555-2671")
    assert sources.hold("ann@corp.test")
    assert not Sources([], frozenset(KINDS)).hold("ann@corp.test")
