"""The life of a streamed answer: when headers go out, when to ping, how it ends.

Headers wait for the first event, so that an early failure has a proper status. A first event that takes longer than
`open_after_s` no longer delays them: proxies cut silent connections. From then on failures travel in-band, and an
in-band failure is the last thing that is sent: without `[DONE]`, since nothing is done. What pings, ends and failures
look like is the dialect's (`voices`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from services.edge.core import sse
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.answer_headers import answer_headers, id_headers
from services.edge.core.errors import CallFailed, EdgeError
from services.edge.core.origin import Origin
from services.edge.core.ports import EventSink, Observer
from services.edge.core.voices import CHAT_VOICE, Voice


@dataclass(frozen=True, slots=True)
class Pulse:
    """Seconds of silence: before headers are sent without an event, and between pings."""

    open_after_s: float
    ping_after_s: float


class Relay:
    """Carries one stream. The reader of events is never cancelled by a ping: pings run beside it."""

    def __init__(
        self,
        origin: Origin,
        sink: EventSink,
        pulse: Pulse,
        observer: Observer,
        now_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        voice: Voice = CHAT_VOICE,
    ) -> None:
        self._origin = origin
        self._sink = sink
        self._pulse = pulse
        self._observer = observer
        self._now_s = now_s
        self._sleep = sleep
        self._voice = voice
        self._sent_s = now_s()

    async def run(self, events: AsyncGenerator[AnswerFacts | bytes, None]) -> None:
        """Carries every event. Raises CallFailed only while nothing is sent, and what the sink raises."""
        pinger = asyncio.create_task(self._keep_alive())
        try:
            await self._carry(events)
        finally:
            pinger.cancel()
            await events.aclose()

    async def _carry(self, events: AsyncGenerator[AnswerFacts | bytes, None]) -> None:
        sink, now_s = self._sink, self._now_s
        began_s = now_s()
        try:
            async for event in events:
                if isinstance(event, bytes):
                    await sink.write(event)
                    self._sent_s = now_s()
                    continue
                self._observer.first_event(now_s() - began_s)
                if not sink.opened:
                    await sink.open(answer_headers(self._origin, event) | sse.HEADERS)
                    self._sent_s = now_s()
        except CallFailed as error:
            if not sink.opened:
                raise
            await self.fail(error)
        else:
            if self._voice.done:
                await sink.write(self._voice.done)

    async def fail(self, error: EdgeError) -> None:
        """Ends an open stream in-band: its status is sent, another one would land in the middle of the events."""
        self._observer.stream_failed(error.reason)
        await self._sink.write(self._voice.failure(error, self._origin.request_id, self._origin.trace_id))

    async def _keep_alive(self) -> None:
        # A broken connection is met by the writer beside this task; here it only ends the pings.
        with contextlib.suppress(ConnectionError):
            while True:
                silent_s = self._now_s() - self._sent_s
                limit_s = self._pulse.ping_after_s if self._sink.opened else self._pulse.open_after_s
                if silent_s >= limit_s:
                    if not self._sink.opened:
                        await self._sink.open(id_headers(self._origin) | sse.HEADERS)
                    await self._sink.offer(self._voice.ping)
                    self._sent_s = self._now_s()
                else:
                    # Not longer than a ping's pause: the stream may open meanwhile.
                    await self._sleep(min(limit_s - silent_s, self._pulse.ping_after_s))
