"""Golden shapes: what goes to the orchestrator, what comes back over HTTP. LLMOPS_REGEN=1 writes the files anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.chat_answers import ChunkWriter, whole_answer
from services.edge.adapters.chat_requests import read_chat
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.answer_headers import answer_headers
from services.edge.core.error_table import BY_REASON, error_answer
from services.edge.core.errors import CallFailed
from services.edge.core.origin import Origin
from services.edge.core.ports import ChatRequest
from services.edge.core.sse import DONE

FOLDER = Path(__file__).parent
ORIGIN = Origin("01900000-0000-7000-8000-000000000001", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
CREATED_S = 1_700_000_000
REQUESTS = sorted(path.stem for path in (FOLDER / "requests").glob("*.json"))
ANSWERS = sorted(path.stem for path in (FOLDER / "answers").glob("*.json"))
STREAMS = sorted(path.stem for path in (FOLDER / "streams").glob("*.json"))


def compare(path: Path, text: str) -> None:
    if os.environ.get("LLMOPS_REGEN"):
        path.write_text(text)
    assert path.read_text() == text


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def as_dict(message: Message) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


def test_there_are_cases() -> None:
    assert REQUESTS
    assert ANSWERS
    assert STREAMS


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    chat = read_chat((FOLDER / "requests" / f"{name}.json").read_bytes())
    assert isinstance(chat.call, Message)
    compare(
        FOLDER / "requests" / f"{name}.proto.txt",
        json.dumps(as_dict(chat.call), indent=2, ensure_ascii=False, sort_keys=True) + "\n",
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    source = json.loads((FOLDER / "answers" / f"{name}.json").read_text())
    response = ParseDict(source, pb.CompleteResponse())
    request = ChatRequest("asked-for", stream=False, include_usage=False, call=None)
    answer = whole_answer(response, request, ORIGIN.request_id, CREATED_S)
    content = {"headers": answer_headers(ORIGIN, answer.facts), "body": json.loads(answer.body)}
    compare(FOLDER / "answers" / f"{name}.http.txt", pretty(content))


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, *, include_usage: bool) -> None:
    source = json.loads((FOLDER / "streams" / f"{name}.json").read_text())
    request = ChatRequest("asked-for", stream=True, include_usage=include_usage, call=None)
    writer = ChunkWriter(request, ORIGIN.request_id, CREATED_S)
    headers: dict[str, str] = {}
    body = b""
    for event in source:
        for item in writer.frames(ParseDict(event, pb.CompleteStreamResponse())):
            if isinstance(item, AnswerFacts):
                headers = answer_headers(ORIGIN, item)
            else:
                body += item
    writer.require_finished()
    suffix = ".usage" if include_usage else ""
    compare(FOLDER / "streams" / f"{name}{suffix}.sse.txt", pretty(headers) + "\n" + (body + DONE).decode())


def test_errors() -> None:
    answers = {}
    for reason in sorted(BY_REASON):
        error = CallFailed("STATUS", reason, "What happened and what to do.", retry_after_s=1.5)
        answer = error_answer(error, ORIGIN.request_id, ORIGIN.trace_id)
        answers[reason] = {
            "status": answer.http_status,
            "headers": answer.headers,
            "error": json.loads(answer.body)["error"],
        }
    compare(FOLDER / "errors.txt", pretty(answers))
