"""What services may rely on, whichever encoder is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.encoder import EncodedText, QueuedEncoder, load_encoder
from meshkit.encoder_memory import memory_encoder
from meshkit.errors import DeadlineExceeded, Overloaded
from meshkit.model_files import installed, read_entry, released_manifest
from meshkit.testing import call_context

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / ".llmops/models"
Make = Callable[..., QueuedEncoder]
WINDOW = 254


def onnx_encoder(**options: int) -> QueuedEncoder:
    if not installed(MODELS, read_entry(released_manifest(), "encoder")):
        pytest.fail("the encoder is not installed; run `make models`")
    return load_encoder(MODELS, **options)


@pytest.fixture(params=[memory_encoder, onnx_encoder], ids=["memory", "onnx"], scope="module")
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


@pytest.fixture(scope="module")
def encoder(make: Make) -> Iterator[QueuedEncoder]:
    encoder = make()
    yield encoder
    encoder.close()


def cosine(a: EncodedText, b: EncodedText) -> float:
    return float(a.vector @ b.vector)


@pytest.mark.parametrize(
    "text", ["hello", "How do I reset my password?", "價格", "\U0001f600", " ", "", "\x00\u200b", "x" * 5000]
)
async def test_every_text_is_a_point_on_the_unit_sphere(encoder: QueuedEncoder, text: str) -> None:
    encoded = await encoder.encode(text)
    assert encoded.vector.shape == (encoder.dimensions,) == (384,)
    assert encoded.vector.dtype == np.float32
    assert np.linalg.norm(encoded.vector) == pytest.approx(1, abs=1e-5)


async def test_a_vector_cannot_be_changed_by_one_of_its_readers(encoder: QueuedEncoder) -> None:
    with pytest.raises(ValueError, match="read-only"):
        (await encoder.encode("shared")).vector[0] = 1


async def test_a_text_has_one_vector_whatever_is_encoded_beside_it(encoder: QueuedEncoder) -> None:
    texts = ["refund my order", "a much longer text " * 30, "ok", "refund my order"]
    together = await encoder.encode_many(texts)
    alone = [await encoder.encode(text) for text in texts]
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(together, alone, strict=True))
    assert np.array_equal(together[0].vector, together[3].vector)


async def test_many_texts_come_back_in_order(encoder: QueuedEncoder) -> None:
    assert await encoder.encode_many([]) == []
    counts = [encoded.token_count for encoded in await encoder.encode_many(["one " * n for n in range(1, 8)])]
    assert counts == list(range(1, 8))


async def test_the_model_reads_its_window_and_says_when_there_was_more(encoder: QueuedEncoder) -> None:
    fits, over, far_over = await encoder.encode_many(["go " * WINDOW, "go " * (WINDOW + 1), "go " * 20_000])
    assert (fits.token_count, fits.truncated) == (WINDOW, False)
    assert (over.token_count, over.truncated) == (WINDOW, True)
    assert (far_over.token_count, far_over.truncated) == (WINDOW, True)
    assert np.array_equal(fits.vector, over.vector)


async def test_what_follows_the_window_changes_nothing(encoder: QueuedEncoder) -> None:
    # Longer than the first cut, with words that the cut splits.
    beginning = "unbelievably interesting conversations " * 300
    short, long = await encoder.encode_many([beginning[:12_000], beginning + "tail " * 1000])
    assert short.truncated
    assert long.truncated
    assert np.array_equal(short.vector, long.vector)


async def test_a_text_that_is_too_long_to_be_read_is_truncated_even_if_it_is_empty_so_far(
    encoder: QueuedEncoder,
) -> None:
    encoded = await encoder.encode(" " * 70_000 + "end")
    assert (encoded.token_count, encoded.truncated) == (0, True)


async def test_similar_texts_are_closer_than_different_ones(encoder: QueuedEncoder) -> None:
    question, rephrased, other = await encoder.encode_many(
        ["How do I reset my password?", "How can I reset the password?", "Bake the bread for forty minutes."]
    )
    assert cosine(question, rephrased) > cosine(question, other) + 0.3


async def test_tokens_are_counted_like_they_are_read(encoder: QueuedEncoder) -> None:
    text = "Refund order 4711, please."
    assert encoder.count_tokens(text) == (await encoder.encode(text)).token_count > 4
    assert encoder.count_tokens("") == 0
    assert encoder.count_tokens("go " * 1000) == 1000
    assert encoder.count_tokens("go " * 1_000_000) == pytest.approx(1_000_000, rel=0.01)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_the_tokens_of_lines_are_the_sum_of_their_tokens(encoder: QueuedEncoder, lines: list[str]) -> None:
    assert encoder.count_tokens("\n".join(lines)) == sum(map(encoder.count_tokens, lines))


async def test_too_many_waiting_texts_are_refused_and_the_others_are_encoded(make: Make) -> None:
    encoder = make(workers=1, max_queue=2)
    outcomes = await asyncio.gather(*(encoder.encode("go " * WINDOW) for _ in range(30)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
    encoded = [outcome for outcome in outcomes if isinstance(outcome, EncodedText)]
    assert len(refused) + len(encoded) == len(outcomes)
    assert len(encoded) >= 3
    assert refused
    assert (refused[0].status, refused[0].reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert refused[0].retry_after_s
    assert (await encoder.encode("again")).token_count == 1
    encoder.close()


async def test_callers_that_leave_free_their_places(make: Make) -> None:
    encoder = make(workers=1, max_queue=4)
    for _ in range(5):
        tasks = [asyncio.create_task(encoder.encode("go " * WINDOW)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError | EncodedText) for outcome in outcomes)
        # The one that ran when its caller left still holds its worker; the four that waited hold nothing.
        assert (await encoder.encode("still here")).token_count == 2
    encoder.close()


async def test_a_deadline_that_has_passed_is_not_worked_for(encoder: QueuedEncoder) -> None:
    with call_context(deadline_s=asyncio.get_running_loop().time() - 1), pytest.raises(DeadlineExceeded):
        await encoder.encode("too late")
