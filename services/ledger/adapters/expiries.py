"""When remembered holds end. A hold comes and goes in the same time however many there are, and leaves nothing behind.

Taking what is due takes time for each hold that is, and a little for each 16 ms since it was last asked.
"""

from __future__ import annotations

import heapq

# 16 milliseconds: a handful of holds at twenty thousand a second, and few enough slots in the longest life of a hold.
_SLOT_BITS = 14


class Expiries:
    """Ids by the time at which they are due, in slots: a heap alone would keep those that ended before their time.

    Whoever puts an id remembers its time: with fifty thousand of them, one more look-up is a miss of the caches.
    """

    def __init__(self) -> None:
        self._slots: dict[int, dict[str, int]] = {}
        # Every slot that is there, and some that were: once each.
        self._queue: list[int] = []
        self._queued: set[int] = set()

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def put(self, name: str, due_us: int) -> None:
        """Notes when it is due; what was noted before must have been dropped."""
        slot = due_us >> _SLOT_BITS
        self._slots.setdefault(slot, {})[name] = due_us
        if slot not in self._queued:
            self._queued.add(slot)
            heapq.heappush(self._queue, slot)

    def drop(self, name: str, due_us: int) -> None:
        """Forgets it. Raises KeyError where it is not noted for that time."""
        slot = due_us >> _SLOT_BITS
        names = self._slots[slot]
        del names[name]
        if not names:
            del self._slots[slot]

    def take_due(self, now_us: int) -> list[str]:
        """Forgets what is due by now, and returns it."""
        taken: list[str] = []
        if not self._slots:
            self._queue.clear()
            self._queued.clear()
            return taken
        last = now_us >> _SLOT_BITS
        while self._queue and self._queue[0] <= last:
            slot = self._queue[0]
            names = self._slots.get(slot, {})
            due = [name for name, due_us in names.items() if due_us <= now_us]
            for name in due:
                self.drop(name, names[name])
            taken += due
            if slot == last and slot in self._slots:
                break
            self._queued.discard(heapq.heappop(self._queue))
        return taken
