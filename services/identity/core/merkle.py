"""The Merkle tree of RFC 6962: SHA-256, leaves under 0x00 and nodes under 0x01."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

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
