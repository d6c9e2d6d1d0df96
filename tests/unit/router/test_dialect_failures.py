"""What every dialect makes of refusals: content rules, rate limits and full windows must be told apart everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.azure_openai import AzureOpenAi
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.core.chat import FinishReason, Usage
from services.router.core.failure import Failure, FailureKind, ProviderError, error_answer
from services.router.core.ports import Chunk
from services.router.core.sse import ServerSentEvent

OPENAI, ANTHROPIC, RESPONSES = OpenAiChat(), AnthropicMessages(), OpenAiResponses()
GEMINI, BEDROCK, AZURE = GeminiGenerate(), BedrockConverse(), AzureOpenAi()
POLICY, LIMITED, LONG = FailureKind.CONTENT_POLICY, FailureKind.RATE_LIMITED, FailureKind.CONTEXT_TOO_LONG


def openai_error(code: str | None, message: str = "", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code} | fields}


def anthropic_error(kind: str, message: str = "") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini_error(code: int, status: str, message: str = "", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
ERROR_INFO = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "x"}


@pytest.mark.parametrize(
    ("dialect", "status", "body", "headers", "kind"),
    [
        (OPENAI, 400, openai_error("content_policy_violation"), {}, POLICY),
        (OPENAI, 429, openai_error("rate_limit_exceeded"), {}, LIMITED),
        (OPENAI, 400, openai_error("context_length_exceeded"), {}, LONG),
        (AZURE, 400, openai_error("content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), {}, POLICY),
        (AZURE, 429, openai_error("429"), {}, LIMITED),
        (AZURE, 400, openai_error("context_length_exceeded"), {}, LONG),
        (RESPONSES, 400, openai_error("invalid_prompt"), {}, POLICY),
        (RESPONSES, 429, openai_error("rate_limit_exceeded"), {}, LIMITED),
        (RESPONSES, 400, openai_error("context_length_exceeded"), {}, LONG),
        (
            ANTHROPIC,
            400,
            anthropic_error("invalid_request_error", "Output blocked by content filtering policy"),
            {},
            POLICY,
        ),
        (ANTHROPIC, 429, anthropic_error("rate_limit_error"), {}, LIMITED),
        (ANTHROPIC, 400, anthropic_error("invalid_request_error", "prompt is too long: 9 > 8"), {}, LONG),
        (GEMINI, 429, gemini_error(429, "RESOURCE_EXHAUSTED", "", RETRY_INFO), {}, LIMITED),
        (GEMINI, 400, [gemini_error(400, "INVALID_ARGUMENT", "", ERROR_INFO)], {}, FailureKind.CREDENTIAL),
        (GEMINI, 404, gemini_error(404, "NOT_FOUND"), {}, FailureKind.UNKNOWN_MODEL),
        (
            GEMINI,
            400,
            gemini_error(400, "INVALID_ARGUMENT", "The input (9) exceeds the maximum number of tokens allowed (8)"),
            {},
            LONG,
        ),
        (
            BEDROCK,
            429,
            {"message": "Too many tokens, please wait."},
            {"x-amzn-errortype": "ThrottlingException:http://x"},
            LIMITED,
        ),
        (BEDROCK, 400, {"message": "no more"}, {"x-amzn-errortype": "ServiceQuotaExceededException"}, LIMITED),
        (
            BEDROCK,
            400,
            {"message": "Input is too long for requested model."},
            {"x-amzn-errortype": "ValidationException"},
            LONG,
        ),
        (BEDROCK, 400, {"message": "odd"}, {"x-amzn-errortype": "ValidationException"}, FailureKind.REJECTED),
        (BEDROCK, 403, {"Message": "expired"}, {"x-amzn-errortype": "ExpiredTokenException"}, FailureKind.CREDENTIAL),
        (BEDROCK, 424, {"message": "x"}, {"x-amzn-errortype": "ModelErrorException"}, FailureKind.UNAVAILABLE),
    ],
)
def test_error_answers(dialect: Dialect, status: int, body: Any, headers: dict[str, str], kind: FailureKind) -> None:
    failure = error_answer(status, dialect.error_body(json.dumps(body).encode(), headers))
    assert failure.kind is kind
    assert failure.http_status == status


def test_geminis_wait_stands_in_the_body() -> None:
    body = json.dumps(gemini_error(429, "RESOURCE_EXHAUSTED", "", ERROR_INFO | {"reason": "X"}, RETRY_INFO)).encode()
    failure = error_answer(429, GEMINI.error_body(body, {}))
    assert (failure.retry_after_s, failure.provider_code) == (34.5, "RESOURCE_EXHAUSTED")


NO_ERRORS = [b"", b"<html>", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"error":[]}', b'{"error":7}']


@pytest.mark.parametrize("dialect", [OPENAI, AZURE, RESPONSES, ANTHROPIC, GEMINI, BEDROCK])
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"error":[]}', b'{"error":7}']
)
def test_error_answers_that_are_none_say_nothing_and_break_nothing(dialect: Dialect, body: bytes) -> None:
    found = dialect.error_body(body, {})
    assert (found.code, found.retry_after_s) == ("", None)


def decoded(dialect: Dialect, body: Any) -> Failure:
    with pytest.raises(ProviderError) as caught:
        dialect.decode(json.dumps(body).encode())
    return caught.value.failure


def streamed(dialect: Dialect, *events: tuple[str, Any]) -> tuple[list[Chunk], Failure | None]:
    """Event by event, as HttpProvider feeds it: what came before a failure, and the failure."""
    decoder, chunks = dialect.stream_decoder(), []
    try:
        for name, body in events:
            chunks.append(decoder.feed([ServerSentEvent(name, json.dumps(body).encode())]))
        if not decoder.done:
            chunks.append(decoder.end())
    except ProviderError as error:
        return [chunk for chunk in (*chunks, decoder.rest()) if chunk is not None], error.failure
    return [chunk for chunk in chunks if chunk is not None], None


def gemini_answer(text: str, finish: str | None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}] if text else []}}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]} | fields


PROMPT_ONLY = {"usageMetadata": {"promptTokenCount": 8}}
BLOCKED = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}} | PROMPT_ONLY


def test_gemini_blocks_a_prompt_or_all_of_an_answer() -> None:
    blocked = Failure(POLICY, "content-policy", 200, provider_code="PROHIBITED_CONTENT", usage=Usage(8))
    assert decoded(GEMINI, BLOCKED) == blocked
    assert streamed(GEMINI, ("", BLOCKED)) == ([], blocked)
    assert decoded(GEMINI, gemini_answer("", "SAFETY")).kind is POLICY
    assert streamed(GEMINI, ("", gemini_answer("", "SAFETY")))[1] == Failure(
        POLICY, "content-policy", 200, provider_code="SAFETY"
    )


def test_gemini_cuts_an_answer_that_had_begun() -> None:
    chunks, failure = streamed(GEMINI, ("", gemini_answer("Half", None)), ("", gemini_answer("", "SAFETY")))
    assert (failure, chunks[-1].finish_reason) == (None, FinishReason.CONTENT_FILTER)


def test_geminis_malformed_call_is_a_broken_answer_that_was_paid_for() -> None:
    counted = {"usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 3}}
    failure = decoded(GEMINI, gemini_answer("", "MALFORMED_FUNCTION_CALL") | counted)
    assert failure == Failure(FailureKind.BROKEN, "malformed-function-call", 200, usage=Usage(8, 3))


@pytest.mark.parametrize("reason", ["OTHER", "MISSING_THOUGHT_SIGNATURE", "SOMETHING_NEW"])
def test_gemini_ends_for_an_unknown_reason_without_a_word(reason: str) -> None:
    counted = {"usageMetadata": {"promptTokenCount": 8, "thoughtsTokenCount": 100}}
    usage = Usage(8, 100, reasoning_tokens=100)
    expected = Failure(FailureKind.BROKEN, "empty-answer", 200, usage=usage)
    assert decoded(GEMINI, gemini_answer("", reason) | counted) == expected
    assert streamed(GEMINI, ("", gemini_answer("", reason) | counted)) == ([], expected)
    chunks, failure = streamed(GEMINI, ("", gemini_answer("Half", None)), ("", gemini_answer("", reason)))
    assert (failure, chunks[-1].finish_reason) == (None, FinishReason.UNKNOWN)


def test_a_count_of_the_prompt_alone_is_no_usage() -> None:
    """Early pieces of a stream count the prompt; with the last piece lost the answer would be free."""
    chunks, failure = streamed(GEMINI, ("", gemini_answer("Half", "STOP") | PROMPT_ONLY))
    assert (failure, chunks[-1].usage) == (None, None)


GUARDED: dict[str, Any] = {
    "output": {"message": {"content": [{"text": "Sorry, not that."}]}},
    "stopReason": "guardrail_intervened",
    "usage": {"inputTokens": 5, "outputTokens": 0},
}


def test_a_guardrail_of_bedrock_speaks_in_the_models_place() -> None:
    expected = Failure(POLICY, "content-policy", 200, provider_code="guardrail_intervened", usage=Usage(5, 0))
    assert decoded(BEDROCK, GUARDED) == expected
    stop = ("messageStop", {"stopReason": "guardrail_intervened"})
    usage = ("metadata", {"usage": GUARDED["usage"]})
    assert streamed(BEDROCK, ("messageStart", {}), stop, usage) == ([], expected)
    text = ("contentBlockDelta", {"delta": {"text": "Sorry"}})
    chunks, failure = streamed(BEDROCK, text, stop, usage)
    assert (failure, chunks[-1].finish_reason) == (None, FinishReason.CONTENT_FILTER)


@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        ("throttlingException", LIMITED),
        ("modelStreamErrorException", FailureKind.UNAVAILABLE),
        ("internalServerException", FailureKind.UNAVAILABLE),
        ("somethingNewException", FailureKind.UNAVAILABLE),
    ],
)
def test_exceptions_inside_a_stream_of_bedrock(exception: str, kind: FailureKind) -> None:
    text = ("contentBlockDelta", {"delta": {"text": "Half"}})
    chunks, failure = streamed(BEDROCK, text, (f"exception {exception}", {"message": "too bad"}))
    assert [chunk.delta.content for chunk in chunks if chunk.delta] == ["Half"]
    assert failure is not None
    assert (failure.kind, failure.cause) == (kind, f"in-band-{exception}")


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None}, LIMITED),
        ({"type": "error", "error": {"type": "server_error", "message": "x"}}, FailureKind.UNAVAILABLE),
        ({"type": "response.failed", "response": {"status": "failed", "error": {"code": "invalid_prompt"}}}, POLICY),
        (
            {"type": "response.failed", "response": {"status": "failed", "error": {"code": "context_length_exceeded"}}},
            LONG,
        ),
        ({"type": "response.completed", "response": {"status": "failed"}}, FailureKind.UNAVAILABLE),
    ],
)
def test_failures_inside_a_stream_of_responses(event: dict[str, Any], kind: FailureKind) -> None:
    begun = ("", {"type": "response.output_text.delta", "output_index": 0, "delta": "Half"})
    chunks, failure = streamed(RESPONSES, begun, ("", event))
    assert [chunk.delta.content for chunk in chunks if chunk.delta] == ["Half"]
    assert failure is not None
    assert failure.kind is kind


def test_a_response_that_failed_with_200_is_no_answer() -> None:
    assert decoded(RESPONSES, {"status": "failed", "error": {"code": "server_error"}}).kind is FailureKind.UNAVAILABLE


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (OPENAI, {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]}),
        (ANTHROPIC, {"content": [{"type": "text", "text": "x"}], "stop_reason": "refusal"}),
        (RESPONSES, {"output": [], "status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
    ],
)
def test_an_answer_that_a_filter_ended_is_an_answer(dialect: Dialect, body: Any) -> None:
    answer = dialect.decode(json.dumps(body).encode())
    assert answer.completion.finish_reason is FinishReason.CONTENT_FILTER
