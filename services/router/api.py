"""The servicer: messages of the contract in, messages of the contract out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import numpy as np
from llmops.common.v1 import chat_pb2, context_pb2, usage_pb2
from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc

from meshkit.context import current, remaining_s
from meshkit.errors import InvalidField, PermissionDenied
from services.router.core import chat
from services.router.core.attempts import Attempt, Purpose
from services.router.core.canaries import Canaries, Judgement
from services.router.core.catalogue import CHAT, ModelSpec, RouteSpec
from services.router.core.deployments import ModelState
from services.router.core.embeddings import Embedded, Embeddings
from services.router.core.errors import ModelNotFound
from services.router.core.facts import Needs, Origin
from services.router.core.failure import Outcome
from services.router.core.plan import Plan, Rejected
from services.router.core.ports import EmbedTexts
from services.router.core.router import Answer, Continued, Finished, ListedModel, Router, Started, StreamEvent
from services.router.core.under_way import UnderWay

_MAX_PAGE_SIZE = 1000
_DEFAULT_PAGE_SIZE = 100


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


class RouterApi(router_pb2_grpc.RouterServiceServicer):
    """llmops.router.v1.RouterService."""

    def __init__(self, router: Router, embeddings: Embeddings, budgets: Budgets, canaries: CanaryDesk) -> None:
        self._canaries = canaries
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
        call, budget_s = _model_call(request.call, request_id), self._time_s(self._budgets.unary_s)
        with self._under_way:
            answer = await self._router.complete(call, request_id, budget_s)
        return _complete_response(answer)

    async def CompleteStream(
        self, request: pb.CompleteStreamRequest, context: object
    ) -> AsyncIterator[pb.CompleteStreamResponse]:
        """The same as a stream."""
        request_id = request.request_id or current().request_id
        self._require_scope(request.call.model, self._router.route)
        call, budget_s = _model_call(request.call, request_id), self._time_s(self._budgets.stream_s)
        events = self._router.stream(call, request_id, budget_s)
        with self._under_way:
            async with aclosing(events):
                async for event in events:
                    yield _stream_response(event)

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        """Vectors of texts."""
        request_id = request.request_id or current().request_id
        self._require_scope(request.model, self._embeddings.route)
        wanted = EmbedTexts(
            request.model,
            tuple(request.texts),
            request.dimensions,
            _TEXT_PURPOSES.get(request.purpose, ""),
            tuple(request.model_names),
            _owner(request.labels, request_id),
        )
        with self._under_way:
            embedded = await self._embeddings.embed(wanted, request_id, self._time_s(self._budgets.unary_s))
        return _embed_response(embedded)

    async def Plan(self, request: pb.PlanRequest, context: object) -> pb.PlanResponse:
        """What Complete, or Embed, would do."""
        kind = request.kind or CHAT
        self._require_scope(request.model, self._router.route if kind == CHAT else self._embeddings.route)
        needs = Needs(request.uses_tools, request.uses_images, request.structured_output, request.input_tokens)
        request_id = request.planned_request_id or current().request_id
        origin = _origin(request, request_id)
        plan, policy = self._router.plan(request.model, needs, origin, kind)
        timeouts_s = self._router.step_timeouts_s(plan, self._budgets.unary_s)
        return _plan_response(plan, policy, timeouts_s, self._budgets.unary_s)

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
    """Candidates first, then those for one cause: whoever holds money by this answer may be sent to each of them."""
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
        response.candidates.append(_planned(spec, min(spec.timeout_s, budget_s), reason))
    shadow, confidence = plan.shadow, plan.cascade_min_confidence()
    if shadow is not None:
        response.shadow.CopyFrom(pb.PlannedShadow(model_name=shadow.name, provider=shadow.provider, model=shadow.model))
    if plan.shadow_refused is not None and plan.shadow_refused.spec not in route.everyone():
        response.rejected.append(_rejected(plan.shadow_refused))
    if confidence is not None:
        response.cascade.min_confidence = confidence
    return response


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


def _owner(labels: context_pb2.CallLabels, request_id: str) -> Origin:
    """Of a call without a conversation. The organisation is the credential's; the rest is what the caller says."""
    principal = current().principal
    user = labels.end_user or principal.user
    return Origin(
        principal.organisation, labels.feature, labels.conversation_id, user, labels.data_class, "", request_id
    )


def _origin(asked: pb.PlanRequest | pb.ModelCall, request_id: str) -> Origin:
    vector = None
    if asked.embedding.values_f32_le:
        try:
            vector = np.frombuffer(asked.embedding.values_f32_le, "<f4")
        except ValueError:
            raise InvalidField("embedding.values_f32_le", "must be whole numbers of 4 bytes") from None
    owner = _owner(asked.labels, request_id)
    return replace(owner, language=asked.language, encoder=asked.embedding.model, embedding=vector)


def _in_scope(route: RouteSpec) -> bool:
    candidates = (spec.name for spec in route.everyone())
    return current().principal.scopes.allow_route(route.name, candidates, is_model=route.is_model)


def _encode_token(name: str) -> str:
    """A page token is the last name of its page."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise InvalidField("page_token", "must be the token of the last answer") from None


_ROLES: dict[int, chat.Role] = {
    chat_pb2.CHAT_ROLE_SYSTEM: "system",
    chat_pb2.CHAT_ROLE_DEVELOPER: "developer",
    chat_pb2.CHAT_ROLE_USER: "user",
    chat_pb2.CHAT_ROLE_ASSISTANT: "assistant",
    chat_pb2.CHAT_ROLE_TOOL: "tool",
}
_FINISH_REASONS = {
    chat.FinishReason.UNKNOWN: chat_pb2.FINISH_REASON_UNSPECIFIED,
    chat.FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    chat.FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    chat.FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
    chat.FinishReason.CONTENT_FILTER: chat_pb2.FINISH_REASON_CONTENT_FILTER,
}
_OUTCOMES = {
    None: pb.ATTEMPT_OUTCOME_UNSPECIFIED,
    Outcome.SUCCEEDED: pb.ATTEMPT_OUTCOME_SUCCEEDED,
    Outcome.REFUSED: pb.ATTEMPT_OUTCOME_REFUSED,
    Outcome.RATE_LIMITED: pb.ATTEMPT_OUTCOME_RATE_LIMITED,
    Outcome.TIMED_OUT: pb.ATTEMPT_OUTCOME_TIMED_OUT,
    Outcome.NOT_CONNECTED: pb.ATTEMPT_OUTCOME_NOT_CONNECTED,
    Outcome.BROKEN: pb.ATTEMPT_OUTCOME_BROKEN,
    Outcome.CANCELLED: pb.ATTEMPT_OUTCOME_CANCELLED,
}
_TEXT_PURPOSES = {pb.EMBEDDING_PURPOSE_DOCUMENT: "document", pb.EMBEDDING_PURPOSE_QUERY: "query"}
_PURPOSES = {purpose: pb.AttemptPurpose.Value(f"ATTEMPT_PURPOSE_{purpose.value}") for purpose in Purpose}
_STATES: dict[ModelState, Any] = {state: pb.ModelState.Value(f"MODEL_STATE_{state.value}") for state in ModelState}
_NO_PARAMETERS = chat.Parameters()


def _model_call(call: pb.ModelCall, request_id: str) -> chat.ModelCall:
    return chat.ModelCall(
        call.model,
        tuple(_message(message) for message in call.messages),
        tuple(_tool(tool) for tool in call.tools),
        _parameters(call.parameters) if call.HasField("parameters") else _NO_PARAMETERS,
        tuple(call.model_names),
        _origin(call, request_id),
    )


def _message(message: chat_pb2.ChatMessage) -> chat.Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidField("call.messages.role", "must be a role that this version knows")
    calls: tuple[chat.ToolCall, ...] = ()
    parts: tuple[chat.TextPart | chat.ImagePart, ...] = ()
    if message.tool_calls:
        calls = tuple(chat.ToolCall(c.id, c.name, c.arguments_json, c.index) for c in message.tool_calls)
    if message.parts:
        parts = tuple(_part(part) for part in message.parts)
    return chat.Message(role, message.content, parts, calls, message.tool_call_id, message.name)


def _part(part: chat_pb2.ContentPart) -> chat.TextPart | chat.ImagePart:
    if part.WhichOneof("kind") == "image":
        # A provider of one's own would fetch http: from its network and read file: from its disk.
        if not part.image.url.lower().startswith(("https://", "data:")):
            raise InvalidField("call.messages.parts.image.url", "must be an https: or a data: address")
        return chat.ImagePart(part.image.url, part.image.detail)
    return chat.TextPart(part.text)


def _tool(tool: chat_pb2.ToolDefinition) -> chat.ToolDefinition:
    strict = tool.strict if tool.HasField("strict") else None
    return chat.ToolDefinition(tool.name, tool.description, tool.parameters_json_schema, strict)


def _parameters(message: chat_pb2.GenerationParameters) -> chat.Parameters:
    has = message.HasField
    return chat.Parameters(
        temperature=message.temperature if has("temperature") else None,
        top_p=message.top_p if has("top_p") else None,
        max_output_tokens=message.max_output_tokens if has("max_output_tokens") else None,
        stop=tuple(message.stop),
        seed=message.seed if has("seed") else None,
        presence_penalty=message.presence_penalty if has("presence_penalty") else None,
        frequency_penalty=message.frequency_penalty if has("frequency_penalty") else None,
        response_format=_form(message.response_format) if has("response_format") else _NO_PARAMETERS.response_format,
        tool_choice=_choice(message.tool_choice) if has("tool_choice") else _NO_PARAMETERS.tool_choice,
        parallel_tool_calls=message.parallel_tool_calls if has("parallel_tool_calls") else None,
        reasoning_effort=message.reasoning_effort,
        extra_json=message.extra_json,
    )


def _form(form: chat_pb2.ResponseFormat) -> chat.ResponseFormat:
    strict = form.strict if form.HasField("strict") else None
    return chat.ResponseFormat(form.type, form.schema_name, form.json_schema, strict)


def _choice(choice: chat_pb2.ToolChoice) -> chat.ToolChoice:
    return chat.ToolChoice(choice.mode, choice.tool_name)


def _complete_response(answer: Answer) -> pb.CompleteResponse:
    """Filled in place: a message that is handed to a constructor is copied."""
    response = pb.CompleteResponse(served_model=answer.served_model, provider_response_id=answer.response_id)
    completion = answer.completion
    response.completion.content = completion.content
    response.completion.finish_reason = _FINISH_REASONS[completion.finish_reason]
    response.completion.refusal = completion.refusal
    response.completion.tool_calls.extend(_tool_call(call) for call in completion.tool_calls)
    response.completion.citations.extend(_citation(citation) for citation in completion.citations)
    _fill_usage(response.usage, answer.usage)
    _fill_attempts(response.attempts, answer.attempts)
    return response


def _embed_response(embedded: Embedded) -> pb.EmbedResponse:
    response = pb.EmbedResponse(
        values_f32_le=embedded.vectors.astype("<f4", copy=False).tobytes(),
        dimensions=embedded.vectors.shape[1],
        vector_space=embedded.vector_space,
        served_model=embedded.served_model,
    )
    _fill_usage(response.usage, embedded.usage)
    _fill_attempts(response.attempts, embedded.attempts)
    return response


def _stream_response(event: StreamEvent) -> pb.CompleteStreamResponse:
    """Filled in place, as all answers."""
    response = pb.CompleteStreamResponse()
    if isinstance(event, chat.Delta):
        _fill_delta(response.delta, event)
    elif isinstance(event, Started):
        response.started.served_model = event.served_model
        _fill_attempts(response.started.attempts, event.attempts)
    elif isinstance(event, Continued):
        response.continued.served_model = event.served_model
        _fill_attempts(response.continued.attempts, event.attempts)
    else:
        _fill_finished(response.finished, event)
    return response


def _fill_delta(target: chat_pb2.CompletionDelta, delta: chat.Delta) -> None:
    target.content = delta.content
    if delta.tool_calls or delta.refusal or delta.citations:  # hardly any chunk of hardly any stream
        target.refusal = delta.refusal
        target.tool_calls.extend(_tool_call(call) for call in delta.tool_calls)
        target.citations.extend(_citation(citation) for citation in delta.citations)


def _fill_finished(target: pb.StreamFinished, event: Finished) -> None:
    target.finish_reason = _FINISH_REASONS[event.finish_reason]
    target.provider_response_id = event.response_id
    _fill_usage(target.usage, event.usage)
    _fill_attempts(target.attempts, event.attempts)


def _tool_call(call: chat.ToolCall) -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json, index=call.index)


def _citation(citation: chat.Citation) -> chat_pb2.Citation:
    return chat_pb2.Citation(
        index=citation.index,
        message_index=citation.message_index,
        start_char=citation.start_char,
        end_char=citation.end_char,
        quote=citation.quote,
    )


def _fill_usage(target: usage_pb2.Usage, usage: chat.Usage) -> None:
    target.input_tokens = usage.input_tokens
    target.output_tokens = usage.output_tokens
    target.cached_input_tokens = usage.cached_input_tokens
    target.reasoning_tokens = usage.reasoning_tokens
    target.cache_write_input_tokens = usage.cache_write_input_tokens
    target.estimated = usage.estimated


def _fill_attempts(target: Any, attempts: Sequence[Attempt]) -> None:
    """A running try has no outcome yet and is sent as unspecified."""
    for attempt in attempts:
        row = target.add(
            model_name=attempt.model_name,
            provider=attempt.provider,
            model=attempt.model,
            outcome=_OUTCOMES[attempt.outcome],
            http_status=attempt.http_status,
            cause=attempt.cause,
            purpose=_PURPOSES[attempt.purpose],
        )
        row.duration.FromNanoseconds(round(attempt.duration_s * 1e9))
        if attempt.usage is not None:
            _fill_usage(row.usage, attempt.usage)


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
