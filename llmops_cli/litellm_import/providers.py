"""`litellm_params.model` and what stands beside it, as a provider and a model of the router."""

from __future__ import annotations

from dataclasses import dataclass

from llmops_cli.litellm_import.reading import Section


@dataclass(frozen=True, slots=True)
class Known:
    """A prefix of LiteLLM's model names: whose dialect it is, where it lives, which variable has its key."""

    dialect: str
    base_url: str = ""
    key: str = ""


_OPENAI = "https://api.openai.com/v1"
KNOWN: dict[str, Known] = {
    "openai": Known("openai", _OPENAI, "OPENAI_API_KEY"),
    "text-completion-openai": Known("", "", ""),
    "anthropic": Known("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "hosted_vllm": Known("openai"),
    "openai_like": Known("openai"),
    "litellm_proxy": Known("openai"),
    "lm_studio": Known("openai", "http://localhost:1234/v1"),
    "ollama": Known("openai", "http://localhost:11434/v1"),
    "ollama_chat": Known("openai", "http://localhost:11434/v1"),
    "groq": Known("openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Known("openai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Known("openai", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "together_ai": Known("openai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "fireworks_ai": Known("openai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "openrouter": Known("openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "xai": Known("openai", "https://api.x.ai/v1", "XAI_API_KEY"),
    "perplexity": Known("openai", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "cerebras": Known("openai", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
}
# Their own servers count tokens under the older name.
_OLD_TOKEN_FIELD = frozenset({"hosted_vllm", "openai_like", "lm_studio", "ollama", "ollama_chat"})


def split_model(params: Section) -> tuple[str, str]:
    """The prefix and the provider's own name of the model; a name without a prefix is OpenAI's or Anthropic's."""
    name = params.text("model")
    prefix = params.text("custom_llm_provider")
    head, slash, rest = name.partition("/")
    if not prefix and slash and (head in KNOWN or head not in {"", "http:", "https:"}):
        prefix, name = head, rest
    elif prefix and name.startswith(f"{prefix}/"):
        name = name.removeprefix(f"{prefix}/")
    if not prefix:
        prefix = "anthropic" if name.startswith("claude") else "openai"
    return prefix, name


def provider_of(prefix: str, params: Section) -> dict[str, object] | None:
    """The provider's entry, or None when it was refused."""
    known = KNOWN.get(prefix)
    path = params.path
    if known is None or not known.dialect:
        params.report.refuse(
            f"{path}.model",
            f"provider {prefix!r} speaks a dialect that is not known here; any OpenAI-compatible server works: "
            "give its address as api_base with the prefix openai/",
        )
        return None
    entry: dict[str, object] = {"dialect": known.dialect}
    base_url = params.text("api_base", "base_url") or known.base_url
    if not base_url:
        params.report.refuse(f"{path}.api_base", f"is missing; {prefix} has no address of its own")
        return None
    if base_url.startswith("http://localhost:11434") and not base_url.rstrip("/").endswith("/v1"):
        base_url = base_url.rstrip("/") + "/v1"
    entry["base_url"] = base_url
    key = params.text("api_key") or (f"${{{known.key}}}" if known.key else "")
    if key and key not in {"none", "None", "empty", "EMPTY"}:
        entry["api_key"] = key
    if prefix in _OLD_TOKEN_FIELD:
        entry["max_tokens_field"] = "max_tokens"
    if base_url.startswith("http://") and not base_url.startswith(("http://localhost", "http://127.0.0.1")):
        entry["allow_private_address"] = True
        params.report.notes.append(f"{path}.api_base: plain http, so allow_private_address is set; prefer https")
    organisation = params.text("organization")
    if organisation:
        entry["organisation"] = organisation
    headers = Section(params.take("extra_headers") or params.take("headers"), f"{path}.extra_headers", params.report)
    found = {name: headers.text(name) for name in headers.names()}
    if found:
        entry["headers"] = found
    return entry
