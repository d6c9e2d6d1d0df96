"""Wires the ledger: database and prices into the core, the core into the servicer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from llmops.ledger.v1 import ledger_pb2_grpc

from meshkit.kit import Kit
from meshkit.money import cost_nano_usd
from services.ledger.adapters.genai_prices import load_genai_prices
from services.ledger.adapters.memory import DeclaredPrices
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.adapters.telemetry import LedgerTelemetry
from services.ledger.api import LedgerApi
from services.ledger.core.operations import OnExpiry
from services.ledger.core.ports import PriceBook
from services.ledger.core.service import Ledger, Rules
from services.ledger.core.watching import Watches, WatchRules
from services.ledger.core.windows import MICROSECONDS, SteadyClock
from services.ledger.settings import LedgerSettings

MIGRATIONS = Path(__file__).parent / "migrations"
# 80 bits per reservation id, not to be guessed: a guessed id could be booked as an orphan before its owner does.
_RANDOM_BYTES = 10
# A backlog is worked off over several rounds: what is forgotten must not keep the sweeper from its holds.
_MAX_FORGETS_PER_ROUND = 100


@asynccontextmanager
async def build(settings: LedgerSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves the ledger while the context is open. Raises SettingsError without a database."""
    telemetry = LedgerTelemetry(kit, kit.logger)
    clock = SteadyClock(kit.clock.time_ns, kit.clock.elapsed_ns, telemetry.clock_ahead)
    database = await kit.database("ledger", MIGRATIONS)
    store = PostgresStore(database, clock, cost_nano_usd, kit.logger, _options(settings))
    kit.on_close(store.close)
    await store.declare_limits(settings.declared_limits())
    ledger = Ledger(
        store,
        await _prices(settings, kit),
        clock,
        cost_nano_usd,
        lambda: secrets.token_hex(_RANDOM_BYTES),
        telemetry,
        _rules(settings),
    )
    watches = Watches(store, WatchRules(settings.max_watchers, settings.watch_poll_interval_s))
    kit.on_drain(watches.close)
    kit.ready_check("database", store.check)
    kit.background("sweeper", lambda: _sweep(ledger, settings))
    kit.serve(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, LedgerApi(ledger, watches))
    yield


def _options(settings: LedgerSettings) -> StoreOptions:
    return StoreOptions(
        settings.max_batch,
        settings.max_queue,
        settings.lock_timeout_s,
        settings.max_expiries_per_batch,
        settings.max_limits_per_organisation,
    )


def _rules(settings: LedgerSettings) -> Rules:
    return Rules(
        settings.default_ttl_us,
        settings.max_ttl_us,
        settings.max_amount_nano_usd,
        int(settings.reservation_retention_s * MICROSECONDS),
        settings.default_output_tokens,
        OnExpiry[settings.on_expiry.upper()],
        settings.expiry_policies(),
    )


async def _prices(settings: LedgerSettings, kit: Kit) -> PriceBook:
    declared = settings.declared_prices()
    if not settings.price_table:
        return DeclaredPrices(declared)
    try:
        return await kit.executor("prices", threads=1, max_queue=0).run(load_genai_prices, declared)
    except ImportError:
        kit.logger.warning("genai-prices is not installed: only the models under ledger.prices have a price")
        return DeclaredPrices(declared)


async def _sweep(ledger: Ledger, settings: LedgerSettings) -> None:
    """Ends expired holds and forgets old reservations. No decision depends on it: verbs end what they meet."""
    retention_us = int(settings.reservation_retention_s * MICROSECONDS)
    while True:
        while await ledger.sweep(settings.sweep_batch) == settings.sweep_batch:
            pass
        await _forget(ledger, retention_us, settings.sweep_batch)
        await asyncio.sleep(settings.sweep_interval_s)


async def _forget(ledger: Ledger, retention_us: int, batch: int) -> None:
    """Deletes what is too old, batch after batch while they are full."""
    for _ in range(_MAX_FORGETS_PER_ROUND):
        if await ledger.forget(retention_us, batch) < batch:
            return
