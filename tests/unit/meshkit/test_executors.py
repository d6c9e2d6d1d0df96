"""Work beside the loop: results, errors, callers that leave, a pool that closes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator

import pytest

from meshkit.errors import Overloaded
from meshkit.executors import Executor

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="")


class Gate:
    """Work that says when it began and waits until it is told to go on."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.ran = 0

    def work(self) -> str:
        self.began.release()
        assert self.go_on.wait(10)
        self.ran += 1
        return "done"


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    executor = Executor("test", 1, 1)
    yield executor
    executor.close()


async def begun(executor: Executor, gate: Gate) -> asyncio.Task[str]:
    task = asyncio.create_task(executor.run(gate.work))
    await asyncio.to_thread(gate.began.acquire)
    return task


async def test_work_has_its_arguments_and_the_callers_context(executor: Executor) -> None:
    NAME.set("caller")

    def work(number: int, *, more: int) -> tuple[int, str]:
        return number + more, NAME.get()

    assert await executor.run(work, 1, more=2) == (3, "caller")


async def test_an_error_is_raised_where_it_is_waited_for(executor: Executor) -> None:
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 // 0)
    assert await executor.run(lambda: "still here") == "still here"


async def test_a_place_is_free_again_when_work_ends_however_it_ends(executor: Executor) -> None:
    for _ in range(5):
        with pytest.raises(ValueError, match="absent"):
            await executor.run(int, "absent")
        gate = Gate()
        running = await begun(executor, gate)
        waiting = asyncio.create_task(executor.run(gate.work))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await executor.run(gate.work)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.go_on.set()
        assert await running == "done"
        assert gate.ran == 1


async def test_work_goes_on_when_its_caller_leaves(executor: Executor) -> None:
    gate = Gate()
    leaving = await begun(executor, gate)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.go_on.set()
    assert await executor.run(lambda: gate.ran) == 1


async def test_closing_drops_what_waits() -> None:
    executor = Executor("closing", 1, 1)
    gate = Gate()
    running = await begun(executor, gate)
    waiting = asyncio.create_task(executor.run(gate.work))
    await asyncio.sleep(0)
    executor.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.go_on.set()
    assert await running == "done"
    with pytest.raises(RuntimeError):
        await executor.run(gate.work)
    assert gate.ran == 1
