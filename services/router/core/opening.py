"""Streams of providers until their first token and beyond, each wait with its limit; failures as values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial

from services.router.core.catalogue import ModelSpec
from services.router.core.errors import RouterError
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.patience import Patience
from services.router.core.ports import Chunk, Provider, ProviderRequest
from services.router.core.run import Run
from services.router.core.tries import Try


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream that has begun: its first chunk with a delta or an end, and where the others come from."""

    first: Chunk
    chunks: AsyncGenerator[Chunk, None]
    patience: Patience

    async def aclose(self) -> None:
        """Ends the provider's call."""
        self.patience.stop()
        await self.chunks.aclose()


async def open_stream(provider: Provider, run: Run, tried: Try, request_id: str) -> Opened | Failure:
    """Reads until the first delta or the end. A stream that has not begun is closed. Raises RouterError."""
    timeout_s = run.timeout_s(tried, _limit_s(tried.spec), _limit_s)
    request = ProviderRequest(tried.call, tried.spec, request_id, timeout_s, partial(run.waits, tried))
    patience, chunks = Patience(), provider.stream(request)
    first: Chunk | Failure | None = None
    try:
        first = await _first_chunk(run, tried, patience, chunks, timeout_s)
    finally:
        if not isinstance(first, Chunk):
            patience.stop()
            await chunks.aclose()
    if isinstance(first, Failure):
        return first
    run.began_answer(tried)
    return Opened(first, chunks, patience)


async def _first_chunk(
    run: Run, tried: Try, patience: Patience, chunks: AsyncGenerator[Chunk, None], timeout_s: float
) -> Chunk | Failure:
    """Hidden reasoning proves life and moves the limit to the idle one."""
    cause = "first-token-timeout"
    try:
        while True:
            chunk = await _pull(chunks, patience, timeout_s)
            if chunk.delta is not None or chunk.finished:
                return chunk
            timeout_s, cause = run.idle_s(tried), "idle-timeout"
    except TimeoutError:
        return Failure(FailureKind.TIMED_OUT, cause)
    except ProviderError as error:
        return error.failure
    except StopAsyncIteration:
        return Failure(FailureKind.BROKEN, "stream-ended-early", http_status=200)
    except RouterError as error:
        raise run.with_attempts(error) from None


async def next_chunk(run: Run, tried: Try, opened: Opened) -> Chunk | Failure:
    """What follows in a stream that has begun."""
    try:
        return await _pull(opened.chunks, opened.patience, run.idle_s(tried))
    except TimeoutError:
        return Failure(FailureKind.TIMED_OUT, "idle-timeout")
    except ProviderError as error:
        return error.failure
    except StopAsyncIteration:
        return Failure(FailureKind.BROKEN, "stream-ended-early", http_status=200)


def _limit_s(spec: ModelSpec) -> float:
    return min(spec.first_token_timeout_s, spec.timeout_s)


async def _pull(chunks: AsyncGenerator[Chunk, None], patience: Patience, limit_s: float) -> Chunk:
    """The next chunk. Raises TimeoutError when it takes longer than `limit_s`."""
    patience.begin(limit_s)
    try:
        return await anext(chunks)
    except asyncio.CancelledError:
        if patience.end():
            raise TimeoutError from None
        raise
    finally:
        patience.end()
