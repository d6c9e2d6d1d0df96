"""The guard behind its port."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from llmops.common.v1 import chat_pb2, verdict_pb2
from llmops.guard.v1 import guard_pb2, guard_pb2_grpc

from meshkit.errors import CallError
from services.orchestrator.adapters.assembly import Assembly
from services.orchestrator.adapters.conversation import conversation_of, masked_values
from services.orchestrator.adapters.failures import is_absent, refused
from services.orchestrator.core.errors import GuardUnavailable, RequestFailed
from services.orchestrator.core.model import Checked, CheckedOutput, Progress, Turn
from services.orchestrator.core.ports import Clock

_BLOCK = verdict_pb2.GUARD_DECISION_BLOCK
_MAX_SOURCES = 256


class PolicyDigests:
    """The digest that each guard policy had when it last judged: what an answer was allowed by.

    The exact cache is asked before the guard, so it needs the digest from memory. A memory older than
    `MAX_AGE_S` does not count: a policy that was changed and rolled out is obeyed by hits within that time.
    """

    MAX_AGE_S = 30.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[str, float]] = {}

    def note(self, policy: str, digest: str) -> None:
        """Remembers what the guard said. Policies are names of its configuration, so they are few."""
        self._known[policy] = (digest, self._clock.monotonic())

    def current(self, policy: str) -> str:
        """The digest, or nothing when it is not known recently enough."""
        digest, seen_s = self._known.get(policy, ("", 0.0))
        return digest if self._clock.monotonic() - seen_s <= self.MAX_AGE_S else ""


class RemoteGuard:
    """The port `Guard` over the guard's stub."""

    def __init__(self, channel: Any, digests: PolicyDigests) -> None:
        self._stub = guard_pb2_grpc.GuardServiceStub(channel)
        self._digests = digests

    async def check_input(self, turn: Turn, *, embed: bool) -> Checked:
        """See Guard."""
        conversation = conversation_of(turn)
        request = guard_pb2.CheckInputRequest(
            policy=turn.guard_policy, messages=conversation.messages, tools=conversation.tools, embed=embed
        )
        try:
            answer: guard_pb2.CheckInputResponse = await self._stub.CheckInput(request)
        except CallError as error:
            raise _failure(error) from error
        self._digests.note(turn.guard_policy, answer.verdict.policy_digest)
        return Checked(
            blocked=answer.verdict.decision == _BLOCK,
            detectors=_detectors(answer.verdict),
            masked=bool(answer.masked_values or answer.masked_messages),
            can_embed=answer.HasField("embedding") and not answer.embedding.truncated and not answer.masked_messages,
            verdict=answer.verdict,
            payload=answer,
        )

    async def check_output(self, turn: Turn, checked: Checked, completion: object) -> CheckedOutput:
        """See Guard."""
        assert isinstance(completion, chat_pb2.Completion)
        request = guard_pb2.CheckOutputRequest(
            policy=turn.guard_policy,
            completion=completion,
            json_schema=_schema_for(turn, completion),
            masked_values=masked_values(checked),
            sources=_sources(turn, checked),
        )
        try:
            answer: guard_pb2.CheckOutputResponse = await self._stub.CheckOutput(request)
        except CallError as error:
            raise _failure(error) from error
        confidence = answer.confidence if answer.HasField("confidence") else None
        output = _checked_output(answer.verdict, answer.schema_violations, answer.completion, _score(answer))
        return replace(output, confidence=confidence)

    async def check_stream(
        self, turn: Turn, checked: Checked, pieces: AsyncGenerator[object, None], progress: Progress
    ) -> AsyncGenerator[object, None]:
        """See Guard. Pulls `pieces` only as fast as the caller reads."""
        opening = guard_pb2.StreamOpen(
            policy=turn.guard_policy,
            json_schema=_schema_for(turn, None),
            masked_values=masked_values(checked),
            sources=_sources(turn, checked),
        )
        failed: list[BaseException] = []
        shown = Assembly()
        responses = self._stub.CheckOutputStream(_requests(opening, pieces, progress, failed))
        try:
            async with aclosing(responses):
                async for response in responses:
                    if response.WhichOneof("event") == "release":
                        shown.add(response.release)
                        yield response.release
                    else:
                        final = response.verdict
                        whole = shown.completion(_finish_reason(progress))
                        progress.output = _checked_output(final.verdict, final.schema_violations, whole, _score(final))
        except CallError as error:
            if failed:
                raise failed[0] from None
            raise _failure(error) from error
        if failed:
            raise failed[0]
        if progress.output is None:
            raise GuardUnavailable


async def _requests(
    opening: guard_pb2.StreamOpen,
    pieces: AsyncGenerator[object, None],
    progress: Progress,
    failed: list[BaseException],
) -> AsyncIterator[guard_pb2.CheckOutputStreamRequest]:
    yield guard_pb2.CheckOutputStreamRequest(open=opening)
    try:
        async for piece in pieces:
            assert isinstance(piece, chat_pb2.CompletionDelta)
            yield guard_pb2.CheckOutputStreamRequest(delta=piece)
    except Exception as error:  # noqa: BLE001 - check_stream raises it
        # The model failed: ending without `finish` lets the guard deliver what it has released, and no more.
        failed.append(error)
        return
    finish = guard_pb2.StreamFinish(finish_reason=_finish_reason(progress))
    yield guard_pb2.CheckOutputStreamRequest(finish=finish)


def _sources(turn: Turn, checked: Checked) -> list[str]:
    """The conversation, when personal data in it was let through: what the caller wrote is no leak in the answer."""
    verdict = checked.verdict
    if not isinstance(verdict, verdict_pb2.GuardVerdict) or not any(
        f.category == "pii" and f.action < verdict_pb2.GUARD_DECISION_MASK for f in verdict.findings
    ):
        return []
    texts = [message.content for message in conversation_of(turn).messages if message.content]
    return texts[-_MAX_SOURCES:]


def _finish_reason(progress: Progress) -> chat_pb2.FinishReason:
    completion = progress.answer.completion if progress.answer is not None else None
    return completion.finish_reason if isinstance(completion, chat_pb2.Completion) else chat_pb2.FINISH_REASON_CUT


def _failure(error: CallError) -> RequestFailed:
    return GuardUnavailable() if is_absent(error) else refused(error)


def _schema_for(turn: Turn, completion: chat_pb2.Completion | None) -> str:
    """An answer that only calls tools is not the document that the schema describes."""
    if completion is not None and completion.tool_calls and not completion.content:
        return ""
    return conversation_of(turn).json_schema


def _detectors(verdict: verdict_pb2.GuardVerdict) -> tuple[str, ...]:
    names = [f.detector for f in verdict.findings if f.action == _BLOCK]
    return tuple(dict.fromkeys(names))


def _checked_output(
    verdict: verdict_pb2.GuardVerdict,
    violations: Sequence[guard_pb2.SchemaViolation],
    completion: chat_pb2.Completion | None,
    score: float | None,
) -> CheckedOutput:
    return CheckedOutput(
        blocked=verdict.decision == _BLOCK,
        detectors=_detectors(verdict),
        schema_violations=tuple(f"{v.pointer or '/'} {v.rule}" for v in violations),
        completion=completion,
        verdict=verdict,
        grounding_score=score,
    )


def _score(message: guard_pb2.CheckOutputResponse | guard_pb2.StreamVerdict) -> float | None:
    return message.grounding_score if message.HasField("grounding_score") else None
