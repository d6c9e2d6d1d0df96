"""What the router may be told about providers and their models, and the vendors that a key in the environment adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from meshkit.settings import Secret
from services.router.core.addresses import is_loopback_host
from services.router.core.catalogue import ModelSpec

DIALECTS = ("openai", "anthropic", "local")


@dataclass(frozen=True, slots=True)
class Provider:
    """A place that runs models.

    `api_key` and `headers` are secrets. `base_url` includes the version (`https://api.openai.com/v1`). Plain http is
    for this machine, or with `allow_private_address`, which also opens private networks. A provider on this machine
    or in a private network may do without a key. `ca_file` names the certificates to trust instead of the system's.
    """

    dialect: str = "openai"
    base_url: str = ""
    api_key: Secret | None = None
    headers: dict[str, Secret] = field(default_factory=dict)
    organisation: str = ""
    project: str = ""
    connect_timeout_s: float = 5.0
    max_connections: int = 512
    keepalive_s: float = 30.0
    allow_private_address: bool = False
    ca_file: str = ""
    max_tokens_field: str = "max_completion_tokens"

    def key(self) -> str:
        """The key in clear text, empty when there is none."""
        return self.api_key.reveal() if self.api_key is not None else ""

    def has_credential(self) -> bool:
        """Whether calls can be expected to pass the door."""
        keyless = self.dialect == "local" or self.allow_private_address or is_loopback_host(self.base_url)
        return keyless or bool(self.key()) or bool(self.headers)

    def problem(self) -> str:
        """What is wrong with this provider; empty when nothing is."""
        known = ", ".join(DIALECTS)
        checks = (
            (self.dialect not in DIALECTS, f"has the unknown dialect {self.dialect!r}; use one of {known}"),
            (
                self.connect_timeout_s <= 0 or self.max_connections < 1 or self.keepalive_s <= 0,
                "needs connect_timeout_s, max_connections and keepalive_s above zero",
            ),
            (
                self.max_tokens_field not in {"max_completion_tokens", "max_tokens"},
                "needs max_tokens_field to be max_completion_tokens or max_tokens",
            ),
        )
        found = next((sentence for wrong, sentence in checks if wrong), "")
        return found or ("" if self.dialect == "local" else self._address_problem())

    def _address_problem(self) -> str:
        url = urlsplit(self.base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            return "needs a base_url such as https://api.example.com/v1"
        if url.username or url.password or url.query or url.fragment:
            return "has a base_url with credentials, a query or a fragment; put credentials into api_key or headers"
        if url.scheme == "http" and not (self.allow_private_address or is_loopback_host(self.base_url)):
            return "has an http base_url; use https, or set allow_private_address for a private network"
        return ""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model that callers and routes may name. `model` is the provider's own name; token counts of 0 mean not known.

    `timeout_s` bounds a whole answer; on streams the first token has `first_token_timeout_s` and each pause
    `idle_timeout_s`, and the caller's deadline bounds the rest. `omit_parameters` names request fields, in the
    provider's spelling, that this model refuses and that shall be left out. `tool_reasoning_effort` is sent with
    tools when the caller names no effort.
    """

    provider: str = "local"
    model: str = ""
    context_tokens: int = 0
    max_output_tokens: int = 0
    supports_tools: bool = True
    supports_images: bool = True
    supports_structured_output: bool = True
    timeout_s: float = 110.0
    first_token_timeout_s: float = 30.0
    idle_timeout_s: float = 30.0
    omit_parameters: tuple[str, ...] = ()
    tool_reasoning_effort: str = ""

    def problem(self) -> str:
        """What is wrong with this model; empty when nothing is."""
        if not self.model:
            return "needs the provider's name of the model in `model`"
        if min(self.timeout_s, self.first_token_timeout_s, self.idle_timeout_s) <= 0:
            return "needs timeouts above zero"
        if min(self.context_tokens, self.max_output_tokens) < 0:
            return "needs token counts of zero (not known) or more"
        return ""

    def spec(self, name: str, provider: Provider) -> ModelSpec:
        """This model as the core knows it. `name` is its own, `provider` the one that it names."""
        return ModelSpec(
            name=name,
            provider=self.provider,
            model=self.model,
            endpoint=f"{provider.dialect} {provider.base_url}",
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            supports_tools=self.supports_tools,
            supports_images=self.supports_images,
            supports_structured_output=self.supports_structured_output,
            timeout_s=self.timeout_s,
            first_token_timeout_s=self.first_token_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            omit_parameters=frozenset(self.omit_parameters),
            tool_reasoning_effort=self.tool_reasoning_effort,
            has_credential=provider.has_credential(),
        )


# Current small and middle models of both vendors, November 2026. Their reasoning models refuse sampling parameters;
# OpenAI's take tools over chat completions only without reasoning.
_OPENAI_MODELS = {
    f"openai/{model}": ModelConfig(
        provider="openai",
        model=model,
        context_tokens=1_050_000,
        max_output_tokens=128_000,
        omit_parameters=("temperature", "top_p", "presence_penalty", "frequency_penalty"),
        tool_reasoning_effort="none",
    )
    for model in ("gpt-6.1-terra", "gpt-6-luna")
}
_ANTHROPIC_MODELS = {
    f"anthropic/{model}": ModelConfig(
        provider="anthropic",
        model=model,
        context_tokens=1_000_000,
        max_output_tokens=128_000,
        omit_parameters=("temperature", "top_p"),
    )
    for model in ("claude-sonnet-5-5", "claude-haiku-5-5")
}
VENDORS: tuple[tuple[str, str, Provider, dict[str, ModelConfig]], ...] = (
    ("OPENAI_API_KEY", "openai", Provider("openai", "https://api.openai.com/v1"), _OPENAI_MODELS),
    ("ANTHROPIC_API_KEY", "anthropic", Provider("anthropic", "https://api.anthropic.com/v1"), _ANTHROPIC_MODELS),
)
