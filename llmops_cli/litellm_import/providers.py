"""`litellm_params.model` and what stands beside it, as a provider of the router."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from llmops_cli.litellm_import.reading import Section
from meshkit.settings import SettingsError, load
from services.router.core.addresses import is_allowed, is_loopback_host, is_numeric_host
from services.router.provider_settings import Provider


@dataclass(frozen=True, slots=True)
class Known:
    """A prefix of LiteLLM's model names: whose dialect it is, where it lives, which variable has its key.

    `asks` are the paths behind an address of one's own at which LiteLLM asks, where the address does not end in one.
    Here an address ends in /v1 then.
    """

    dialect: str
    base_url: str = ""
    key: str = ""
    asks: tuple[str, ...] = ()


_OLLAMA = ("/api/generate", "/api/chat")
KNOWN: dict[str, Known] = {
    "openai": Known("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Known("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", ("/v1/messages",)),
    "azure": Known("azure", "", "AZURE_API_KEY"),
    "gemini": Known("gemini", "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
    "bedrock": Known("bedrock"),
    "hosted_vllm": Known("openai"),
    "openai_like": Known("openai"),
    "litellm_proxy": Known("openai"),
    "lm_studio": Known("openai", "http://localhost:1234/v1"),
    "ollama": Known("openai", "http://localhost:11434/v1", asks=_OLLAMA),
    "ollama_chat": Known("openai", "http://localhost:11434/v1", asks=_OLLAMA),
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
# Parts of Azure's and Bedrock's names that say how LiteLLM asks, not what.
_AZURE_SERIES = ("o_series/", "gpt5_series/")
_BEDROCK_WAYS = ("converse/", "converse_like/", "invoke/")
_BEDROCK_REGION = re.compile(r"([a-z]{2,}(?:-[a-z]+)+-\d{1,2})/(.+)")
_AZURE_PATHS = ("/openai/v1", "/openai")
# Names that are their vendor's whoever writes them. LiteLLM looks the others up in its table of models; a guess would
# send a key and the prompts to somebody else.
_OWN_NAMES = {
    "openai": re.compile(
        r"(?:ft:)?(?:gpt-\d|chatgpt-|o\d(?=-|$)|codex-|computer-use-|text-embedding-(?:3|ada)-)[\w.:-]*"
    ),
    "anthropic": re.compile(r"claude-[\w.-]+"),
}
_REFERENCE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Target:
    """Which provider is asked for which model. `provider` is a valid entry of `router.providers`."""

    prefix: str
    model: str
    provider: dict[str, object]


class Unserved(Exception):
    """This deployment cannot be served. `key` is the one that is to blame."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


def stand_in(key: str) -> str:
    """A value of the right form for a variable under this key, so that a configuration can be checked without it."""
    forms = {
        "base_url": "https://set-later.example/v1",
        "url": "postgresql://set-later",
        "region": "us-east-1",
        "api_version": "2024-10-21",
    }
    return forms.get(key, "set-later")


def target_of(params: Section, mode: str) -> Target:
    """Where a deployment leads. Raises Unserved."""
    prefix, model = _split_model(params)
    known = KNOWN.get(prefix)
    if known is None:
        raise Unserved(
            "model",
            f"provider {prefix!r} speaks a dialect that is not known here; any OpenAI-compatible server works: give "
            "its address as api_base with the prefix openai/; others by hand, with `dialect: litellm` and its extra",
        )
    entry: dict[str, object] = {"dialect": known.dialect}
    if prefix == "openai" and (mode == "responses" or model.startswith("responses/")):
        model, prefix, entry["dialect"] = model.removeprefix("responses/"), "openai-responses", "openai_responses"
    complete = {"azure": _azure, "bedrock": _bedrock}.get(prefix, _by_address)
    model = complete(params, known, entry, model)
    _require_single(model)
    if prefix in _OLD_TOKEN_FIELD:
        entry["max_tokens_field"] = "max_tokens"
    _add_common(params, entry)
    _require_valid(entry)
    return Target(prefix, model, entry)


def _split_model(params: Section) -> tuple[str, str]:
    """The prefix and the provider's own name of the model. Raises Unserved for a name that may be anybody's."""
    name = params.text("model")
    prefix = params.text("custom_llm_provider")
    head, slash, rest = name.partition("/")
    if not prefix and slash:
        prefix, name = head, rest
    elif prefix and name.startswith(f"{prefix}/"):
        name = name.removeprefix(f"{prefix}/")
    _require_single(name)
    if not prefix:
        address = str(params.peek("api_base") or params.peek("base_url") or "")
        prefix = _vendor_at(address) or _vendor_of(name)
    return prefix, name


def _require_single(model: str) -> None:
    if not model or "*" in model:
        raise Unserved("model", "names no single model; give each model an entry of its own")


def _vendor_at(address: str) -> str:
    """Who lives there; empty when nobody that is known."""
    host = _host_of(address)
    vendors = (prefix for prefix, known in KNOWN.items() if known.key and _host_of(known.base_url) == host)
    return next(vendors, "") if host else ""


def _vendor_of(name: str) -> str:
    found = next((vendor for vendor, names in _OWN_NAMES.items() if names.fullmatch(name)), "")
    if not found:
        raise Unserved("model", f"{name} may be anybody's; write the provider's prefix: PROVIDER/{name}")
    return found


def _by_address(params: Section, known: Known, entry: dict[str, object], model: str) -> str:
    base_url = params.text("api_base", "base_url") or known.base_url
    if not base_url:
        raise Unserved("api_base", "is missing, and this provider has no address of its own")
    entry["base_url"] = _ending_in_v1(base_url, known.asks) if known.asks else base_url
    _add_key(params, known, entry)
    return model


def _ending_in_v1(base_url: str, asks: Sequence[str]) -> str:
    base_url = base_url.rstrip("/")
    for path in asks:
        base_url = base_url.removesuffix(path)
    return base_url if base_url.endswith("/v1") else f"{base_url}/v1"


def _azure(params: Section, known: Known, entry: dict[str, object], model: str) -> str:
    """The model is the name of a deployment; the address is the resource's."""
    base_url = (params.text("api_base", "base_url") or "${AZURE_API_BASE}").rstrip("/")
    for path in _AZURE_PATHS:
        base_url = base_url.removesuffix(path)
    if "/openai/deployments/" in base_url:
        raise Unserved("api_base", "names a deployment; give the address of the resource, and the deployment in model")
    entry["base_url"] = base_url
    _add_key(params, known, entry)
    version = params.text("api_version")
    if version in {"v1", "latest"}:
        params.report.note(f"{params.path}.api_version", f"{version}: the v1 addresses, which need none here")
    else:
        # LiteLLM asks the dated addresses always, and has a version of its own for those who name none.
        entry["api_version"] = version or "${AZURE_API_VERSION}"
    for series in _AZURE_SERIES:
        model = model.removeprefix(series)
    return model


def _bedrock(params: Section, known: Known, entry: dict[str, object], model: str) -> str:
    del known
    for way in _BEDROCK_WAYS:
        model = model.removeprefix(way)
    region = params.text("aws_region_name")
    if (in_path := _BEDROCK_REGION.fullmatch(model)) is not None:
        if region:
            params.report.note(f"{params.path}.aws_region_name", "left out, the model names a region")
        region, model = in_path[1], in_path[2]
    entry["region"] = region or "${AWS_REGION_NAME}"
    if address := params.text("aws_bedrock_runtime_endpoint", "api_base"):
        entry["base_url"] = address
    _add_aws_credentials(params, entry)
    return params.text("model_id") or model


def _add_aws_credentials(params: Section, entry: dict[str, object]) -> None:
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    given = {name: value for name in names if (value := params.text(name))}
    if key := params.text("api_key"):
        entry["api_key"] = key
        for name in given:
            params.report.note(f"{params.path}.{name}", "left out, api_key is there")
        return
    if not given:
        given = {name: f"${{{name.upper()}}}" for name in names[:2]}
        params.report.note(f"{params.path}.model", "AWS keys are read from the environment; roles and profiles are not")
    entry.update(given)


def _add_key(params: Section, known: Known, entry: dict[str, object]) -> None:
    given = params.text("api_key")
    if given in {"none", "None", "empty", "EMPTY"}:
        params.report.note(f"{params.path}.api_key", "left out, it says that there is none")
        return
    if key := given or (f"${{{known.key}}}" if known.key else ""):
        entry["api_key"] = key


def _add_common(params: Section, entry: dict[str, object]) -> None:
    _open_private(params, entry)
    if organisation := params.text("organization"):
        entry["organisation"] = organisation
    found: dict[str, str] = {}
    for key in ("headers", "extra_headers"):
        headers = Section(params.take(key), f"{params.path}.{key}", params.report)
        for name in headers.names():
            if name in found:
                params.report.note(f"{params.path}.headers.{name}", "left out, extra_headers has it")
            if value := headers.text(name):
                found[name] = value
    if found:
        entry["headers"] = found


def _open_private(params: Section, entry: dict[str, object]) -> None:
    """LiteLLM connects to any address; here private networks and plain http are opened by name."""
    base_url, path = str(entry.get("base_url", "")), f"{params.path}.api_base"
    if "${" in base_url:
        unknown = f"{base_url} is not known yet; plain http or a private network needs allow_private_address"
        params.report.note(path, unknown)
        return
    host = _host_of(base_url)
    if not host or is_loopback_host(base_url):
        return
    numeric = is_numeric_host(host)
    if numeric and not is_allowed(host, private=True, loopback=True):
        raise Unserved("api_base", f"{host} is never connected to; this machine is 127.0.0.1")
    private = not is_allowed(host, private=False, loopback=False) if numeric else "." not in host
    if base_url.startswith("http://"):
        params.report.note(path, "plain http, so allow_private_address is set; prefer https")
    elif private:
        params.report.note(path, "in a private network, so allow_private_address is set")
    else:
        return
    entry["allow_private_address"] = True


def _host_of(address: str) -> str:
    """Empty when there is none, or none that can be read."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _require_valid(entry: dict[str, object]) -> None:
    """Raises Unserved for what the router would refuse, so that one deployment cannot spoil the file."""
    try:
        problem = load(Provider, _with_stand_ins(entry), "it", {}).problem()
    except SettingsError as error:
        problem = str(error)
    except ValueError as error:
        problem = f"has an address that cannot be read: {error}"
    if problem:
        raise Unserved("model", f"its provider {problem}")


def _with_stand_ins(entry: dict[str, object]) -> dict[str, object]:
    def filled(key: str, value: object) -> object:
        if isinstance(value, dict):
            return {name: filled(name, inner) for name, inner in value.items()}
        return _REFERENCE.sub(_always(stand_in(key)), value) if isinstance(value, str) else value

    return {key: filled(key, value) for key, value in entry.items()}


def _always(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text
