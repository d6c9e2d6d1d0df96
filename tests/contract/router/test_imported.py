"""A configuration that was LiteLLM's answers in a running router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc

from llmops_cli.configuration import build_configuration
from llmops_cli.litellm_import import import_litellm
from llmops_cli.provider_sim import ProviderSim
from llmops_cli.provider_sim.script import Rule, Script
from services.router.main import build
from tests.support.one_service import FOR_CALLER, running_service


def litellm(base_url: str) -> dict[str, Any]:
    def entry(name: str, model: str, **params: object) -> dict[str, Any]:
        there = {"model": model, "api_base": base_url, "api_key": "os.environ/SIM_KEY"}
        return {"model_name": name, "litellm_params": there | params}

    return {
        "model_list": [
            entry("writer", "openai/away"),
            entry("reserve", "anthropic/claude-there", weight=2),
            entry("reserve", "openai/never", weight=0),
        ],
        "router_settings": {
            "fallbacks": [{"writer": ["reserve"]}, {"w": ["reserve"]}],
            "num_retries": 0,
            "model_group_alias": {"w": "writer"},
        },
    }


async def answers(raw: Mapping[str, Any], *names: str) -> list[tuple[str, str]]:
    """What a router says that runs the imported configuration, and the model that said it."""
    settings = build_configuration("imported", import_litellm(raw).sections, {"SIM_KEY": "k"}).targets["router"]
    found = []
    async with running_service("router", build, settings, "local", "") as (channel, _):
        stub: Any = router_pb2_grpc.RouterServiceStub(channel)
        for name in names:
            message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Who are you?")
            call = pb.ModelCall(model=name, messages=[message])
            answer = await stub.Complete(pb.CompleteRequest(call=call), metadata=FOR_CALLER)
            found.append((answer.completion.content, answer.attempts[-1].model_name))
    return found


async def test_an_imported_configuration_answers() -> None:
    rules = (Rule(model="away", status=500), Rule(model="claude-there", text="I am the reserve."))
    async with ProviderSim(script=Script(rules=rules)) as sim:
        found = await answers(litellm(sim.base_url), "writer", "w", "reserve")
    assert found == [("I am the reserve.", "reserve/1")] * 3


async def test_who_stands_in_has_others_who_stand_in() -> None:
    def entry(name: str, address: str) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": address, "api_key": "k"}}

    rules = (Rule(model="a", status=500), Rule(model="b", status=503), Rule(model="c", text="I am the last."))
    async with ProviderSim(script=Script(rules=rules)) as sim:
        entries = [entry(name, sim.base_url) for name in "abc"]
        router = {"fallbacks": [{"a": ["b"]}, {"b": ["c"]}], "num_retries": 2}
        found = await answers({"model_list": entries, "router_settings": router}, "a")
    assert found == [("I am the last.", "c/1")]


async def test_addresses_lead_where_they_led() -> None:
    """LiteLLM asks /v1/messages and Ollama's own paths behind what is written."""
    rules = (Rule(model="claude-there", text="I am here."), Rule(model="llama", text="I am here."))
    async with ProviderSim(script=Script(rules=rules)) as sim:
        address = sim.base_url.removesuffix("/v1")
        entries = [
            {"model_name": name, "litellm_params": {"model": name, "api_base": address, "api_key": "k"}}
            for name in ("anthropic/claude-there", "ollama_chat/llama")
        ]
        found = await answers({"model_list": entries}, *(entry["model_name"] for entry in entries))
    assert [text for text, _ in found] == ["I am here."] * 2
