"""Golden verdicts: a request as JSON, and what the guard answers. LLMOPS_REGEN=1 writes the answers anew."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from llmops.guard.v1 import guard_pb2 as pb

from services.guard.adapters.json_schema import JsonSchemaCompiler
from services.guard.adapters.memory import InlineExecutor, MemoryObserver
from services.guard.adapters.re2 import Re2Engine
from services.guard.api import GuardApi
from services.guard.core.active_policy import PolicyBook
from services.guard.core.guard import Guard, GuardLimits
from services.guard.core.policy import SHIPPED

FOLDER = Path(__file__).parent
CASES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.json"))


@pytest.fixture(scope="module")
def api() -> GuardApi:
    policies, schemas = PolicyBook(SHIPPED, Re2Engine()), JsonSchemaCompiler(8, 10_000)
    return GuardApi(Guard(policies, schemas, InlineExecutor(), MemoryObserver(), GuardLimits()))


def test_there_are_cases_of_each_kind() -> None:
    assert {case.split("/")[0] for case in CASES} == {"input", "output", "stream"}


@pytest.mark.parametrize("case", CASES)
async def test_verdicts(case: str, api: GuardApi) -> None:
    request = json.loads((FOLDER / f"{case}.json").read_text())
    answer = await respond(api, case.split("/", maxsplit=1)[0], request)
    text = json.dumps(answer, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    golden = FOLDER / f"{case}.answer.txt"
    if os.environ.get("LLMOPS_REGEN"):
        golden.write_text(text)
    assert golden.read_text() == text


async def respond(api: GuardApi, kind: str, request: Any) -> Any:
    if kind == "input":
        return as_dict(await api.CheckInput(ParseDict(request, pb.CheckInputRequest()), None))
    if kind == "output":
        return as_dict(await api.CheckOutput(ParseDict(request, pb.CheckOutputRequest()), None))

    async def events() -> AsyncIterator[pb.CheckOutputStreamRequest]:
        for event in request:
            yield ParseDict(event, pb.CheckOutputStreamRequest())

    return [as_dict(response) async for response in api.CheckOutputStream(events(), None)]


def as_dict(message: Message) -> Any:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    verdict = found.get("verdict", {})
    # The digest has its own test; here it would make every new setting of a policy rewrite every file.
    verdict.get("verdict", verdict).pop("policy_digest", None)
    return found
