"""Two ways to load a system: on a schedule that never waits, and as fast as a number of connections allows."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.http_client import ClientConnection
from bench.tally import Tally
from bench.timer import KernelTimer


class Timer(Protocol):
    """What an open loop needs of time; calls back once per `arm`."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        ...

    def arm(self, at_s: float) -> None:
        """Call back once at this time, at once when it has passed."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and what a good answer is: status 200 and, for a stream, the end mark [DONE]."""

    host: str
    port: int
    streams: bool = False


class Connections:
    """The connections of a run: opened before it, reopened when the server closes them, judged answer by answer."""

    def __init__(self, endpoint: Endpoint, count: int, tally: Tally) -> None:
        self.tally = tally
        self.free: deque[ClientConnection] = deque()
        self.on_idle: Callable[[ClientConnection], None] = self.free.append
        self.in_flight = 0
        self.missing = 0  # connections that the server closed and then refused to reopen
        self._quiet: asyncio.Event | None = None
        self._endpoint = endpoint
        self._count = count
        self._all: set[ClientConnection] = set()
        self._reopening: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """Open all of them; OSError when the server refuses."""
        for _ in range(self._count):
            await self._open_one()

    async def _open_one(self) -> None:
        loop = asyncio.get_running_loop()
        endpoint = self._endpoint
        _, connection = await loop.create_connection(
            lambda: ClientConnection(self, streams=endpoint.streams), endpoint.host, endpoint.port
        )
        self._all.add(connection)
        self.on_idle(connection)

    def send(self, connection: ClientConnection, payload: bytes, scheduled_s: float) -> None:
        """Send on an idle connection and count it."""
        self.in_flight += 1
        connection.send(payload, scheduled_s)
        self.tally.sent(scheduled_s, time.monotonic())

    def answered(self, connection: ClientConnection, now_s: float) -> None:
        """Judge an answer and give the connection back."""
        self._ended()
        if connection.status != 200:
            self.tally.failed(str(connection.status))
        elif self._endpoint.streams and not connection.done:
            self.tally.failed("stream without its end")
        else:
            self.tally.answered(connection.scheduled_s, connection.first_event_s, now_s)
            self.tally.cache[connection.cache or "none"] += 1
            self.tally.events += connection.events
        self.on_idle(connection)

    def lost(self, connection: ClientConnection) -> None:
        """The server closed it: the exchange under way has failed, and another connection takes its place."""
        self._all.discard(connection)
        if self._closing:
            return
        if connection.busy:
            self._ended()
            self.tally.failed("connection lost")
        elif connection in self.free:
            self.free.remove(connection)
        task = asyncio.get_running_loop().create_task(self._open_one())
        self._reopening.add(task)
        task.add_done_callback(self._reopened)

    def _reopened(self, task: asyncio.Task[None]) -> None:
        self._reopening.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.missing += 1

    def _ended(self) -> None:
        self.in_flight -= 1
        if self._quiet is not None and not self.in_flight:
            self._quiet.set()

    async def settle(self, timeout_s: float) -> None:
        """Wait for the answers under way. What is missing afterwards stays unfinished: its connection is dropped."""
        if not self.in_flight:
            return
        self._quiet = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()
        except TimeoutError:
            for connection in [one for one in self._all if one.busy]:
                connection.busy = False
                self.in_flight -= 1
                connection.close()
        finally:
            self._quiet = None

    def close(self) -> None:
        """Drop every connection."""
        self._closing = True
        for task in self._reopening:
            task.cancel()
        for connection in list(self._all):
            connection.close()


class OpenLoop:
    """Sends request i at its scheduled time whatever became of the others; drops it when no connection is free."""

    def __init__(
        self,
        connections: Connections,
        requests: Iterator[bytes],
        schedule_s: Sequence[float],
        timer: Callable[[Callable[[], None]], Timer] = KernelTimer,
    ) -> None:
        self._connections = connections
        self._requests = requests
        self._schedule_s = schedule_s
        self._make_timer = timer
        self._next = 0

    async def run(self) -> None:
        """Return when the last request of the schedule was sent or dropped."""
        done = asyncio.get_running_loop().create_future()
        timer = self._make_timer(lambda: self._fire(timer, start_s, done))
        start_s = timer.now()
        try:
            self._fire(timer, start_s, done)
            await done
        finally:
            timer.close()

    def _fire(self, timer: Timer, start_s: float, done: asyncio.Future[None]) -> None:
        """Send everything that is due, then sleep until the next arrival."""
        free, tally, schedule = self._connections.free, self._connections.tally, self._schedule_s
        while self._next < len(schedule):
            due_s = start_s + schedule[self._next]
            if due_s > timer.now():
                timer.arm(due_s)
                return
            self._next += 1
            if free:
                self._connections.send(free.popleft(), next(self._requests), due_s)
            else:
                tally.dropped()
        if not done.done():
            done.set_result(None)


class ClosedLoop:
    """Keeps every connection busy for a time: shows what a system can answer at most, says nothing about latency."""

    def __init__(self, connections: Connections, requests: Iterator[bytes], clock: Callable[[], float]) -> None:
        self._connections = connections
        self._requests = requests
        self._clock = clock
        self._running = False

    async def run(self, duration_s: float) -> None:
        """Return after `duration_s`; answers may still be under way."""
        connections = self._connections
        self._running = True
        connections.on_idle = self._again
        idle = list(connections.free)
        connections.free.clear()
        for connection in idle:
            self._again(connection)
        await asyncio.sleep(duration_s)
        self._running = False

    def _again(self, connection: ClientConnection) -> None:
        if self._running and connection.open:
            self._connections.send(connection, next(self._requests), self._clock())
        else:
            self._connections.free.append(connection)
