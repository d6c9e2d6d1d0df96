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
    (entry,) = sections["router"]["providers"].values()
    return dict(entry)


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
