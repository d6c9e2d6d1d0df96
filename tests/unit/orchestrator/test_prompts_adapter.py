"""Prompts from the registry's snapshot: references, arms, what wins over what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2, context_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.registry.v1 import registry_pb2

from meshkit.identity import Scopes
from meshkit.templates import InvalidVariables
from meshkit.testing import CALLER, call_context
from services.orchestrator.adapters.conversation import conversation_of
from services.orchestrator.adapters.prompts import SnapshotPrompts, build_snapshot
from services.orchestrator.core.errors import NothingToSend, PromptNotFound, RegistryUnavailable
from services.orchestrator.core.model import Turn


def version(number: str, **fields: object) -> registry_pb2.PromptVersion:
    text = registry_pb2.TemplateMessage(role=chat_pb2.CHAT_ROLE_USER, template=f"v{number}: {{{{text}}}}")
    variable = registry_pb2.PromptVariable(name="text", required=True)
    return registry_pb2.PromptVersion(
        name="sum", version=number, digest=f"sha256:{number}", messages=[text], variables=[variable], **fields
    )


UPDATE = registry_pb2.WatchResponse(
    revision=1,
    prompts=[version("1.9"), version("1.10", guard_policy="strict", model="big"), version("2.0")],
    pointers=[
        registry_pb2.EnvironmentPointer(
            prompt_name="sum",
            environment="production",
            arms=[
                registry_pb2.RolloutArm(name="active", version="1.10", weight_basis_points=5000),
                registry_pb2.RolloutArm(name="canary", version="2.0", weight_basis_points=5000),
            ],
        )
    ],
)


def request(reference: str, **fields: object) -> pb.Conversation:
    prompt = pb.PromptInput(reference=reference, variables={"text": "{{x}}"})
    return pb.Conversation(prompt=prompt, **fields)


def resolved(conversation: pb.Conversation, **principal: Any) -> Turn:
    prompts = SnapshotPrompts()
    prompts.snapshot = build_snapshot(UPDATE, None)
    with call_context(replace(CALLER, user="", **principal)):
        return prompts.resolve(conversation, "q-1")


def test_a_limited_key_is_told_of_no_prompt_that_it_may_not_use() -> None:
    hint = "did you mean 'sum@production'"
    for environments in ((), ("preproduction", "production")):
        with pytest.raises(PromptNotFound, match=hint):
            resolved(request("sum@preproduction"), scopes=Scopes(environments=frozenset(environments)))
    with pytest.raises(PromptNotFound) as caught:
        resolved(request("sum@preproduction"), scopes=Scopes(environments=frozenset({"preproduction"})))
    assert str(caught.value) == "there is no prompt 'sum@preproduction'"


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("sum/v1", "sum/v1.10"),
        ("sum/v1.9", "sum/v1.9"),
        ("sum/v2", "sum/v2.0"),
        ("sha256:2.0", "sum/v2.0"),
        ("sum@production", "sum/v1.10"),
        ("sum", "sum/v1.10"),
    ],
)
def test_references(reference: str, found: str) -> None:
    turn = resolved(request(reference))
    assert turn.prompt_version == found
    assert conversation_of(turn).messages[0].content.endswith(": {{x}}")


def test_a_conversation_stays_on_its_arm_and_both_arms_are_used() -> None:
    def arm(conversation_id: str) -> str:
        labels = context_pb2.CallLabels(conversation_id=conversation_id)
        return resolved(request("sum", labels=labels)).prompt_arm

    arms = [arm(f"c-{number}") for number in range(40)]
    assert arms == [arm(f"c-{number}") for number in range(40)]
    assert set(arms) == {"active", "canary"}


@pytest.mark.parametrize(
    ("pinned", "reference", "asked", "policy"),
    [
        ("audit", "sum/v1", "lax", "audit"),
        ("", "sum/v1", "lax", "strict"),
        ("", "sum/v2", "lax", "lax"),
        ("", "sum/v2", "", "default"),
    ],
)
def test_the_key_then_the_prompt_then_the_caller_choose_the_guard_policy(
    pinned: str, reference: str, asked: str, policy: str
) -> None:
    assert resolved(request(reference, guard_policy=asked), guard_policy=pinned).guard_policy == policy


def test_the_callers_model_and_parameters_win_over_the_prompts() -> None:
    parameters = chat_pb2.GenerationParameters(temperature=0.5)
    turn = resolved(request("sum/v1", model="small", parameters=parameters))
    assert conversation_of(turn).model == "small"
    assert conversation_of(turn).parameters.temperature == 0.5
    assert conversation_of(resolved(request("sum/v1"))).model == "big"


def test_mistakes_say_what_to_do() -> None:
    with pytest.raises(PromptNotFound, match="did you mean 'sum@production'"):
        resolved(request("sum@prodution"))
    with pytest.raises(InvalidVariables):
        resolved(pb.Conversation(prompt=pb.PromptInput(reference="sum")))
    with pytest.raises(NothingToSend):
        resolved(pb.Conversation())
    with pytest.raises(RegistryUnavailable), call_context():
        SnapshotPrompts().resolve(request("sum"), "q-1")
