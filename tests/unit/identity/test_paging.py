"""Pages of lists whose entries may be large: bounded by their bytes, whatever a store reads at once."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.identity.core.paging import MAX_PAGE_BYTES, read_page


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list, by its place from 1."""

    place: int
    size_bytes: int


async def pages(entries: list[Entry], size: int, at_once: int) -> list[list[Entry]]:
    """The whole list, page by page, from a store that reads so many at once at most."""

    async def read(after: int, wanted: int) -> list[Entry]:
        return entries[after : after + min(wanted, at_once)]

    found, more = [], True
    while more:
        after = found[-1][-1].place if found else 0
        page, more = await read_page(read, after, lambda entry: entry.place, size)
        found.append(list(page))
    return found


SIZES = st.lists(st.sampled_from([1, MAX_PAGE_BYTES // 2, MAX_PAGE_BYTES, MAX_PAGE_BYTES + 1]), max_size=12)


@given(SIZES, st.integers(1, 5), st.integers(1, 20))
async def test_pages_join_to_the_whole_list_and_each_is_as_full_as_it_may_be(
    sizes: list[int], size: int, at_once: int
) -> None:
    entries = [Entry(place, each) for place, each in enumerate(sizes, start=1)]
    found = await pages(entries, size, at_once)
    assert [entry for page in found for entry in page] == entries
    assert all(found) or found == [[]]
    for page, following in zip(found, [*found[1:], []], strict=True):
        page_bytes = sum(entry.size_bytes for entry in page)
        assert len(page) <= size
        assert len(page) <= 1 or page_bytes <= MAX_PAGE_BYTES
        if following:
            assert len(page) == size or page_bytes + following[0].size_bytes > MAX_PAGE_BYTES
