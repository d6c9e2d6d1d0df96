"""Where a deployment of LiteLLM leads here: whose it is, and at which address."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_cli.litellm_import import Imported, import_litellm

NOT_OPENAIS = (
    "command-r-plus",
    "anthropic.claude-3-5-sonnet-20240620-v1:0",
    "claude-3-5-sonnet@20240620",
    "mistral.mistral-large-2402-v1:0",
    "gemini-1.5-pro",
    "text-embedding-004",
    "gpt-oss-120b",
    "o-something",
    "davinci-002",
)


def imported(**params: object) -> Imported:
    return import_litellm({"model_list": [{"model_name": "m", "litellm_params": params}]})


def provider(**params: object) -> dict[str, Any]:
    found = imported(**params)
    assert not found.refused
    sections: Any = found.sections
    return dict(next(iter(sections["router"]["providers"].values())))


@pytest.mark.parametrize("model", NOT_OPENAIS)
def test_a_name_that_may_be_anybodys_is_refused(model: str) -> None:
    refused = imported(model=model, api_key="os.environ/SOME_KEY").refused
    assert any("write the provider's prefix" in entry.advice for entry in refused)
    assert imported(model=f"openai/{model}").sections, "with the prefix it is somebody's"


@pytest.mark.parametrize(
    ("model", "dialect"),
    [
        ("gpt-4o", "openai"),
        ("gpt-6.1-terra", "openai"),
        ("o1", "openai"),
        ("o4-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("ft:gpt-4o-mini:acme::id", "openai"),
        ("text-embedding-3-small", "openai"),
        ("text-embedding-ada-002", "openai"),
        ("claude-haiku-5-5", "anthropic"),
    ],
)
def test_a_vendors_own_names_need_no_prefix(model: str, dialect: str) -> None:
    found = provider(model=model)
    assert (found["dialect"], found["api_key"]) == (dialect, f"${{{dialect.upper()}_API_KEY}}")


def test_an_address_says_whose_a_model_is() -> None:
    found = provider(model="llama3-70b", api_base="https://api.groq.com/openai/v1")
    assert (found["base_url"], found["api_key"]) == ("https://api.groq.com/openai/v1", "${GROQ_API_KEY}")
    assert imported(model="llama3-70b", api_base="https://a.example/v1").refused
    assert provider(model="llama3-70b", custom_llm_provider="groq") == found


@pytest.mark.parametrize("model", ["x", "openai/x"])
def test_an_address_that_cannot_be_read_is_refused(model: str) -> None:
    assert "model_list[0]" in {entry.path for entry in imported(model=model, api_base="https://[").refused}


@pytest.mark.parametrize(
    ("model", "address", "expected"),
    [
        ("anthropic/claude-x", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("anthropic/claude-x", "https://gw.example.com/anthropic/", "https://gw.example.com/anthropic/v1"),
        ("anthropic/claude-x", "https://gw.example.com/v1/messages", "https://gw.example.com/v1"),
        ("anthropic/claude-x", "https://gw.example.com/v1", "https://gw.example.com/v1"),
        ("ollama/llama3", "http://ollama:11434", "http://ollama:11434/v1"),
        ("ollama_chat/llama3", "http://127.0.0.1:11434/", "http://127.0.0.1:11434/v1"),
        ("ollama_chat/llama3", "http://10.0.0.7:11434/api/chat", "http://10.0.0.7:11434/v1"),
        ("ollama/llama3", "os.environ/OLLAMA_API_BASE", "${OLLAMA_API_BASE}/v1"),
        ("openai/x", "http://localhost:11434", "http://localhost:11434"),
    ],
)
def test_an_address_is_completed_as_there(model: str, address: str, expected: str) -> None:
    assert provider(model=model, api_base=address)["base_url"] == expected


@pytest.mark.parametrize(
    ("address", "is_opened"),
    [
        ("https://10.0.0.5/v1", True),
        ("https://[fd00::1]/v1", True),
        ("https://vllm:8000/v1", True),
        ("http://vllm.example/v1", True),
        ("https://1.1.1.1/v1", False),
        ("https://[2606:4700:4700::1111]/v1", False),
        ("https://a.example/v1", False),
        ("http://127.0.0.2:8000/v1", False),
        ("http://[::1]:8000/v1", False),
    ],
)
def test_private_networks_are_opened_and_it_is_said(address: str, is_opened: bool) -> None:  # noqa: FBT001
    assert provider(model="openai/x", api_base=address).get("allow_private_address", False) is is_opened
    notes = imported(model="openai/x", api_base=address).notes
    assert any("allow_private_address is set" in note for note in notes) is is_opened


@pytest.mark.parametrize("address", ["http://0.0.0.0:8000/v1", "https://169.254.169.254/v1"])
def test_an_address_that_is_never_connected_to_is_refused(address: str) -> None:
    assert "never connected to" in imported(model="openai/x", api_base=address).refused[0].advice


def test_an_address_in_the_environment_is_remarked_on() -> None:
    notes = imported(model="openai/x", api_base="os.environ/VLLM_BASE").notes
    assert any("api_base: ${VLLM_BASE} is not known yet" in note for note in notes)


@pytest.mark.parametrize(
    ("model", "info", "expected"),
    [
        ("text-embedding-3-small", {}, "embeddings"),
        ("ollama/nomic-embed-text", {}, "embeddings"),
        ("azure/vectors-eu", {"base_model": "azure/text-embedding-3-small"}, "embeddings"),
        ("openai/embedder", {"mode": "chat"}, "chat"),
        ("openai/gpt-4o", {}, "chat"),
    ],
)
def test_a_model_for_embeddings_is_known_by_its_name(model: str, info: dict[str, str], expected: str) -> None:
    params = {"model": model, "api_base": "https://a.example"}
    entry = {"model_name": "m", "litellm_params": params, "model_info": info}
    sections: Any = import_litellm({"model_list": [entry]}).sections
    assert sections["router"]["models"]["m"].get("kind", "chat") == expected


def test_text_that_would_be_filled_in_here_is_refused() -> None:
    assert provider(model="gpt-4o", api_key="sk-$tr{ange}")["api_key"] == "sk-$tr{ange}"
    refused = imported(model="gpt-4o", api_key="sk-${ange}").refused
    assert [entry.path for entry in refused] == ["model_list[0].litellm_params.api_key"]
