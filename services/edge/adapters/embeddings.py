"""OpenAI's embeddings: from the wire to the orchestrator's request, and vectors back."""

from __future__ import annotations

import base64
import sys
from array import array
from typing import Any, Literal

import msgspec
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2
from msgspec import Struct

from services.edge.adapters.chat_requests import DEFAULT_MODELS
from services.edge.adapters.decoding import Wire
from services.edge.adapters.reports import facts_of, llmops_object, model_of
from services.edge.adapters.wire import Int32
from services.edge.core.embeddings_parameters import PASSED, REFUSED
from services.edge.core.errors import InvalidRequest
from services.edge.core.ports import ChatAnswer, EmbeddingsRequest

_encode = msgspec.json.Encoder().encode
_BYTES_PER_NUMBER = 4
_PURPOSES = {
    None: router_pb2.EMBEDDING_PURPOSE_UNSPECIFIED,
    "document": router_pb2.EMBEDDING_PURPOSE_DOCUMENT,
    "query": router_pb2.EMBEDDING_PURPOSE_QUERY,
}


class EmbeddingsExtension(Struct, forbid_unknown_fields=True, gc=False):
    """The object `llmops` of a request for vectors. There is no prompt and no cache."""

    guard_policy: str | None = None
    feature: str | None = None
    conversation_id: str | None = None
    data_class: str | None = None
    purpose: Literal["document", "query"] | None = None


class EmbeddingsBody(Struct, forbid_unknown_fields=True, gc=False):
    """The parameters that are mapped: `core.embeddings_parameters.MAPPED`."""

    input: str | list[Any]
    model: str | None = None
    dimensions: Int32 | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
    llmops: EmbeddingsExtension | None = None


_BODY = Wire(EmbeddingsBody, REFUSED, PASSED)


def read_embeddings(body: bytes) -> EmbeddingsRequest:
    """Decodes and maps a body. Raises InvalidRequest."""
    request, _ = _BODY.decode(body)
    call = pb.EmbedRequest(texts=_texts(request.input), dimensions=request.dimensions or 0)
    if request.model and request.model not in DEFAULT_MODELS:
        call.model = request.model
    if request.user:
        call.labels.end_user = request.user
    extension = request.llmops
    if extension is not None:
        call.guard_policy = extension.guard_policy or ""
        call.purpose = _PURPOSES[extension.purpose]
        for name in ("feature", "conversation_id", "data_class"):
            if value := getattr(extension, name):
                setattr(call.labels, name, value)
    return EmbeddingsRequest(request.model or "", request.encoding_format == "base64", call)


def _texts(wanted: str | list[Any]) -> list[str]:
    """Texts alone: numbers of a vocabulary are nothing that a guard could read."""
    if isinstance(wanted, str):
        return [wanted]
    for index, text in enumerate(wanted):
        if isinstance(text, int | list):
            raise InvalidRequest("Token arrays are not accepted: no guard can read them. Send text.", param="input")
        if not isinstance(text, str):
            raise InvalidRequest("A text must be a string.", param=f"input[{index}]")
    if not wanted:
        raise InvalidRequest("input holds no text.", param="input")
    return wanted


def written_vectors(response: pb.EmbedResponse, request: EmbeddingsRequest) -> ChatAnswer:
    """OpenAI's list of vectors."""
    report = response.report
    step = _BYTES_PER_NUMBER * response.dimensions
    values = response.values_f32_le
    write = _base64 if request.as_base64 else _numbers
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": write(values[at : at + step])}
            for index, at in enumerate(range(0, len(values), step or 1))
        ],
        "model": model_of(report.model, request.model),
        "usage": {"prompt_tokens": report.usage.input_tokens, "total_tokens": report.usage.input_tokens},
        "llmops": llmops_object(report, 0, []) | {"vector_space": response.vector_space or None},
    }
    return ChatAnswer(facts_of(report), _encode(answer))


def _base64(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


def _numbers(packed: bytes) -> list[float]:
    numbers = array("f")
    numbers.frombytes(packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
