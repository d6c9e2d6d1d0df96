"""Streams that go on for no longer than something else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

Outlast = Callable[[], Awaitable[NoReturn]]


async def while_it_lasts(responses: AsyncIterator[Any], outlast: Outlast) -> AsyncGenerator[Any, None]:
    """Passes a stream on until `outlast` raises; the stream then ends with that error.

    Its handler is cancelled where it waits, as when its caller leaves. One that waits for a slow reader ends when it is
    read again. Costs a task per stream, and a timer's worth per message.
    """
    loop = asyncio.get_running_loop()
    lasting: asyncio.Task[Any] = loop.create_task(_run(outlast))
    waiting: asyncio.Timeout | None = None

    def interrupt(_: object) -> None:
        if waiting is not None:
            waiting.reschedule(loop.time())

    lasting.add_done_callback(interrupt)
    try:
        async with aclosing(responses) as source:  # type: ignore[type-var]
            while not lasting.done():
                try:
                    # A timeout without a time: what cancels this wait, and is told from any other cancellation.
                    async with asyncio.timeout(None) as waiting:
                        response = await anext(source)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if waiting is None or not waiting.expired():
                        raise
                    break
                finally:
                    waiting = None
                yield response
        lasting.result()
    finally:
        lasting.cancel()
        await asyncio.gather(lasting, return_exceptions=True)


async def _run(outlast: Outlast) -> NoReturn:
    await outlast()
    raise RuntimeError("what a stream must not outlast ended without a reason")
