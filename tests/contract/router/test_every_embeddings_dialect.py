"""One suite over all dialects for embeddings against the provider simulator on real sockets.

What only an odd server sends (rows out of order, numbers for base64, one text of many refused) is in
test_embeddings_contract.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmops_cli.provider_sim import ProviderSim, Rule
from llmops_cli.provider_sim.vectors import unit_vectors
from services.router.adapters.dialects.azure_openai import AzureOpenAi
from services.router.adapters.dialects.base import Dialect
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
from services.router.adapters.http import HttpLimits, HttpProvider
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Usage
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import EmbedderAnswer, EmbedderRequest, EmbedTexts

if TYPE_CHECKING:
    from tests.contract.router.conftest import OpenProvider

TEXTS = ("the ferry leaves at noon", "dogs travel free", "on sundays at ten")
TOKENS = 6 + 4 + 5
# Of its chat and its vectors, its address below the simulator's, and a model.
DIALECTS: dict[str, tuple[Dialect, EmbeddingsDialect, str, str]] = {
    "openai": (OpenAiChat(), OpenAiEmbeddings(), "/v1", "vectors"),
    "azure": (AzureOpenAi(api_version="2024-10-21"), AzureEmbeddings("2024-10-21"), "", "vectors"),
    "azure-v1": (AzureOpenAi(), AzureEmbeddings(), "", "vectors"),
    "gemini": (GeminiGenerate(), GeminiEmbeddings(), "/v1beta", "gemini-embedding-001"),
    "titan": (BedrockConverse(), BedrockEmbeddings(), "", "amazon.titan-embed-text-v2:0"),
    "cohere": (BedrockConverse(), BedrockEmbeddings(), "", "cohere.embed-v4:0"),
}
LIMITS = HttpLimits(max_response_bytes=32 << 20)


@dataclass
class Asked:
    """A dialect on its way to the simulator."""

    name: str
    sim: ProviderSim
    provider: HttpProvider
    model: str

    async def embed(self, *texts: str, dimensions: int = 0) -> EmbedderAnswer:
        spec = ModelSpec("m", "p", self.model)
        return await self.provider.embed(EmbedderRequest(EmbedTexts("", texts, dimensions), spec, "req-1"))

    async def refused(self, **rule: Any) -> Failure:
        self.sim.script = [Rule(model=self.model, **rule)]
        with pytest.raises(ProviderError) as caught:
            await self.embed("x")
        return caught.value.failure


@pytest.fixture(params=DIALECTS)
async def asked(request: pytest.FixtureRequest, open_provider: OpenProvider) -> AsyncIterator[Asked]:
    chat, embeddings, path, model = DIALECTS[request.param]
    async with ProviderSim() as sim:
        provider = await open_provider(sim.url + path, chat, embeddings=embeddings, limits=LIMITS)
        yield Asked(request.param, sim, provider, model)


async def test_vectors_cost_what_the_provider_bills(asked: Asked) -> None:
    answer = await asked.embed(*TEXTS)
    assert np.array_equal(answer.vectors, unit_vectors(TEXTS, 1536))
    assert {record.model for record in asked.sim.billing} == {asked.model}
    assert all(record.key_hash and record.billed_output_tokens == 0 for record in asked.sim.billing)
    assert sum(record.billed_input_tokens for record in asked.sim.billing) == TOKENS
    # Neither says what it used.
    assert answer.usage == (None if asked.name in {"gemini", "cohere"} else Usage(TOKENS))


async def test_a_length_that_is_asked_for(asked: Asked) -> None:
    assert np.array_equal((await asked.embed("x", dimensions=8)).vectors, unit_vectors(["x"], 8))


async def test_as_many_texts_as_the_contract_has(asked: Asked) -> None:
    texts = [f"text number {number}" for number in range(256)]
    asked.sim.script = [Rule(dimensions=8)]
    assert np.array_equal((await asked.embed(*texts)).vectors, unit_vectors(texts, 8))
    assert len(asked.sim.billing) == {"gemini": 3, "titan": 256, "cohere": 3}.get(asked.name, 1)


@pytest.mark.parametrize(
    ("rule", "causes"),
    [
        ({"malformed": "truncated"}, {"malformed-json"}),
        ({"malformed": "invalid_utf8"}, {"malformed-json", "invalid-utf8"}),
        ({"cut_after_chunks": 0}, {"cut-mid-answer"}),
        ({"gzip_bomb_bytes": 64 << 20}, {"response-too-large"}),
        ({"error_after_chunks": 0}, {"wrong-number-of-vectors"}),
    ],
)
async def test_broken_answers_are_typed_failures(asked: Asked, rule: dict[str, Any], causes: set[str]) -> None:
    failure = await asked.refused(**rule)
    assert (failure.kind, failure.cause in causes) == (FailureKind.BROKEN, True), failure
    assert asked.sim.billing[-1].billed_input_tokens == 1


async def test_refusals_by_class(asked: Asked) -> None:
    limited = await asked.refused(status=429, headers={"Retry-After": "7"})
    assert (limited.kind, limited.retry_after_s) == (FailureKind.RATE_LIMITED, 7.0)
    for status, kind in {
        500: FailureKind.UNAVAILABLE,
        503: FailureKind.UNAVAILABLE,
        401: FailureKind.CREDENTIAL,
        404: FailureKind.UNKNOWN_MODEL,
        400: FailureKind.REJECTED,
    }.items():
        assert (await asked.refused(status=status)).kind is kind
    assert sum(record.billed_input_tokens for record in asked.sim.billing) == 0
