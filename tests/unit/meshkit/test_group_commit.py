"""Group commit: batches, errors, leaving callers, a full queue, draining."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from meshkit.context import current_or_none
from meshkit.errors import Overloaded, Unavailable
from meshkit.group_commit import GroupCommit
from meshkit.testing import call_context


class Disk:
    """Doubles numbers; holds a flush back until it is let go."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        if open_gate:
            self.gate.set()

    async def flush(self, batch: Sequence[int]) -> list[int | BaseException]:
        self.batches.append(list(batch))
        self.started.set()
        await self.gate.wait()
        return [ValueError("odd") if item % 2 else item * 2 for item in batch]


def group(disk: Disk, max_batch: int = 100, max_queue: int = 100) -> GroupCommit[int, int]:
    return GroupCommit(disk.flush, max_batch=max_batch, max_queue=max_queue)


async def test_takes_what_queued_during_the_last_flush_in_order() -> None:
    disk = Disk(open_gate=False)
    commits = group(disk)
    first = asyncio.create_task(commits.submit(2))
    await disk.started.wait()
    rest = [asyncio.create_task(commits.submit(n)) for n in (4, 6, 8)]
    await asyncio.sleep(0)
    disk.gate.set()
    assert [await first, *(await asyncio.gather(*rest))] == [4, 8, 12, 16]
    assert disk.batches == [[2], [4, 6, 8]]
    await commits.close()


async def test_a_batch_is_bounded() -> None:
    disk = Disk()
    commits = group(disk, max_batch=2)
    await asyncio.gather(*(commits.submit(n) for n in (2, 4, 6, 8, 10)))
    assert disk.batches == [[2, 4], [6, 8], [10]]
    await commits.close()


async def test_an_error_of_one_item_is_its_callers_alone() -> None:
    commits = group(Disk())
    results = await asyncio.gather(commits.submit(2), commits.submit(3), return_exceptions=True)
    assert results[0] == 4
    assert isinstance(results[1], ValueError)
    await commits.close()


async def test_an_error_of_the_flush_is_everyones_and_the_next_batch_works() -> None:
    async def flush(batch: Sequence[int]) -> list[int]:
        if 1 in batch:
            raise RuntimeError("disk full")
        return list(batch)

    commits: GroupCommit[int, int] = GroupCommit(flush, max_batch=10, max_queue=10)
    results = await asyncio.gather(commits.submit(1), commits.submit(2), return_exceptions=True)
    assert [str(r) for r in results] == ["disk full", "disk full"]
    assert await commits.submit(5) == 5
    await commits.close()


async def test_a_flush_that_forgets_an_item_fails_the_batch() -> None:
    async def flush(batch: Sequence[int]) -> list[int]:
        return list(batch)[1:]

    commits: GroupCommit[int, int] = GroupCommit(flush, max_batch=10, max_queue=10)
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        await commits.submit(1)
    await commits.close()


async def test_a_caller_that_leaves_does_not_undo_its_item_nor_stop_the_flush() -> None:
    disk = Disk(open_gate=False)
    commits = group(disk)
    flushing = asyncio.create_task(commits.submit(2))
    await disk.started.wait()
    queued = asyncio.create_task(commits.submit(4))
    stays = asyncio.create_task(commits.submit(6))
    await asyncio.sleep(0)
    flushing.cancel()
    queued.cancel()
    results = await asyncio.gather(flushing, queued, return_exceptions=True)
    assert all(isinstance(r, asyncio.CancelledError) for r in results)
    disk.gate.set()
    assert await stays == 12
    assert disk.batches == [[2], [4, 6]]
    await commits.close()


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    """envoyproxy/ratelimit#978: what waits for a slow store must not fill the memory."""
    disk = Disk(open_gate=False)
    commits = group(disk, max_queue=1)
    running = asyncio.create_task(commits.submit(2))
    await disk.started.wait()
    waiting = asyncio.create_task(commits.submit(4))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await commits.submit(6)
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 0
    disk.gate.set()
    assert await asyncio.gather(running, waiting) == [4, 8]
    await commits.close()


async def test_close_flushes_what_is_queued_and_refuses_what_comes_later() -> None:
    disk = Disk(open_gate=False)
    commits = group(disk)
    tasks = [asyncio.create_task(commits.submit(2))]
    await disk.started.wait()
    tasks.append(asyncio.create_task(commits.submit(4)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(commits.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await commits.submit(6)
    assert not closing.done()
    disk.gate.set()
    await closing
    assert await asyncio.gather(*tasks) == [4, 8]


async def test_the_writer_carries_no_callers_identity() -> None:
    seen: list[object] = []

    async def flush(batch: Sequence[int]) -> list[int]:
        seen.append(current_or_none())
        return list(batch)

    commits: GroupCommit[int, int] = GroupCommit(flush, max_batch=10, max_queue=10)
    with call_context():
        await commits.submit(1)
    assert seen == [None]
    await commits.close()


async def test_the_next_batch_begins_while_one_is_flushed_when_enough_waits() -> None:
    disk = Disk(open_gate=False)
    commits: GroupCommit[int, int] = GroupCommit(disk.flush, max_batch=100, max_queue=100, ahead_from=2)
    tasks = [asyncio.create_task(commits.submit(n)) for n in (2, 4, 6, 8, 10)]
    await disk.started.wait()
    # Half of what waited was left to the next; whoever comes now waits for the end of a flush.
    tasks += [asyncio.create_task(commits.submit(n)) for n in (12, 14)]
    await asyncio.sleep(0.01)
    assert disk.batches == [[2, 4, 6], [8, 10]]
    disk.gate.set()
    assert await asyncio.gather(*tasks) == [4, 8, 12, 16, 20, 24, 28]
    assert disk.batches[2:] == [[12, 14]]
    await commits.close()


async def test_few_that_wait_are_one_batch_after_the_one_that_is_flushed() -> None:
    disk = Disk(open_gate=False)
    commits: GroupCommit[int, int] = GroupCommit(disk.flush, max_batch=100, max_queue=100, ahead_from=3)
    tasks = [asyncio.create_task(commits.submit(n)) for n in (2, 4, 6, 8)]
    await disk.started.wait()
    tasks += [asyncio.create_task(commits.submit(n)) for n in (10, 12)]
    await asyncio.sleep(0.01)
    assert disk.batches == [[2, 4, 6, 8]]
    disk.gate.set()
    await asyncio.gather(*tasks)
    assert disk.batches[1:] == [[10, 12]]
    await commits.close()


async def test_a_flush_that_is_cancelled_before_it_began_leaves_nobody_waiting() -> None:
    disk = Disk()
    commits = group(disk)
    waits = asyncio.create_task(commits.submit(2))
    while not commits._flushes:
        await asyncio.sleep(0)
    next(iter(commits._flushes)).cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waits, 5)
    assert disk.batches == []
    assert await commits.submit(4) == 8
    await commits.close()


@pytest.mark.parametrize(("max_batch", "max_queue", "ahead_from"), [(0, 1, None), (1, 0, None), (1, 1, 0)])
def test_refuses_bounds_that_admit_nothing(max_batch: int, max_queue: int, ahead_from: int | None) -> None:
    async def flush(batch: Sequence[int]) -> list[int]:
        return list(batch)

    with pytest.raises(ValueError, match="at least 1"):
        GroupCommit(flush, max_batch=max_batch, max_queue=max_queue, ahead_from=ahead_from)
