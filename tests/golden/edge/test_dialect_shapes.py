"""Golden shapes of the other dialects, from the same answers as chat's. LLMOPS_REGEN=1 writes the files anew."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.dialects import DIALECTS
from services.edge.adapters.embeddings import read_embeddings, written_vectors
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.answer_headers import answer_headers
from services.edge.core.error_table import BY_REASON, anthropic_error_answer
from services.edge.core.errors import CallFailed
from services.edge.core.ports import MESSAGES, RESPONSES, ChatRequest
from tests.golden.edge.test_shapes import ANSWERS, CREATED_S, FOLDER, ORIGIN, STREAMS, as_dict, compare, pretty

OTHERS = [MESSAGES, RESPONSES]
CUT = CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "The stream broke off.", metadata={"k": "v"})
SIMPLE = {
    MESSAGES: b'{"model": "asked-for", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}',
    RESPONSES: b'{"model": "asked-for", "input": "Hello"}',
}


def request_of(dialect: str) -> ChatRequest:
    return DIALECTS[dialect].read(SIMPLE[dialect])


def request_cases() -> Iterator[tuple[str, str]]:
    for dialect in OTHERS:
        for path in sorted((FOLDER / dialect / "requests").glob("*.json")):
            yield dialect, path.stem


@pytest.mark.parametrize(("dialect", "name"), list(request_cases()))
def test_requests(dialect: str, name: str) -> None:
    folder = FOLDER / dialect / "requests"
    request = DIALECTS[dialect].read((folder / f"{name}.json").read_bytes())
    assert isinstance(request.call, Message)
    shown = {"call": as_dict(request.call), "echo": json.loads(msgspec.json.encode(request.echo))}
    text = json.dumps(shown, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    compare(folder / f"{name}.proto.txt", text)


@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize("name", ANSWERS)
def test_answers(dialect: str, name: str) -> None:
    source = json.loads((FOLDER / "answers" / f"{name}.json").read_text())
    response = ParseDict(source, pb.CompleteResponse())
    answer = DIALECTS[dialect].whole(response, request_of(dialect), ORIGIN.request_id, CREATED_S)
    content = {"headers": answer_headers(ORIGIN, answer.facts), "body": json.loads(answer.body)}
    compare(FOLDER / dialect / "answers" / f"{name}.http.txt", pretty(content))


@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize("name", STREAMS)
def test_streams(dialect: str, name: str) -> None:
    """The whole stream, and how it looks when it breaks off before its last event."""
    source = json.loads((FOLDER / "streams" / f"{name}.json").read_text())
    shown = {}
    for ending, events in (("whole", source), ("cut", source[:-1])):
        request = request_of(dialect)
        writer = DIALECTS[dialect].writer(request, ORIGIN.request_id, CREATED_S)
        body = b""
        headers: dict[str, str] = {}
        for event in events:
            for item in writer.frames(ParseDict(event, pb.CompleteStreamResponse())):
                if isinstance(item, AnswerFacts):
                    headers = answer_headers(ORIGIN, item)
                else:
                    body += item
        if ending == "whole":
            writer.require_finished()
            body += request.voice.done
        else:
            with pytest.raises(CallFailed):
                writer.require_finished()
            body = request.voice.failure(CUT, ORIGIN.request_id, ORIGIN.trace_id)
        shown[ending] = pretty(headers) + "\n" + body.decode()
    compare(FOLDER / dialect / "streams" / f"{name}.sse.txt", shown["whole"] + "--- cut ---\n" + shown["cut"])


def test_errors_of_messages() -> None:
    answers = {}
    for reason in sorted(BY_REASON):
        error = CallFailed("STATUS", reason, "What happened and what to do.", retry_after_s=1.5)
        answer = anthropic_error_answer(error, ORIGIN.request_id, ORIGIN.trace_id)
        answers[reason] = {
            "status": answer.http_status,
            "headers": answer.headers,
            "error": json.loads(answer.body)["error"],
        }
    compare(FOLDER / "messages" / "errors.txt", pretty(answers))
    whole = json.loads(anthropic_error_answer(CUT, ORIGIN.request_id, ORIGIN.trace_id).body)
    compare(FOLDER / "messages" / "error.txt", pretty(whole))


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(encoding: str) -> None:
    body: dict[str, Any] = {"model": "search", "input": ["one", "two"], "dimensions": 2, "user": "user-7"}
    body |= {"encoding_format": encoding, "llmops": {"feature": "f", "purpose": "query", "guard_policy": "strict"}}
    request = read_embeddings(json.dumps(body).encode())
    assert isinstance(request.call, Message)
    report = {"request_id": "r-1", "model": "openai/embed-x", "cost_nano_usd": "5", "usage": {"input_tokens": 2}}
    source = {"dimensions": 2, "vector_space": "embed-x", "report": report}
    response = ParseDict(source, pb.EmbedResponse())
    response.values_f32_le = struct.pack("<4f", 0.5, -1.0, 0.1, 2.0)
    answer = written_vectors(response, request)
    shown = {"call": as_dict(request.call), "headers": answer_headers(ORIGIN, answer.facts)}
    compare(FOLDER / "embeddings" / f"{encoding}.txt", pretty(shown | {"body": json.loads(answer.body)}))
