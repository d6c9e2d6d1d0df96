"""Proofs about the audit log: that an event is in it, and that it only grew. Whoever asks verifies them without us."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.identity.core import rights
from services.identity.core.administration import Rules
from services.identity.core.audit import Event
from services.identity.core.errors import InvalidRequest, StorageUnavailable
from services.identity.core.merkle import Frontier, Range, consistency_ranges, inclusion_ranges
from services.identity.core.model import Actor
from services.identity.core.ports import Store


class Inclusion(NamedTuple):
    """An event, and the hashes that lead from it to the root."""

    event: Event
    path: list[bytes]


class Proofs:
    """Reads the hashes of the log up to the size that is asked about, a page at a time."""

    def __init__(self, store: Store, rules: Rules, page_size: int = 1_000) -> None:
        self._store = store
        self._page_size = page_size
        self._rules = rules

    async def inclusion(self, actor: Actor, sequence: int, size: int) -> Inclusion:
        """That an event is among the first `size`. Raises PermissionDenied, InvalidRequest, StorageUnavailable."""
        rights.require_platform(actor, self._rules.platform, "ask for proofs: they are about the whole log")
        await self._require_size("leaf_count", size)
        if not 1 <= sequence <= size:
            raise InvalidRequest("sequence", f"must be between 1 and leaf_count, {size}")
        path = await self._roots(inclusion_ranges(sequence - 1, size))
        [event] = await self._store.events("", sequence - 1, 1)
        return Inclusion(event, path)

    async def consistency(self, actor: Actor, first: int, second: int) -> list[bytes]:
        """That the first `second` events begin with the first `first`. Raises as `inclusion`."""
        rights.require_platform(actor, self._rules.platform, "ask for proofs: they are about the whole log")
        await self._require_size("second_leaf_count", second)
        if not 1 <= first <= second:
            raise InvalidRequest("first_leaf_count", f"must be between 1 and second_leaf_count, {second}")
        return await self._roots(consistency_ranges(first, second))

    async def _require_size(self, field: str, size: int) -> None:
        count = (await self._store.head()).count
        if not 1 <= size <= count:
            raise InvalidRequest(field, f"must be between 1 and the number of events, {count}")

    async def _roots(self, ranges: Iterable[Range]) -> list[bytes]:
        return [await self._root(start, end) for start, end in ranges]

    async def _root(self, start: int, end: int) -> bytes:
        """The root over some leaves in a row: as of a tree of their own, for ranges of a path are whole subtrees."""
        tree = Frontier()
        while start + tree.count < end:
            after = start + tree.count
            leaves = await self._store.leaf_hashes(after, min(self._page_size, end - after))
            if not leaves:
                # Less than the head promises: somebody is at work on the table.
                raise StorageUnavailable
            for leaf in leaves:
                tree.append(leaf)
        return tree.root()
