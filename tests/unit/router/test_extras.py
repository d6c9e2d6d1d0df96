"""Parameters outside the contract: each dialect passes on what is harmless there, and refuses all else by name."""

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
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Message, ModelCall, Parameters
from services.router.core.errors import InvalidRequest
from services.router.core.failure import FailureKind, ProviderError
from services.router.core.ports import ProviderRequest

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAiChat(),
    "azure": AzureOpenAi(),
    "responses": OpenAiResponses(),
    "anthropic": AnthropicMessages(),
    "gemini": GeminiGenerate(),
    "bedrock": BedrockConverse(),
}
# What costs more, keeps more, reads more or asks somebody else, in every spelling that a provider may read.
_HARMFUL = """store Store STORE
prompt_cache_retention promptCacheRetention prompt_cache_options inference_geo inferenceGeo
service_tier serviceTier n N best_of candidate_count candidateCount response_modalities responseModalities
responsemodalities audio modalities web_search_options speech_config media_resolution cached_content cachedContent
system_instruction systemInstruction contents tools tool_config toolConfig generation_config max_output_tokens
maxOutputTokens max_completion_tokens max_tokens_to_sample model models messages system input instructions prompt
prediction data_sources plugins provider transforms route fallbacks keep_alive options priority chat_template
mcp_servers container cache_control betas anthropic_beta performance_config guardrail_config api_base base_url api_key
extra_headers extra_body custom_llm_provider stream stream_options ignore_eos use_beam_search logprobs metadata
conversation previous_response_id background include a_parameter_of_tomorrow"""


def encoded(dialect: str, **extra: Any) -> Any:
    call = ModelCall("", (Message("user", "x"),), parameters=Parameters(temperature=0.5, extra_json=json.dumps(extra)))
    return json.loads(DIALECTS[dialect].encode(ProviderRequest(call, ModelSpec("m", "p", "m-1")), stream=False))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", _HARMFUL.split())
def test_whatever_is_not_on_the_list_is_refused_by_name(dialect: str, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encoded(dialect, **{name: True})
    ((field, problem),) = caught.value.field_violations
    assert field == f"call.parameters.extra_json.{name}"
    assert problem.startswith("is not passed on;")


@pytest.mark.parametrize(
    ("dialect", "extra", "path", "value"),
    [
        ("openai", {"verbosity": "low"}, "verbosity", "low"),
        ("openai", {"temperature": 0.1}, "temperature", 0.1),
        ("azure", {"Logit_Bias": {"1": 2}}, "logit_bias", {"1": 2}),
        ("openai", {"chat_template_kwargs": {"a": False}}, "chat_template_kwargs", {"a": False}),
        ("responses", {"verbosity": "low"}, "text.verbosity", "low"),
        ("responses", {"safety_identifier": "u"}, "safety_identifier", "u"),
        ("anthropic", {"thinking": {"type": "adaptive"}}, "thinking", {"type": "adaptive"}),
        ("gemini", {"top_k": 4}, "generationConfig.topK", 4),
        ("gemini", {"safety_settings": []}, "safetySettings", []),
        ("bedrock", {"topK": 4}, "additionalModelRequestFields.top_k", 4),
    ],
)
def test_what_is_harmless_is_passed_on_in_the_dialects_spelling(
    dialect: str, extra: dict[str, Any], path: str, value: object
) -> None:
    body = encoded(dialect, **extra)
    for name in path.split("."):
        body = body[name]
    assert body == value


def test_what_only_others_take_is_left_to_them() -> None:
    with pytest.raises(ProviderError) as caught:
        encoded("anthropic", logit_bias={})
    failure = caught.value.failure
    assert (failure.kind, failure.cause) == (FailureKind.UNSUPPORTED, "unsupported-parameter-logit_bias")


@pytest.mark.parametrize("value", ["x", {"documents": ["no guard saw this"]}, {"date_string": "nor this"}])
def test_no_text_gets_into_a_chat_template(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encoded("openai", chat_template_kwargs=value)
    assert [field for field, _ in caught.value.field_violations] == ["call.parameters.extra_json.chat_template_kwargs"]


def test_all_that_is_refused_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        encoded("openai", tools=1, n=2, verbosity="low")
    fields = [field for field, _ in caught.value.field_violations]
    assert fields == ["call.parameters.extra_json.n", "call.parameters.extra_json.tools"]


def test_a_name_that_is_none_is_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as caught:
        encoded("openai", **{"my password is hunter2": 1})
    assert "hunter2" not in str(caught.value)
    assert [field for field, _ in caught.value.field_violations] == ["call.parameters.extra_json"]
