"""A database restored from an older copy has forgotten what was spent: nothing is written before that is accepted."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
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
from meshkit.runtime import Runtime
from meshkit.settings import SettingsError
from services.ledger.adapters.continuity import WitnessFile
from services.ledger.adapters.memory import MemoryWitness
from services.ledger.core.ports import Witness
from services.ledger.core.seals import Head
from services.ledger.main import witness_of
from tests.contract.ledger.test_service import SETTINGS, a_commit, a_reserve, running
from tests.support.one_service import CALLER, OPERATOR

ORIGIN = bytes(range(32))


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


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_witness_remembers_by_ledger(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.witness"
    witness: Witness = MemoryWitness() if kind == "memory" else WitnessFile(path)
    assert witness.seen(ORIGIN) is None
    witness.keep(ORIGIN, Head(1, bytes(32)))
    witness.keep(bytes(32), Head(7, ORIGIN))
    witness.keep(ORIGIN, Head(2, ORIGIN))
    again = witness if kind == "memory" else WitnessFile(path)
    assert (again.seen(ORIGIN), again.seen(bytes(32))) == (Head(2, ORIGIN), Head(7, ORIGIN))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_witness_goes_back_only_for_an_acceptance(kind: str, tmp_path: Path) -> None:
    witness: Witness = MemoryWitness() if kind == "memory" else WitnessFile(tmp_path / "w")
    newest, fork, older = Head(10, ORIGIN), Head(10, bytes(32)), Head(7, ORIGIN)
    witness.keep(ORIGIN, newest)
    for other in (older, fork):
        witness.keep(ORIGIN, other)
        assert witness.seen(ORIGIN) == newest
    # An acceptance of less than what was seen since.
    witness.keep(ORIGIN, older, 9)
    assert witness.seen(ORIGIN) == newest
    witness.keep(ORIGIN, older, 10)
    assert witness.seen(ORIGIN) == older
    if kind == "file":
        assert WitnessFile(tmp_path / "w").seen(ORIGIN) == older


def test_a_process_learns_what_another_saw_of_the_same_ledger(tmp_path: Path) -> None:
    """Who is behind must not write over the newer head, and must not go on believing an older copy."""
    one, other = WitnessFile(tmp_path / "w"), WitnessFile(tmp_path / "w")
    other.keep(ORIGIN, Head(10, ORIGIN))
    one.keep(ORIGIN, Head(4, ORIGIN))
    assert WitnessFile(tmp_path / "w").seen(ORIGIN) == one.seen(ORIGIN) == Head(10, ORIGIN)


def test_a_witness_of_many_ledgers_stays_small(tmp_path: Path) -> None:
    witness = WitnessFile(tmp_path / "w")
    for number in range(40):
        witness.keep(bytes([number]) * 32, Head(1, ORIGIN))
    assert len((tmp_path / "w").read_text().splitlines()) == 32
    assert [file.name for file in tmp_path.iterdir()] == ["w"]


def test_processes_of_two_ledgers_share_a_witness(tmp_path: Path) -> None:
    """Each read the file when it began: it must not write over what the other added since."""
    one, other = WitnessFile(tmp_path / "w"), WitnessFile(tmp_path / "w")
    other.keep(bytes(32), Head(7, ORIGIN))
    one.keep(ORIGIN, Head(1, ORIGIN))
    other.keep(bytes(32), Head(8, ORIGIN))
    again = WitnessFile(tmp_path / "w")
    assert (again.seen(ORIGIN), again.seen(bytes(32))) == (Head(1, ORIGIN), Head(8, ORIGIN))
    # Nor may it put back what it read of another ledger when it began.
    third = WitnessFile(tmp_path / "w")
    other.keep(bytes(32), Head(100, ORIGIN))
    third.keep(ORIGIN, Head(2, ORIGIN))
    assert WitnessFile(tmp_path / "w").seen(bytes(32)) == Head(100, ORIGIN)


def test_processes_with_one_number_write_a_witness_at_once(tmp_path: Path) -> None:
    """Every container's first process has number 1: a temporary file that is named after it belongs to both."""
    path = tmp_path / "w"
    WitnessFile(path).keep(ORIGIN, Head(1, ORIGIN))
    writers = {bytes([number]) * 32: WitnessFile(path) for number in range(1, 5)}

    def write(origin: bytes) -> None:
        for number in range(1, 51):
            writers[origin].keep(origin, Head(number, ORIGIN))

    with ThreadPoolExecutor() as pool:
        written = [pool.submit(write, origin) for origin in writers]
        while not all(one.done() for one in written):
            assert WitnessFile(path).seen(ORIGIN) == Head(1, ORIGIN)
        for one in written:
            one.result()
    # Nobody's line was lost to somebody who read before and wrote after.
    last = WitnessFile(path)
    assert {origin: last.seen(origin) for origin in writers} == dict.fromkeys(writers, Head(50, ORIGIN))
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [("w", 0o644)]


@pytest.mark.parametrize("damage", ["empty", "torn", "short origin", "folder", "nul"])
def test_a_damaged_witness_is_no_first_start(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    for origin in (bytes(32), ORIGIN):
        WitnessFile(path).keep(origin, Head(7, ORIGIN))
    whole = path.read_text(encoding="utf-8")
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        damaged = {
            "empty": "",
            "torn": whole[:-20],
            "short origin": whole[2:],
            "nul": "\0" * len(whole),
        }
        path.write_text(damaged[damage], encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ledger\.witness_path: .*: .*; it is not the first start.*verify --head"):
        witness_of(replace(SETTINGS, witness_path=str(path)))
    # One that is not there is.
    assert witness_of(replace(SETTINGS, witness_path=str(tmp_path / "none" / "w"))).seen(ORIGIN) is None


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
