"""`llmops` from start to end: up, the commands that talk to it, Ctrl-C, and what it says when it cannot start."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import yaml

from llmops_cli.local_mesh import HOST
from llmops_cli.provider_sim import ProviderSim
from tests.support.command_line import Up, run
from tests.support.deployments import environment, free_ports, link_models, new_database
from tests.support.mesh_settings import mesh_yaml, script

pytestmark = pytest.mark.timeout(180)

EXIT_CONFIGURATION, EXIT_PORT = 2, 3


@dataclass
class World:
    """A folder with a mesh.yaml, an environment, and a simulated provider."""

    folder: Path
    environ: dict[str, str]
    sim: ProviderSim
    http_url: str
    grpc: str

    @property
    def key(self) -> str:
        return (self.folder / "home" / "dev.key").read_text().strip()


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("cli")
    link_models(folder / "home")
    with free_ports(3) as (http, grpc, admin):
        pass
    environ = environment(folder / "home", await new_database(postgres_url)) | {
        "LLMOPS__EDGE__PORT": str(http),
        "LLMOPS__EDGE__DRAIN_TIMEOUT_S": "3",
        "LLMOPS__SERVER__GRPC_PORT": str(grpc),
        "LLMOPS__SERVER__ADMIN_PORT": str(admin),
        "LLMOPS__SERVER__DEBUG_PORT": "-1",
        "LLMOPS_URL": f"http://{HOST}:{http}",
        "LLMOPS_GRPC": f"{HOST}:{grpc}",
    }
    async with ProviderSim(script=script()) as sim:
        configuration = mesh_yaml(sim.base_url)
        del configuration["auth"]  # the development key is made
        (folder / "mesh.yaml").write_text(yaml.safe_dump(configuration))
        yield World(folder, environ, sim, environ["LLMOPS_URL"], environ["LLMOPS_GRPC"])


@pytest.fixture(scope="module")
async def up(world: World) -> AsyncIterator[Up]:
    running = await Up.start(world.environ, world.folder)
    yield running
    await running.kill()


async def test_the_first_start_shows_the_development_key_once(world: World, up: Up) -> None:
    shown = [line for line in up.lines if world.key in line]
    assert len(shown) == 1
    assert "shown this once" in shown[0]


async def test_chat(world: World, up: Up) -> None:
    ran = await run(world.environ, world.folder, "chat", "The capital of France?", "--model", "alpha/capital")
    assert (ran.code, ran.out) == (0, "Paris is the capital of France.\n")
    assert "alpha/capital" in ran.err
    streamed = await run(world.environ, world.folder, "chat", "Words, please.", "--model", "alpha/words", "--stream")
    assert streamed.code == 0
    assert len(streamed.out.split()) == 16
    variables = ("--prompt", "greeting", "--var", "name=Ada")
    by_prompt = await run(world.environ, world.folder, "chat", "--model", "alpha/echo", *variables)
    assert by_prompt.out == "Say hello to Ada in English.\n"


async def test_chat_says_what_is_wrong(world: World, up: Up) -> None:
    with_key = world.environ | {"LLMOPS_KEY": "llmops-not-a-key"}
    refused = await run(with_key, world.folder, "chat", "Hello.")
    assert refused.code == 1
    assert "credential_invalid" in refused.err
    assert "llmops keys create" in refused.err
    assert "llmops-not-a-key" not in refused.err
    with free_ports(1) as (port,):
        pass
    nobody = await run(world.environ, world.folder, "chat", "Hello.", "--url", f"http://{HOST}:{port}")
    assert (nobody.code, nobody.err.count("\n")) == (1, 1)
    assert "is `llmops up` running?" in nobody.err


async def test_call(world: World, up: Up) -> None:
    listed = await run(world.environ, world.folder, "call", "ledger.ListLimits")
    assert listed.code == 0
    assert "cap_nano_usd" in listed.out
    unknown = await run(world.environ, world.folder, "call", "ledger.ListLimit")
    assert unknown.code == EXIT_CONFIGURATION
    assert "did you mean 'ledger.ListLimits'?" in unknown.err
    invalid = await run(world.environ, world.folder, "call", "orchestrator.Explain", "{}")
    assert invalid.code == 1
    assert "INVALID_ARGUMENT INVALID_FIELD" in invalid.err


async def test_budgets_and_books(world: World, up: Up, tmp_path: Path) -> None:
    async def llmops(*words: str, code: int = 0) -> str:
        ran = await run(world.environ, world.folder, *words)
        assert ran.code == code, ran.err
        return ran.out + ran.err

    assert "0.25 USD" in await llmops("budget", "set", "feature", "day", "--subject", "cli", "--usd", "0.25")
    one_call = ("--unit", "requests", "--count", "7", "--mode", "shadow")
    assert "7 requests (shadow)" in await llmops("budget", "set", "key", "minute", *one_call)
    listed = await llmops("budget", "list")
    assert "cli" in listed
    assert "7 requests" in listed
    models = '"models": [{"provider": "local", "model": "extractive"}]'
    await llmops("call", "ledger.Reserve", f'{{"request_id": "cli-1", {models}, "labels": {{"feature": "cli"}}}}')
    assert "0.25 USD" in await llmops("budget", "usage", "--subject", "cli")
    await llmops("budget", "set", "feature", "day", "--subject", "cli", "--usd", "0")
    await llmops("call", "ledger.Reserve", f'{{"request_id": "cli-2", {models}, "labels": {{"feature": "cli"}}}}')
    why = await llmops("budget", "why-blocked")
    assert "cli-2 was denied" in why
    assert "would be denied now" in why
    assert "NOT_FOUND" in await llmops("budget", "why-blocked", "cli-1", code=1)
    assert "did you mean 'feature'" in await llmops("budget", "set", "feture", "day", "--usd", "1", code=2)
    verified = await llmops("ledger", "verify")
    assert "are what was sealed" in verified
    assert "the books are right" in verified
    assert "NUMBER:HASH" in await llmops("ledger", "verify", "--head", "nonsense", code=2)
    await llmops("ledger", "export", "--out", str(tmp_path / "journal.csv"))
    rows = (tmp_path / "journal.csv").read_text().splitlines()
    assert rows[0].startswith("seq,time,organisation,kind")
    assert any(",reserve,cli-1," in row for row in rows)


async def test_an_invoice_is_reconciled_with_the_books(world: World, up: Up, tmp_path: Path) -> None:
    async def llmops(*words: str, code: int = 0, **environ: str) -> str:
        ran = await run(world.environ | environ, world.folder, *words)
        assert ran.code == code, ran.out + ran.err
        assert "Traceback" not in ran.err
        return ran.out + ran.err

    async def reconcile(text: str, *options: str, provider: str = "gamma", code: int = 0, **environ: str) -> str:
        (tmp_path / "invoice.csv").write_text(text)
        return await llmops("ledger", "reconcile", provider, f"{tmp_path}/invoice.csv", *options, code=code, **environ)

    model = {"provider": "gamma", "model": "thorough"}  # which no other test here asks
    asked = {"request_id": "invoice-1", "models": [model], "input_tokens": 900, "max_output_tokens": 500}
    held = json.loads(await llmops("call", "ledger.Reserve", json.dumps(asked)))
    lines = [{"model": model, "usage": {"input_tokens": 880, "output_tokens": 120}, "attempt": 1}]
    usage = {"request_id": "invoice-2", "reservation_id": held["reservation_id"], "lines": lines}
    await llmops("call", "ledger.Commit", json.dumps(usage))
    journal = (await llmops("ledger", "export")).splitlines()
    day = next(row for row in journal if ",commit,invoice-2," in row).split(",")[1][:10]

    # 880 tokens at 2 and 120 at 6 USD per million.
    agreed = await reconcile(f"day,amount_usd\n{day},0.002\n{day},0.00048\n")
    assert [line.split() for line in agreed.splitlines()][1][:5] == [day, "0.00248", "USD", "0.00248", "USD"]
    assert "0 of 1 days differ.\n" in agreed
    higher = f"day,amount_usd\n{day},0.003\n"
    differs = await reconcile(higher, code=1)
    assert "+0.00052 USD" in differs
    assert "1 of 1 days differ.\n" in differs
    assert "by more than 0.00052 USD" in await reconcile(higher, "--tolerance-usd", "0.00052")
    change = {"request_id": "i-1", "reservation_id": held["reservation_id"], "delta_nano_usd": 520_000, "reason": "odd"}
    await llmops("call", "ledger.Adjust", json.dumps(change))
    assert "0 of 1 days differ.\n" in await reconcile(higher)
    assert "Nothing is booked for provider 'gama'" in await reconcile(higher, provider="gama", code=1)
    assert "invoice.csv, line 2: amount_usd: 'x' is not" in await reconcile("day,amount_usd\n2026-11-24,x\n", code=2)
    refused = await reconcile(higher, code=1, LLMOPS_KEY="llmops-not-a-key")
    assert "UNAUTHENTICATED" in refused
    assert "llmops-not-a-key" not in refused
    with free_ports(1) as (port,):
        pass
    assert "is `llmops up` running?" in await reconcile(higher, "--address", f"{HOST}:{port}", code=1)


async def test_config_print_hides_secrets(world: World) -> None:
    printed = await run(world.environ, world.folder, "config", "print")
    assert printed.code == 0
    effective = yaml.safe_load(printed.out)
    assert effective["router"]["providers"]["alpha"]["api_key"] == "***"
    for secret in ("alpha-secret", "beta-secret", world.environ["LLMOPS_KEY_PEPPER"], world.environ["LLMOPS_MESH_KEY"]):
        assert secret not in printed.out + printed.err
    checked = await run(world.environ, world.folder, "config", "check")
    assert (checked.code, checked.out) == (0, "mesh.yaml: valid\n")


async def test_targets(world: World) -> None:
    listed = await run(world.environ, world.folder, "targets")
    names = [line.split()[0] for line in listed.out.splitlines()]
    assert names == ["identity", "registry", "guard", "ledger", "cache", "router", "orchestrator", "edge"]


async def test_a_created_key_works_where_its_entry_is_configured(world: World, postgres_url: str) -> None:
    created = await run(
        world.environ, world.folder, "keys", "create", "--offline", "--org", "acme", "--id", "first", "--user", "ada"
    )
    assert created.code == 0
    key, _, stanza = created.out.partition("\n")
    entry = yaml.safe_load(stanza)["auth"]["keys"][0]
    assert (entry["id"], entry["organisation"], entry["user"]) == ("first", "acme", "ada")
    assert key not in stanza
    configured = world.folder / "with-key"
    configured.mkdir()
    mesh = yaml.safe_load((world.folder / "mesh.yaml").read_text()) | {"auth": {"keys": [entry]}}
    (configured / "mesh.yaml").write_text(yaml.safe_dump(mesh))
    with free_ports(3) as (http, grpc, admin):
        pass
    environ = world.environ | {
        "LLMOPS_DATABASE_URL": await new_database(postgres_url),
        "LLMOPS__EDGE__PORT": str(http),
        "LLMOPS__SERVER__GRPC_PORT": str(grpc),
        "LLMOPS__SERVER__ADMIN_PORT": str(admin),
        "LLMOPS_URL": f"http://{HOST}:{http}",
    }
    running = await Up.start(environ, configured)
    try:
        asked = ("chat", "The capital of France?", "--model", "alpha/capital")
        with_it = await run(environ | {"LLMOPS_KEY": key}, configured, *asked)
        without = await run(environ, configured, *asked)
    finally:
        running.interrupt()
        code = await running.ended()
        await running.kill()
    assert (with_it.code, with_it.out) == (0, "Paris is the capital of France.\n")
    assert without.code == 1, "the development key is none of this configuration's"
    assert code == 0


async def test_ports_in_use(world: World) -> None:
    for variable in ("LLMOPS__EDGE__PORT", "LLMOPS__SERVER__GRPC_PORT", "LLMOPS__SERVER__ADMIN_PORT"):
        with socket.create_server((HOST, 0)) as held, free_ports(3) as ports:
            taken = held.getsockname()[1]
            names = ("LLMOPS__EDGE__PORT", "LLMOPS__SERVER__GRPC_PORT", "LLMOPS__SERVER__ADMIN_PORT")
            environ = world.environ | dict(zip(names, map(str, ports), strict=True)) | {variable: str(taken)}
        # `held` is closed by now; it is taken again for the length of the run.
        with socket.create_server((HOST, taken)):
            ran = await run(environ, world.folder, "up")
        assert ran.code == EXIT_PORT, (variable, ran.err)
        last = ran.err.splitlines()[-1]
        assert last.startswith("llmops: ")
        assert str(taken) in last
        assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ledgr: {}\n", "did you mean 'ledger'?"),
        ("ledger: {price_tabel: false}\n", "did you mean 'price_table'?"),
        ("server: {grace_s: long}\n", "server.grace_s"),
        ("server: [\n", "not valid YAML"),
    ],
)
async def test_a_mistyped_configuration_is_one_line(world: World, tmp_path: Path, text: str, hint: str) -> None:
    (tmp_path / "mesh.yaml").write_text(text)
    ran = await run(world.environ, tmp_path, "up")
    assert ran.code == EXIT_CONFIGURATION
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("llmops: ")
    assert hint in ran.err


async def test_ctrl_c_lets_a_running_stream_finish(world: World, up: Up) -> None:
    """Runs last against this process: it ends here."""
    events, done = await _stream_through_ctrl_c(world, up, "alpha/unhurried")
    assert done
    words = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e.get("choices")).split()
    assert len(words) == 300
    assert await up.ended() == 0
    assert up.lines[-1] == "ended cleanly\n"


async def test_a_second_start_is_ready_and_ctrl_c_cuts_what_does_not_end(world: World) -> None:
    again = await Up.start(world.environ, world.folder)
    try:
        assert not [line for line in again.lines if world.key in line], "the key was shown once before"
        events, done = await _stream_through_ctrl_c(world, again, "alpha/endless")
        assert events
        assert not done, "what was cut must not look complete"
        assert await again.ended() == 0
    finally:
        await again.kill()


async def _stream_through_ctrl_c(world: World, up: Up, model: str) -> tuple[list[dict[str, object]], bool]:
    """Streams, sends Ctrl-C after the first words, and reads on until the response ends, or breaks off."""
    body = {"model": model, "messages": [{"role": "user", "content": "Go on."}], "stream": True}
    headers = {"authorization": f"Bearer {world.key}"}
    events: list[dict[str, object]] = []
    done = interrupted = False
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
        session.post(f"{world.http_url}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    done = True
                elif line.startswith(b"data: "):
                    events.append(json.loads(line[6:]))
                if events and not interrupted:
                    interrupted = True
                    up.interrupt()
    return events, done
