"""Ids of tool calls that another provider made: each API has its own form, and refuses the request for any other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from meshkit.settings import Secret
from services.router.adapters.remote import dialect_of
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Message, ModelCall, ToolCall, ToolDefinition
from services.router.core.ports import ProviderRequest
from services.router.provider_settings import Provider

KEY = Secret("k")
# Of OpenAI, vLLM, Kimi, Mistral, Anthropic, and of nobody.
IDS = (
    "call_PTLP8xhu3uwZk4l3nlnrrJha",
    "chatcmpl-tool-" + "0f" * 16,
    "functions.look:0",
    "D681PevKs",
    "toolu_01A",
    "é" * 90,
)
SERVERS: dict[str, tuple[Provider, str]] = {
    "openai": (Provider(base_url="https://api.openai.com/v1", api_key=KEY), r".{1,40}"),
    "azure": (Provider("azure", "https://acme.openai.azure.com", KEY), r".{1,40}"),
    "mistral": (Provider(base_url="https://api.mistral.ai/v1", api_key=KEY), r"[A-Za-z0-9]{9}"),
    "other": (Provider(base_url="http://localhost:8000/v1"), r".*"),
    "responses": (Provider("openai_responses", "https://api.openai.com/v1", KEY), r".{1,64}"),
    "anthropic": (Provider("anthropic", "https://api.anthropic.com/v1", KEY), r"[a-zA-Z0-9_-]{1,64}"),
    "bedrock": (Provider("bedrock", region="us-east-1", api_key=KEY), r"[a-zA-Z0-9_-]{1,64}"),
}
_NAMES = {"id", "tool_call_id", "call_id", "tool_use_id", "toolUseId"}


def ids_in(value: Any) -> list[str]:
    """Every id in a body, in order."""
    if isinstance(value, list):
        return [found for entry in value for found in ids_in(entry)]
    if not isinstance(value, dict):
        return []
    own = [entry for name, entry in value.items() if name in _NAMES and isinstance(entry, str)]
    return own + [found for entry in value.values() for found in ids_in(entry)]


@pytest.mark.parametrize("name", SERVERS)
def test_an_id_of_another_provider_is_written_as_this_one_takes_it(name: str) -> None:
    provider, form = SERVERS[name]
    calls = tuple(ToolCall(call_id, "look", "{}", index) for index, call_id in enumerate(IDS))
    results = tuple(Message("tool", "seen", tool_call_id=call_id) for call_id in IDS)
    call = ModelCall(
        "", (Message("user", "go"), Message("assistant", tool_calls=calls), *results), (ToolDefinition("look"),)
    )
    body = json.loads(dialect_of(provider).encode(ProviderRequest(call, ModelSpec("m", "p", "m-1")), stream=False))
    found = ids_in(body)
    called, answered = found[: len(IDS)], found[len(IDS) :]
    assert called == answered, "a result is found by its call"
    assert len(set(called)) == len(IDS), "and by no other"
    assert all(re.fullmatch(form, call_id) for call_id in called)
    assert [new for old, new in zip(IDS, called, strict=True) if re.fullmatch(form, old)] == [
        old for old in IDS if re.fullmatch(form, old)
    ], "what is taken as it is stays"
