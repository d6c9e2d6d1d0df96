"""What the simulated provider charges and what it saw: the ground truth that ledgers are compared with."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import msgspec

Outcome = Literal["completed", "cancelled", "cut", "failed", "refused", "stopped"]


class BillingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One call, written when it ends.

    `time_s` is Unix time and `finished_s` the machine's monotonic clock (CLOCK_MONOTONIC, comparable between
    processes of one machine). `output_tokens` is what the full answer would have held, `billed_*` what the
    provider charges: nothing for a refused call, and what was generated until it ended for the others.
    Outcomes: completed; cancelled (the client left); cut (the script cut it); failed (the script put an error
    into the stream); refused (a status other than 200); stopped (the simulator shut down).
    """

    id: str
    time_s: float
    finished_s: float
    path: str
    model: str
    key_hash: str
    client_request_id: str
    stream: bool
    status: int
    outcome: Outcome
    input_tokens: int
    output_tokens: int
    billed_input_tokens: int
    billed_output_tokens: int


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose client left: seconds from its arrival until the provider noticed, and events sent by then."""

    id: str
    client_request_id: str
    noticed_s: float
    noticed_after_s: float
    chunks_sent: int


class Stats(msgspec.Struct, kw_only=True):
    """Counters since the start; `billing_dropped` above zero means the log is no longer the whole truth."""

    requests: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0
    connections_opened: int = 0
    cancelled: list[Cancellation] = []
    billing_dropped: int = 0


class Books:
    """The billing log and the counters; whoever waits for a condition is woken by every change."""

    def __init__(self, max_records: int, max_cancellations: int) -> None:
        self.stats = Stats()
        self._records: deque[BillingRecord] = deque(maxlen=max_records)
        self._max_cancellations = max_cancellations
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def records(self) -> list[BillingRecord]:
        """The records kept, oldest first."""
        return list(self._records)

    def add(self, record: BillingRecord) -> None:
        """Append a record; the oldest one goes when the log is full, and that is counted."""
        if len(self._records) == self._records.maxlen:
            self.stats.billing_dropped += 1
        self._records.append(record)
        self.changed()

    def noticed(self, cancellation: Cancellation) -> None:
        """Remember a client that left; only the latest ones are kept."""
        kept = self.stats.cancelled
        kept.append(cancellation)
        del kept[: -self._max_cancellations]

    def clear(self) -> None:
        """Forget all records and cancellations, keep the gauges."""
        self._records.clear()
        self.stats.cancelled.clear()
        self.stats.billing_dropped = 0

    def changed(self) -> None:
        """Wake everyone who waits."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Return once `condition()` holds; TimeoutError after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                future = asyncio.get_running_loop().create_future()
                self._waiting.add(future)
                try:
                    await future
                finally:
                    self._waiting.discard(future)


@lru_cache(maxsize=4096)
def key_hash(credential: bytes) -> str:
    """The first 12 hex digits of the credential's SHA-256; empty without a credential."""
    key = credential.removeprefix(b"Bearer ").strip()
    return hashlib.sha256(key).hexdigest()[:12] if key else ""
