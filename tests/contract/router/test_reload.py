"""mesh.yaml changed under a router that serves: F23 and row 40 of the failures of peers."""

from __future__ import annotations

import asyncio
import copy
import gc
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc

from llmops_cli.configuration import load_configuration
from llmops_cli.provider_sim import ProviderSim
from llmops_cli.provider_sim.script import Rule, Script
from llmops_cli.reloading import RunningConfiguration
from meshkit.errors import CallError
from meshkit.runtime import Runtime
from services.router.main import build
from tests.support.one_service import FOR_CALLER, running_service

WORDS = 120
RULES = (
    Rule(model="first", text="I am the first."),
    Rule(model="second", text="I am the second."),
    Rule(model="long", text=" ".join(f"word{n}" for n in range(WORDS)), token_interval_ms=4),
    Rule(model="limited", status=429, headers={"Retry-After": "60"}),
    Rule(model="late", status=429, headers={"Retry-After": "60"}, latency_ms=300),
)


def router_section(base_url: str) -> dict[str, Any]:
    return {
        "providers": {"sim": {"base_url": base_url, "api_key": "k"}},
        "models": {name: {"provider": "sim", "model": name} for name in ("first", "second", "long", "limited", "late")},
        "routes": {"default": {"candidates": ["first"], "max_retries": 0}},
    }


class World:
    """A router, its file, and whoever calls it."""

    def __init__(self, file: Path, section: dict[str, Any], channel: Any, runtime: Runtime) -> None:
        self.file, self.section, self.runtime = file, section, runtime
        self.running = RunningConfiguration(load_configuration(file, {}), lambda: load_configuration(file, {}))
        self.stub: Any = router_pb2_grpc.RouterServiceStub(channel)

    def write(self, section: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump({"router": section}))

    async def change(self, **changes: Any) -> bool:
        self.section = copy.deepcopy(self.section) | changes
        self.write(self.section)
        return await self.running.reload(self.runtime)

    def error(self) -> str:
        shown: Any = self.running.effective()
        return str(shown["running"]["error"])

    async def ask(self, model: str = "") -> str:
        answer = await self.stub.Complete(pb.CompleteRequest(call=call(model)), metadata=FOR_CALLER, timeout=5)
        return str(answer.completion.content)

    async def answers_or_refuses(self, model: str) -> bool:
        """A file may take a model away, or leave it nothing to do; it may not break the router."""
        try:
            return (await self.ask(model)).startswith("I am the ")
        except CallError as error:
            return error.reason != "INTERNAL"

    async def stream(self, model: str = "long") -> str:
        events = self.stub.CompleteStream(pb.CompleteStreamRequest(call=call(model)), metadata=FOR_CALLER, timeout=20)
        return "".join([event.delta.content async for event in events])

    async def under_way(self, model: str) -> int:
        listed = await self.stub.ListModels(pb.ListModelsRequest(), metadata=FOR_CALLER)
        return next(each.health.calls_under_way for each in listed.models if each.name == model)

    async def cooling(self) -> set[str]:
        listed = await self.stub.ListModels(pb.ListModelsRequest(), metadata=FOR_CALLER)
        return {model.name for model in listed.models if model.cooling_down}


def call(model: str) -> pb.ModelCall:
    return pb.ModelCall(model=model, messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Hello")])


@asynccontextmanager
async def running(tmp_path: Path, transport: str) -> AsyncIterator[World]:
    async with ProviderSim(script=Script(rules=RULES)) as sim:
        file, section = tmp_path / "mesh.yaml", router_section(sim.base_url)
        file.write_text(yaml.safe_dump({"router": section}))
        settings = load_configuration(file, {}).targets["router"]
        async with running_service("router", build, settings, transport, "") as (channel, runtime):
            yield World(file, section, channel, runtime)


@pytest.fixture(params=["local", "grpc"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path, request.param) as made:
        yield made


async def test_new_calls_take_the_new_route_and_no_stream_breaks(world: World) -> None:
    streams = [asyncio.ensure_future(world.stream()) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert await world.ask() == "I am the first."
    assert await world.change(routes={"default": {"candidates": ["second"], "max_retries": 0}})
    assert await world.ask() == "I am the second."
    # The model that they run on is not even configured any more.
    assert await world.change(models={"second": {"provider": "sim", "model": "second"}})
    assert not any(stream.done() for stream in streams)
    assert [len(text.split()) for text in await asyncio.gather(*streams)] == [WORDS] * 5


async def test_connections_are_closed_after_the_last_call_that_uses_them(world: World) -> None:
    stream = asyncio.ensure_future(world.stream())
    await asyncio.sleep(0.05)
    open_before = open_sessions()
    assert await world.change(stream_join_s=0.01)
    assert open_sessions() == open_before + 1
    await stream
    async with asyncio.timeout(2):
        while open_sessions() > open_before:
            await asyncio.sleep(0.01)


def open_sessions() -> int:
    """Sessions to providers that are open in this process."""
    return sum(isinstance(each, aiohttp.ClientSession) and not each.closed for each in gc.get_objects())


async def test_a_refused_file_changes_nothing_and_leaves_nothing_open(world: World) -> None:
    good = world.section
    open_before = open_sessions()
    complaints: list[str] = []  # of sessions that were dropped without being closed
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(str(told["message"])))
    sim = good["providers"]["sim"]
    for providers, says in (
        ({"sim": sim, "other": {**sim, "ca_file": "/nowhere.pem"}}, "router.providers.other.ca_file"),
        ({"sim": {**sim, "dialect": "klingon"}}, "klingon"),
    ):
        assert not await world.change(providers=providers)
        assert says in world.error()
        assert await world.ask() == "I am the first."
    assert (open_sessions(), complaints) == (open_before, [])
    assert await world.change(providers=good["providers"], default_route="second")
    assert (world.error(), await world.ask()) == ("", "I am the second.")


async def test_what_is_known_of_models_that_stay_is_kept(world: World) -> None:
    with pytest.raises(CallError) as caught:
        await world.ask("limited")
    assert caught.value.failure.reason == "UPSTREAM_RATE_LIMITED"
    assert await world.cooling() == {"limited"}
    assert await world.change(stream_join_s=0.01)
    assert await world.cooling() == {"limited"}
    # Another model under the same name starts afresh.
    models = world.section["models"] | {"limited": {"provider": "sim", "model": "first"}}
    assert await world.change(models=models)
    assert await world.cooling() == set()
    assert await world.ask("limited") == "I am the first."


async def test_calls_of_before_go_on_counting_for_models_that_stay(world: World) -> None:
    """They counted where nobody looked: the model was idle, and what they were told rested nobody."""
    late = asyncio.ensure_future(world.ask("late"))
    streams = [asyncio.ensure_future(world.stream()) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert await world.change(stream_join_s=0.01)
    streams.append(asyncio.ensure_future(world.stream()))
    await asyncio.sleep(0.05)
    assert await world.under_way("long") == 6
    with pytest.raises(CallError):
        await late
    assert await world.cooling() == {"late"}
    await asyncio.gather(*streams)
    assert await world.under_way("long") == 0


MUTATIONS: tuple[Callable[[dict[str, Any], random.Random], object], ...] = (
    lambda s, r: s["routes"]["default"].update(candidates=r.sample(["first", "second"], r.randint(0, 2))),
    lambda s, r: s["routes"]["default"].update(max_retries=r.randint(-1, 7)),
    lambda s, r: s["routes"]["default"].update(candidates=["gone"]),
    lambda s, r: s["routes"].pop("default"),
    lambda s, r: s["models"].pop(r.choice(["first", "second", "limited"])),
    lambda s, r: s["models"]["limited"].update(timeout_s=r.choice([-1, 0, 1, 30, "x"])),
    lambda s, r: s["providers"]["sim"].update(api_key=r.choice(["a", "b", 7, None, []])),
    lambda s, r: s["providers"]["sim"].update(dialect=r.choice(["openai", "klingon"])),
    lambda s, r: s["providers"].update(new=r.choice([{}, {"base_url": "https://x.example/v1"}, {"dialect": "local"}])),
    lambda s, r: s.update(stream_join_s=r.choice([0, 0.01, 0.2, 9, "x"])),
    lambda s, r: s.update(default_route=r.choice(["default", "first", "second", "nowhere"])),
    lambda s, r: s.update(limits={"max_attempts": r.choice([0, 1, 8])}),
    lambda s, r: s.update(extractive={"threads": r.choice([0, 1, 2])}),
    lambda s, r: s.update({r.choice(["models", "routes", "unknown"]): r.choice([None, [], "x", 7])}),
)


async def test_two_hundred_random_mutations_of_the_file_never_break_serving(tmp_path: Path) -> None:
    dice = random.Random(23)
    applied = refused = 0
    async with running(tmp_path, "local") as world:
        for _ in range(200):
            section = copy.deepcopy(world.section)
            for mutate in dice.sample(MUTATIONS, dice.randint(1, 3)):
                try:
                    mutate(section, dice)
                except (KeyError, AttributeError, TypeError):
                    continue  # another mutation took away what this one changes
            text = yaml.safe_dump({"router": section})
            if dice.random() < 0.1:
                text = text[: dice.randrange(len(text))] + dice.choice(["", "\x00", "{", "\t- x"])
            stream = asyncio.ensure_future(world.stream())
            world.file.write_text(text)
            before = world.running.effective()
            if await world.running.reload(world.runtime):
                applied += 1
                assert world.error() == ""
            else:
                refused += 1
                assert world.error()
                after = world.running.effective()
                assert after["router"] == before["router"]
            for route in ("", "first"):
                assert await world.answers_or_refuses(route)
            world.write(world.section)
            assert await world.running.reload(world.runtime) or world.error() == ""
            assert await world.ask() == "I am the first."
            if dice.random() < 0.1:
                assert len((await stream).split()) == WORDS
            stream.cancel()
    assert applied > 40
    assert refused > 40


HEALTH = {"health": {"dpa": True}}


def register(**vendors: bool) -> dict[str, Any]:
    """Two providers at one address; who has an agreement."""
    return {"vendors": {name: {"dpa": dpa} for name, dpa in vendors.items()}, "data_classes": HEALTH}


@pytest.mark.parametrize(
    ("change", "answered"),
    [
        (register(sim=True, other=True), True),
        (register(sim=True, other=False), False),
        (register(sim=True), False),
        ({"data_classes": {}}, False),
    ],
)
async def test_a_vendor_whose_agreement_is_taken_out_is_asked_no_more(
    world: World,
    change: dict[str, Any],
    answered: bool,  # noqa: FBT001
) -> None:
    """Not by calls under way either: they began under the old register, and the data would go out under the new one."""
    url, key = world.section["providers"]["sim"]["base_url"], "k"
    providers = {name: {"base_url": url, "api_key": key} for name in ("sim", "other")}
    models = {"slow": {"provider": "sim", "model": "late"}, "spare": {"provider": "other", "model": "second"}}
    routes = {"default": {"candidates": ["slow", "spare"], "max_retries": 0}}
    assert await world.change(providers=providers, models=models, routes=routes, **register(sim=True, other=True))
    asked = call("")
    asked.labels.data_class = "health"
    under_way = world.stub.Complete(pb.CompleteRequest(call=asked), metadata=FOR_CALLER, timeout=5)
    under_way = asyncio.ensure_future(under_way)
    await asyncio.sleep(0.1)
    assert await world.change(stream_join_s=0.01), "the register of the last file counts, however many there were"
    assert await world.change(**{"vendors": {}, **change}), world.error()
    if answered:
        assert (await under_way).completion.content == "I am the second."
        return
    with pytest.raises(CallError) as caught:
        await under_way
    assert caught.value.reason == "UPSTREAM_RATE_LIMITED", "nobody else was asked"
