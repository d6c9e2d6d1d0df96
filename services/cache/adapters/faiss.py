"""A vector index on FAISS: flat, inner product, slots used again. Needs the extra `cache`.

FAISS may search beside a search, not beside a change (facebookresearch/faiss#1781, #2204), so one lock admits one
operation at a time to an index; a search of 20,000 vectors holds it for half a millisecond. Removing overwrites the
slot with zeros, whose inner product with anything is 0, and keeps it for the next vector: `remove_ids` would move
every vector behind it.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

_threads = threading.local()


def available() -> bool:
    """Whether FAISS is installed; does not load it."""
    return find_spec("faiss") is not None


class FaissVectorIndex:
    """A VectorIndex of at most `capacity` vectors; memory grows with use."""

    def __init__(self, dimensions: int, capacity: int) -> None:
        # Loading takes a tenth of a second: the first partition pays it, not the start of the process.
        import faiss  # noqa: PLC0415
        import numpy as np  # noqa: PLC0415

        self._faiss: Any = faiss
        self._np = np
        self._dimensions = dimensions
        self._capacity = capacity
        self._index = faiss.IndexFlatIP(dimensions)
        self._slots: OrderedDict[bytes, int] = OrderedDict()
        self._keys: list[bytes | None] = []
        self._free: list[int] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, key: bytes, vector: bytes) -> bytes | None:
        """See VectorIndex."""
        row = self._np.frombuffer(vector, "<f4")
        with self._lock:
            displaced = self._make_room(key)
            slot = self._slots.pop(key, None)
            if slot is None and self._free:
                slot = self._free.pop()
            if slot is None:
                slot = len(self._keys)
                self._keys.append(key)
                self._index.add(row.reshape(1, -1))
            else:
                self._vectors()[slot] = row
                self._keys[slot] = key
            self._slots[key] = slot
            return displaced

    def remove(self, key: bytes) -> None:
        """See VectorIndex."""
        with self._lock:
            self._remove(key)

    def search(self, vector: bytes, count: int) -> Sequence[tuple[bytes, bytes]]:
        """See VectorIndex."""
        asked = self._np.frombuffer(vector, "<f4").reshape(1, -1)
        with self._lock:
            self._one_thread()
            if not self._slots:
                return []
            # Freed slots take part with an inner product of 0: no candidate of a cache is that far away.
            _, slots = self._index.search(asked, min(count, len(self._keys)))
            vectors = self._vectors()
            return [(key, vectors[slot].tobytes()) for slot in slots[0] if (key := self._keys[slot]) is not None]

    def _make_room(self, key: bytes) -> bytes | None:
        if key in self._slots or len(self._slots) < self._capacity:
            return None
        oldest = next(iter(self._slots))
        self._remove(oldest)
        return oldest

    def _remove(self, key: bytes) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._vectors()[slot] = 0.0
            self._keys[slot] = None
            self._free.append(slot)

    def _vectors(self) -> Any:
        """The index's own memory as an array; taken anew each time, because adding may move it."""
        size = self._index.ntotal * self._dimensions
        return self._faiss.rev_swig_ptr(self._index.get_xb(), size).reshape(-1, self._dimensions)

    def _one_thread(self) -> None:
        """FAISS keeps its number of threads per calling thread; a team of threads for one query only costs."""
        if not getattr(_threads, "set", False):
            self._faiss.omp_set_num_threads(1)
            _threads.set = True
