"""What the contract tests ask of a router on its own: over which models, and what the upstream answers."""

from __future__ import annotations

from typing import Any

from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2 as pb

from services.router.provider_settings import ModelConfig, Provider
from services.router.route_settings import Route
from services.router.settings import DEFAULT_MODEL, RouterSettings

ANSWER = {
    "id": "chatcmpl-1",
    "model": "big-1-0613",
    "choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}


def settings(url: str) -> RouterSettings:
    return RouterSettings(
        providers={"local": Provider(dialect="local"), "vendor": Provider(base_url=url)},
        models={
            "big": ModelConfig(provider="vendor", model="big-1", max_output_tokens=100),
            **RouterSettings().models,
        },
        routes={"default": Route(("big", DEFAULT_MODEL), max_retries=0)},
    )


def call(text: str = "Hello", model: str = "", **fields: Any) -> pb.ModelCall:
    return pb.ModelCall(
        model=model, messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)], **fields
    )
