"""Embeddings in the dialects of the providers that make them: requests and answers as pure functions.

OpenAI's are also Azure's, vLLM's and Ollama's. Gemini counts no tokens here, nor does Cohere on Bedrock: their usage is
counted by the router. Vectors are handed on as they come, never normalised.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np

from services.router.adapters.dialects.azure_openai import azure_path
from services.router.adapters.dialects.base import json_body, path_segment, usage_of
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Usage
from services.router.core.failure import Failure, broken, unsupported
from services.router.core.ports import EmbedderAnswer, EmbedTexts, Vectors
from services.router.core.tokens import tokens_of_characters

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# The longest vectors that the contract names.
MAX_DIMENSIONS = 16_384


class EmbeddingsDialect(Protocol):
    """One wire format. All functions are pure."""

    def batch_texts(self, spec: ModelSpec) -> int:
        """How many texts one request may carry."""
        ...

    def path(self, spec: ModelSpec) -> str:
        """Where below the base URL a model makes vectors, percent-encoded."""
        ...

    def encode(self, wanted: EmbedTexts, spec: ModelSpec) -> bytes:
        """The request body. Raises ProviderError for what it cannot say."""
        ...

    def decode(self, body: bytes, texts: int) -> EmbedderAnswer:
        """Vectors [texts, dimensions] in the order of the texts. Raises ProviderError."""
        ...


class _OpenAiUsage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None


class _OpenAiRow(msgspec.Struct, gc=False):
    embedding: str | list[float]
    index: int | None = None


class _OpenAiAnswer(msgspec.Struct):
    data: list[_OpenAiRow] | None = None
    model: str | None = None
    usage: _OpenAiUsage | None = None


_decode_openai = msgspec.json.Decoder(_OpenAiAnswer).decode


@dataclass(frozen=True, slots=True)
class OpenAiEmbeddings:
    """POST /embeddings. Vectors travel in base64, a quarter of the digits; servers that send numbers are understood."""

    def batch_texts(self, spec: ModelSpec) -> int:
        """OpenAI takes 2,048; more than the contract has."""
        return 256

    def path(self, spec: ModelSpec) -> str:
        """The same for all models."""
        return "/embeddings"

    def encode(self, wanted: EmbedTexts, spec: ModelSpec) -> bytes:
        """`dimensions` only when it is asked for: older models refuse it."""
        body: dict[str, Any] = {"model": spec.model, "input": list(wanted.texts), "encoding_format": "base64"}
        if wanted.dimensions:
            body["dimensions"] = wanted.dimensions
        return json_body(body)

    def decode(self, body: bytes, texts: int) -> EmbedderAnswer:
        """Rows may come in any order; their index says whose they are."""
        try:
            answer = _decode_openai(body)
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        rows = answer.data or []
        order = [position if row.index is None else row.index for position, row in enumerate(rows)]
        if sorted(order) != list(range(texts)):
            raise broken("wrong-number-of-vectors")
        ordered = [row.embedding for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
        tokens = answer.usage.prompt_tokens if answer.usage is not None else None
        return EmbedderAnswer(_stack([_floats(row) for row in ordered], texts), _usage(tokens), answer.model or "")


@dataclass(frozen=True, slots=True)
class AzureEmbeddings(OpenAiEmbeddings):
    """The same under Azure's addresses."""

    api_version: str = ""

    def path(self, spec: ModelSpec) -> str:
        """See `azure_openai`."""
        return azure_path(self.api_version, spec, "embeddings")


class _GeminiRow(msgspec.Struct, gc=False):
    values: list[float]


class _GeminiAnswer(msgspec.Struct):
    embeddings: list[_GeminiRow] | None = None


_decode_gemini = msgspec.json.Decoder(_GeminiAnswer).decode
_GEMINI_TASKS = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}


@dataclass(frozen=True, slots=True)
class GeminiEmbeddings:
    """POST /models/MODEL:batchEmbedContents."""

    def batch_texts(self, spec: ModelSpec) -> int:
        """The API's limit."""
        return 100

    def path(self, spec: ModelSpec) -> str:
        """The method is part of the path."""
        return f"/models/{path_segment(spec.model.removeprefix('models/'))}:batchEmbedContents"

    def encode(self, wanted: EmbedTexts, spec: ModelSpec) -> bytes:
        """One request for each text, the model in each."""
        own: dict[str, Any] = {"model": f"models/{spec.model.removeprefix('models/')}"}
        if wanted.purpose:
            own["taskType"] = _GEMINI_TASKS[wanted.purpose]
        if wanted.dimensions:
            own["outputDimensionality"] = wanted.dimensions
        return json_body({"requests": [own | {"content": {"parts": [{"text": text}]}} for text in wanted.texts]})

    def decode(self, body: bytes, texts: int) -> EmbedderAnswer:
        """In the order of the requests."""
        try:
            answer = _decode_gemini(body)
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        return EmbedderAnswer(_stack([row.values for row in answer.embeddings or ()], texts))


class _TitanAnswer(msgspec.Struct, rename="camel"):
    embedding: list[float] | None = None
    input_text_token_count: int | None = None


class _CohereFloats(msgspec.Struct):
    vectors: list[list[float]] | None = msgspec.field(default=None, name="float")


class _CohereAnswer(msgspec.Struct):
    embeddings: _CohereFloats | list[list[float]] | None = None


_decode_titan = msgspec.json.Decoder(_TitanAnswer).decode
_decode_cohere = msgspec.json.Decoder(_CohereAnswer).decode
_COHERE_TYPES = {"": "search_document", "document": "search_document", "query": "search_query"}


@dataclass(frozen=True, slots=True)
class BedrockEmbeddings:
    """POST /model/MODEL/invoke: Amazon's Titan takes one text, Cohere's models take many. Others have other bodies."""

    def batch_texts(self, spec: ModelSpec) -> int:
        """Cohere's limit, or one."""
        return 96 if _is_cohere(spec) else 1

    def path(self, spec: ModelSpec) -> str:
        """Of the raw invocation: Converse has no embeddings."""
        return f"/model/{path_segment(spec.model)}/invoke"

    def encode(self, wanted: EmbedTexts, spec: ModelSpec) -> bytes:
        """Raises ProviderError for a model that is neither."""
        if _is_cohere(spec):
            body: dict[str, Any] = {"texts": list(wanted.texts), "input_type": _COHERE_TYPES[wanted.purpose]}
            body["embedding_types"] = ["float"]
            if wanted.dimensions:
                body["output_dimension"] = wanted.dimensions
        elif "titan-embed" in spec.model:
            body = {"inputText": wanted.texts[0]}
            if wanted.dimensions:
                body["dimensions"] = wanted.dimensions
        else:
            raise unsupported("embeddings-of-this-model")
        return json_body(body)

    def decode(self, body: bytes, texts: int) -> EmbedderAnswer:
        """Either shape; they share no field."""
        try:
            titan, cohere = _decode_titan(body), _decode_cohere(body)
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        if titan.embedding is not None:
            tokens = titan.input_text_token_count
            return EmbedderAnswer(_stack([titan.embedding], texts), _usage(tokens))
        rows = cohere.embeddings.vectors if isinstance(cohere.embeddings, _CohereFloats) else cohere.embeddings
        return EmbedderAnswer(_stack(rows or [], texts))


def _is_cohere(spec: ModelSpec) -> bool:
    return "cohere.embed" in spec.model


def _floats(row: str | list[float]) -> list[float] | np.ndarray[Any, Any]:
    if not isinstance(row, str):
        return row
    try:
        data = base64.b64decode(row, validate=True)
        return np.frombuffer(data, "<f4")
    except (binascii.Error, ValueError):
        raise broken("malformed-vector") from None


def _stack(rows: Sequence[list[float] | np.ndarray[Any, Any]], texts: int) -> Vectors:
    """float32 [texts, dimensions]. Raises ProviderError for what is not one vector of the same length for each text."""
    if len(rows) != texts:
        raise broken("wrong-number-of-vectors")
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or not 0 < next(iter(lengths)) <= MAX_DIMENSIONS:
        raise broken("vectors-of-different-lengths")
    # A number that float32 cannot hold becomes infinite and is refused with the others.
    with np.errstate(over="ignore"):
        vectors = np.asarray(rows, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise broken("malformed-vector")
    return vectors


def _usage(tokens: int | None) -> Usage | None:
    """Nothing was read is no count: there are vectors."""
    return usage_of(tokens or None, 0)


def joined(answers: Sequence[EmbedderAnswer]) -> EmbedderAnswer:
    """The answers of several requests as one; usage only when each of them counted."""
    vectors = [answer.vectors for answer in answers]
    if len({rows.shape[1] for rows in vectors}) != 1:
        raise broken("vectors-of-different-lengths")
    return EmbedderAnswer(np.concatenate(vectors), spent(answers), answers[0].served_model)


def spent(answers: Sequence[EmbedderAnswer]) -> Usage | None:
    """What several requests used together, None when one of them did not say."""
    usages = [answer.usage for answer in answers]
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages) or not known:
        return None
    return Usage(sum(usage.input_tokens for usage in known))


def spent_in_part(requests: Sequence[tuple[EmbedTexts, EmbedderAnswer | Failure]]) -> Usage | None:
    """What several requests used of which some failed, None when none of them can have cost anything.

    Where an answer, or a failure that may be billed, counts nothing, its texts are counted by their length.
    """
    usages = [usage for wanted, outcome in requests if (usage := _used(wanted, outcome)) is not None]
    if not usages:
        return None
    return Usage(sum(usage.input_tokens for usage in usages), estimated=any(usage.estimated for usage in usages))


def _used(wanted: EmbedTexts, outcome: EmbedderAnswer | Failure) -> Usage | None:
    if outcome.usage is not None or (isinstance(outcome, Failure) and not outcome.may_be_billed):
        return outcome.usage
    return Usage(sum(tokens_of_characters(len(text)) for text in wanted.texts), estimated=True)
