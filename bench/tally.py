"""What became of every scheduled request. Nothing is lost: the counts add up at any moment."""

from __future__ import annotations

from collections import Counter

import msgspec

from bench.statistics import Samples

LATE_AFTER_S = 0.001


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """scheduled = sent + dropped; sent = answered + failed + unfinished.

    `dropped` arrivals found no free connection; `late` ones were sent more than a millisecond after their time
    (their latency still counts from the schedule); `unfinished` ones got no answer in time.
    """

    scheduled: int
    sent: int
    dropped: int
    late: int
    answered: int
    failed: int
    unfinished: int

    @property
    def lost_share(self) -> float:
        """The part of the scheduled requests that was not answered well; percentiles hide exactly these."""
        return (self.dropped + self.failed + self.unfinished) / self.scheduled if self.scheduled else 0.0


class Tally:
    """Counts and latencies of one run. Times are seconds of the monotonic clock.

    Latency runs from the scheduled time, not from the moment of sending: a generator or a system that falls behind
    cannot hide it (no coordinated omission).
    """

    def __init__(self, late_after_s: float = LATE_AFTER_S) -> None:
        self.latency = Samples()
        self.first_event = Samples()
        self.lateness = Samples()
        self.failures: Counter[str] = Counter()
        self.cache: Counter[str] = Counter()
        self.events = 0
        self._late_after_s = late_after_s
        self._sent = self._dropped = self._late = self._answered = 0

    def sent(self, scheduled_s: float, now_s: float) -> None:
        """A request left."""
        self._sent += 1
        self.lateness.add(now_s - scheduled_s)
        if now_s - scheduled_s > self._late_after_s:
            self._late += 1

    def dropped(self) -> None:
        """A request could not leave: every connection was busy."""
        self._dropped += 1

    def answered(self, scheduled_s: float, first_event_s: float, now_s: float) -> None:
        """A whole, correct answer arrived."""
        self._answered += 1
        self.latency.add(now_s - scheduled_s)
        self.first_event.add(first_event_s - scheduled_s)

    def failed(self, cause: str) -> None:
        """An answer was wrong or cut; `cause` is a status or a short word."""
        self.failures[cause] += 1

    def counts(self) -> Counts:
        """The counts now; what was sent and has no fate yet is unfinished."""
        failed = self.failures.total()
        return Counts(
            scheduled=self._sent + self._dropped,
            sent=self._sent,
            dropped=self._dropped,
            late=self._late,
            answered=self._answered,
            failed=failed,
            unfinished=self._sent - self._answered - failed,
        )
