"""What a key that is limited to environments gets from the registry: the orchestrator's rule where prompts are read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.registry.v1 import registry_pb2 as pb
from llmops.registry.v1 import registry_pb2_grpc

from meshkit.context import CallContext, new_trace, running
from meshkit.errors import CallError
from meshkit.identity import Principal, Scopes
from services.registry.main import build
from services.registry.settings import RegistrySettings
from tests.support.one_service import OPERATOR, running_service

STAGING = Principal(
    "acme", "", "ada", "key-1", frozenset({"operator"}), scopes=Scopes(environments=frozenset({"staging"}))
)


@asynccontextmanager
async def limited(url: str) -> AsyncIterator[Any]:
    """A registry with 1.0 in production, 1.1 in staging and 1.2 nowhere; called by a key that is limited to staging."""
    async with running_service("registry", build, RegistrySettings(), "local", url) as (channel, _):
        stub: Any = registry_pb2_grpc.RegistryServiceStub(channel)
        for version, environments in (("1.0", ["production"]), ("1.1", ["staging"]), ("1.2", [])):
            await stub.PublishPrompt(publication(version, *environments), metadata=OPERATOR)
        with running(CallContext("r", STAGING, "", new_trace(sampled=False), None)):
            yield stub


def publication(version: str, *environments: str) -> pb.PublishPromptRequest:
    template = pb.TemplateMessage(role=chat_pb2.CHAT_ROLE_USER, template=f"Hello {version}")
    prompt = pb.PromptVersion(name="hello", version=version, messages=[template])
    return pb.PublishPromptRequest(request_id=f"r-{version}", prompt=prompt, activate_environments=environments)


async def outcome(call: Any) -> str:
    try:
        answer = await call
    except CallError as error:
        return error.reason
    return str(answer.prompt.version)


async def test_prompts_of_its_environment_are_read(fresh_url: str) -> None:
    async with limited(fresh_url) as stub:
        assert await outcome(stub.GetPrompt(pb.GetPromptRequest(reference="hello@staging"))) == "1.1"
        assert await outcome(stub.Resolve(pb.ResolveRequest(reference="hello@staging", render=True))) == "1.1"


async def test_nothing_else_is_and_whether_it_is_there_is_not_told(fresh_url: str) -> None:
    async with limited(fresh_url) as stub:
        digest = (await stub.GetPrompt(pb.GetPromptRequest(reference="hello@staging"))).prompt.digest
        for reference in ("hello", "hello@production", "hello/v1", "hello/v1.1", digest, "nothing", "nothing@nowhere"):
            assert await outcome(stub.GetPrompt(pb.GetPromptRequest(reference=reference))) == "PERMISSION_DENIED"
            assert await outcome(stub.Resolve(pb.ResolveRequest(reference=reference))) == "PERMISSION_DENIED"


async def test_where_else_a_prompt_is_served_is_not_told(fresh_url: str) -> None:
    async with limited(fresh_url) as stub:
        elsewhere = publication("2.0", "production")
        elsewhere.prompt.name = "goodbye"
        await stub.PublishPrompt(elsewhere, metadata=OPERATOR)
        told = set()
        for name in ("goodbye", "nothing"):
            for call, request in ((stub.GetPrompt, pb.GetPromptRequest), (stub.Resolve, pb.ResolveRequest)):
                with pytest.raises(CallError) as caught:
                    await call(request(reference=f"{name}@staging"))
                assert caught.value.reason == "PROMPT_NOT_FOUND"
                told.add(str(caught.value).replace(name, "…"))
        assert told == {"…@staging is not served; ListPrompts names what is"}
        with pytest.raises(CallError, match="it is served in production"):
            await stub.GetPrompt(pb.GetPromptRequest(reference="goodbye@staging"), metadata=OPERATOR)


async def test_a_list_holds_what_its_environment_serves(fresh_url: str) -> None:
    async with limited(fresh_url) as stub:
        assert [p.version for p in (await stub.ListPrompts(pb.ListPromptsRequest())).prompts] == ["1.1"]
        everything = await stub.ListPrompts(pb.ListPromptsRequest(), metadata=OPERATOR)
        assert [p.version for p in everything.prompts] == ["1.2", "1.1", "1.0"]


async def test_a_watch_of_everything_is_refused(fresh_url: str) -> None:
    async with limited(fresh_url) as stub:
        with pytest.raises(CallError, match="limited to prompts of some environments; use ListPrompts"):
            await anext(aiter(stub.Watch(pb.WatchRequest())))


async def test_it_moves_its_environment_and_no_other(fresh_url: str) -> None:
    async with limited(fresh_url) as stub:
        refused = publication("1.3", "staging", "production")
        with pytest.raises(CallError, match="may not move production; it is limited to staging"):
            await stub.PublishPrompt(refused)
        assert await outcome(stub.PublishPrompt(publication("1.3", "staging"))) == "1.3"
        assert await outcome(stub.GetPrompt(pb.GetPromptRequest(reference="hello@staging"))) == "1.3"
        assert await outcome(stub.PublishPrompt(publication("1.4"))) == "1.4"
