"""Plan as a client sees it, and the vendor register in front of real providers; both transports."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llmops.common.v1 import context_pb2
from llmops.router.v1 import router_pb2 as pb

from meshkit.errors import CallError
from services.router.provider_settings import ModelConfig
from services.router.route_settings import Candidate, DataClass, Hedge, Route, Shadow, When
from services.router.settings import DEFAULT_MODEL, RouterSettings
from tests.contract.router.served import ANSWER, call, settings
from tests.support.router_service import CALLER

if TYPE_CHECKING:
    from tests.contract.router.conftest import StartUpstream


def routed(url: str) -> RouterSettings:
    """A route with a condition, a ladder, a shadow and a provider that may not see health data."""
    plain = settings(url)
    vendor = {"vendor": replace(plain.providers["vendor"], allow_private_address=True)}
    models = {**plain.models, "wide": ModelConfig(provider="vendor", model="wide-1", context_tokens=9000)}
    route = Route(
        ("big", Candidate(DEFAULT_MODEL, when=When(languages=("de",)))),
        context_fallbacks=("wide",),
        shadow=Shadow("wide", 1.0),
        hedge=Hedge(),
        apology="Sorry.",
        allow_stale=True,
        max_retries=0,
    )
    classes = {"health": DataClass(dpa=True), "public": DataClass()}
    return replace(
        plain, providers={**plain.providers, **vendor}, models=models, routes={"default": route}, data_classes=classes
    )


async def test_a_plan_says_all_that_decides(start: Any) -> None:
    stub = await start(routed("http://127.0.0.1:9/v1"))
    plan = await stub.Plan(pb.PlanRequest(language="fr"), metadata=CALLER)
    assert [(c.model_name, c.reason) for c in plan.candidates] == [
        ("big", "ordered: 1 of 2 in the route's list"),
        ("wide", "only when a conversation is too long for the window"),
    ]
    assert [(no.model_name, no.reason, no.detail) for no in plan.rejected] == [
        (DEFAULT_MODEL, "other-language", "It is for language de.")
    ]
    assert (plan.strategy, plan.max_billed_calls, plan.apology, plan.allow_stale) == ("ordered", 2, "Sorry.", True)
    assert (plan.shadow.model_name, plan.HasField("cascade")) == ("wide", False)
    open_plan = await stub.Plan(pb.PlanRequest(), metadata=CALLER)
    assert [c.model_name for c in open_plan.candidates] == ["big", DEFAULT_MODEL, "wide"]
    labels = context_pb2.CallLabels(data_class="health")
    health = await stub.Plan(pb.PlanRequest(labels=labels), metadata=CALLER)
    assert [c.model_name for c in health.candidates] == [DEFAULT_MODEL]
    assert {no.reason for no in health.rejected} == {"vendor-without-dpa"}
    assert not health.HasField("shadow")
    assert health.model_policy != plan.model_policy == open_plan.model_policy


async def test_data_goes_to_no_provider_that_agreed_to_nothing(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(json.dumps(ANSWER).encode()))
    stub = await start(routed(upstream.url))
    asked = call(labels=context_pb2.CallLabels(data_class="health"), language="fr")
    with pytest.raises(CallError) as caught:
        await stub.Complete(pb.CompleteRequest(call=asked), metadata=CALLER)
    assert (caught.value.reason, caught.value.metadata["feature"]) == ("UNSUPPORTED", "vendor-register")
    asked.language = "de"
    answer = await stub.Complete(pb.CompleteRequest(call=asked), metadata=CALLER)
    assert [attempt.provider for attempt in answer.attempts] == ["local"]
    asked.labels.data_class = "helth"
    with pytest.raises(CallError, match="known are health, public") as caught:
        await stub.Complete(pb.CompleteRequest(call=asked), metadata=CALLER)
    assert caught.value.reason == "INVALID_FIELD"
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("fields", "request_", "said"),
    [
        ({"context_tokens": 10}, {"input_tokens": 2000}, ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG", "")),
        ({"supports_tools": False}, {"uses_tools": True}, ("UNIMPLEMENTED", "UNSUPPORTED", "tools")),
        ({}, {"labels": {"data_class": "health"}}, ("UNIMPLEMENTED", "UNSUPPORTED", "vendor-register")),
    ],
)
async def test_a_plan_without_candidates_says_what_the_call_would_end_with(
    start: Any, fields: dict[str, Any], request_: dict[str, Any], said: tuple[str, str, str]
) -> None:
    plain = routed("http://127.0.0.1:9/v1")
    models = {**plain.models, "alone": ModelConfig(provider="vendor", model="alone-1", **fields)}
    stub = await start(replace(plain, models=models))
    plan = await stub.Plan(pb.PlanRequest(model="alone", **request_), metadata=CALLER)
    refusal = plan.refusal
    assert (list(plan.candidates), refusal.status, refusal.reason, refusal.feature) == ([], *said)
    asked = call("word " * 4000, model="alone")
    asked.labels.MergeFrom(pb.PlanRequest(**request_).labels)
    if "uses_tools" in request_:
        asked.tools.add(name="f", parameters_json_schema='{"type":"object"}')
    with pytest.raises(CallError) as caught:
        await stub.Complete(pb.CompleteRequest(call=asked), metadata=CALLER)
    assert (caught.value.status, caught.value.reason) == said[:2], "the call itself says the same"
    assert not (await stub.Plan(pb.PlanRequest(model="alone"), metadata=CALLER)).HasField("refusal")


async def test_who_is_named_for_a_cause_is_no_candidate_where_there_is_none(start: Any) -> None:
    """Money was held and a call made, which ended with "no longer configured"; nothing stood in for its answer."""
    plain = routed("http://127.0.0.1:9/v1")
    models = {**plain.models, "deaf": ModelConfig(provider="vendor", model="deaf-1", supports_tools=False)}
    only = Route(("deaf",), context_fallbacks=("wide",), max_retries=0)
    stub = await start(replace(plain, models=models, routes={**plain.routes, "only": only}))
    plan = await stub.Plan(pb.PlanRequest(model="only", uses_tools=True), metadata=CALLER)
    assert (list(plan.candidates), plan.refusal.reason) == ([], "UNSUPPORTED")
    assert {no.model_name: no.reason for no in plan.rejected} == {"deaf": "no-tools", "wide": "no-cause"}


async def test_those_named_for_a_cause_are_called_as_they_were_planned(
    start: Any, start_upstream: StartUpstream
) -> None:
    """They were planned, money was held for them, and the call found no candidate and asked nobody."""

    async def answer(received: Any) -> None:
        if received.json()["model"] == "wide-1":
            await received.answer(json.dumps(ANSWER).encode())
        else:
            await received.answer(b"{}", status=429, headers="retry-after: 60\r\n")

    upstream = await start_upstream(answer)
    plain = routed(upstream.url)
    models = {**plain.models, "wide": replace(plain.models["wide"], quota="its-own")}
    limited = Route(("big",), rate_limit_fallbacks=("wide",), max_retries=0)
    stub = await start(replace(plain, models=models, routes={**plain.routes, "limited": limited}))
    for said in ("learns of the limit", "knows of it"):
        plan = await stub.Plan(pb.PlanRequest(model="limited"), metadata=CALLER)
        asked = call(model="limited", model_names=[c.model_name for c in plan.candidates])
        answered = await stub.Complete(pb.CompleteRequest(call=asked), metadata=CALLER)
        assert answered.attempts[-1].model_name == "wide", said
    assert [c.model_name for c in plan.candidates] == ["wide"]
