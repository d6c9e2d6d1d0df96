"""A configuration that was LiteLLM's answers in a running router."""

from __future__ import annotations

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


async def test_an_imported_configuration_answers() -> None:
    rules = (Rule(model="away", status=500), Rule(model="claude-there", text="I am the reserve."))
    async with ProviderSim(script=Script(rules=rules)) as sim:
        sections = import_litellm(litellm(sim.base_url)).sections
        settings = build_configuration("imported", sections, {"SIM_KEY": "k"}).targets["router"]
        async with running_service("router", build, settings, "local", "") as (channel, _):
            stub: Any = router_pb2_grpc.RouterServiceStub(channel)
            for name in ("writer", "w", "reserve"):
                message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Who are you?")
                call = pb.ModelCall(model=name, messages=[message])
                answer = await stub.Complete(pb.CompleteRequest(call=call), metadata=FOR_CALLER)
                assert answer.completion.content == "I am the reserve."
                assert answer.attempts[-1].model_name == "reserve/1"
