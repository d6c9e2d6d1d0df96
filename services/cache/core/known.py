"""Which names the store may hold: most misses are answered here, without asking the database."""

from collections.abc import Iterator

_PREFIX_BYTES = 8


class KnownNames:
    """A bounded set of digests, kept as their first 64 bits, each with a tag.

    It may say yes for a name that is gone (one database read, then a miss) or no for one that it has not heard of
    yet (a miss); it never makes a wrong answer. Names are uniform digests, so of a million two share a prefix with
    a chance of 3e-8; the price is a miss. About 150 bytes per name.
    """

    __slots__ = ("_capacity", "_tags", "complete")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tags: dict[int, int] = {}
        self.complete = False
        """Whether everything the store held at start was added; until then every name may be held."""

    def __len__(self) -> int:
        return len(self._tags)

    def may_hold(self, name: bytes) -> bool:
        """Whether asking the store makes sense."""
        return not self.complete or int.from_bytes(name[:_PREFIX_BYTES], "big") in self._tags

    def tag(self, name: bytes) -> int | None:
        """The tag of the latest `add`."""
        return self._tags.get(int.from_bytes(name[:_PREFIX_BYTES], "big"))

    def add(self, name: bytes, tag: int) -> None:
        """Adds a name or renews its tag; over the capacity the oldest name is forgotten."""
        tags = self._tags
        tags[int.from_bytes(name[:_PREFIX_BYTES], "big")] = tag
        if len(tags) > self._capacity:
            del tags[next(_keys(tags))]

    def remove(self, name: bytes, tag: int | None) -> None:
        """Removes a name unless it was added again under another tag."""
        prefix = int.from_bytes(name[:_PREFIX_BYTES], "big")
        if tag is not None and self._tags.get(prefix) == tag:
            del self._tags[prefix]

    def clear(self) -> None:
        """Forgets everything, and that it was complete."""
        self._tags.clear()
        self.complete = False


def _keys(tags: dict[int, int]) -> Iterator[int]:
    return iter(tags)
