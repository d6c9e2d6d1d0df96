"""Embeddings in the formats of OpenAI, Azure, Gemini and Bedrock; refusals are those of the vendor's chat format."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Final, Literal, TypeVar

import msgspec
import orjson

from llmops_cli.provider_sim.answer import Answer
from llmops_cli.provider_sim.bedrock_dialect import BedrockDialect
from llmops_cli.provider_sim.gemini_dialect import GeminiDialect
from llmops_cli.provider_sim.openai_dialect import OpenAiDialect
from llmops_cli.provider_sim.request import (
    ChatRequest,
    RequestError,
    WantedVectors,
    estimate_embedded_tokens,
    unquoted,
)
from llmops_cli.provider_sim.script import MAX_DIMENSIONS
from llmops_cli.provider_sim.vectors import Vectors, unit_vectors

AZURE_PATH: Final = re.compile(r"/openai/deployments/([^/]+)/embeddings")
GEMINI_PATH: Final = re.compile(r"/v1(?:beta)?/models/([^/:]+(?:%3A[^/:]*)?):batchEmbedContents")
# Bedrock hands a body through to the model, so that the model decides what it looks like.
TITAN_PATH: Final = re.compile(r"/model/([^/]*titan-embed[^/]*)/invoke")
COHERE_PATH: Final = re.compile(r"/model/([^/]*cohere\.embed[^/]*)/invoke")
# What the vendors take in one request.
_MAX_TEXTS_OPENAI: Final = 2048
_MAX_TEXTS_GEMINI: Final = 100
_MAX_TEXTS_COHERE: Final = 96

_Body = TypeVar("_Body")
_Dimensions = Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)]


class _OpenAiRequest(msgspec.Struct):
    model: str
    input: str | list[str]
    dimensions: _Dimensions | None = None
    encoding_format: Literal["float", "base64"] | None = None


class _GeminiPart(msgspec.Struct):
    text: str = ""


class _GeminiContent(msgspec.Struct):
    parts: list[_GeminiPart]


class _GeminiRow(msgspec.Struct, rename="camel"):
    content: _GeminiContent
    output_dimensionality: _Dimensions | None = None


class _GeminiRequest(msgspec.Struct):
    requests: list[_GeminiRow]


class _TitanRequest(msgspec.Struct, rename="camel"):
    input_text: str
    dimensions: _Dimensions | None = None


class _CohereRequest(msgspec.Struct):
    texts: list[str]
    input_type: str
    embedding_types: list[Literal["float"]] | None = None
    output_dimension: _Dimensions | None = None


class OpenAiEmbeddings(OpenAiDialect):
    """POST /v1/embeddings (https://platform.openai.com/docs/api-reference/embeddings); token arrays are refused."""

    id_prefix = "embd-sim-"

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is none. Azure names the deployment in the path."""
        raw = _decoded(body, _OpenAiRequest)
        model = unquoted(match[1]) if (match := AZURE_PATH.fullmatch(path)) else raw.model
        texts = (raw.input,) if isinstance(raw.input, str) else tuple(raw.input)
        return _request(model, texts, raw.dimensions, _MAX_TEXTS_OPENAI, as_base64=raw.encoding_format == "base64")

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """A list of embedding objects."""
        as_base64 = request.vectors is not None and request.vectors.as_base64
        document: dict[str, object] = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _base64(row) if as_base64 else row}
                for index, row in enumerate(_vectors(request, answer))
            ],
            "model": request.model,
        }
        if usage:
            document["usage"] = {"prompt_tokens": answer.input_tokens, "total_tokens": answer.input_tokens}
        return _encoded(document)


class GeminiEmbeddings(GeminiDialect):
    """batchEmbedContents (https://ai.google.dev/api/embeddings), which tells no usage."""

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is none, or asks for vectors of different lengths."""
        rows = _decoded(body, _GeminiRequest).requests
        lengths = {row.output_dimensionality for row in rows}
        if len(lengths) > 1:
            raise RequestError(400, "outputDimensionality must be the same in all requests.")
        texts = tuple("".join(part.text for part in row.content.parts) for row in rows)
        return _request(_model(GEMINI_PATH, path), texts, next(iter(lengths), None), _MAX_TEXTS_GEMINI)

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """Values in the order of the requests."""
        return _encoded({"embeddings": [{"values": row} for row in _vectors(request, answer)]})


class TitanEmbeddings(BedrockDialect):
    """InvokeModel of Amazon's Titan text embeddings: one text a call."""

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is none."""
        raw = _decoded(body, _TitanRequest)
        return _request(_model(TITAN_PATH, path), (raw.input_text,), raw.dimensions, 1)

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """The vector and the tokens of its text."""
        document: dict[str, object] = {"embedding": _vectors(request, answer)[0]}
        if usage:
            document["inputTextTokenCount"] = answer.input_tokens
        return _encoded(document)


class CohereEmbeddings(BedrockDialect):
    """InvokeModel of Cohere's embeddings, which tells no usage."""

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is none."""
        raw = _decoded(body, _CohereRequest)
        return _request(_model(COHERE_PATH, path), tuple(raw.texts), raw.output_dimension, _MAX_TEXTS_COHERE)

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """Vectors by type."""
        rows = list(_vectors(request, answer))
        return _encoded({"id": answer_id, "response_type": "embeddings_by_type", "embeddings": {"float": rows}})


def _decoded(body: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"The request body is invalid: {error}") from error


def _encoded(document: dict[str, object]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _model(pattern: re.Pattern[str], path: str) -> str:
    match = pattern.fullmatch(path)
    assert match is not None
    return unquoted(match[1])


def _request(
    model: str, texts: tuple[str, ...], dimensions: int | None, max_texts: int, *, as_base64: bool = False
) -> ChatRequest:
    if not 1 <= len(texts) <= max_texts:
        raise RequestError(400, f"The input must hold between 1 and {max_texts} texts, not {len(texts)}.")
    if "" in texts:
        raise RequestError(400, f"The input must hold no empty text; number {texts.index('')} is.")
    return ChatRequest(
        model=model,
        stream=False,
        include_usage=True,
        input_tokens=estimate_embedded_tokens(texts),
        last_user_text="",
        max_tokens=None,
        forced_tool=None,
        json_schema=None,
        vectors=WantedVectors(texts=texts, dimensions=dimensions, as_base64=as_base64),
    )


def _vectors(request: ChatRequest, answer: Answer) -> Vectors:
    assert request.vectors is not None
    return unit_vectors(request.vectors.texts, answer.dimensions)


def _base64(row: Vectors) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()
