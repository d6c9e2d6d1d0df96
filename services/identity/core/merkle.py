"""The Merkle tree of RFC 6962: SHA-256, leaves under 0x00 and nodes under 0x01."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that only grows, as the roots of its complete subtrees: one per set bit of its size, largest first."""

    __slots__ = ("_roots", "count")

    def __init__(self, count: int = 0, roots: Iterable[bytes] = ()) -> None:
        """Raises ValueError when the roots are not those of a tree of that size."""
        self.count = count
        self._roots = list(roots)
        if len(self._roots) != count.bit_count():
            raise ValueError(f"a tree of {count} leaves has {count.bit_count()} complete subtrees")

    @classmethod
    def from_bytes(cls, count: int, packed: bytes) -> Frontier:
        """Reads what `to_bytes` wrote."""
        return cls(count, (packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)))

    def roots(self) -> tuple[bytes, ...]:
        """The roots, largest subtree first."""
        return tuple(self._roots)

    def to_bytes(self) -> bytes:
        """The roots, one after the other."""
        return b"".join(self._roots)

    def append(self, leaf: bytes) -> None:
        """Adds the hash of a leaf. As many hashes as the size has trailing one bits."""
        size, top = self.count, leaf
        while size & 1:
            top = node_hash(self._roots.pop(), top)
            size >>= 1
        self._roots.append(top)
        self.count += 1

    def root(self) -> bytes:
        """The Merkle tree head."""
        if not self._roots:
            return EMPTY_ROOT
        top = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            top = node_hash(left, top)
        return top


Range = tuple[int, int]


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The leaves under each node of a leaf's audit path, as half-open ranges, from the leaf upwards (RFC 6962, 2.1.1).

    Raises ValueError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    start, end = 0, size
    path: list[Range] = []
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return path[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """The leaves under each node of the proof that a tree of `second` continues one of `first` (RFC 6962, 2.1.2).

    Raises ValueError unless 0 < first <= second.
    """
    if not 0 < first <= second:
        raise ValueError(f"a tree of {second} leaves continues none of {first}")
    start, end = 0, second
    path: list[Range] = []
    while end != first:
        middle = start + _left_size(end - start)
        if first <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    # The whole of the first tree is known to whoever asks; a part of it is not.
    return [*([(start, end)] if start else []), *path[::-1]]


def proves_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether a path proves that a leaf, by its hash, is number `index` under that root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, top = index, size - 1, leaf
    for node in path:
        if not last:
            return False
        if at & 1 or at == last:
            top = node_hash(node, top)
            at, last = _skip_lonely(at, last)
        else:
            top = node_hash(top, node)
        at, last = at >> 1, last >> 1
    return not last and top == root


def proves_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a path proves that the tree of the second root continues that of the first (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    nodes = [first_root, *path] if first.bit_count() == 1 else list(path)
    if not nodes:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if not last:
            return False
        if at & 1 or at == last:
            old, new = node_hash(node, old), node_hash(node, new)
            at, last = _skip_lonely(at, last)
        else:
            new = node_hash(new, node)
        at, last = at >> 1, last >> 1
    return not last and (old, new) == (first_root, second_root)


def _left_size(size: int) -> int:
    """Leaves of the left subtree: the largest power of two below the size."""
    return 1 << (size - 1).bit_length() - 1


def _skip_lonely(at: int, last: int) -> tuple[int, int]:
    """Past the levels on which the node has no sibling."""
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at, last
