"""Prompts by reference: rendered, checked, and sticky."""

from __future__ import annotations

import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.callers import MeshCallers
from tests.support.golden_files import check_golden

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("accounts")]


def greeting(reference: str, conversation_id: str = "", **variables: str) -> pb.Conversation:
    conversation = pb.Conversation(model="alpha/echo", prompt=pb.PromptInput(reference=reference, variables=variables))
    conversation.labels.conversation_id = conversation_id
    conversation.cache.bypass = True
    return conversation


async def test_references_name_versions_environments_and_lines(callers: MeshCallers) -> None:
    references = ["greeting", "greeting@production", "greeting/v1", "greeting/v1.0", "greeting/v1.1"]
    texts = {name: (await callers.complete(greeting(name, name="Ada", language="Latin"))).text for name in references}
    assert texts == {
        "greeting": "Say hello to Ada in Latin.",
        "greeting@production": "Say hello to Ada in Latin.",
        "greeting/v1": "Say a warm hello to Ada in Latin.",
        "greeting/v1.0": "Say hello to Ada in Latin.",
        "greeting/v1.1": "Say a warm hello to Ada in Latin.",
    }


async def test_a_prompt_with_variables(callers: MeshCallers) -> None:
    found = await callers.complete(greeting("greeting@production", name="Ada"))
    over_http = await callers.chat(
        "alpha/echo", "", llmops={"prompt": "greeting", "variables": {"name": "Ada"}, "cache": {"bypass": True}}
    )
    assert found.text == over_http.text == "Say hello to Ada in English."
    check_golden("prompt", {"grpc": found.compared(), "http": over_http.compared()})


async def test_wrong_variables_and_unknown_prompts_say_what_to_do(callers: MeshCallers) -> None:
    outcomes = {
        "missing": await callers.complete(greeting("greeting")),
        "unknown": await callers.complete(greeting("greeting", name="Ada", langauge="Latin")),
        "too-long": await callers.complete(greeting("greeting", name="A" * 41)),
        "no-such-prompt": await callers.complete(greeting("greting@production", name="Ada")),
        "no-such-environment": await callers.complete(greeting("greeting@prod", name="Ada")),
        "no-such-version": await callers.complete(greeting("greeting/v9", name="Ada")),
        "http-missing": await callers.chat("alpha/echo", "", llmops={"prompt": "greeting"}),
        "http-unknown": await callers.chat("alpha/echo", "", llmops={"prompt": "greting@production"}),
    }
    assert [outcomes[name].reason for name in ("missing", "unknown", "too-long")] == ["PROMPT_VARIABLES"] * 3
    assert outcomes["no-such-prompt"].error is not None
    assert "greeting@production" in outcomes["no-such-prompt"].error.message
    check_golden("prompt-refused", {name: outcome.compared() for name, outcome in outcomes.items()})


async def test_a_conversation_stays_on_its_arm(callers: MeshCallers) -> None:
    arms: dict[str, str] = {}
    for number in range(16):
        name = f"conversation-{number}"
        first = await callers.complete(greeting("greeting@staging", name, name="Ada"))
        again = await callers.complete(greeting("greeting@staging", name, name="Ada"))
        assert first.report["prompt_arm"] == again.report["prompt_arm"]
        assert ("warm" in first.text) == (first.report["prompt_arm"] == "canary")
        arms[name] = first.report["prompt_arm"]
    assert set(arms.values()) == {"active", "canary"}
    check_golden("prompt-arms", arms)
