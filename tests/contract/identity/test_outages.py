"""A connection that breaks between two statements, so that the driver does not know of it yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from meshkit.postgres import Database
from services.identity.adapters.sql import SqlStore
from services.identity.core.errors import StorageUnavailable
from tests.support.broken_connections import Breakable, breakable_pool


@pytest.fixture
async def breakable(identity_database: Database) -> AsyncIterator[Breakable]:
    async with breakable_pool(identity_database) as breakable:
        yield breakable


async def read(store: SqlStore, breakable: Breakable) -> None:
    await store.revision()
    await breakable.break_connections()
    await store.revision()


async def change(store: SqlStore, breakable: Breakable) -> None:
    await store.revision()
    await breakable.break_connections()
    async with store.changing() as books:
        await books.organisation("acme")


async def give_back(store: SqlStore, breakable: Breakable) -> None:
    async with store._connection():
        await breakable.break_connections()


@pytest.mark.parametrize("work", [read, change, give_back])
async def test_a_connection_that_broke_between_statements_is_an_outage(breakable: Breakable, work: Any) -> None:
    store = SqlStore(breakable.pool, 5.0)
    with pytest.raises(StorageUnavailable) as raised:
        await work(store, breakable)
    assert isinstance(raised.value.__cause__, asyncpg.InternalClientError)
    assert await store.revision() == 0
