"""The provider `local`: the extractive model, and the vectors of the mesh's encoder. No key, no network, no price."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from meshkit.errors import DeadlineExceeded, Overloaded
from services.router.core.chat import Completion, ImagePart, Usage
from services.router.core.extractive.answer import Prepared, Quotation, compose, nothing_to_quote, prepare
from services.router.core.failure import Failure, FailureKind, ProviderError, unsupported
from services.router.core.ports import (
    Chunk,
    EmbedderAnswer,
    EmbedderRequest,
    ProviderAnswer,
    ProviderRequest,
    SentenceEncoder,
    TokenCounter,
    Vectors,
)
from services.router.core.tokens import input_texts, overhead_tokens


@dataclass(frozen=True, slots=True)
class LocalLimits:
    """How much work one answer may be. A sentence costs the encoder 2 to 6 ms of one core."""

    max_sentences: int = 4000
    max_encoded_sentences: int = 96


class Executor(Protocol):
    """Runs CPU work off the event loop."""

    def run(self, work: Callable[..., Any], /, *arguments: Any) -> Awaitable[Any]:
        """The result of `work(*arguments)`."""
        ...


class TextEncoder(Protocol):
    """The part of the kit's encoder that is used here."""

    async def encode_many(self, texts: Sequence[str]) -> list[Any]:
        """For each text a value whose `vector` is float32 [dimensions], L2 norm 1."""
        ...


class MeshSentenceEncoder:
    """The kit's encoder behind the port."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimensions]."""
        encoded = await self._encoder.encode_many(texts)
        return np.stack([entry.vector for entry in encoded]).astype(np.float32, copy=False)


class LocalProvider:
    """Quotes sentences. `encoder` None ranks by words alone, and the answer says so."""

    def __init__(
        self, encoder: SentenceEncoder | None, executor: Executor, counter: TokenCounter, limits: LocalLimits
    ) -> None:
        self._encoder = encoder
        self._executor = executor
        self._counter = counter
        self._limits = limits

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """The whole answer with its citations."""
        quotation = await self._quote(request)
        pieces = quotation.pieces
        completion = Completion(
            "".join(piece.content for piece in pieces),
            finish_reason=quotation.finish_reason,
            citations=tuple(citation for piece in pieces for citation in piece.citations),
        )
        usage = await self._usage(request, completion.content)
        return ProviderAnswer(completion, usage, request.spec.model, request.request_id)

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        """Sentence by sentence."""
        quotation = await self._quote(request)
        model, response_id = request.spec.model, request.request_id
        for piece in quotation.pieces:
            yield Chunk(piece, model, response_id)
        usage = await self._usage(request, "".join(piece.content for piece in quotation.pieces))
        yield Chunk(None, model, response_id, finished=True, finish_reason=quotation.finish_reason, usage=usage)

    async def embed(self, request: EmbedderRequest) -> EmbedderAnswer:
        """The encoder's vectors, of L2 norm 1. What is longer than 256 word pieces is represented by its beginning."""
        if self._encoder is None:
            raise unsupported("embeddings-without-encoder")
        texts = request.wanted.texts
        with _as_failures():
            vectors = await self._encoder.encode(texts)
        if request.wanted.dimensions not in {0, vectors.shape[1]}:
            raise unsupported("dimensions")
        return EmbedderAnswer(vectors, Usage(await self._counter.count(texts)), request.spec.model)

    async def _quote(self, request: ProviderRequest) -> Quotation:
        with _as_failures():
            return await self._work(request)

    async def _work(self, request: ProviderRequest) -> Quotation:
        call = request.call
        if call.parameters.response_format.structured:
            raise unsupported("structured-output")
        if call.tools:
            raise unsupported("tools")
        if any(isinstance(part, ImagePart) for message in call.messages for part in message.parts):
            raise unsupported("images")
        stop, max_tokens = call.parameters.stop, _max_tokens(request)
        prepared = await self._executor.run(self._prepare, request)
        if prepared is None:
            return nothing_to_quote(stop, max_tokens)
        vectors = None if self._encoder is None else await self._encoder.encode(prepared.texts())
        quotation = await self._executor.run(_compose, prepared, vectors, stop, max_tokens)
        assert isinstance(quotation, Quotation)
        return quotation

    def _prepare(self, request: ProviderRequest) -> Prepared | None:
        return prepare(
            request.call.messages,
            max_sentences=self._limits.max_sentences,
            max_encoded=self._limits.max_encoded_sentences,
        )

    async def _usage(self, request: ProviderRequest, written: str) -> Usage:
        read = await self._counter.count(list(input_texts(request.call)))
        return Usage(read + overhead_tokens(request.call), await self._counter.count([written]))


@contextmanager
def _as_failures() -> Iterator[None]:
    """A full queue reads as a provider that limits us, so that others are asked."""
    try:
        yield
    except Overloaded as error:
        failure = Failure(FailureKind.RATE_LIMITED, "overloaded", retry_after_s=error.retry_after_s)
        raise ProviderError(failure) from None
    except DeadlineExceeded:
        raise ProviderError(Failure(FailureKind.TIMED_OUT, "encoder-deadline")) from None


def _compose(prepared: Prepared, vectors: Vectors | None, stop: tuple[str, ...], max_tokens: int | None) -> Quotation:
    return compose(prepared, vectors, stop=stop, max_tokens=max_tokens)


def _max_tokens(request: ProviderRequest) -> int | None:
    limits = [limit for limit in (request.call.parameters.max_output_tokens, request.spec.max_output_tokens) if limit]
    return min(limits) if limits else None
