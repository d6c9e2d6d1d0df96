"""The life of a stream: headers, pings, endings. Time is moved by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from services.edge.adapters.memory import MemoryObserver, MemorySink
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.errors import CallFailed, SlowReader
from services.edge.core.origin import Origin
from services.edge.core.relay import Pulse, Relay
from services.edge.core.sse import DONE, PING

ORIGIN = Origin("req-1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
FACTS = AnswerFacts(trace_id="ab" * 16, model="sim/m", prompt_version="p/v1.0", cache_status="miss")
CUT = CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut")


class ManualTime:
    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    async def advance(self, seconds: float) -> None:
        end = self.now + seconds
        await settle()
        while due := [entry for entry in self._sleepers if entry[0] <= end and not entry[1].done()]:
            at, future = min(due, key=lambda entry: entry[0])
            self.now = at
            future.set_result(None)
            await settle()
        self.now = end


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Script:
    """Events that the test releases one by one; None ends, an exception is raised."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[AnswerFacts | bytes | BaseException | None] = asyncio.Queue()
        self.reads_cancelled = 0
        self.closed = False

    def put(self, *events: AnswerFacts | bytes | BaseException | None) -> None:
        for event in events:
            self._queue.put_nowait(event)

    async def events(self) -> AsyncGenerator[AnswerFacts | bytes, None]:
        try:
            while True:
                try:
                    event = await self._queue.get()
                except asyncio.CancelledError:
                    self.reads_cancelled += 1
                    raise
                if event is None:
                    return
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.closed = True


class Rig:
    def __init__(self, sink: MemorySink | None = None) -> None:
        self.time, self.script, self.observer = ManualTime(), Script(), MemoryObserver()
        self.sink = sink or MemorySink()
        relay = Relay(ORIGIN, self.sink, Pulse(30, 15), self.observer, self.time, self.time.sleep)
        self.task = asyncio.create_task(relay.run(self.script.events()))

    async def finish(self) -> None:
        await asyncio.wait_for(self.task, 5)


async def test_headers_carry_what_the_first_event_told_and_the_stream_ends_with_done() -> None:
    rig = Rig()
    rig.script.put(FACTS, b"data: 1\n\n", b"data: 2\n\n", None)
    await rig.finish()
    assert rig.sink.headers is not None
    assert rig.sink.headers["x-llmops-model"] == "sim/m"
    assert rig.sink.headers["x-cache"] == "miss"
    assert rig.sink.headers["x-trace-id"] == "ab" * 16
    assert rig.sink.headers["content-type"].startswith("text/event-stream")
    assert rig.sink.frames == [b"data: 1\n\n", b"data: 2\n\n", DONE]
    assert rig.observer.first_events == 1


async def test_a_failure_before_the_first_event_leaves_status_and_headers_to_the_caller() -> None:
    rig = Rig()
    rig.script.put(CUT)
    with pytest.raises(CallFailed):
        await rig.finish()
    assert not rig.sink.opened


async def test_a_failure_after_the_first_event_is_the_last_frame_and_nothing_is_done() -> None:
    rig = Rig()
    rig.script.put(FACTS, b"data: 1\n\n", CUT)
    await rig.finish()
    assert DONE not in rig.sink.frames
    body = json.loads(rig.sink.frames[-1].removeprefix(b"data: "))
    assert body["error"]["code"] == "upstream_stream_cut"
    assert body["llmops"]["request_id"] == "req-1"
    assert rig.observer.failures == ["UPSTREAM_STREAM_CUT"]


async def test_silence_is_pinged_without_disturbing_the_reader() -> None:
    rig = Rig()
    rig.script.put(FACTS, b"data: 1\n\n")
    await rig.time.advance(14.9)
    assert PING not in rig.sink.frames
    await rig.time.advance(0.2)
    assert rig.sink.frames.count(PING) == 1
    await rig.time.advance(30)
    assert rig.sink.frames.count(PING) == 3
    rig.script.put(b"data: 2\n\n", None)
    await rig.finish()
    assert rig.script.reads_cancelled == 0
    assert rig.sink.frames[-2:] == [b"data: 2\n\n", DONE]


async def test_nothing_follows_the_end_of_a_stream() -> None:
    rig = Rig()
    rig.script.put(FACTS, None)
    await rig.finish()
    # The connection may carry the next answer by now.
    await rig.time.advance(60)
    assert rig.sink.frames == [DONE]


async def test_a_talking_stream_is_not_pinged() -> None:
    rig = Rig()
    rig.script.put(FACTS)
    for _ in range(6):
        rig.script.put(b"data: x\n\n")
        await rig.time.advance(14)
    assert PING not in rig.sink.frames
    rig.script.put(None)
    await rig.finish()


async def test_a_late_first_event_no_longer_delays_headers() -> None:
    rig = Rig()
    await rig.time.advance(29.9)
    assert not rig.sink.opened
    await rig.time.advance(0.2)
    assert rig.sink.headers is not None
    assert rig.sink.headers["x-request-id"] == "req-1"
    assert "x-llmops-model" not in rig.sink.headers
    assert rig.sink.frames == [PING]
    rig.script.put(FACTS, b"data: 1\n\n", None)
    await rig.finish()
    assert rig.sink.frames == [PING, b"data: 1\n\n", DONE]


async def test_a_failure_after_late_headers_is_in_band() -> None:
    rig = Rig()
    await rig.time.advance(31)
    rig.script.put(CUT)
    await rig.finish()
    assert b"upstream_stream_cut" in rig.sink.frames[-1]


async def test_a_client_that_leaves_closes_the_stream_of_events() -> None:
    rig = Rig()
    rig.script.put(FACTS)
    await settle()
    rig.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rig.finish()
    assert rig.script.closed


@pytest.mark.parametrize(("stuck", "gone", "error"), [(True, False, SlowReader), (False, True, ConnectionError)])
async def test_a_broken_or_stuck_client_closes_the_stream_of_events(
    *, stuck: bool, gone: bool, error: type[Exception]
) -> None:
    rig = Rig()
    rig.script.put(FACTS)
    await settle()
    rig.sink.stuck, rig.sink.gone = stuck, gone
    rig.script.put(b"data: 1\n\n")
    with pytest.raises(error):
        await rig.finish()
    assert rig.script.closed


async def test_a_ping_that_meets_a_broken_connection_ends_quietly() -> None:
    rig = Rig()
    rig.script.put(FACTS)
    await settle()
    rig.sink.gone = True
    await rig.time.advance(60)
    assert not rig.task.done()
    rig.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rig.finish()
