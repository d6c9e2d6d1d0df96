"""What the router may be told about providers and their models, and the vendors that a key in the environment adds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from meshkit.settings import Secret
from services.router.core.addresses import is_allowed, is_loopback_host, is_numeric_host
from services.router.core.aws_signature import AwsCredentials
from services.router.core.catalogue import ModelSpec
from services.router.core.prices import ModelPrice, nano_usd

DIALECTS = ("openai", "openai_responses", "azure", "anthropic", "gemini", "bedrock", "litellm", "local")
EMBEDDING_DIALECTS = ("openai", "azure", "gemini", "bedrock", "local")
# Where those vendors are when the file names no base_url.
_BASE_URLS = {
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "bedrock": "https://bedrock-runtime.{region}.amazonaws.com",
}
_API_VERSION = re.compile(r"|preview|\d{4}-\d{2}-\d{2}(?:-preview)?")
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-\d{1,2}")
# They belong to the connection; a provider that needs another host has another base_url.
_NOT_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-encoding", "expect"}
)
# Of servers behind OpenAI's API, those whose limit on an answer has its older name alone: Mistral's refuses the newer
# one, the others read past it, and write as long as they like. Ollama lives at a port of its own.
_OLD_LIMIT = frozenset({"api.mistral.ai", "api.deepseek.com", "api.perplexity.ai", "api.together.xyz"})
_OLLAMA_PORT = 11434
# It refuses every field that it does not know, and counts streams unasked.
_MISTRAL = "api.mistral.ai"
# What dialects put behind the address themselves.
_OPERATIONS = ("/chat/completions", "/responses", "/messages", "/embeddings", "/completions")
_SENDABLE = re.compile(r"[\x21-\x7e]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")
BILLS_CANCELLED = ("full", "delivered", "nothing")


@dataclass(frozen=True, slots=True)
class Provider:
    """A place that runs models.

    `api_key` and `headers` are secrets. `base_url` includes the version (`https://api.openai.com/v1`). Plain http is
    for this machine, or with `allow_private_address`, which also opens private networks. A provider on this machine
    or in a private network may do without a key. `ca_file` names the certificates to trust instead of the system's.

    `max_tokens_field` and `asks_stream_usage` are for older OpenAI-compatible servers; unset, the address decides.
    `images_in_tool_results` is for servers that take what OpenAI's chat completions refuse. `api_version` is Azure's:
    empty or `preview` for the v1 addresses, a date for those with the deployment in the path. Bedrock takes `region`
    and either `api_key` or the three `aws_` fields, of which the session token is for temporary keys.
    `bills_cancelled` is what it charges for a request that was cancelled because another one answered first: the
    `full` answer, what it had `delivered`, or `nothing`. The default may book too much, the others too little.
    `drain_on_cancel` says that it bills calls whose caller has left: they are read to their end, to book what it says.
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
    max_tokens_field: str = ""
    asks_stream_usage: bool | None = None
    images_in_tool_results: bool = False
    api_version: str = ""
    region: str = ""
    aws_access_key_id: str = ""
    aws_secret_access_key: Secret | None = None
    aws_session_token: Secret | None = None
    bills_cancelled: str = "full"
    drain_on_cancel: bool = False

    def url(self) -> str:
        """The base URL, the vendor's own when the file names none."""
        return self.base_url or _BASE_URLS.get(self.dialect, "").format(region=self.region)

    def key(self) -> str:
        """The key in clear text, empty when there is none. White space around it is left there by files and shells."""
        return _clear(self.api_key)

    def aws_keys(self) -> AwsCredentials | None:
        """The keys to sign with, None when there is no secret one."""
        secret = _clear(self.aws_secret_access_key)
        return AwsCredentials(self.aws_access_key_id, secret, _clear(self.aws_session_token)) if secret else None

    def limit_field(self) -> str:
        """The name of the limit on an answer in OpenAI's chat completions."""
        if self.max_tokens_field:
            return self.max_tokens_field
        url = urlsplit(self.url())
        return "max_tokens" if url.hostname in _OLD_LIMIT or url.port == _OLLAMA_PORT else "max_completion_tokens"

    def seed_field(self) -> str:
        """The name of the seed there."""
        return "random_seed" if self.is_mistral() else "seed"

    def is_mistral(self) -> bool:
        """Whether the address is Mistral's own."""
        return urlsplit(self.url()).hostname == _MISTRAL

    def counts_streams_if_asked(self) -> bool:
        """Whether the usage of a stream is to be asked for there."""
        return not self.is_mistral() if self.asks_stream_usage is None else self.asks_stream_usage

    def knows_developer(self) -> bool:
        """Whether messages of the role developer go out as such: elsewhere they are refused, or read by nobody."""
        host = urlsplit(self.url()).hostname or ""
        return self.dialect == "azure" or host.endswith(".openai.com")

    def has_credential(self) -> bool:
        """Whether calls can be expected to pass the door."""
        keyless = self.dialect == "local" or self.allow_private_address or is_loopback_host(self.url())
        return keyless or bool(self.key()) or bool(self.headers) or self.aws_secret_access_key is not None

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
                self.max_tokens_field not in {"", "max_completion_tokens", "max_tokens"},
                "needs max_tokens_field to be max_completion_tokens or max_tokens",
            ),
            (self.bills_cancelled not in BILLS_CANCELLED, "needs bills_cancelled to be full, delivered or nothing"),
        )
        found = next((sentence for wrong, sentence in checks if wrong), "")
        return found or self._vendor_problem() or ("" if self.dialect == "local" else self._address_problem())

    def _vendor_problem(self) -> str:
        signs = bool(self.aws_access_key_id) or self.aws_secret_access_key is not None
        forbidden = sorted(name for name in self.headers if name.lower() in _NOT_HEADERS)
        checks = (
            (bool(forbidden), f"must not set the header {', '.join(forbidden)}; it belongs to the connection"),
            (
                bool(self.api_version) and self.dialect != "azure",
                "has an api_version, which only dialect azure knows; remove it",
            ),
            (
                _API_VERSION.fullmatch(self.api_version) is None,
                "needs an api_version such as 2024-10-21, or preview, or none for the v1 addresses",
            ),
            (
                self.dialect == "bedrock" and _REGION.fullmatch(self.region) is None,
                "needs a region such as us-east-1",
            ),
            (
                (signs or self.aws_session_token is not None) and self.dialect != "bedrock",
                "has aws_ fields, which only dialect bedrock knows; remove them",
            ),
            (
                signs and not (self.aws_access_key_id and self.aws_secret_access_key is not None),
                "needs both aws_access_key_id and aws_secret_access_key, or api_key instead",
            ),
            (
                self.dialect == "litellm" and bool(self.headers or self.ca_file),
                "has headers or a ca_file, which dialect litellm cannot pass on; remove them",
            ),
            (
                self.images_in_tool_results and self.dialect != "openai",
                "has images_in_tool_results, which only dialect openai knows; remove it",
            ),
            *self._unsendable(),
            (signs and bool(self.key()), "has an api_key and aws_ fields; keep one of the two"),
        )
        return next((sentence for wrong, sentence in checks if wrong), "")

    def _unsendable(self) -> Iterable[tuple[bool, str]]:
        """What no header can hold: the connection would refuse it, call by call."""
        words = {
            "api_key": self.key(),
            "organisation": self.organisation,
            "project": self.project,
            "aws_access_key_id": self.aws_access_key_id,
            "aws_secret_access_key": _clear(self.aws_secret_access_key),
            "aws_session_token": _clear(self.aws_session_token),
        }
        for name, value in words.items():
            yield (
                _SENDABLE.fullmatch(value) is None,
                f"needs {name} of visible ASCII alone: no header can hold what it has",
            )
        for name, secret in self.headers.items():
            fits = _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(secret.reveal())
            yield not fits, f"has a header {name!r} that cannot be sent: visible ASCII in one line, no spaces in names"

    def _address_problem(self) -> str:
        if self.dialect == "litellm" and not self.base_url:
            return ""
        try:
            url = urlsplit(self.url())
            readable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
            readable = readable and _SENDABLE.fullmatch(self.url()) is not None
        except ValueError:  # brackets of no IPv6 address, a port that is none
            readable = False
        if not readable:
            return "needs a base_url such as https://api.example.com/v1"
        if url.username or url.password or url.query or url.fragment:
            return "has a base_url with credentials, a query or a fragment; put credentials into api_key or headers"
        if self.url().rstrip("/").endswith(_OPERATIONS):
            return "has a base_url that ends with an operation; end it before that, as https://api.example.com/v1 does"
        if url.scheme == "http" and not (self.allow_private_address or is_loopback_host(self.url())):
            return "has an http base_url; use https, or set allow_private_address for a private network"
        return self._refused_address(url.hostname or "")

    def _refused_address(self, host: str) -> str:
        """Of an address that is written out, what the first connection would say; a name is resolved then."""
        if not is_numeric_host(host):
            return ""
        if not is_allowed(host, private=True, loopback=True):
            return f"has a base_url at {host}, which is never connected to; this machine is 127.0.0.1"
        if is_allowed(host, private=self.allow_private_address, loopback=is_loopback_host(self.url())):
            return ""
        return f"has a base_url at {host}, in a private network; set allow_private_address if that is meant"


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """USD per million tokens as decimal text, "0.15": for strategy `cheapest`. What is charged is `ledger.prices`."""

    input_usd_per_million: str = ""
    output_usd_per_million: str = ""

    def price(self) -> ModelPrice:
        """As the core knows it. Raises ValueError."""
        return ModelPrice(nano_usd(self.input_usd_per_million), nano_usd(self.output_usd_per_million))


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model that callers and routes may name. `model` is the provider's own name; token counts of 0 mean not known.

    `timeout_s` bounds a whole answer; on streams the first token has `first_token_timeout_s` and each pause
    `idle_timeout_s`, and the caller's deadline bounds the rest. `omit_parameters` names request fields, in the
    provider's spelling, that this model refuses and that shall be left out. `tool_reasoning_effort` is sent with
    tools when the caller names no effort. `kind` is chat or embeddings. Vectors are comparable within one
    `vector_space`, which is the provider's name of the model unless it is set: for two names of one model, such as a
    deployment's. Models with the same `quota` share what their providers allow: when one of them is told to wait, all
    do. Empty: only those that name the same model of the same provider. `price` is for comparing models; without it the
    dated table is asked.
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
    kind: str = "chat"
    vector_space: str = ""
    quota: str = ""
    price: TokenPrice | None = None

    def problem(self) -> str:
        """What is wrong with this model; empty when nothing is."""
        checks = (
            (not self.model, "needs the provider's name of the model in `model`"),
            (
                min(self.timeout_s, self.first_token_timeout_s, self.idle_timeout_s) <= 0,
                "needs timeouts above zero",
            ),
            (
                min(self.context_tokens, self.max_output_tokens) < 0,
                "needs token counts of zero (not known) or more",
            ),
            (self.kind not in {"chat", "embeddings"}, f"has the unknown kind {self.kind!r}; use chat or embeddings"),
            (
                bool(self.vector_space) and self.kind == "chat",
                "has a vector_space, which only kind embeddings has; remove it",
            ),
        )
        return next((sentence for wrong, sentence in checks if wrong), "") or self._price_problem()

    def _price_problem(self) -> str:
        try:
            if self.price is not None:
                self.price.price()
        except ValueError as error:
            return f"has a price that cannot be read: {error}"
        return ""

    def spec(self, name: str, provider: Provider) -> ModelSpec:
        """This model as the core knows it. `name` is its own, `provider` the one that it names."""
        return ModelSpec(
            name=name,
            provider=self.provider,
            model=self.model,
            endpoint=f"{provider.dialect} {provider.url()}",
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            supports_tools=self.supports_tools and self.kind == "chat",
            supports_images=self.supports_images,
            supports_structured_output=self.supports_structured_output,
            timeout_s=self.timeout_s,
            first_token_timeout_s=self.first_token_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            omit_parameters=frozenset(self.omit_parameters),
            tool_reasoning_effort=self.tool_reasoning_effort,
            has_credential=provider.has_credential(),
            kind=self.kind,
            vector_space=(self.vector_space or self.model) if self.kind == "embeddings" else "",
            quota=self.quota,
            bills_cancelled=provider.bills_cancelled,
            drain_on_cancel=provider.drain_on_cancel,
        )


def _clear(secret: Secret | None) -> str:
    return secret.reveal().strip() if secret is not None else ""


# Current small and middle models of each vendor, November 2026. The reasoning models refuse sampling parameters;
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
_OPENAI_MODELS["openai/text-embedding-3-small"] = ModelConfig(
    provider="openai", model="text-embedding-3-small", context_tokens=8191, timeout_s=30.0, kind="embeddings"
)
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
_GEMINI_MODELS = {
    f"gemini/{model}": ModelConfig(provider="gemini", model=model, context_tokens=1_048_576, max_output_tokens=65_536)
    for model in ("gemini-3.8-flash", "gemini-3.5-flash-lite")
}
_GEMINI_MODELS["gemini/gemini-embedding-001"] = ModelConfig(
    provider="gemini", model="gemini-embedding-001", context_tokens=2048, timeout_s=30.0, kind="embeddings"
)
VENDORS: tuple[tuple[str, str, Provider, dict[str, ModelConfig]], ...] = (
    ("OPENAI_API_KEY", "openai", Provider("openai", "https://api.openai.com/v1"), _OPENAI_MODELS),
    ("ANTHROPIC_API_KEY", "anthropic", Provider("anthropic", "https://api.anthropic.com/v1"), _ANTHROPIC_MODELS),
    ("GEMINI_API_KEY", "gemini", Provider("gemini"), _GEMINI_MODELS),
)
