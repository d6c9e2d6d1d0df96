"""Connections that break between two statements, so that the driver does not know of it yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from meshkit.postgres import Database


class _Forwarder:
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
async def _pool_through(forwarder: _Forwarder, like: Any, schema: str) -> AsyncIterator[asyncpg.Pool[Any]]:
    """A pool of one connection, to where `like` is connected."""
    server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0)
    options: dict[str, Any] = {name: getattr(like._params, name) for name in ("user", "password", "database")}
    options |= {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "ssl": False}
    options |= {"server_settings": {"search_path": schema}, "min_size": 1, "max_size": 1}
    async with server:
        pool = await asyncpg.create_pool(**options)
        try:
            yield pool
        finally:
            pool.terminate()


@dataclass
class Breakable:
    """A pool whose connections somebody ends."""

    pool: asyncpg.Pool[Any]
    forwarder: _Forwarder
    administrator: Any

    async def break_connections(self) -> None:
        """Of everybody else in the database."""
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        await self.administrator.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        await self.forwarder.hung_up.wait()
        # The driver reads the last words, and nothing more.
        await asyncio.sleep(0.05)


@asynccontextmanager
async def breakable_pool(database: Database) -> AsyncIterator[Breakable]:
    """To the schema of `database`, in which nobody else may be at work."""
    administrator = await database.connect()
    forwarder = _Forwarder(administrator._addr)
    try:
        async with _pool_through(forwarder, administrator, database.schema) as pool:
            yield Breakable(pool, forwarder, administrator)
    finally:
        await administrator.close()
