"""From the orchestrator's CallReport to the object `llmops` and the facts for headers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.cache.v1 import cache_pb2
from llmops.common.v1 import chat_pb2, usage_pb2, verdict_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2

from services.edge.core.answer_facts import AnswerFacts, RateFacts

_REPLAYED = {"replayed": True}


def _names(enum: EnumDescriptor, prefix: str) -> dict[int, str]:
    """Lower-case names without the enum's prefix; UNSPECIFIED is empty."""
    names = {v.number: v.name.removeprefix(prefix).lower() for v in enum.values}
    return names | {0: ""}


CACHE = _names(cache_pb2.CacheStatus.DESCRIPTOR, "CACHE_STATUS_")
DECISIONS = _names(verdict_pb2.GuardDecision.DESCRIPTOR, "GUARD_DECISION_")
OUTCOMES = _names(router_pb2.AttemptOutcome.DESCRIPTOR, "ATTEMPT_OUTCOME_")
PURPOSES = _names(router_pb2.AttemptPurpose.DESCRIPTOR, "ATTEMPT_PURPOSE_")
FINISHES = _names(chat_pb2.FinishReason.DESCRIPTOR, "FINISH_REASON_")


def facts_of(report: pb.CallReport) -> AnswerFacts:
    """What headers tell about a whole answer."""
    return AnswerFacts(
        trace_id=report.trace_id,
        model=report.model,
        prompt_version=report.prompt_version,
        cache_status=CACHE.get(report.cache_status, ""),
        cost_nano_usd=report.cost_nano_usd,
        replayed=report.replayed,
        rates=_rates(report.rates) if report.rates else (),
        degraded=tuple(report.degraded),
    )


def started_facts(started: pb.StreamStarted) -> AnswerFacts:
    """What headers tell when a stream begins."""
    return AnswerFacts(
        trace_id=started.trace_id,
        model=started.model,
        prompt_version=started.prompt_version,
        cache_status=CACHE.get(started.cache_status, ""),
        replayed=started.replayed,
        rates=_rates(started.rates) if started.rates else (),
        degraded=tuple(started.degraded),
    )


def _rates(rates: Iterable[pb.RateLimit]) -> tuple[RateFacts, ...]:
    return tuple(
        RateFacts(r.unit, r.limit_count, r.remaining_count, r.reset_after.ToNanoseconds() / 1e9) for r in rates
    )


def llmops_object(report: pb.CallReport, finish_reason: int, citations: list[chat_pb2.Citation]) -> dict[str, object]:
    """Everything of the report. Durations in milliseconds, money in nano-USD. Never holds content but cited words."""
    usage, score = report.usage, report.grounding_score
    return {
        "request_id": report.request_id,
        "trace_id": report.trace_id,
        "prompt_version": report.prompt_version or None,
        "prompt_arm": report.prompt_arm or None,
        "model": report.model or None,
        "attempts": [_attempt(attempt) for attempt in report.attempts],
        "guard": {
            "input": _verdict(report.input_verdict),
            "output": _verdict(report.output_verdict),
        },
        "grounding_score": score if score or report.HasField("grounding_score") else None,
        "cache": {"status": CACHE.get(report.cache_status) or None, "entry_id": report.cache_entry_id or None},
        "cost_nano_usd": report.cost_nano_usd,
        "usage": {
            "estimated": usage.estimated,
            "cache_write_input_tokens": usage.cache_write_input_tokens,
        },
        "finish_reason": FINISHES.get(finish_reason) or None,
        "steps": [{"step": step.step, "ms": _ms(step.duration)} for step in report.steps],
        "duration_ms": _ms(report.duration),
        "degraded": list(report.degraded),
        "accepted_at": _rfc3339(report.accept_time),
        "citations": [_citation(citation) for citation in citations],
        **(_REPLAYED if report.replayed else {}),
    }


def openai_usage(usage: usage_pb2.Usage) -> dict[str, object]:
    """OpenAI's usage: cached and reasoning tokens are parts of the totals, here as there."""
    read, written = usage.input_tokens, usage.output_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def finish_of(finish_reason: int, report: pb.CallReport) -> str:
    """OpenAI's finish reason. What the mesh cut off is content_filter when the guard did it, else length."""
    if finish_reason == chat_pb2.FINISH_REASON_CUT:
        blocked = report.output_verdict.decision == verdict_pb2.GUARD_DECISION_BLOCK
        return "content_filter" if blocked else "length"
    return FINISHES.get(finish_reason) or "stop"


def model_of(model: str, requested: str) -> str:
    """The model as its provider names it: "openai/gpt-x" is "gpt-x". Without an answer's model, the requested one."""
    return model.partition("/")[2] or model or requested


def _attempt(attempt: router_pb2.Attempt) -> dict[str, object]:
    result: dict[str, object] = {
        "model_name": attempt.model_name,
        "provider": attempt.provider,
        "model": attempt.model,
        "outcome": OUTCOMES.get(attempt.outcome) or None,
        "duration_ms": _ms(attempt.duration),
    }
    if attempt.http_status:
        result["http_status"] = attempt.http_status
    if attempt.cause:
        result["cause"] = attempt.cause
    if attempt.purpose:
        result["purpose"] = PURPOSES.get(attempt.purpose) or None
    if attempt.HasField("usage"):
        result["usage"] = openai_usage(attempt.usage)
    return result


def _verdict(verdict: verdict_pb2.GuardVerdict) -> dict[str, object] | None:
    """Decision and detectors. Scores and thresholds stay inside: they would tell an attacker how close a try was."""
    if not verdict.decision:
        return None
    return {
        "decision": DECISIONS.get(verdict.decision) or None,
        "policy": verdict.policy or None,
        "policy_digest": verdict.policy_digest or None,
        "degraded": verdict.degraded,
        "detectors": [
            {"detector": f.detector, "category": f.category, "action": DECISIONS.get(f.action) or None}
            for f in verdict.findings
        ],
        "normalisations": list(verdict.normalisations),
    }


def _citation(citation: chat_pb2.Citation) -> dict[str, Any]:
    return {
        "index": citation.index,
        "message_index": citation.message_index,
        "start_char": citation.start_char,
        "end_char": citation.end_char,
        "quote": citation.quote,
    }


def _rfc3339(time: Timestamp) -> str | None:
    """To the millisecond. protobuf's own formatter takes three times as long."""
    if not time.seconds:
        return None
    at = datetime.fromtimestamp(time.seconds, UTC).isoformat()
    return f"{at[:19]}.{time.nanos // 1_000_000:03d}Z"


def _ms(duration: Duration) -> float:
    return (duration.seconds * 1_000_000 + duration.nanos // 1000) / 1000
