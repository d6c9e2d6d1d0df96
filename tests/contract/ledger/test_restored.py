"""A database restored from an older copy has forgotten what was spent: nothing is written before that is accepted."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from llmops.ledger.v1 import ledger_pb2 as pb

from llmops_cli.configuration import Configuration, build_configuration
from llmops_cli.ledger_books import accept_restored, verify_books
from meshkit.errors import CallError
from meshkit.postgres import DatabaseSettings, open_database
from meshkit.runtime import Runtime
from meshkit.settings import Secret, SettingsError
from tests.contract.ledger.conftest import migrations_before
from tests.contract.ledger.test_service import SETTINGS, a_commit, a_reserve, running
from tests.support.one_service import CALLER, OPERATOR


class World:
    """A database that can be copied and restored, and the state folder of who uses it."""

    def __init__(self, url: str, folder: Path) -> None:
        base, _, query = url.partition("?")
        self._server, self._folder = url, folder
        self.name = f"ledger_{uuid.uuid4().hex[:16]}"
        self.url = f"{base.rsplit('/', 1)[0]}/{self.name}" + (f"?{query}" if query else "")
        self.witness = str(folder / "state" / "ledger.witness")

    def witnessed(self) -> list[str]:
        return Path(self.witness).read_text(encoding="utf-8").splitlines()

    def spoil_witness(self) -> None:
        Path(self.witness).parent.mkdir()
        Path(self.witness).write_text("garbage\n", encoding="utf-8")

    def block_witness(self) -> None:
        """Its folder is a file."""
        Path(self.witness).parent.write_text("", encoding="utf-8")

    async def on_server(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def copy(self, name: str) -> None:
        await self.on_server(f'CREATE DATABASE "{self.name}_{name}" TEMPLATE "{self.name}"')

    async def restore(self, name: str) -> None:
        await self.on_server(f'DROP DATABASE "{self.name}" WITH (FORCE)')
        await self.on_server(f'CREATE DATABASE "{self.name}" TEMPLATE "{self.name}_{name}"')

    async def rows(self, statement: str) -> list[Any]:
        connection = await asyncpg.connect(self.url, server_settings={"search_path": "ledger"})
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    @asynccontextmanager
    async def up(
        self, witness: str | None = None, seal_interval_s: float = 0.02, **changed: Any
    ) -> AsyncIterator[tuple[Any, Runtime]]:
        path = self.witness if witness is None else witness
        settings = replace(SETTINGS, witness_path=path, seal_interval_s=seal_interval_s, **changed)
        async with running(self.url, "local", settings) as found:
            yield found

    async def llmops(self, work: Callable[[Configuration, Path, str], int], head: str = "") -> int:
        sections = {"database": {"url": self.url}, "ledger": {"witness_path": self.witness}}
        configuration = build_configuration("test", sections, {})
        return await asyncio.to_thread(work, configuration, self._folder, head)


@pytest.fixture
async def world(postgres_url: str, tmp_path: Path) -> World:
    made = World(postgres_url, tmp_path)
    await made.on_server(f'CREATE DATABASE "{made.name}"')
    return made


async def spend(stub: Any, name: str) -> None:
    hold = await stub.Reserve(a_reserve(f"r-{name}"), metadata=CALLER)
    await stub.Commit(a_commit(hold.reservation_id, f"c-{name}"), metadata=CALLER)


async def sealed(world: World, name: str) -> None:
    """Waits until an entry is in a block."""
    query = f"SELECT FROM journal WHERE request_id = 'c-{name}' AND seq <= (SELECT max(last_seq) FROM journal_blocks)"
    async with asyncio.timeout(10):
        while not await world.rows(query):
            await asyncio.sleep(0.01)


async def refusal(stub: Any, name: str) -> CallError:
    """What a reservation is refused with, once the connections that were cut are made anew."""
    async with asyncio.timeout(10):
        while True:
            with pytest.raises(CallError) as refused:
                await stub.Reserve(a_reserve(f"r-{name}"), metadata=CALLER)
            if refused.value.reason != "STORAGE_UNAVAILABLE":
                return refused.value
            await asyncio.sleep(0.02)


async def until_it_writes(stub: Any, name: str) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                return await spend(stub, name)
            except CallError as error:
                if error.reason != "LEDGER_RESTORED":
                    raise
                await asyncio.sleep(0.02)


async def spent_nano_usd(world: World) -> int:
    return int((await world.rows("SELECT sum(spent_delta_nano_usd) AS spent FROM journal"))[0]["spent"])


async def test_a_restart_is_nothing_special(world: World) -> None:
    for name in ("1", "2", "3"):
        async with world.up() as (stub, runtime):
            await spend(stub, name)
            assert await runtime.readiness() == {}
    head = world.witnessed()[0].split()[1]
    assert await world.llmops(verify_books, head) == 0
    with pytest.raises(SettingsError, match="nothing was lost"):
        await world.llmops(accept_restored)


async def test_litellm_30684_an_older_copy_is_refused_until_it_is_accepted(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world.up() as (stub, _):
        await spend(stub, "1")
    await world.copy("older")
    async with world.up() as (stub, _):
        await spend(stub, "2")
    spent, lost = await spent_nano_usd(world), world.witnessed()[0].split()[1]
    await world.restore("older")
    assert await spent_nano_usd(world) < spent
    assert await world.llmops(verify_books, lost) == 1
    async with world.up() as (stub, runtime):
        refused = await refusal(stub, "3")
        assert (refused.status, refused.reason) == ("UNAVAILABLE", "LEDGER_RESTORED")
        assert f"accept-restored --head {lost}" in str(refused)
        limit = pb.Limit(scope=pb.LIMIT_SCOPE_TEAM, period=pb.LIMIT_PERIOD_DAY, cap_nano_usd=7)
        with pytest.raises(CallError, match="older copy"):
            await stub.SetLimit(pb.SetLimitRequest(request_id="s", limit=limit), metadata=OPERATOR)
        assert "ledger.database" in await runtime.readiness()
        # Reads are answered.
        assert (await stub.GetUsage(pb.GetUsageRequest(), metadata=OPERATOR)).usages
        journal = await world.rows("SELECT count(*) AS n FROM journal")
        assert await world.llmops(accept_restored) == 0
        # It goes on by itself.
        await until_it_writes(stub, "3")
        assert await runtime.readiness() == {}
        noted = await world.rows("SELECT note FROM journal WHERE kind = 10")
        assert [row["note"].split(":")[0] for row in noted] == ["restored from an older copy"]
        assert (await world.rows("SELECT count(*) AS n FROM journal"))[0]["n"] == journal[0]["n"] + 3
    async with world.up() as (stub, runtime):
        await spend(stub, "4")
        assert await runtime.readiness() == {}
    capsys.readouterr()
    assert await world.llmops(verify_books) == 0
    assert "the books are right" in capsys.readouterr().out


async def test_what_was_accepted_once_is_not_accepted_twice(world: World) -> None:
    async with world.up() as (stub, _):
        await spend(stub, "1")
    await world.copy("older")
    # More blocks are lost than the ledger writes soon: their numbers must not come again.
    async with world.up() as (stub, _):
        for name in ("2", "2b", "2c", "2d", "2e", "2f"):
            await spend(stub, name)
            await sealed(world, name)
    await world.restore("older")
    assert await world.llmops(accept_restored) == 0
    async with world.up() as (stub, _):
        await spend(stub, "3")
    # The copy contains the acceptance of the first loss.
    await world.copy("accepted")
    async with world.up() as (stub, _):
        await spend(stub, "4")
    await world.restore("accepted")
    async with world.up() as (stub, _):
        assert (await refusal(stub, "5")).reason == "LEDGER_RESTORED"


async def is_granted(stub: Any, name: str) -> bool | None:
    """Whether more is granted than any limit of SETTINGS allows; None without a database."""
    try:
        answer = await stub.Reserve(a_reserve(name, max_output_tokens=900_000_000), metadata=CALLER)
    except CallError as error:
        if error.reason != "STORAGE_UNAVAILABLE":
            raise
        return None
    return bool(answer.decision == pb.RESERVE_DECISION_GRANTED)


@pytest.mark.parametrize("running_before", [False, True])
async def test_the_first_write_after_an_acceptance_meets_the_limits_of_now(
    world: World,
    running_before: bool,  # noqa: FBT001
) -> None:
    """The copy has the limits of its time, here none; those of the configuration hold before anything is granted."""
    async with world.up(limits=()) as (stub, _):
        await spend(stub, "1")
        assert await is_granted(stub, "free")
    await world.copy("older")
    # Nothing but writes and readiness looks at the limits: no sweep, and no seal for hours.
    slow: dict[str, Any] = {"seal_interval_s": 3600, "sweep_interval_s": 3600}
    async with AsyncExitStack() as stack:
        if running_before:
            stub, runtime = await stack.enter_async_context(world.up(**slow))
            await spend(stub, "2a")
        async with world.up() as (other, _):
            await spend(other, "2")
            await sealed(world, "2")
        await world.restore("older")
        if not running_before:
            stub, runtime = await stack.enter_async_context(world.up(**slow))
        if running_before:
            # It saw nothing of it yet: the acceptance comes first.
            assert await world.llmops(accept_restored) == 0
        else:
            assert (await refusal(stub, "3")).reason == "LEDGER_RESTORED"
            assert "ledger.database" in await runtime.readiness()
            assert await world.llmops(accept_restored) == 0
        async with asyncio.timeout(10):
            # Its connections were cut.
            while (granted := await is_granted(stub, "big")) is None:
                await asyncio.sleep(0.02)
        assert not granted
        assert await runtime.readiness() == {}


async def test_a_ledger_is_ready_after_an_acceptance_once_its_limits_hold(world: World) -> None:
    async with world.up(limits=()) as (stub, _):
        await spend(stub, "1")
    await world.copy("older")
    async with world.up() as (stub, _):
        await spend(stub, "2")
    await world.restore("older")
    async with world.up(seal_interval_s=3600, sweep_interval_s=3600) as (_, runtime):
        assert await world.llmops(accept_restored) == 0
        connection = await asyncpg.connect(world.url, server_settings={"search_path": "ledger"})
        try:
            async with connection.transaction():
                # Somebody else changes limits, and does not end.
                await connection.execute("SELECT FROM limit_set FOR UPDATE")
                ready = asyncio.create_task(runtime.readiness())
                await asyncio.wait([ready], timeout=0.3)
                assert not ready.done() or "ledger.database" in ready.result()
            await ready
        finally:
            await connection.close()
        assert await runtime.readiness() == {}
        assert await world.rows("SELECT FROM limits WHERE declared")


async def test_litellm_30684_a_restore_under_a_running_ledger_is_seen_by_its_sealer(world: World) -> None:
    async with world.up() as (stub, _):
        await spend(stub, "1")
    await world.copy("older")
    # Nothing but its own memory tells it.
    async with world.up("") as (stub, runtime):
        # The second is sealed after the first was seen.
        for name in ("2", "3"):
            await spend(stub, name)
            await sealed(world, name)
        await world.restore("older")
        assert (await refusal(stub, "4")).reason == "LEDGER_RESTORED"
        assert "ledger.database" in await runtime.readiness()
    assert not await world.rows("SELECT FROM journal WHERE request_id IN ('c-2', 'r-4')")


async def test_litellm_30684_a_restore_under_a_running_ledger_is_seen_by_its_next_connection(world: World) -> None:
    async with world.up() as (stub, _):
        await spend(stub, "1")
    await world.copy("older")
    async with world.up() as (stub, _):
        await spend(stub, "2")
    async with world.up(seal_interval_s=600) as (stub, _):
        await spend(stub, "3")
        await world.restore("older")
        assert (await refusal(stub, "4")).reason == "LEDGER_RESTORED"
    assert not await world.rows("SELECT FROM journal WHERE request_id = 'r-4'")


async def test_a_backup_from_before_the_seals_is_an_older_copy(world: World, tmp_path: Path) -> None:
    """Restored, it is migrated again: an origin at random would make it a ledger that nobody ever saw."""
    settings = DatabaseSettings(url=Secret(world.url), pool_size=2)
    old = await open_database(settings, "ledger", migrations_before("0004", tmp_path / "old"))
    async with old.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id,"
            " held_delta_nano_usd, spent_delta_nano_usd, counter_ids, postings, lines, note, answer)"
            " SELECT n, 8, 'acme', 'old-' || n, 0, '', 0, 0, '{}', '[]', '[]', '', '[]' FROM generate_series(1, 3) n"
        )
    await old.close()
    await world.copy("unsealed")
    async with world.up() as (stub, _):
        await spend(stub, "1")
    lost = world.witnessed()[0].split()[1]
    await world.restore("unsealed")
    async with world.up() as (stub, runtime):
        refused = await refusal(stub, "2")
        assert (refused.reason, f"--head {lost}" in str(refused)) == ("LEDGER_RESTORED", True)
        assert await world.llmops(accept_restored) == 0
        await until_it_writes(stub, "2")
        assert await runtime.readiness() == {}
    assert await world.llmops(verify_books) == 0
    assert len(world.witnessed()) == 1


async def test_another_ledger_is_no_older_copy(world: World, postgres_url: str, tmp_path: Path) -> None:
    """A state folder is used with one database today and with another tomorrow."""
    async with world.up() as (stub, _):
        await spend(stub, "1")
    other = World(postgres_url, tmp_path)
    await other.on_server(f'CREATE DATABASE "{other.name}"')
    for place in (other, world):
        async with place.up() as (stub, runtime):
            await spend(stub, "2")
            assert await runtime.readiness() == {}
    assert len(world.witnessed()) == 2


async def test_a_witness_that_cannot_be_written_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.block_witness()
    async with world.up() as (stub, runtime):
        for name in ("1", "2"):
            await spend(stub, name)
            await sealed(world, name)
        assert await runtime.readiness() == {}
    assert [record.msg for record in caplog.records].count("the witness of the ledger is in memory only") == 1


async def test_a_broken_witness_stops_the_start_and_says_what_to_do(world: World) -> None:
    world.spoil_witness()
    with pytest.raises(SettingsError, match=r"ledger.witness_path: .*line 1 .*remove it only if you trust"):
        async with world.up():
            pass
