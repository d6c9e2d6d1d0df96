"""The one connection that writes, with its statements prepared."""

from __future__ import annotations

from typing import Any, Protocol

from services.ledger.adapters import statements


class Connections(Protocol):
    """Where connections come from; `meshkit.postgres.Database` is one."""

    @property
    def pool(self) -> Any:
        """An asyncpg pool, for reads and rare writes."""

    async def connect(self) -> Any:
        """A connection outside the pool, for the writer."""
        ...


class Writer:
    """The writer's connection with its prepared statements."""

    def __init__(self, connection: Any, load: Any, write: Any, write_if_unchanged: Any) -> None:
        self._connection = connection
        self.closed = connection.is_closed
        self.execute = connection.execute
        self.fetchval = connection.fetchval
        self.fetchrow = connection.fetchrow
        self.load = load.fetchrow
        self.write = write.fetchval
        self.write_if_unchanged = write_if_unchanged.fetchval

    @classmethod
    async def open(cls, database: Connections, lock_timeout_s: float) -> Writer:
        """Connects, and prepares what is hot."""
        connection = await database.connect()
        await connection.execute(f"{statements.WRITER_SETTINGS}; SET lock_timeout = {int(lock_timeout_s * 1000)}")
        hot = (statements.LOAD, statements.WRITE, statements.WRITE_IF_UNCHANGED)
        return cls(connection, *[await connection.prepare(statement) for statement in hot])

    def terminate(self) -> None:
        """Cuts the connection; what was not committed is undone."""
        self._connection.terminate()
