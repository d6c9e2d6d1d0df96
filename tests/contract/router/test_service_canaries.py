"""Canaries over the contract: who may judge, who may release, what a release does twice, what a lost file costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc

from meshkit.errors import CallError
from meshkit.identity import key_digest
from meshkit.runtime import KeySettings
from services.router.canary_settings import PROMPTS, Canaries
from services.router.main import build
from services.router.settings import DEFAULT_MODEL, RouterSettings
from tests.support.one_service import AUTH, CALLER, OPERATOR, PEPPER, running_service

SERVICE = (("authorization", "Bearer service-secret"),)
SERVICE_KEY = KeySettings("service", key_digest(PEPPER.encode(), "service-secret"), "acme", ("service",))
WITH_SERVICE = replace(AUTH, keys=(*AUTH.keys, SERVICE_KEY))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "canaries.json"


@pytest.fixture(params=["local", "grpc"])
async def stub(request: pytest.FixtureRequest, state: Path) -> AsyncIterator[Any]:
    settings = RouterSettings(canaries=Canaries(models=(DEFAULT_MODEL,), state_path=str(state)))
    async with running_service("router", build, settings, request.param, "", auth=WITH_SERVICE) as (channel, _):
        yield router_pb2_grpc.RouterServiceStub(channel)


async def run(stub: Any, text: str) -> pb.JudgeCanaryResponse:
    listed = await stub.ListCanaries(pb.ListCanariesRequest(), metadata=SERVICE)
    prompts = [pb.CanaryAnswers(prompt_id=prompt.prompt_id, answers=[text] * 4) for prompt in listed.prompts]
    request = pb.JudgeCanaryRequest(model_name=DEFAULT_MODEL, prompts=prompts)
    answer: pb.JudgeCanaryResponse = await stub.JudgeCanary(request, metadata=SERVICE)
    return answer


async def release(stub: Any, request_id: str, model: str = DEFAULT_MODEL) -> bool:
    request = pb.ReleaseModelRequest(request_id=request_id, model_name=model)
    return bool((await stub.ReleaseModel(request, metadata=OPERATOR)).was_quarantined)


async def health(stub: Any) -> dict[str, int]:
    listed = await stub.ListModels(pb.ListModelsRequest(), metadata=CALLER)
    return {model.name: model.health.state for model in listed.models}


async def test_a_quarantine_and_its_release(stub: Any) -> None:
    listed = await stub.ListCanaries(pb.ListCanariesRequest(), metadata=SERVICE)
    assert list(listed.model_names) == [DEFAULT_MODEL]
    assert [prompt.text for prompt in listed.prompts] == list(PROMPTS)
    assert (await run(stub, "as it was")).is_reference
    assert (await run(stub, "another")).suspicions == 1
    assert "in 2 runs in a row" in (await run(stub, "another")).alarm
    states = await health(stub)
    # Its route has nobody else.
    assert (states[DEFAULT_MODEL], states["default"]) == (pb.MODEL_STATE_QUARANTINED, pb.MODEL_STATE_QUARANTINED)
    assert list((await stub.ListCanaries(pb.ListCanariesRequest(), metadata=SERVICE)).model_names) == []
    plan = await stub.Plan(pb.PlanRequest(), metadata=CALLER)
    assert [(no.model_name, no.reason) for no in plan.rejected] == [(DEFAULT_MODEL, "quarantined")]

    assert await release(stub, "r-1")
    assert (await run(stub, "another")).is_reference
    # Sent again, it gets the first answer and drops no reference.
    assert await release(stub, "r-1")
    assert not (await run(stub, "another")).is_reference
    with pytest.raises(CallError) as caught:
        await release(stub, "r-1", "local/minilm")
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert not await release(stub, "r-2")


async def test_who_may(stub: Any) -> None:
    for method, request, who in (
        (stub.ListCanaries, pb.ListCanariesRequest(), CALLER),
        (stub.JudgeCanary, pb.JudgeCanaryRequest(model_name=DEFAULT_MODEL), OPERATOR),
        (stub.ReleaseModel, pb.ReleaseModelRequest(request_id="r", model_name=DEFAULT_MODEL), CALLER),
    ):
        with pytest.raises(CallError) as caught:
            await method(request, metadata=who)
        assert caught.value.status == "PERMISSION_DENIED"


async def test_names_that_are_not_there(stub: Any) -> None:
    with pytest.raises(CallError) as caught:
        await stub.JudgeCanary(pb.JudgeCanaryRequest(model_name="local/minilm"), metadata=SERVICE)
    assert caught.value.reason == "INVALID_FIELD"
    with pytest.raises(CallError) as caught:
        await release(stub, "r-9", "nobody")
    assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_a_file_that_cannot_be_written_costs_no_judgement(
    stub: Any, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    occupy(state)
    assert (await run(stub, "as it was")).is_reference
    assert "cannot be kept" in caplog.text
    assert not (await run(stub, "as it was")).is_reference


def occupy(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("canaries", "says"),
    [
        (Canaries(models=("nobody",)), "router.canaries.models names 'nobody'"),
        (Canaries(models=("local/minilm",)), "for embeddings"),
        (Canaries(models=(DEFAULT_MODEL,) * 2), "names a model twice"),
        (Canaries(answers_per_prompt=3), "answers_per_prompt from 4"),
        (Canaries(prompts=("",)), "prompts of 1 to"),
        (Canaries(p_value=0.0001), "p_value from 0.0005"),
        (Canaries(interval_s=0), "interval_s of 1"),
        (Canaries(consecutive=0), "consecutive of 1"),
        (Canaries(max_output_tokens=0), "max_output_tokens from 1"),
    ],
)
def test_wrong_settings_are_told(canaries: Canaries, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RouterSettings(canaries=canaries).validate()
