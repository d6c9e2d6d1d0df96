"""The servicer: messages of the contract in, messages of the contract out."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc

from meshkit.context import current, remaining_s
from meshkit.errors import InvalidField, PermissionDenied
from services.router.core import chat
from services.router.core.canaries import Canaries, Judgement
from services.router.core.catalogue import CHAT, ModelSpec, RouteSpec
from services.router.core.deployments import ModelState
from services.router.core.embeddings import Embedded, Embeddings
from services.router.core.errors import ModelNotFound, RouterError
from services.router.core.facts import Needs, Origin
from services.router.core.plan import Plan, Rejected
from services.router.core.ports import EmbedTexts
from services.router.core.router import Answer, ListedModel, Router, StreamEvent
from services.router.core.tries import Tried
from services.router.core.under_way import UnderWay

_MAX_PAGE_SIZE = 1000
_NANOSECONDS = 10**9
_DEFAULT_PAGE_SIZE = 100
_STATES: dict[ModelState, Any] = {state: pb.ModelState.Value(f"MODEL_STATE_{state.value}") for state in ModelState}


@dataclass(frozen=True, slots=True)
class Budgets:
    """Time for a call whose caller named no deadline, and what is kept back to report a failure within it."""

    unary_s: float
    stream_s: float
    margin_s: float


class CanaryDesk(Protocol):
    """Where runs of canaries are judged; an adapter, because it keeps files and threads."""

    canaries: Canaries

    async def judge(self, model: str, answers: Mapping[str, Sequence[str]]) -> Judgement:
        """One run."""

    async def release(self, request_id: str, model: str) -> bool:
        """Whether there was a quarantine to end."""


class Requests(Protocol):
    """What is asked of a model, in the core's terms; an adapter, because the parts of a conversation fill a file."""

    def model_call(self, call: pb.ModelCall, request_id: str) -> chat.ModelCall:
        """Of Complete and CompleteStream. Raises InvalidField."""

    def texts(self, request: pb.EmbedRequest, request_id: str) -> EmbedTexts:
        """Of Embed."""

    def origin(self, request: pb.PlanRequest, request_id: str) -> Origin:
        """Of Plan: who would call. Raises InvalidField."""


class Answers(Protocol):
    """What came of it, in the contract's terms; an adapter for the same reason."""

    def whole(self, answer: Answer) -> pb.CompleteResponse:
        """Of Complete."""

    def step(self, step: Tried | Answer) -> pb.CompleteWithTriesResponse:
        """A step of CompleteWithTries."""

    def event(self, event: StreamEvent) -> pb.CompleteStreamResponse:
        """A piece of CompleteStream."""

    def vectors(self, embedded: Embedded) -> pb.EmbedResponse:
        """Of Embed."""

    def vectors_step(self, step: Tried | Embedded) -> pb.EmbedWithTriesResponse:
        """A step of EmbedWithTries."""


class RouterApi(router_pb2_grpc.RouterServiceServicer):
    """llmops.router.v1.RouterService."""

    def __init__(
        self,
        router: Router,
        embeddings: Embeddings,
        budgets: Budgets,
        canaries: CanaryDesk,
        requests: Requests,
        answers: Answers,
    ) -> None:
        self._canaries = canaries
        self._requests = requests
        self._answers = answers
        self._under_way = UnderWay()
        self.take_over(router, embeddings, budgets)

    def take_over(self, router: Router, embeddings: Embeddings, budgets: Budgets) -> UnderWay:
        """New calls go here from now on. Returns those that go on with what was before."""
        before = self._under_way
        self._router, self._embeddings, self._budgets = router, embeddings, budgets
        self._under_way = UnderWay()
        return before

    async def Complete(self, request: pb.CompleteRequest, context: object) -> pb.CompleteResponse:
        """One answer."""
        request_id = request.request_id or current().request_id
        self._require_scope(request.call.model, self._router.route)
        call, budget_s = self._requests.model_call(request.call, request_id), self._time_s(self._budgets.unary_s)
        with self._under_way:
            answer = await self._router.complete(call, request_id, budget_s)
        return self._answers.whole(answer)

    async def CompleteWithTries(
        self, request: pb.CompleteWithTriesRequest, context: object
    ) -> AsyncIterator[pb.CompleteWithTriesResponse]:
        """One answer, and the tries on the way to it."""
        request_id = request.request_id or current().request_id
        self._require_scope(request.call.model, self._router.route)
        call, budget_s = self._requests.model_call(request.call, request_id), self._time_s(self._budgets.unary_s)
        with self._under_way:
            async with aclosing(self._router.complete_with_tries(call, request_id, budget_s)) as steps:
                async for step in steps:
                    yield self._answers.step(step)

    async def CompleteStream(
        self, request: pb.CompleteStreamRequest, context: object
    ) -> AsyncIterator[pb.CompleteStreamResponse]:
        """The same as a stream."""
        request_id = request.request_id or current().request_id
        self._require_scope(request.call.model, self._router.route)
        call, budget_s = self._requests.model_call(request.call, request_id), self._time_s(self._budgets.stream_s)
        events = self._router.stream(call, request_id, budget_s)
        with self._under_way:
            async with aclosing(events):
                async for event in events:
                    yield self._answers.event(event)

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        """Vectors of texts."""
        request_id = request.request_id or current().request_id
        self._require_scope(request.model, self._embeddings.route)
        wanted = self._requests.texts(request, request_id)
        with self._under_way:
            embedded = await self._embeddings.embed(wanted, request_id, self._time_s(self._budgets.unary_s))
        return self._answers.vectors(embedded)

    async def EmbedWithTries(
        self, request: pb.EmbedWithTriesRequest, context: object
    ) -> AsyncIterator[pb.EmbedWithTriesResponse]:
        """Vectors of texts, and the tries on the way to them."""
        request_id = request.call.request_id or current().request_id
        self._require_scope(request.call.model, self._embeddings.route)
        wanted, budget_s = self._requests.texts(request.call, request_id), self._time_s(self._budgets.unary_s)
        with self._under_way:
            async with aclosing(self._embeddings.embed_with_tries(wanted, request_id, budget_s)) as steps:
                async for step in steps:
                    yield self._answers.vectors_step(step)

    async def Plan(self, request: pb.PlanRequest, context: object) -> pb.PlanResponse:
        """What Complete, or Embed, would do."""
        kind = request.kind or CHAT
        self._require_scope(request.model, self._router.route if kind == CHAT else self._embeddings.route)
        needs = Needs(request.uses_tools, request.uses_images, request.structured_output, request.input_tokens)
        request_id = request.planned_request_id or current().request_id
        origin = self._requests.origin(request, request_id)
        plan, policy = self._router.plan(request.model, needs, origin, kind)
        timeouts_s = self._router.step_timeouts_s(plan, self._budgets.unary_s)
        response = _plan_response(plan, policy, timeouts_s, self._budgets.unary_s)
        error = self._router.refusal(plan)
        if error is not None:
            _fill_refusal(response.refusal, error)
        return response

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        """Names in order, a page at a time."""
        size = min(request.page_size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)
        after = _decode_token(request.page_token)
        models = [model for model in self._router.models() if model.route.name > after and _in_scope(model.route)]
        token = _encode_token(models[size - 1].route.name) if len(models) > size else ""
        alarms = self._canaries.canaries.quarantined
        return pb.ListModelsResponse(models=[_listed(model, alarms) for model in models[:size]], next_page_token=token)

    async def ListCanaries(self, request: pb.ListCanariesRequest, context: object) -> pb.ListCanariesResponse:
        """What is to be sent."""
        plan, shut = self._canaries.canaries.plan, self._canaries.canaries.quarantined
        return pb.ListCanariesResponse(
            model_names=[model for model in plan.models if model not in shut],
            prompts=[pb.CanaryPrompt(prompt_id=prompt.id, text=prompt.text) for prompt in plan.prompts],
            answers_per_prompt=plan.answers_per_prompt,
            max_output_tokens=plan.max_output_tokens,
            interval=timedelta(seconds=plan.interval_s),
        )

    async def JudgeCanary(self, request: pb.JudgeCanaryRequest, context: object) -> pb.JudgeCanaryResponse:
        """What the answers say."""
        answers = {each.prompt_id: list(each.answers) for each in request.prompts}
        said = await self._canaries.judge(request.model_name, answers)
        return pb.JudgeCanaryResponse(
            p_value=said.p_value, is_reference=said.is_reference, suspicions=said.suspicions, alarm=said.alarm
        )

    async def ReleaseModel(self, request: pb.ReleaseModelRequest, context: object) -> pb.ReleaseModelResponse:
        """Calls again."""
        was = await self._canaries.release(request.request_id, request.model_name)
        return pb.ReleaseModelResponse(was_quarantined=was)

    def _require_scope(self, name: str, route_of: Callable[[str], RouteSpec]) -> None:
        """Raises PermissionDenied for what the key may not use; what is not there is refused alike."""
        scopes = current().principal.scopes
        if not (scopes.models or scopes.routes):
            return
        with suppress(ModelNotFound):
            if _in_scope(route_of(name)):
                return
        raise PermissionDenied(f"this key may not use {name or 'the default route'!r}; ListModels names what it may")

    def _time_s(self, default_s: float) -> float:
        return max(0.0, remaining_s(default_s) - self._budgets.margin_s)


def _plan_response(plan: Plan, policy: str, timeouts_s: Sequence[float], budget_s: float) -> pb.PlanResponse:
    """Candidates first, then those for one cause: whoever holds money by this answer may be sent to each of them.

    Without a candidate there is nobody who could be the cause.
    """
    route = plan.route
    response = pb.PlanResponse(
        candidates=[_planned(*each) for each in zip(plan.candidates, timeouts_s, plan.reasons, strict=True)],
        rejected=[_rejected(no) for no in plan.rejected],
        model_policy=policy,
        strategy=route.strategy,
        max_billed_calls=plan.max_billed_calls(),
        apology=route.apology,
        allow_stale=route.allow_stale,
        wants_embedding=route.judges_complexity(),
    )
    for spec, reason in plan.for_a_cause():
        if plan.candidates:
            response.candidates.append(_planned(spec, min(spec.timeout_s, budget_s), reason))
        else:
            response.rejected.append(pb.RejectedCandidate(model_name=spec.name, reason="no-cause", detail=reason))
    shadow, confidence = plan.shadow, plan.cascade_min_confidence()
    if shadow is not None:
        response.shadow.CopyFrom(pb.PlannedShadow(model_name=shadow.name, provider=shadow.provider, model=shadow.model))
    if plan.shadow_refused is not None and plan.shadow_refused.spec not in route.everyone():
        response.rejected.append(_rejected(plan.shadow_refused))
    if confidence is not None:
        response.cascade.min_confidence = confidence
    return response


def _fill_refusal(target: pb.PlanRefusal, error: RouterError) -> None:
    target.status, target.reason, target.message = error.status, error.reason, str(error)
    target.feature = error.metadata.get("feature", "")
    if error.retry_after_s is not None:
        target.retry_after.FromNanoseconds(round(error.retry_after_s * _NANOSECONDS))


def _planned(spec: ModelSpec, timeout_s: float, reason: str) -> pb.PlannedCandidate:
    return pb.PlannedCandidate(
        model_name=spec.name,
        provider=spec.provider,
        model=spec.model,
        timeout=timedelta(seconds=timeout_s),
        max_output_tokens=spec.max_output_tokens,
        reason=reason,
        drain_on_cancel=spec.drain_on_cancel,
    )


def _rejected(no: Rejected) -> pb.RejectedCandidate:
    return pb.RejectedCandidate(
        model_name=no.spec.name,
        reason=no.reason,
        detail=no.detail,
        retry_after=None if no.retry_after_s is None else timedelta(seconds=no.retry_after_s),
        rate_limited=no.shut is not None and no.shut.rate_limited,
    )


def _in_scope(route: RouteSpec) -> bool:
    candidates = (spec.name for spec in route.everyone())
    return current().principal.scopes.allow_route(route.name, candidates, is_model=route.is_model)


def _encode_token(name: str) -> str:
    """A page token is the last name of its page."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:  # of base64, of UTF-8, and of characters beyond ASCII
        raise InvalidField("page_token", "must be the token of the last answer") from None


def _listed(model: ListedModel, alarms: Mapping[str, str]) -> pb.Model:
    """A route has the smallest window of its candidates, and takes tools when one of them does."""
    route = model.route
    windows = [spec.context_tokens for spec in route.candidates]
    return pb.Model(
        name=route.name,
        provider=route.candidates[0].provider if route.is_model else "route",
        context_tokens=0 if 0 in windows else min(windows),
        supports_tools=any(spec.supports_tools for spec in route.candidates),
        cooling_down=model.cooling_down,
        kind=route.kind,
        health=_health(model, alarms),
    )


def _health(model: ListedModel, alarms: Mapping[str, str]) -> pb.ModelHealth:
    health, specs = model.health, model.route.candidates
    first_token_s, shut_for_s = health.first_token_s, health.shut_for_s
    message = pb.ModelHealth(
        state=_STATES[health.state],
        shut_for=None if shut_for_s is None else timedelta(seconds=shut_for_s),
        calls_under_way=health.calls_under_way,
        first_token=None if first_token_s is None else timedelta(seconds=first_token_s),
        failure_rate=health.failure_rate,
    )
    # A route is as well as the best of its candidates.
    if all(spec.name in alarms for spec in specs):
        message.state, message.canary = pb.MODEL_STATE_QUARANTINED, alarms[specs[0].name]
    return message
