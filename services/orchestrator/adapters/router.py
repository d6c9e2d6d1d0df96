"""The router behind its port."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2, router_pb2_grpc

from meshkit.context import remaining_s
from meshkit.errors import CallError
from services.orchestrator.adapters.assembly import delta_bytes
from services.orchestrator.adapters.conversation import check_of, conversation_of, messages_to_send
from services.orchestrator.adapters.failures import is_absent
from services.orchestrator.adapters.usage import usage_from, usage_to
from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import (
    Candidate,
    Checked,
    ModelAnswer,
    Plan,
    Progress,
    Shadow,
    Turn,
    Usage,
    UsageLine,
)
from services.orchestrator.core.policy import estimated_tokens

_NANOSECONDS = 10**9
# Nobody could answer. What the caller sent, and what an operator must put right, has other reasons.
_NOBODY = frozenset({"UPSTREAM_UNAVAILABLE", "UPSTREAM_RATE_LIMITED", "SERVICE_UNAVAILABLE"})
_COMPLETE_TIMEOUT_S = 120.0
# Formats of an answer that not every model can keep; the others are text.
_STRUCTURED = frozenset({"json_object", "json_schema"})
_WHOLE = frozenset({chat_pb2.FINISH_REASON_STOP, chat_pb2.FINISH_REASON_TOOL_CALLS})
_OUTCOMES: Mapping[str, int] = dict(router_pb2.AttemptOutcome.items())
# Asked beside the one that answered, and cancelled.
_LOST_BESIDE = "hedge-lost"
# Runs, and has nothing sent yet.
_WAITING = "waits-for-connection"
ATTEMPTS_KEY = "attempts_json"
# What a call ends with when its callee died, hung or failed unexpectedly: a provider may have been called by then.
_LOST = frozenset({"SERVICE_UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL"})


class RemoteRouter:
    """The port `Router` over the router's stub."""

    def __init__(self, channel: Any) -> None:
        self._stub = router_pb2_grpc.RouterServiceStub(channel)

    async def plan(self, turn: Turn) -> Plan:
        """See Router."""
        conversation = conversation_of(turn)
        request = router_pb2.PlanRequest(
            model=conversation.model,
            labels=conversation.labels,
            uses_tools=bool(conversation.tools),
            input_tokens=estimated_tokens(turn.input_bytes),
            uses_images=turn.input_images > 0,
            structured_output=conversation.parameters.response_format.type in _STRUCTURED,
            planned_request_id=turn.request_id,
        )
        try:
            return plan_of(await self._stub.Plan(request), structured=request.structured_output)
        except CallError as error:
            raise model_failed(error) from error

    async def complete(self, turn: Turn, plan: Plan, checked: Checked, progress: Progress) -> ModelAnswer:
        """See Router."""
        request = router_pb2.CompleteWithTriesRequest(request_id=turn.request_id, call=_call(turn, plan, checked))
        try:
            response = await told_answer(self._stub.CompleteWithTries(request, timeout=_time_s(plan)), progress)
        except CallError as error:
            raise model_failed(error) from error
        return ModelAnswer(
            completion=response.completion,
            model=model_name_of(response.attempts),
            usage=usage_from(response.usage),
            lines=lines_of(response.attempts),
            attempts=response.attempts,
            complete=response.completion.finish_reason in _WHOLE,
        )

    async def stream(
        self, turn: Turn, plan: Plan, checked: Checked, progress: Progress
    ) -> AsyncGenerator[object, None]:
        """See Router."""
        request = router_pb2.CompleteStreamRequest(request_id=turn.request_id, call=_call(turn, plan, checked))
        try:
            responses = self._stub.CompleteStream(request)
            progress.asked = True
            async with aclosing(responses):
                async for response in responses:
                    event = response.WhichOneof("event")
                    if event == "delta":
                        delta = response.delta
                        progress.received_bytes += delta_bytes(delta)
                        yield delta
                        # After the piece: what was paid for is shown.
                        if progress.received_bytes >= progress.alarm_bytes:
                            progress.alarm()
                    elif event == "started":
                        _note_start(progress, response.started)
                    elif event == "continued":
                        progress.continued = True
                        _note_break(progress)
                        _note_start(progress, response.continued)
                    elif event == "tries":
                        _note_break(progress)
                        note_tries(progress, response.tries.attempts)
                    elif event == "finished":
                        _note_end(progress, response.finished)
        except CallError as error:
            raise model_failed(error) from error
        if progress.answer is None:
            raise ModelFailed(
                "UNAVAILABLE", "UPSTREAM_STREAM_CUT", "the model's stream ended before it was complete", {}
            )

    def billed_lines(self, error: Exception) -> tuple[UsageLine, ...] | None:
        """See Router."""
        return billed_lines(error)

    def attempts(self, error: Exception) -> Sequence[object]:
        """See Router."""
        return attempts_of(error)


def plan_of(response: router_pb2.PlanResponse, *, structured: bool = False) -> Plan:
    """A plan of the router's; without a candidate it says in `refusal` why."""
    candidates = tuple(Candidate(c.provider, c.model) for c in response.candidates)
    ceilings = [c.max_output_tokens for c in response.candidates]
    return Plan(
        candidates,
        tuple(c.model_name for c in response.candidates),
        0 if 0 in ceilings else max(ceilings, default=0),
        response.model_policy,
        max(1, response.max_billed_calls),
        response.cascade.min_confidence if response.HasField("cascade") and len(candidates) > 1 else None,
        _shadow(response),
        response.allow_stale,
        _apology(response, structured=structured),
        response.wants_embedding,
        None if candidates else _refusal(response),
        drained=frozenset(Candidate(c.provider, c.model) for c in response.candidates if c.drain_on_cancel),
    )


def billed_lines(error: Exception) -> tuple[UsageLine, ...] | None:
    """See Router. A refusal names the tries, or a reason that excludes any; a call that was lost does neither."""
    if not isinstance(error, ModelFailed):
        return None
    if ATTEMPTS_KEY not in error.metadata:
        return None if error.reason in _LOST and error.metadata.get("begun") != "false" else ()
    attempts = json.loads(error.metadata[ATTEMPTS_KEY])
    return tuple(
        UsageLine(Candidate(a["provider"], a["model"]), Usage(**a["usage"]), number)
        for number, a in enumerate(attempts, start=1)
        if a.get("usage")
    )


def attempts_of(error: Exception) -> Sequence[object]:
    """See Router."""
    told = error.metadata.get(ATTEMPTS_KEY, "[]") if isinstance(error, ModelFailed) else "[]"
    return [_attempt(entry) for entry in json.loads(told)]


async def told_answer(stream: Any, progress: Progress) -> Any:
    """The answer of a call that is told of, with what was told in `progress`. Raises CallError, ModelFailed.

    Read to its end: at the router, who leaves before is a caller who left. What fails after the answer takes nothing
    from it.
    """
    answer = None
    try:
        async with aclosing(stream) as steps:
            async for step in steps:
                if step.HasField("answer"):
                    answer = step.answer
                else:
                    note_tries(progress, step.tries.attempts)
    except CallError:
        if answer is None:
            raise
    if answer is None:
        raise ModelFailed("UNAVAILABLE", "SERVICE_UNAVAILABLE", "the router ended a call without an answer", {})
    return answer


def _call(turn: Turn, plan: Plan, checked: Checked) -> router_pb2.ModelCall:
    conversation = conversation_of(turn)
    call = router_pb2.ModelCall(
        model=conversation.model,
        messages=messages_to_send(turn, checked),
        tools=conversation.tools,
        parameters=conversation.parameters,
        labels=conversation.labels,
        model_names=plan.model_names,
    )
    answered = check_of(checked)
    if answered is not None:
        call.language = answered.language
        if answered.HasField("embedding"):
            call.embedding.CopyFrom(answered.embedding)
    return call


def _shadow(response: router_pb2.PlanResponse) -> Shadow | None:
    shadow = response.shadow
    return Shadow(shadow.model_name, Candidate(shadow.provider, shadow.model)) if response.HasField("shadow") else None


def _apology(response: router_pb2.PlanResponse, *, structured: bool) -> chat_pb2.Completion | None:
    """A sentence is no answer for whoever reads one by a schema: there the error is clearer."""
    if structured or not response.apology:
        return None
    return chat_pb2.Completion(content=response.apology, finish_reason=chat_pb2.FINISH_REASON_STOP)


def _refusal(response: router_pb2.PlanResponse) -> ModelFailed:
    """As the router would end the call, and what stands against each model."""
    said, why = response.refusal, ", ".join(f"{r.model_name}: {r.reason}" for r in response.rejected)
    message = said.message if why in said.message else f"{said.message} ({why})"
    wait_s = said.retry_after.ToNanoseconds() / _NANOSECONDS if said.HasField("retry_after") else None
    metadata = {"feature": said.feature} if said.feature else {}
    refusal = ModelFailed(
        said.status or "UNAVAILABLE", said.reason or "UPSTREAM_UNAVAILABLE", message, metadata, wait_s
    )
    refusal.nobody_answered = refusal.reason in _NOBODY
    return refusal


def _time_s(plan: Plan) -> float | None:
    """None leaves a call all the time that there is."""
    return None if plan.time_share == 1 else remaining_s(_COMPLETE_TIMEOUT_S) * plan.time_share


def _attempt(entry: Mapping[str, Any]) -> router_pb2.Attempt:
    """Of an error's metadata, as answers bring it."""
    attempt = router_pb2.Attempt(
        model_name=entry["model_name"],
        provider=entry["provider"],
        model=entry["model"],
        outcome=_OUTCOMES.get(f"ATTEMPT_OUTCOME_{entry['outcome']}", 0),  # type: ignore[arg-type]
        http_status=entry["http_status"] or 0,
        usage=usage_to(Usage(**entry["usage"])) if entry["usage"] else None,
        cause=entry["cause"],
    )
    attempt.duration.FromMilliseconds(entry["duration_ms"])
    return attempt


def _note_break(progress: Progress) -> None:
    """What came is not the next one's. He costs his input at once: the alarm that was set knows nothing of it."""
    progress.earlier_bytes = progress.received_bytes
    if progress.alarm_bytes < math.inf:
        progress.alarm_bytes = progress.received_bytes


def _note_start(progress: Progress, started: router_pb2.StreamStarted | router_pb2.StreamContinued) -> None:
    note_tries(progress, started.attempts)
    progress.lost_beside = frozenset(n for n, a in enumerate(started.attempts, start=1) if a.cause == _LOST_BESIDE)
    progress.model = model_name_of(started.attempts)


def note_tries(progress: Progress, attempts: Sequence[router_pb2.Attempt]) -> None:
    """What was told of a call on its way."""
    begun = [a for a in attempts if a.outcome == router_pb2.ATTEMPT_OUTCOME_UNSPECIFIED]
    running = [a for a in begun if a.cause != _WAITING]
    progress.attempts = attempts
    progress.lines = lines_of(attempts)
    progress.running = tuple(Candidate(a.provider, a.model) for a in running)
    progress.ended = len(attempts) - len(begun)


def _note_end(progress: Progress, finished: router_pb2.StreamFinished) -> None:
    progress.attempts = finished.attempts
    progress.answer = ModelAnswer(
        completion=chat_pb2.Completion(finish_reason=finished.finish_reason),
        model=model_name_of(finished.attempts),
        usage=usage_from(finished.usage),
        lines=lines_of(finished.attempts),
        attempts=finished.attempts,
        complete=finished.finish_reason in _WHOLE,
    )


def lines_of(attempts: Sequence[router_pb2.Attempt]) -> tuple[UsageLine, ...]:
    """The tries that may be billed."""
    return tuple(
        UsageLine(Candidate(a.provider, a.model), usage_from(a.usage), number)
        for number, a in enumerate(attempts, start=1)
        if a.HasField("usage")
    )


def model_name_of(attempts: Sequence[router_pb2.Attempt]) -> str:
    """The last try's "provider/model"; empty without any."""
    return f"{attempts[-1].provider}/{attempts[-1].model}" if attempts else ""


def model_failed(error: CallError) -> ModelFailed:
    """The router's word, passed on."""
    failed = ModelFailed(error.status, error.reason, str(error), error.metadata, error.retry_after_s)
    failed.field_violations = list(error.field_violations)
    failed.nobody_answered = error.reason in _NOBODY or (error.status == "DEADLINE_EXCEEDED" and is_absent(error))
    return failed
