"""Whatever JSON a provider sends where an answer should be: an answer or a ProviderError, never another exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.embeddings import (
    BedrockEmbeddings,
    EmbeddingsDialect,
    GeminiEmbeddings,
    OpenAiEmbeddings,
)
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.core.failure import ErrorBody, ProviderError
from services.router.core.ports import Chunk, EmbedderAnswer, ProviderAnswer
from services.router.core.sse import ServerSentEvent

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAiChat(),
    "responses": OpenAiResponses(),
    "anthropic": AnthropicMessages(),
    "gemini": GeminiGenerate(),
    "bedrock": BedrockConverse(),
}
EMBEDDINGS: list[EmbeddingsDialect] = [OpenAiEmbeddings(), GeminiEmbeddings(), BedrockEmbeddings()]
_TEXT = """id model choices index message delta content refusal tool_calls function name arguments finish_reason usage
error code type param prompt_tokens completion_tokens output status incomplete_details reason response item output_index
call_id text content_block input partial_json stop_reason input_tokens output_tokens candidates parts functionCall args
finishReason promptFeedback blockReason usageMetadata promptTokenCount candidatesTokenCount stopReason toolUse toolUseId
start contentBlockIndex inputTokens outputTokens reasoningContent details retryDelay data embedding embeddings values
output_text function_call tool_use message_start message_delta message_stop content_block_start content_block_delta stop
content_block_stop response.completed response.failed response.output_item.added response.output_text.delta STOP SAFETY
MALFORMED_FUNCTION_CALL guardrail_intervened end_turn failed incomplete text_delta input_json_delta 12s [DONE] float"""
WORDS = _TEXT.split()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=5)
NAMES = st.sampled_from(["", "messageStop", "metadata", "contentBlockStop", "contentBlockDelta", "exception x"])
FEW = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("name", DIALECTS)
@FEW
@given(body=OBJECTS | JSON)
def test_no_answer_breaks_a_dialect(name: str, body: Any) -> None:
    dialect, data = DIALECTS[name], json.dumps(body).encode()
    assert isinstance(dialect.error_body(data, {}), ErrorBody)
    try:
        assert isinstance(dialect.decode(data), ProviderAnswer)
    except ProviderError:
        return


@pytest.mark.parametrize("name", DIALECTS)
@FEW
@given(events=st.lists(st.tuples(NAMES, OBJECTS | JSON), max_size=6))
def test_no_events_break_a_stream(name: str, events: list[tuple[str, Any]]) -> None:
    decoder = DIALECTS[name].stream_decoder()
    try:
        for event, body in events:
            chunk = decoder.feed([ServerSentEvent(event, json.dumps(body).encode())])
            assert chunk is None or isinstance(chunk, Chunk)
            if decoder.done:
                return
        decoder.end()
    except ProviderError:
        decoder.rest()


@pytest.mark.parametrize("dialect", EMBEDDINGS)
@FEW
@given(body=OBJECTS | JSON, texts=st.integers(min_value=1, max_value=3))
def test_no_answer_breaks_embeddings(dialect: EmbeddingsDialect, body: Any, texts: int) -> None:
    try:
        answer = dialect.decode(json.dumps(body).encode(), texts)
    except ProviderError:
        return
    assert isinstance(answer, EmbedderAnswer)
    assert answer.vectors.shape[0] == texts


@pytest.mark.parametrize("name", DIALECTS)
@FEW
@given(data=st.binary(max_size=60))
def test_no_bytes_break_a_dialect(name: str, data: bytes) -> None:
    with pytest.raises(ProviderError):
        DIALECTS[name].decode(data)
    assert isinstance(DIALECTS[name].error_body(data, {}), ErrorBody)
