"""One timer for many waits."""

import asyncio

import pytest

from services.router.core.patience import Patience


async def wait(patience: Patience, limit_s: float, duration_s: float) -> bool:
    """Whether the limit ended a wait."""
    patience.begin(limit_s)
    try:
        await asyncio.sleep(duration_s)
    except asyncio.CancelledError:
        if patience.end():
            return True
        raise
    patience.end()
    return False


async def test_each_wait_has_its_own_limit() -> None:
    with Patience() as patience:
        for _ in range(5):
            assert not await wait(patience, 0.2, 0.06)
        assert await wait(patience, 0.05, 5)
        assert not await wait(patience, 0.2, 0.06)
        assert not await wait(patience, 30, 0.01)
        assert await wait(patience, 0.05, 5), "a shorter limit than the one before counts"


async def test_time_between_waits_does_not_count() -> None:
    with Patience() as patience:
        assert not await wait(patience, 0.05, 0)
        await asyncio.sleep(0.1)
        assert not await wait(patience, 0.05, 0.01)
        await asyncio.sleep(0.1)


async def test_somebody_elses_cancellation_stays_one() -> None:
    with Patience() as patience:
        task = asyncio.ensure_future(wait(patience, 5, 5))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_both_at_once_are_a_cancellation() -> None:
    async def both() -> bool:
        task = asyncio.current_task()
        assert task is not None
        with Patience() as patience:
            # Rings while the task is being cancelled by another one.
            asyncio.get_running_loop().call_later(0.02, task.cancel)
            patience.begin(0.02)
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                if patience.end():
                    return True
                raise
        return False

    task = asyncio.ensure_future(both())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_limit_that_passed_rings_at_once_and_an_asyncio_timeout_around_it_is_left_alone() -> None:
    with Patience() as patience:
        async with asyncio.timeout(1):
            assert await wait(patience, -1.0, 5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await wait(patience, 5, 5)
        assert not await wait(patience, 0.2, 0)


async def test_nothing_rings_after_the_last_wait() -> None:
    with Patience() as patience:
        await wait(patience, 0.02, 0)
    await asyncio.sleep(0.05)
