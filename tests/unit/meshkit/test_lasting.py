"""Streams that end with their credential: the bound itself, and when a credential has ended. No sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NoReturn

import pytest

from meshkit.errors import Overloaded, Unauthenticated, Unavailable
from meshkit.lasting import while_it_lasts
from tests.support.identity_double import GOOD, World, a_credential, a_world


class Ended(Exception):
    pass


class Source:
    """A handler that yields what it is given and waits for ever after that, and what became of it."""

    def __init__(self, *items: object) -> None:
        self.items = items
        self.end = asyncio.Event()
        self.saw: list[str] = []

    async def outlast(self) -> NoReturn:
        await self.end.wait()
        raise Ended

    async def responses(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                if isinstance(item, BaseException):
                    raise item
                yield item
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.saw.append("cancelled")
            raise
        finally:
            self.saw.append("closed")


async def test_a_waiting_handler_is_cancelled_and_the_stream_ends_with_the_reason() -> None:
    source = Source(1, 2)
    read = []
    with pytest.raises(Ended):
        async with aclosing(while_it_lasts(source.responses(), source.outlast)) as stream:
            async for item in stream:
                read.append(item)
                if item == 2:
                    asyncio.get_running_loop().call_later(0.01, source.end.set)
    assert read == [1, 2]
    assert source.saw == ["cancelled", "closed"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_slow_reader_gets_nothing_more() -> None:
    source = Source(1, 2, 3)
    stream = while_it_lasts(source.responses(), source.outlast)
    assert await anext(stream) == 1
    source.end.set()
    await asyncio.sleep(0.01)
    with pytest.raises(Ended):
        await anext(stream)
    assert source.saw == ["closed"]


@pytest.mark.parametrize("error", [TimeoutError("the handler's own"), ValueError("x"), asyncio.CancelledError()])
async def test_what_a_handler_raises_stays_what_it_is(error: BaseException) -> None:
    source = Source(1, error)
    stream = while_it_lasts(source.responses(), source.outlast)
    assert await anext(stream) == 1
    with pytest.raises(type(error)) as raised:
        await anext(stream)
    assert raised.value is error or isinstance(error, asyncio.CancelledError)


async def test_a_stream_that_ends_by_itself_leaves_no_task_behind() -> None:
    async def two() -> AsyncIterator[int]:
        yield 1
        yield 2

    before = asyncio.all_tasks()
    source = Source()
    assert [item async for item in while_it_lasts(two(), source.outlast)] == [1, 2]
    stream = while_it_lasts(Source(1).responses(), source.outlast)
    assert await anext(stream) == 1
    await stream.aclose()
    assert asyncio.all_tasks() == before


async def test_who_leaves_is_cancelled_and_nothing_else() -> None:
    source = Source(1)

    async def reads() -> None:
        async for _ in while_it_lasts(source.responses(), source.outlast):
            pass

    task = asyncio.create_task(reads())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.saw == ["cancelled", "closed"]


async def goes_on(lasting: asyncio.Task[Any]) -> bool:
    await asyncio.sleep(0.02)
    return not lasting.done()


async def a_stream(world: World, credential: str = GOOD) -> asyncio.Task[Any]:
    await world.who(credential)
    await world.identity.tells()
    lasting = world.lasting(credential)
    assert await goes_on(lasting)
    return lasting


async def test_a_revoked_credential_ends_its_streams_and_no_others() -> None:
    async with a_world() as world:
        other = a_credential("other")
        world.identity.knows(other, "key-2")
        streams = [await a_stream(world), await a_stream(world), await a_stream(world, other)]
        del world.identity.answers[GOOD]
        await world.identity.tells(revision=2, key_ids=["key-1"])
        for stream in streams[:2]:
            with pytest.raises(Unauthenticated):
                await asyncio.wait_for(stream, 1)
        assert await goes_on(streams[2])
        streams[2].cancel()


async def test_a_changed_credential_that_works_goes_on() -> None:
    async with a_world() as world:
        stream = await a_stream(world)
        # Rotated with an overlap, or a user who changed the team; and a store that cannot say what changed.
        await world.identity.tells(revision=2, key_ids=["key-1"])
        assert await goes_on(stream)
        await world.identity.tells(revision=3, everything=True)
        assert await goes_on(stream)
        assert world.identity.asked == [GOOD] * 3
        # Beats ask nobody.
        await world.identity.tells()
        assert await goes_on(stream)
        assert world.identity.asked == [GOOD] * 3
        stream.cancel()


async def test_a_credential_that_ends_by_itself_ends_its_streams() -> None:
    async with a_world() as world:
        world.identity.knows(GOOD, expire_time=world.times.now())
        world.identity.answers[GOOD].expire_time.FromNanoseconds(world.times.time_ns() + 150_000_000)
        stream = await a_stream(world)
        del world.identity.answers[GOOD]
        world.times.now_s += 0.2
        with pytest.raises(Unauthenticated):
            await asyncio.wait_for(stream, 1)


async def test_a_fast_clock_does_not_ask_without_pause() -> None:
    async with a_world() as world:
        world.identity.knows(GOOD, expire_time=world.times.now())
        await world.who(GOOD)
        stream = world.lasting(GOOD)
        await asyncio.sleep(0.25)
        assert not stream.done()
        assert len(world.identity.asked) <= 4
        stream.cancel()


async def test_a_stream_ends_when_a_call_would_be_refused_for_silence() -> None:
    async with a_world(max_silence_s=0.2) as world:
        stream = await a_stream(world)
        world.identity.away = True
        world.times.now_s += 0.1
        assert await goes_on(stream)
        world.times.now_s += 0.2
        with pytest.raises(Unavailable):
            await asyncio.wait_for(stream, 1)


async def test_too_many_questions_end_no_stream() -> None:
    async with a_world(max_questions=1) as world:
        stream = await a_stream(world)
        world.identity.hold = asyncio.Event()
        asking = asyncio.create_task(world.who(a_credential("another")))
        await asyncio.sleep(0)
        await world.identity.tells(revision=2, key_ids=["key-1"])
        with pytest.raises(Overloaded):
            await world.who(a_credential("a third"))
        assert await goes_on(stream)
        world.identity.hold.set()
        with pytest.raises(Unauthenticated):
            await asking
        del world.identity.answers[GOOD]
        with pytest.raises(Unauthenticated):
            await asyncio.wait_for(stream, 1)


async def test_keys_of_the_configuration_end_with_their_process() -> None:
    async with a_world() as world:
        assert world.authenticator.outlast("configured") is None
