"""Texts as points on the unit sphere: one encoder per process, shared by its services.

One text per call, never a batch: on a CPU the padding of a batch costs two to four times what it saves. Each worker
is one thread that runs below the event loop's priority.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meshkit import context
from meshkit.errors import DeadlineExceeded
from meshkit.executors import Executor
from meshkit.model_files import read_entry, released_manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST_ENTRY = "encoder"
DEFAULT_MAX_QUEUE = 128
# Linux schedules niceness per thread: workers give way to the event loop.
_NICENESS = 10


@dataclass(frozen=True, slots=True, eq=False)
class EncodedText:
    """A text's embedding.

    `vector` is float32 [dimensions], read-only, with L2 norm 1. `token_count` counts the tokens that it stands for,
    without the model's own markers. `truncated` says that the text had more tokens, or more than 64 Ki characters: the
    vector stands for its beginning.
    """

    vector: NDArray[np.float32]
    token_count: int
    truncated: bool


class Encoder(Protocol):
    """What services see. `model` names the model and the digest of its files: never compare vectors of two models."""

    model: str
    dimensions: int

    async def encode(self, text: str) -> EncodedText:
        """Embeds one text outside the event loop; any text, also the empty one.

        Raises Overloaded when too many texts wait and DeadlineExceeded when the running call's deadline passed
        before its turn. A caller that leaves takes its waiting text out of the queue.
        """
        ...

    async def encode_many(self, texts: Sequence[str]) -> list[EncodedText]:
        """Embeds texts in order, a few at a time, so that one caller cannot fill the queue. Errors as in `encode`."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of the whole text, without markers; an estimate beyond 64 Ki characters.

        About 1.2 us per token on the calling thread: call it from an executor for texts over 1,000 characters.
        """
        ...


class TextModel(Protocol):
    """The part of an encoder that runs in a worker thread. Must be safe to call from several threads."""

    name: str
    dimensions: int

    def embed(self, text: str) -> EncodedText:
        """Embeds one text on the calling thread."""
        ...

    def count_tokens(self, text: str) -> int:
        """As `Encoder.count_tokens`."""
        ...


class QueuedEncoder:
    """An Encoder: a text model behind a bounded queue and a few worker threads.

    `workers` 0 means one per CPU, at most 2: more would take the event loop's CPU. `max_queue` texts may wait; at 5 ms
    each, 128 texts are a third of a second on two workers.
    """

    def __init__(self, model: TextModel, *, workers: int = 0, max_queue: int = DEFAULT_MAX_QUEUE) -> None:
        self.model = model.name
        self.dimensions = model.dimensions
        self._text_model = model
        self._workers = workers or min(2, _cpu_count())
        self._executor = Executor("encoder", self._workers, max_queue, _NICENESS)

    async def encode(self, text: str) -> EncodedText:
        """As `Encoder.encode`."""
        return await self._executor.run(self._embed, text, _deadline_s())

    async def encode_many(self, texts: Sequence[str]) -> list[EncodedText]:
        """As `Encoder.encode_many`: as many at a time as there are workers."""
        encoded: list[EncodedText] = []
        for start in range(0, len(texts), self._workers):
            encoded += await asyncio.gather(*(self.encode(text) for text in texts[start : start + self._workers]))
        return encoded

    def count_tokens(self, text: str) -> int:
        """As `Encoder.count_tokens`."""
        return self._text_model.count_tokens(text)

    def close(self) -> None:
        """Refuses new texts and drops those that wait."""
        self._executor.close()

    def _embed(self, text: str, deadline_s: float | None) -> EncodedText:
        if deadline_s is not None and time.monotonic() >= deadline_s:
            raise DeadlineExceeded("the deadline passed while the text waited for the encoder")
        return self._text_model.embed(text)


def load_encoder(
    models: Path, manifest: Path | None = None, *, workers: int = 0, max_queue: int = DEFAULT_MAX_QUEUE
) -> QueuedEncoder:
    """Loads the encoder below `models` that `manifest` names; takes about 0.2 s, so call it from a thread.

    Without `manifest` the one that was released with this code is used. Raises ModelNotInstalled when the encoder is
    not there and ModelRefused when a file differs from the manifest.
    """
    # The runtime comes with the extra `encoder`; a process without an encoder must start without it.
    from meshkit.encoder_onnx import OnnxTextModel  # noqa: PLC0415

    entry = read_entry(manifest or released_manifest(), MANIFEST_ENTRY)
    return QueuedEncoder(OnnxTextModel.load(models, entry), workers=workers, max_queue=max_queue)


def _deadline_s() -> float | None:
    """The running call's deadline on the clock that worker threads read."""
    call = context.current_or_none()
    if call is None or call.deadline_s is None:
        return None
    return time.monotonic() + call.deadline_s - asyncio.get_running_loop().time()


def _cpu_count() -> int:
    """CPUs that this process may use, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
