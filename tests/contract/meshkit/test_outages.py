"""Every service that owns tables calls a connection that broke between two statements an outage, not a defect.

Identity's own test (tests/contract/identity/test_outages.py) breaks changes too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import services.cache.main
from meshkit.executors import Executor
from meshkit.money import cost_nano_usd
from services.cache.adapters.sql import PostgresEntryStore
from services.cache.core.errors import StorageUnavailable as CacheUnavailable
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.core.errors import StorageUnavailable as LedgerUnavailable
from services.ledger.core.windows import SteadyClock
from services.ledger.main import MIGRATIONS as LEDGER
from services.orchestrator.adapters.sql import PostgresAnswers
from services.orchestrator.core.errors import AnswersUnavailable
from services.orchestrator.main import MIGRATIONS as ORCHESTRATOR
from services.registry.adapters.sql import SqlStore
from services.registry.core.errors import StorageUnavailable as RegistryUnavailable
from services.registry.main import MIGRATIONS as REGISTRY
from tests.conftest import OpenDatabase
from tests.support.broken_connections import Breakable, breakable_pool
from tests.unit.ledger.builders import TurnableClock

CACHE = Path(services.cache.main.__file__).parent / "migrations"
Read = Callable[[], Awaitable[Any]]


@dataclass
class OnlyPool:
    """What a ledger's store reads with."""

    pool: asyncpg.Pool[Any]

    async def connect(self) -> Any:
        raise AssertionError("reading takes no writer")


@pytest.fixture
def executor() -> Iterator[Executor]:
    pool = Executor("outages-test", 1, 10)
    yield pool
    pool.close()


def reading(service: str, breakable: Breakable, executor: Executor) -> Read:
    """What reads one row of the service's store."""
    if service == "cache":
        return PostgresEntryStore(breakable.pool, 5.0).horizon
    if service == "orchestrator":
        answers = PostgresAnswers(breakable.pool, 60, 60, 5.0, 100)
        return lambda: answers.forget(10)
    if service == "registry":
        registry = SqlStore(breakable.pool, executor, 5.0)
        return lambda: registry.load(-1)
    clock = TurnableClock()
    ledger = PostgresStore(
        OnlyPool(breakable.pool),
        SteadyClock(clock.time_ns, clock.elapsed_ns),
        cost_nano_usd,
        logging.getLogger("llmops.ledger"),
        StoreOptions(),
    )
    return ledger.limits_version


@pytest.mark.parametrize(
    ("service", "migrations", "outage"),
    [
        ("cache", CACHE, CacheUnavailable),
        ("ledger", LEDGER, LedgerUnavailable),
        ("orchestrator", ORCHESTRATOR, AnswersUnavailable),
        ("registry", REGISTRY, RegistryUnavailable),
    ],
)
async def test_a_connection_that_broke_between_statements_is_an_outage(
    open_database: OpenDatabase, executor: Executor, service: str, migrations: Path, outage: type[Exception]
) -> None:
    database = await open_database(service, migrations)
    async with breakable_pool(database) as breakable:
        read = reading(service, breakable, executor)
        await read()
        await breakable.break_connections()
        with pytest.raises(outage) as raised:
            await read()
        assert isinstance(raised.value.__cause__, asyncpg.InternalClientError)
        await read()
