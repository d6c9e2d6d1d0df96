"""A model that is swapped behind its endpoint is quarantined, traffic goes elsewhere, and a release brings it back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import yaml
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2, router_pb2_grpc
from typer.testing import CliRunner

from llmops_cli.configuration import load_configuration
from llmops_cli.launcher import prepare, running_targets
from llmops_cli.main import app
from llmops_cli.provider_sim import ProviderSim
from llmops_cli.provider_sim.script import Rule, Script
from llmops_cli.targets import TARGETS
from tests.support.callers import MeshCallers, prompts_arrived, user
from tests.support.deployments import Deployment, environment, link_models, new_database
from tests.support.mesh_settings import ACME, GLOBEX, MESH_KEY, RULES, mesh_yaml

BEFORE = "A gentle answer about harbours, written by the model that was promised."
AFTER = "Short words from quite another model that costs less to run."
PATIENCE_S = 30.0


def script(watched: str) -> Script:
    return Script(models=("words",), rules=(Rule(model="watched", text=watched), *RULES))


def configuration(base_url: str, home: Path) -> dict[str, Any]:
    made = mesh_yaml(base_url)
    model = {"provider": "alpha", "model": "watched"}
    made["router"]["models"]["alpha/watched"] = model
    made["router"]["routes"]["guarded"] = {"candidates": ["alpha/watched", "beta/words"], "max_retries": 0}
    made["router"]["canaries"] = {
        "models": ["alpha/watched"],
        "interval_s": 1,
        "answers_per_prompt": 4,
        "state_path": str(home / "canaries.json"),
    }
    made["ledger"]["prices"]["alpha/watched"] = {"input_usd_per_million": "2", "output_usd_per_million": "6"}
    made["orchestrator"]["canaries"] = {"api_key": GLOBEX.key, "start_after_s": 0.1, "max_calls": 8}
    return made | {"server": {"grpc_port": 0, "admin_port": 0, "debug_port": -1}, "edge": {"port": 0}}


class World:
    """A mesh whose canaries run every second."""

    def __init__(self, deployment: Deployment, callers: MeshCallers) -> None:
        self.deployment, self.callers = deployment, callers
        self.router: Any = router_pb2_grpc.RouterServiceStub(callers.channel("router"))

    async def runs(self) -> dict[str, float]:
        """How many runs said what."""
        async with self.callers.http.get(f"http://{self.deployment.admin['all']}/metrics") as response:
            text = await response.text()
        lines = [line for line in text.splitlines() if line.startswith("llmops_router_canary_runs_total{")]
        return {line.split('outcome="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    async def after(self, outcome: str, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.runs()).get(outcome, 0) < count:
                await asyncio.sleep(0.05)

    async def state(self, name: str = "alpha/watched") -> router_pb2.ModelHealth:
        listed = await self.router.ListModels(router_pb2.ListModelsRequest(), metadata=self.callers.metadata(ACME))
        return next(model.health for model in listed.models if model.name == name)

    async def ask(self, model: str) -> tuple[str, str]:
        asked = pb.Conversation(messages=user("Hello"), model=model, cache=pb.CacheControl(bypass=True))
        outcome = await self.callers.complete(asked)
        return outcome.reason, str(outcome.report.get("model", ""))


@asynccontextmanager
async def world(sim: ProviderSim, home: Path, database_url: str) -> AsyncIterator[World]:
    environ = environment(home, database_url)
    file = configured(sim, home)
    settings, _ = prepare(load_configuration(file, environ), home)
    async with running_targets(settings, frozenset(TARGETS), home, report=lambda _: None) as running:
        addresses = {name: f"{host}:{port}" for name, (host, port) in running.addresses.items()}
        grpc_addresses = dict.fromkeys((t for t in TARGETS if TARGETS[t].speaks_grpc), addresses["grpc"])
        http, admin = f"http://{addresses['http']}", {"all": addresses["admin"]}
        deployment = Deployment("canaries", sim, grpc_addresses, http, home, database_url, admin=admin)
        callers = MeshCallers(deployment)
        try:
            await prompts_arrived(callers)
            yield World(deployment, callers)
        finally:
            await callers.close()


def configured(sim: ProviderSim, home: Path) -> Path:
    file = home / "mesh.yaml"
    file.write_text(yaml.safe_dump(configuration(sim.base_url, home)))
    return file


@pytest.fixture
async def sim() -> AsyncIterator[ProviderSim]:
    async with ProviderSim(script=script(BEFORE)) as made:
        yield made


async def test_a_swapped_model_is_quarantined_until_it_is_released(
    sim: ProviderSim, tmp_path: Path, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    home, url = tmp_path / "home", await new_database(postgres_url)
    link_models(home)
    caplog.set_level(logging.DEBUG)
    async with world(sim, home, url) as mesh:
        # The same model raises no alarm, run after run, and pays from the budget of the key.
        await mesh.after("same", 4)
        assert (await mesh.state()).state == router_pb2.MODEL_STATE_LIVE
        assert await mesh.ask("guarded") == ("", "alpha/watched")
        assert "differs" not in await mesh.runs()

        sim.script = script(AFTER)
        await mesh.after("differs", 2)
        health = await mesh.state()
        assert health.state == router_pb2.MODEL_STATE_QUARANTINED
        assert "2 runs in a row" in health.canary
        assert await mesh.ask("guarded") == ("", "beta/words")
        reason, _ = await mesh.ask("alpha/watched")
        assert reason == "UPSTREAM_UNAVAILABLE"
        sent = len(sim.billing)
        await asyncio.sleep(1.5)
        assert len(sim.billing) == sent  # nobody asks a quarantined model
        kept = (home / "canaries.json").read_text()
        for word in ("harbours", "promised", "quite", "costs"):
            assert word not in kept
            assert word not in caplog.text

    # It is not forgotten with the process.
    async with world(sim, home, url) as mesh:
        assert (await mesh.state()).state == router_pb2.MODEL_STATE_QUARANTINED
        assert await mesh.ask("guarded") == ("", "beta/words")
        await released(mesh)
        assert await mesh.ask("guarded") == ("", "alpha/watched")
        # What answers now is what later runs are compared with.
        await mesh.after("reference", 1)
        await mesh.after("same", 2)
        assert (await mesh.state()).state == router_pb2.MODEL_STATE_LIVE


async def released(mesh: World) -> None:
    request = router_pb2.ReleaseModelRequest(request_id="r-1", model_name="alpha/watched")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.router.ReleaseModel(request, metadata=(("authorization", f"Bearer {MESH_KEY}"),))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    command = ["models", "health", "--address", mesh.deployment.grpc["router"]]
    environ = {"LLMOPS_KEY": ACME.key}
    shown = await asyncio.to_thread(CliRunner().invoke, app, command, env=environ)
    assert "quarantined" in shown.output
    command = ["models", "release", "alpha/watched", "--address", mesh.deployment.grpc["router"]]
    done = await asyncio.to_thread(CliRunner().invoke, app, command, env=environ)
    assert (done.exit_code, "released" in done.output) == (0, True), done.output
