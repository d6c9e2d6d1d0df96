"""Providers behind HTTP as the configuration describes them: which dialect, which address, who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from services.router.adapters.aws import AwsSigner
from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.azure_openai import AzureOpenAi
from services.router.adapters.dialects.base import ANY_IDS, Dialect
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.embeddings import (
    AzureEmbeddings,
    BedrockEmbeddings,
    EmbeddingsDialect,
    GeminiEmbeddings,
    OpenAiEmbeddings,
)
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_chat_request import MISTRAL_IDS, OWN_IDS, Ways
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.adapters.http import Endpoint, HttpLimits, HttpProvider, open_session
from services.router.adapters.litellm_bridge import LitellmProvider, load_litellm
from services.router.core.addresses import is_loopback_host
from services.router.provider_settings import Provider


@asynccontextmanager
async def open_remote(
    provider: Provider, limits: HttpLimits, now: Callable[[], datetime]
) -> AsyncIterator[HttpProvider | LitellmProvider]:
    """A provider with a session of its own, closed at the end; made in the running loop. Raises LitellmMissing."""
    if provider.dialect == "litellm":
        yield LitellmProvider(await load_litellm(), provider.key(), provider.url())
        return
    dialect = dialect_of(provider)
    endpoint = Endpoint(
        base_url=provider.url(),
        api_key=provider.key(),
        organisation=provider.organisation,
        project=provider.project,
        headers={name: value.reveal() for name, value in provider.headers.items()},
        connect_timeout_s=provider.connect_timeout_s,
        max_connections=provider.max_connections,
        keepalive_s=provider.keepalive_s,
        ca_file=provider.ca_file,
        allow_private=provider.allow_private_address,
        allow_loopback=is_loopback_host(provider.url()),
    )
    async with open_session(endpoint, dialect) as session:
        yield HttpProvider(
            dialect,
            endpoint.base_url,
            session,
            limits=limits,
            now=now,
            sign=_signer(provider, now),
            embeddings=embeddings_of(provider),
        )


def dialect_of(provider: Provider) -> Dialect:
    """The wire format that a provider speaks. `provider` is valid and not the built-in one."""
    match provider.dialect:
        case "anthropic":
            return AnthropicMessages()
        case "openai_responses":
            return OpenAiResponses()
        case "gemini":
            return GeminiGenerate()
        case "bedrock":
            return BedrockConverse()
        case "azure":
            return AzureOpenAi(_ways(provider), provider.counts_streams_if_asked(), api_version=provider.api_version)
        case _:
            return OpenAiChat(_ways(provider), provider.counts_streams_if_asked())


def _ways(provider: Provider) -> Ways:
    ids = OWN_IDS if provider.knows_developer() else ANY_IDS
    return Ways(
        provider.limit_field(),
        provider.seed_field(),
        knows_developer=provider.knows_developer(),
        images_in_results=provider.images_in_tool_results,
        call_ids=MISTRAL_IDS if provider.is_mistral() else ids,
    )


def embeddings_of(provider: Provider) -> EmbeddingsDialect | None:
    """How a provider makes vectors; None when it makes none."""
    match provider.dialect:
        case "openai":
            return OpenAiEmbeddings()
        case "azure":
            return AzureEmbeddings(provider.api_version)
        case "gemini":
            return GeminiEmbeddings()
        case "bedrock":
            return BedrockEmbeddings()
        case _:
            return None


def _signer(provider: Provider, now: Callable[[], datetime]) -> AwsSigner | None:
    """A bearer key needs none."""
    credentials = provider.aws_keys()
    if provider.dialect != "bedrock" or provider.key() or credentials is None:
        return None
    return AwsSigner(credentials, provider.region, "bedrock", now)
