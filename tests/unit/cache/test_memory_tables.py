"""Hot entries and known names stay within their bounds and forget in the right order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.cache.core.counts import CountsByOrganisation
from services.cache.core.hot import ENTRY_OVERHEAD_BYTES, HotEntries
from services.cache.core.known import KnownNames
from tests.unit.cache.builders import entry


def name(number: int) -> bytes:
    return number.to_bytes(8, "big") + bytes(24)


def test_the_least_recently_used_entry_goes_first() -> None:
    hot = HotEntries(2, 10**6)
    a, b, c = entry(), entry(), entry()
    hot.put(a)
    hot.put(b)
    assert hot.get(a.fingerprint) is a
    hot.put(c)
    assert hot.get(b.fingerprint) is None
    assert hot.get(a.fingerprint) is a
    assert hot.get(c.fingerprint) is c


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3_000)), max_size=40))
def test_memory_stays_within_its_bytes_and_counts_them_rightly(puts: list[tuple[int, int]]) -> None:
    hot = HotEntries(4, 5_000)
    for number, size in puts:
        hot.put(entry(fingerprint=name(number), body=b"x" * size))
        held = [found for n in range(6) if (found := hot._entries.get(name(n)))]
        assert hot.size_bytes == sum(len(e.body) + ENTRY_OVERHEAD_BYTES for e in held) <= 5_000
        assert len(hot) == len(held) <= 4


def test_an_entry_larger_than_memory_is_not_kept() -> None:
    hot = HotEntries(4, 1_000)
    hot.put(entry(body=b"x" * 1_000))
    assert len(hot) == 0
    assert hot.size_bytes == 0


def test_dropping_spares_the_entry_that_is_named() -> None:
    hot = HotEntries(4, 10**6)
    kept = entry()
    hot.put(kept)
    hot.drop(kept.fingerprint, unless=kept.entry_id)
    assert hot.get(kept.fingerprint) is kept
    hot.drop(kept.fingerprint, unless="another")
    assert hot.get(kept.fingerprint) is None


def test_until_it_is_complete_every_name_may_be_held() -> None:
    known = KnownNames(4)
    assert known.may_hold(name(1))
    known.complete = True
    assert not known.may_hold(name(1))
    known.add(name(1), 7)
    assert known.may_hold(name(1))


def test_a_name_that_was_added_again_survives_its_earlier_removal() -> None:
    known = KnownNames(4)
    known.complete = True
    known.add(name(1), 7)
    known.add(name(1), 8)
    known.remove(name(1), 7)
    assert known.may_hold(name(1))
    known.remove(name(1), 8)
    assert not known.may_hold(name(1))
    known.remove(name(1), None)


def test_over_its_capacity_the_oldest_name_is_forgotten() -> None:
    known = KnownNames(2)
    known.complete = True
    for number in range(3):
        known.add(name(number), number)
    assert [known.may_hold(name(number)) for number in range(3)] == [False, True, True]
    assert len(known) == 2


def test_the_organisation_that_was_idle_longest_starts_at_zero_again() -> None:
    counts = CountsByOrganisation(2)
    counts.of("a").lookups += 1
    counts.of("b").lookups += 1
    counts.of("a").lookups += 1
    counts.of("c").lookups += 1
    assert [counts.of(o).lookups for o in ("a", "c")] == [2, 1]
    assert counts.of("b").lookups == 0
