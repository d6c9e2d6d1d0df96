"""Servers behind OpenAI's chat completions that differ from OpenAI's: what they are asked, by their address."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshkit.settings import Secret
from services.router.adapters.remote import dialect_of
from services.router.core.aws_signature import AwsCredentials
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import ImagePart, Message, ModelCall, Parameters, TextPart, ToolCall
from services.router.core.failure import ProviderError
from services.router.core.ports import ProviderRequest
from services.router.provider_settings import Provider

OPENAI = Provider(base_url="https://api.openai.com/v1")
MISTRAL = Provider(base_url="https://api.mistral.ai/v1")
CALL = ModelCall("", (Message("developer", "Be brief."), Message("user", "Hi")), (), Parameters(None, None, 9, seed=7))
PIXEL = "data:image/png;base64,iVBORw0KGgo="
SHOWN = ModelCall(
    "",
    (
        Message("user", "Look."),
        Message("assistant", tool_calls=(ToolCall("c1", "shot", "{}"),)),
        Message("tool", parts=(TextPart("here"), ImagePart(PIXEL)), tool_call_id="c1"),
    ),
)


def asked(provider: Provider, call: ModelCall = CALL) -> Any:
    request = ProviderRequest(call, ModelSpec("m", "p", "m-1"))
    return json.loads(dialect_of(provider).encode(request, stream=True))


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        (OPENAI, "max_completion_tokens"),
        (Provider("azure", "https://acme.openai.azure.com"), "max_completion_tokens"),
        (Provider(base_url="https://gateway.example.com/v1"), "max_completion_tokens"),
        (MISTRAL, "max_tokens"),
        (Provider(base_url="https://api.deepseek.com"), "max_tokens"),
        (Provider(base_url="https://api.perplexity.ai"), "max_tokens"),
        (Provider(base_url="https://api.together.xyz/v1"), "max_tokens"),
        (Provider(base_url="http://localhost:11434/v1"), "max_tokens"),
        (
            Provider(base_url="https://api.deepseek.com", max_tokens_field="max_completion_tokens"),
            "max_completion_tokens",
        ),
        (Provider(base_url="http://localhost:8000/v1", max_tokens_field="max_tokens"), "max_tokens"),
    ],
)
def test_a_limit_has_the_name_that_the_server_heeds(provider: Provider, field: str) -> None:
    body = asked(provider)
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {field: 9}


@pytest.mark.parametrize(
    ("provider", "role"),
    [
        (OPENAI, "developer"),
        (Provider(base_url="https://eu.api.openai.com/v1"), "developer"),
        (Provider("azure", "https://acme.openai.azure.com"), "developer"),
        (MISTRAL, "system"),
        (Provider(base_url="https://api.deepseek.com"), "system"),
        (Provider(base_url="http://localhost:8000/v1"), "system"),
        (Provider(base_url="https://api.notopenai.com/v1"), "system"),
    ],
)
def test_instructions_of_a_developer_reach_servers_without_that_role(provider: Provider, role: str) -> None:
    assert [message["role"] for message in asked(provider)["messages"]] == [role, "user"]


def test_mistral_is_asked_for_nothing_that_it_refuses() -> None:
    body = asked(MISTRAL)
    assert body.pop("random_seed") == 7
    assert not body.keys() & {"seed", "stream_options", "max_completion_tokens"}
    assert asked(OPENAI).keys() >= {"seed", "stream_options"}
    forced = Provider(base_url=MISTRAL.base_url, asks_stream_usage=True)
    assert "stream_options" in asked(forced)


def test_images_in_results_of_tools_go_where_the_file_says_that_they_are_taken() -> None:
    server = Provider(base_url="http://localhost:8000/v1", images_in_tool_results=True)
    assert asked(server, SHOWN)["messages"][2]["content"] == [
        {"type": "text", "text": "here"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    with pytest.raises(ProviderError, match="unsupported-images-in-tool-results"):
        asked(OPENAI, SHOWN)


@pytest.mark.parametrize(
    "base_url", ["https://api.example.com:port/v1", "https://api.example.com:99999/v1", "https://[::1/v1"]
)
def test_an_address_that_cannot_be_read_is_called_that(base_url: str) -> None:
    assert "needs a base_url" in Provider(base_url=base_url).problem()


def test_only_chat_completions_have_a_say_about_images_in_results() -> None:
    assert "images_in_tool_results" in Provider("gemini", images_in_tool_results=True).problem()


AT = "https://api.example.com/v1"


@pytest.mark.parametrize(
    ("provider", "sentence"),
    [
        (Provider(base_url=AT, api_key=Secret("sk-\n1")), "needs api_key of visible ASCII alone"),
        (Provider(base_url=AT, api_key=Secret("sk-é")), "needs api_key of visible ASCII alone"),
        (Provider(base_url=AT, organisation="a\nb"), "needs organisation of visible ASCII alone"),
        (Provider(base_url=AT, project="a b"), "needs project of visible ASCII alone"),
        (Provider(base_url=AT, headers={"x-a": Secret("b\r\nx-c: d")}), "header 'x-a' that cannot be sent"),
        (Provider(base_url=AT, headers={"x a": Secret("b")}), "header 'x a' that cannot be sent"),
        (
            Provider("bedrock", region="us-east-1", aws_access_key_id="A B", aws_secret_access_key=Secret("s")),
            "needs aws_access_key_id of visible ASCII",
        ),
        (Provider(base_url="https://api.exa mple.com/v1"), "needs a base_url"),
        (Provider(base_url=f"{AT}/chat/completions/"), "ends with an operation"),
        (Provider("anthropic", "https://api.anthropic.com/v1/messages"), "ends with an operation"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_first_call(provider: Provider, sentence: str) -> None:
    """It was a broken answer, call by call: booked as billed, and counted by the breaker."""
    assert sentence in provider.problem()


def test_white_space_around_keys_is_no_part_of_them() -> None:
    assert (MISTRAL.key(), Provider(base_url=AT, api_key=Secret(" sk-1\n")).key()) == ("", "sk-1")
    signing = Provider("bedrock", region="us-east-1", aws_access_key_id="A", aws_secret_access_key=Secret("s\n"))
    assert (signing.problem(), signing.aws_keys()) == ("", AwsCredentials("A", "s", ""))
    spoken = Provider(base_url=AT, headers={"x-a": Secret('b, c; d="e"')})
    assert spoken.problem() == ""
    assert not Provider(base_url=AT, api_key=Secret("\n")).has_credential()


@pytest.mark.parametrize(
    ("base_url", "sentence"),
    [
        ("https://10.0.0.5/v1", "in a private network; set allow_private_address"),
        ("https://[fd12::1]/v1", "in a private network"),
        ("https://169.254.169.254/v1", "never connected to"),
        ("https://0.0.0.0:8000/v1", "never connected to; this machine is 127.0.0.1"),
        ("https://[fe80::1]/v1", "never connected to"),
        ("https://127.0.0.1:8000/v1", ""),
        ("https://[::1]:8000/v1", ""),
        ("https://8.8.8.8/v1", ""),
        ("https://models.internal/v1", ""),
    ],
)
def test_an_address_that_would_be_refused_is_refused_before_the_first_call(base_url: str, sentence: str) -> None:
    problem = Provider(base_url=base_url).problem()
    assert sentence in problem
    assert bool(problem) is bool(sentence)
    opened = Provider(base_url=base_url, allow_private_address=True).problem()
    assert bool(opened) is ("never" in sentence)
