"""The bridge to the package `litellm`, against the provider simulator. Skipped where the package is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator

import pytest

from llmops_cli.provider_sim import ProviderSim
from services.router.adapters.litellm_bridge import LitellmMissing, LitellmProvider, load_litellm
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import FinishReason, Message, ModelCall
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import Chunk, EmbedderRequest, EmbedTexts, ProviderRequest

INSTALLED = importlib.util.find_spec("litellm") is not None
needs_litellm = pytest.mark.skipif(not INSTALLED, reason="litellm is not installed: the bridge was NOT tested here")


def request(rule: str) -> ProviderRequest:
    call = ModelCall("", (Message("user", "hello"),))
    return ProviderRequest(call, ModelSpec("m", "p", f"openai/sim-{rule}"), "req-1")


@pytest.fixture
async def bridge() -> AsyncIterator[tuple[LitellmProvider, ProviderSim]]:
    litellm = await load_litellm()
    async with ProviderSim() as sim:
        yield LitellmProvider(litellm, "sk-bridge", sim.base_url), sim


@pytest.mark.skipif(INSTALLED, reason="litellm is installed")
async def test_without_the_package_the_sentence_says_what_to_install() -> None:
    with pytest.raises(LitellmMissing, match=r"llmops-mesh\[litellm\]"):
        await load_litellm()


@needs_litellm
async def test_an_answer_and_a_stream(bridge: tuple[LitellmProvider, ProviderSim]) -> None:
    provider, sim = bridge
    answer = await provider.complete(request("tokens-7"))
    assert len(answer.completion.content.split()) == 7
    assert answer.completion.finish_reason is FinishReason.STOP
    assert answer.usage is not None
    assert answer.usage.output_tokens == 7
    chunks: list[Chunk] = [chunk async for chunk in provider.stream(request("tokens-7"))]
    text = "".join(chunk.delta.content for chunk in chunks if chunk.delta is not None)
    assert text.split() == answer.completion.content.split()
    assert [chunk.finished for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [record.outcome for record in sim.billing] == ["completed", "completed"]


@needs_litellm
@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("429", FailureKind.RATE_LIMITED),
        ("401", FailureKind.CREDENTIAL),
        ("404", FailureKind.UNKNOWN_MODEL),
        ("500", FailureKind.UNAVAILABLE),
        ("400", FailureKind.REJECTED),
    ],
)
async def test_refusals_by_class_and_asked_once(
    bridge: tuple[LitellmProvider, ProviderSim], rule: str, kind: FailureKind
) -> None:
    provider, sim = bridge
    with pytest.raises(ProviderError) as caught:
        await provider.complete(request(rule))
    failure: Failure = caught.value.failure
    assert failure.kind is kind
    assert len(sim.billing) == 1, "the router retries, the package must not"


@needs_litellm
async def test_it_makes_no_vectors(bridge: tuple[LitellmProvider, ProviderSim]) -> None:
    with pytest.raises(ProviderError) as caught:
        await bridge[0].embed(EmbedderRequest(EmbedTexts("", ("x",)), request("echo").spec))
    assert caught.value.failure.kind is FailureKind.UNSUPPORTED
