"""Requests for vectors: who is asked, in whose name, and what is booked however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.message import Message
from llmops.common.v1 import chat_pb2, context_pb2, usage_pb2
from llmops.guard.v1 import guard_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2

from meshkit.context import CallContext, current
from meshkit.errors import CallError, Failure
from meshkit.testing import call_context
from services.orchestrator.adapters.embeddings import RemoteEmbedder
from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.adapters.report import ContractReports
from services.orchestrator.core.embedding import EmbeddingCoordinator
from services.orchestrator.core.errors import BudgetExhausted, GuardUnavailable, InputBlocked, ModelFailed
from services.orchestrator.core.model import UNCHECKED, Candidate, Checked, Rate, Record, Reservation, Usage, UsageLine
from services.orchestrator.core.policy import Policy
from tests.support.orchestrator_ports import Script, ScriptedServices

POLICY = Policy(guard_required=True, semantic_cache=True, assumed_output_tokens=1000)
ASKED = pb.EmbedRequest(texts=["one", "two words"], model="embed", labels=context_pb2.CallLabels(feature="search"))
EMBED = Candidate("acme-ai", "embed-1")
# 12 bytes of text and 9 for each of 2 texts, 3 bytes a token, and 16 for the request.
INPUT_TOKENS = 26
LOST = Failure("UNAVAILABLE", "SERVICE_UNAVAILABLE", "the router died")


@dataclass
class RouterChannel:
    """Answers Plan and Embed, or fails Embed; notes in whose name it was called. It is old when nothing is `told`."""

    failure: Failure | None = None
    gate: asyncio.Event | None = None
    names: tuple[str, ...] = ("embed",)
    told: list[router_pb2.Attempt] | None = None
    unserved: Failure = Failure("UNIMPLEMENTED", "UNSUPPORTED", "Method not found!")
    sent: list[tuple[Message, CallContext]] = field(default_factory=list)

    def __getattr__(self, arity: str) -> Callable[..., Callable[..., Any]]:
        return lambda *_, **__: self._steps if arity == "unary_stream" else self._call

    async def _steps(self, request: Message) -> AsyncIterator[router_pb2.EmbedWithTriesResponse]:
        assert isinstance(request, router_pb2.EmbedWithTriesRequest)
        if self.told is None:
            raise CallError(self.unserved)
        yield router_pb2.EmbedWithTriesResponse(tries={"attempts": self.told})
        yield router_pb2.EmbedWithTriesResponse(answer=await self._call(request.call))

    async def _call(self, request: Message) -> object:
        self.sent.append((request, current()))
        if isinstance(request, router_pb2.PlanRequest):
            chosen = [
                router_pb2.PlannedCandidate(model_name=name, provider="acme-ai", model=f"{name}-1")
                for name in self.names
            ]
            return router_pb2.PlanResponse(candidates=chosen, model_policy="embed#1")
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise CallError(self.failure)
        usage = usage_pb2.Usage(input_tokens=5)
        attempt = router_pb2.Attempt(model_name="embed", provider="acme-ai", model="embed-1", usage=usage)
        return router_pb2.EmbedResponse(
            values_f32_le=b"\0" * 16, dimensions=2, vector_space="embed-1", usage=usage, attempts=[attempt]
        )

    @property
    def embed(self) -> router_pb2.EmbedRequest:
        [request] = [r for r, _ in self.sent if isinstance(r, router_pb2.EmbedRequest)]
        return request


class Case:
    def __init__(self, script: Script | None = None, channel: RouterChannel | None = None) -> None:
        self.script = script or Script(checked=UNCHECKED)
        self.channel = channel or RouterChannel()
        self.ports = ScriptedServices(self.script)
        self.records = MemoryRecords(10)
        self.record = Record("q-1", "t" * 32, "acme", 1)
        embedder = RemoteEmbedder(self.channel)
        self.coordinator = EmbeddingCoordinator(self.ports.services(self.records), embedder, POLICY)

    async def embed(self, request: pb.EmbedRequest = ASKED) -> pb.EmbedResponse:
        with call_context(deadline_s=asyncio.get_running_loop().time() + 30):
            try:
                return ContractReports().vectors(await self.coordinator.embed(request, self.record))
            finally:
                await self.ports.settled()


async def test_vectors_are_checked_held_for_made_and_booked() -> None:
    case = Case(Script(checked=UNCHECKED, reservation=Reservation("r-1", None, rates=(Rate("requests", 60, 59, 1.0),))))
    response = await case.embed()
    assert (len(response.values_f32_le), response.dimensions, response.vector_space) == (16, 2, "embed-1")
    assert case.script.log == ["check_input embed=False", f"reserve {INPUT_TOKENS}+0"]
    assert case.script.committed == [(UsageLine(EMBED, Usage(5), 1),)]
    assert (case.script.marked, case.script.voided, case.script.stored) == (["r-1"], [], [])
    report = response.report
    assert (report.model, report.cost_nano_usd, report.usage.input_tokens) == ("acme-ai/embed-1", 10, 5)
    assert [rate.unit for rate in report.rates] == ["requests"]
    assert {step.step for step in report.steps} == {"plan", "guard-input", "reserve", "model"}
    assert case.records.get("acme", "q-1") is case.record


async def test_a_router_of_the_release_before_makes_vectors_too() -> None:
    """Of two candidates it was asked for tries, which it does not tell: until it was replaced nobody got vectors."""
    assert (await Case(channel=RouterChannel(names=("embed", "other"))).embed()).dimensions == 2


async def test_what_no_model_can_do_is_asked_once() -> None:
    unable = Failure("UNIMPLEMENTED", "UNSUPPORTED", "no model can", {"attempts_json": "[]"})
    case = Case(channel=RouterChannel(unserved=unable))
    with pytest.raises(ModelFailed, match="no model can"):
        await case.embed()
    assert [type(request) for request, _ in case.channel.sent] == [router_pb2.PlanRequest]


async def test_vectors_that_were_granted_from_a_lease_say_so() -> None:
    """Answers did, and vectors did not."""
    case = Case(Script(checked=UNCHECKED, reservation=Reservation("r-1", None, lent=True)))
    assert list((await case.embed()).report.degraded) == ["ledger"]


async def test_plan_and_call_are_the_callers() -> None:
    """Scopes and the vendor register hold where the principal and the labels are the caller's."""
    case = Case()
    await case.embed()
    (plan, planned_as), (call, called_as) = case.channel.sent
    assert isinstance(plan, router_pb2.PlanRequest)
    assert (plan.kind, plan.model, plan.labels.feature) == ("embeddings", "embed", "search")
    assert planned_as.credential == called_as.credential == "test-key"
    assert isinstance(call, router_pb2.EmbedRequest)
    assert call.labels == plan.labels
    assert list(call.model_names) == ["embed"], "no model but those that money is held for"
    assert called_as.request_id == planned_as.request_id
    assert called_as.deadline_s == planned_as.deadline_s is not None


async def test_what_leaves_is_what_the_guard_left() -> None:
    masked = guard_pb2.MaskedMessage(message_index=1, message=chat_pb2.ChatMessage(content="[EMAIL_1]"))
    payload = guard_pb2.CheckInputResponse(masked_messages=[masked])
    checked = Checked(blocked=False, detectors=(), masked=True, can_embed=False, verdict="in", payload=payload)
    case = Case(Script(checked=checked))
    await case.embed()
    assert list(case.channel.embed.texts) == ["one", "[EMAIL_1]"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(checked=Checked(True, ("secret",), False, False, "in", None)), InputBlocked),
        (Script(checked=GuardUnavailable()), GuardUnavailable),
        (Script(checked=UNCHECKED, reservation=BudgetExhausted([], None)), BudgetExhausted),
    ],
)
async def test_what_is_refused_reaches_no_model_and_holds_nothing(script: Script, error: type[Exception]) -> None:
    case = Case(script)
    with pytest.raises(error):
        await case.embed()
    assert len(case.channel.sent) == 1, "the plan"
    assert case.script.committed == []
    assert case.script.voided == (["not-sent"] if isinstance(script.reservation, Reservation) else [])
    assert case.record.status != "OK"


@pytest.mark.parametrize(
    ("failure", "booked"),
    [
        (LOST, [Usage(INPUT_TOKENS, estimated=True)]),
        (Failure("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "refused", metadata={"attempts_json": "[]"}), []),
        (Failure("UNIMPLEMENTED", "UNSUPPORTED", "no vectors of this length"), []),
        (Failure("UNAUTHENTICATED", "CREDENTIAL_INVALID", "who are you"), []),
    ],
)
async def test_a_call_that_failed_is_booked_by_what_is_known(failure: Failure, booked: list[Usage]) -> None:
    case = Case(channel=RouterChannel(failure))
    with pytest.raises(ModelFailed):
        await case.embed()
    assert [line.usage for lines in case.script.committed for line in lines] == booked
    assert case.script.voided == ([] if booked else ["upstream-refused"])


REFUSED = router_pb2.Attempt(provider="acme-ai", model="embed-1", outcome=router_pb2.ATTEMPT_OUTCOME_REFUSED)
SLOW = router_pb2.Attempt(
    provider="acme-ai", model="embed-1", outcome=router_pb2.ATTEMPT_OUTCOME_TIMED_OUT, usage={"input_tokens": 7}
)
RUNNING = router_pb2.Attempt(provider="acme-ai", model="other-1")
OTHER_INPUT = Usage(INPUT_TOKENS, estimated=True)


@pytest.mark.parametrize(
    ("told", "booked"),
    [
        ([REFUSED, RUNNING], [UsageLine(Candidate("acme-ai", "other-1"), OTHER_INPUT, 2)]),
        ([SLOW, RUNNING], [UsageLine(EMBED, Usage(7), 1), UsageLine(Candidate("acme-ai", "other-1"), OTHER_INPUT, 2)]),
        ([REFUSED], []),
    ],
)
async def test_who_leaves_during_a_fallback_pays_for_whoever_is_at_work(
    told: list[router_pb2.Attempt], booked: list[UsageLine]
) -> None:
    """He paid for the plan's first model, whoever was at work, and also in a pause in which nobody was."""
    channel = RouterChannel(gate=asyncio.Event(), names=("embed", "other"), told=told)
    case = Case(channel=channel)
    running = asyncio.ensure_future(case.embed())
    while len(channel.sent) < 2:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await case.ports.settled()
    assert [line for lines in case.script.committed for line in lines] == booked
    assert case.script.voided == ([] if booked else ["upstream-refused"])
    assert case.record.attempts == told


async def test_a_caller_who_leaves_is_booked_by_estimate() -> None:
    case = Case(channel=RouterChannel(gate=asyncio.Event()))
    running_ = asyncio.ensure_future(case.embed())
    while len(case.channel.sent) < 2:
        await asyncio.sleep(0)
    running_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_
    await case.ports.settled()
    assert case.script.committed == [(UsageLine(EMBED, Usage(INPUT_TOKENS, estimated=True), 1),)]
    assert case.record.status == "CANCELLED"
