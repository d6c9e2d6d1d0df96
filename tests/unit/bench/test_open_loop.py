"""The open loop never waits, and every arrival has a fate. Time and connections are simulated."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.load import OpenLoop
from bench.tally import Counts, Tally


class VirtualTime:
    """A clock that jumps from timer to timer, and the timer itself. `overshoot_s` is how late it calls back."""

    def __init__(self, overshoot_s: float = 0.0) -> None:
        self.now_s = 1000.0
        self.events: list[tuple[float, Callable[[], None]]] = []
        self.overshoot_s = overshoot_s

    def timer(self, fired: Callable[[], None]) -> VirtualTimer:
        return VirtualTimer(self, fired)

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        self.events.append((when_s, call))

    def run(self) -> None:
        while self.events:
            self.events.sort(key=lambda event: event[0])
            when_s, call = self.events.pop(0)
            self.now_s = max(self.now_s, when_s)
            call()


class VirtualTimer:
    def __init__(self, time: VirtualTime, fired: Callable[[], None]) -> None:
        self.time, self.fired = time, fired

    def now(self) -> float:
        return self.time.now_s

    def arm(self, at_s: float) -> None:
        self.time.at(at_s + self.time.overshoot_s, self.fired)

    def close(self) -> None:
        pass


class VirtualServer:
    """Connections whose answers take `service_s`; None never answers."""

    def __init__(self, time: VirtualTime, connections: int, service_s: float | None) -> None:
        self.time, self.service_s = time, service_s
        self.tally = Tally()
        self.free = deque(range(connections))
        self.sent_at: list[tuple[float, bytes]] = []

    def send(self, connection: int, payload: bytes, scheduled_s: float) -> None:
        now_s = self.time.now_s
        self.tally.sent(scheduled_s, now_s)
        self.sent_at.append((now_s, payload))
        if self.service_s is not None:
            done_s = now_s + self.service_s
            self.time.at(done_s, lambda: self.answer(connection, scheduled_s, done_s))

    def answer(self, connection: int, scheduled_s: float, done_s: float) -> None:
        self.tally.answered(scheduled_s, done_s, done_s)
        self.free.append(connection)


def payloads() -> Iterator[bytes]:
    number = 0
    while True:
        yield str(number).encode()
        number += 1


async def drive(time: VirtualTime, server: VirtualServer, schedule: list[float]) -> Counts:
    loop = OpenLoop(server, payloads(), schedule, time.timer)  # type: ignore[arg-type]
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0)
    time.run()
    await running
    return server.tally.counts()


async def test_requests_leave_at_their_times_whatever_the_answers_do() -> None:
    time = VirtualTime()
    server = VirtualServer(time, connections=10, service_s=None)
    counts = await drive(time, server, [0.0, 0.5, 0.75])
    assert server.sent_at == [(1000.0, b"0"), (1000.5, b"1"), (1000.75, b"2")]
    assert (counts.sent, counts.late, counts.unfinished, counts.answered) == (3, 0, 3, 0)


async def test_an_arrival_that_finds_no_connection_is_dropped_and_counted() -> None:
    time = VirtualTime()
    server = VirtualServer(time, connections=2, service_s=1.0)
    counts = await drive(time, server, [0.0, 0.1, 0.2, 0.3, 1.05])
    # Two leave, two find both connections busy, the fifth finds the first one free again.
    assert [payload for _, payload in server.sent_at] == [b"0", b"1", b"2"]
    assert (counts.scheduled, counts.sent, counts.dropped, counts.answered) == (5, 3, 2, 3)
    assert counts.lost_share == 0.4


async def test_latency_counts_from_the_schedule_when_the_generator_is_late() -> None:
    time = VirtualTime(overshoot_s=0.25)
    server = VirtualServer(time, connections=5, service_s=0.5)
    counts = await drive(time, server, [0.5, 2.0])
    assert counts.late == 2
    assert server.tally.latency.summary().p50_s == 0.75
    assert server.tally.lateness.summary().max_s == 0.25


async def test_a_stalled_generator_sends_what_is_due_at_once_and_shows_the_delay() -> None:
    time = VirtualTime(overshoot_s=10.0)
    server = VirtualServer(time, connections=50, service_s=0.001)
    counts = await drive(time, server, [0.1 * i for i in range(1, 21)])
    assert {sent_s for sent_s, _ in server.sent_at} == {1010.1}
    assert (counts.sent, counts.late) == (20, 20)
    assert server.tally.latency.summary().max_s > 10


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.floats(0, 0.5), max_size=40),
    connections=st.integers(1, 5),
    service_s=st.none() | st.floats(0.001, 2),
    overshoot_s=st.sampled_from([0.0, 0.0005, 0.3]),
)
def test_the_counts_always_add_up(
    gaps: list[float], connections: int, service_s: float | None, overshoot_s: float
) -> None:
    schedule, now = [], 0.0
    for gap in gaps:
        now += gap
        schedule.append(now)
    time = VirtualTime(overshoot_s)
    server = VirtualServer(time, connections, service_s)
    counts = asyncio.run(drive(time, server, schedule))
    assert counts.scheduled == len(schedule) == counts.sent + counts.dropped
    assert counts.sent == counts.answered + counts.failed + counts.unfinished
    assert counts.unfinished == (counts.sent if service_s is None else 0)
    assert all(latency >= (service_s or 0) * 1e6 - 1 for latency in server.tally.latency.microseconds())


def test_failures_are_neither_answered_nor_unfinished() -> None:
    tally = Tally()
    for _ in range(3):
        tally.sent(0.0, 0.0)
    tally.failed("503")
    tally.answered(0.0, 0.1, 0.2)
    counts = tally.counts()
    assert (counts.answered, counts.failed, counts.unfinished) == (1, 1, 1)
    assert counts.lost_share == 2 / 3
