"""The entries that were served or stored last, in memory."""

from collections import OrderedDict

from services.cache.core.entries import Entry

# What an entry costs beside its body: the objects and their places in the table, measured with tracemalloc.
ENTRY_OVERHEAD_BYTES = 600


class HotEntries:
    """Least recently used goes first, by number and by bytes. It knows no clock: the reader checks expiry."""

    __slots__ = ("_entries", "_max_bytes", "_max_entries", "size_bytes")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, fingerprint: bytes) -> Entry | None:
        """The entry, now the most recently used."""
        entry = self._entries.get(fingerprint)
        if entry is not None:
            self._entries.move_to_end(fingerprint)
        return entry

    def put(self, entry: Entry) -> None:
        """Adds or replaces; an entry larger than the whole memory is not kept."""
        self.drop(entry.fingerprint)
        self._entries[entry.fingerprint] = entry
        self.size_bytes += _cost(entry)
        while len(self._entries) > self._max_entries or self.size_bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.size_bytes -= _cost(oldest)

    def drop(self, fingerprint: bytes, unless: str = "") -> None:
        """Removes the entry of a fingerprint, except when its id is `unless`."""
        entry = self._entries.get(fingerprint)
        if entry is not None and entry.entry_id != unless:
            del self._entries[fingerprint]
            self.size_bytes -= _cost(entry)

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self.size_bytes = 0


def _cost(entry: Entry) -> int:
    return len(entry.body) + ENTRY_OVERHEAD_BYTES
