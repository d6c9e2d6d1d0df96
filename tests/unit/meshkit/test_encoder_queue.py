"""The queue in front of the model, with a model that waits until it is told to go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest

from meshkit.encoder import EncodedText, QueuedEncoder
from meshkit.errors import DeadlineExceeded, Overloaded
from meshkit.testing import call_context


class GatedModel:
    name = "gated"
    dimensions = 2

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.started = threading.Semaphore(0)
        self.seen: list[str] = []
        self.running = 0
        self.most_running = 0

    def embed(self, text: str) -> EncodedText:
        self.seen.append(text)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self.started.release()
        assert self.go_on.wait(10)
        self.running -= 1
        return EncodedText(np.array([1, 0], dtype=np.float32), 1, truncated=False)

    def count_tokens(self, text: str) -> int:
        return len(text)


@pytest.fixture
async def model() -> AsyncIterator[GatedModel]:
    model = GatedModel()
    yield model
    model.go_on.set()


async def occupied(encoder: QueuedEncoder, model: GatedModel) -> asyncio.Task[EncodedText]:
    task = asyncio.create_task(encoder.encode("first"))
    await asyncio.to_thread(model.started.acquire)
    return task


async def test_the_queue_holds_what_the_setting_says(model: GatedModel) -> None:
    encoder = QueuedEncoder(model, workers=1, max_queue=2)
    running = await occupied(encoder, model)
    waiting = [asyncio.create_task(encoder.encode(f"waiting {n}")) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await encoder.encode("one too many")
    model.go_on.set()
    await asyncio.gather(running, *waiting)
    assert model.seen == ["first", "waiting 0", "waiting 1"]


async def test_a_text_whose_caller_left_is_never_embedded(model: GatedModel) -> None:
    encoder = QueuedEncoder(model, workers=1, max_queue=2)
    running = await occupied(encoder, model)
    leaving = asyncio.create_task(encoder.encode("leaving"))
    staying = asyncio.create_task(encoder.encode("staying"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    model.go_on.set()
    await asyncio.gather(running, staying)
    assert model.seen == ["first", "staying"]


async def test_a_text_whose_deadline_passes_while_it_waits_is_never_embedded(model: GatedModel) -> None:
    encoder = QueuedEncoder(model, workers=1, max_queue=2)
    running = await occupied(encoder, model)
    loop = asyncio.get_running_loop()
    with call_context(deadline_s=loop.time() + 0.02):
        late = asyncio.create_task(encoder.encode("late"))
    passed = loop.create_future()
    loop.call_later(0.05, passed.set_result, None)
    await passed
    model.go_on.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await running
    assert model.seen == ["first"]


async def test_one_caller_with_many_texts_leaves_room_for_others(model: GatedModel) -> None:
    encoder = QueuedEncoder(model, workers=2, max_queue=1)
    many = asyncio.create_task(encoder.encode_many([f"text {n}" for n in range(9)]))
    for _ in range(2):
        await asyncio.to_thread(model.started.acquire)
    other = asyncio.create_task(encoder.encode("other"))
    await asyncio.sleep(0)
    model.go_on.set()
    assert len(await many) == 9
    await other
    assert model.most_running == 2
