"""A connection that breaks between two statements, so that the driver does not know of it yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from meshkit.postgres import Database
from services.identity.adapters.sql import SqlStore
from services.identity.core.errors import StorageUnavailable


class Forwarder:
    """Stands between the driver and PostgreSQL, and passes its last words on, but not that it hung up."""

    def __init__(self, address: Any) -> None:
        self._address = address
        self.hung_up = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._address, str):
            from_server, to_server = await asyncio.open_unix_connection(self._address)
        else:
            from_server, to_server = await asyncio.open_connection(*self._address)
        answers = asyncio.create_task(self._pass_on(from_server, writer))
        with contextlib.suppress(OSError):
            await _copy(reader, to_server)
        answers.cancel()
        for each in (writer, to_server):
            each.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _copy(reader, writer)
        self.hung_up.set()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def pool_through(forwarder: Forwarder, like: Any) -> AsyncIterator[asyncpg.Pool[Any]]:
    """A pool of one connection, to where `like` is connected."""
    server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0)
    options: dict[str, Any] = {name: getattr(like._params, name) for name in ("user", "password", "database")}
    options |= {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "ssl": False}
    options |= {"server_settings": {"search_path": "identity"}, "min_size": 1, "max_size": 1}
    async with server:
        pool = await asyncpg.create_pool(**options)
        yield pool
        pool.terminate()


@dataclass
class Breakable:
    """A store whose connections somebody ends."""

    store: SqlStore
    forwarder: Forwarder
    administrator: Any

    async def break_connections(self) -> None:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        await self.administrator.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        await self.forwarder.hung_up.wait()
        # The driver reads the last words, and nothing more.
        await asyncio.sleep(0.05)


@pytest.fixture
async def breakable(fresh_url: str, identity_database: Database) -> AsyncIterator[Breakable]:
    administrator = await asyncpg.connect(fresh_url)
    forwarder = Forwarder(administrator._addr)
    async with pool_through(forwarder, administrator) as pool:
        yield Breakable(SqlStore(pool, 5.0), forwarder, administrator)
    await administrator.close()


async def read(breakable: Breakable) -> None:
    await breakable.store.revision()
    await breakable.break_connections()
    await breakable.store.revision()


async def change(breakable: Breakable) -> None:
    await breakable.store.revision()
    await breakable.break_connections()
    async with breakable.store.changing() as books:
        await books.organisation("acme")


async def give_back(breakable: Breakable) -> None:
    async with breakable.store._connection():
        await breakable.break_connections()


@pytest.mark.parametrize("work", [read, change, give_back])
async def test_a_connection_that_broke_between_statements_is_an_outage(breakable: Breakable, work: Any) -> None:
    with pytest.raises(StorageUnavailable) as raised:
        await work(breakable)
    assert isinstance(raised.value.__cause__, asyncpg.InternalClientError)
    assert await breakable.store.revision() == 0
