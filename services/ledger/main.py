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
from meshkit.settings import SettingsError
from services.ledger.adapters.continuity import Continuity, WitnessFile
from services.ledger.adapters.genai_prices import load_genai_prices
from services.ledger.adapters.memory import DeclaredPrices, MemoryWitness
from services.ledger.adapters.sealing import Sealer
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.adapters.telemetry import LedgerTelemetry
from services.ledger.api import LedgerApi
from services.ledger.core.errors import LedgerRestored
from services.ledger.core.operations import OnExpiry
from services.ledger.core.ports import PriceBook, Witness
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
    continuity = Continuity(witness_of(settings), kit.logger)
    sealer = Sealer(database, clock.now_us, continuity, kit.logger, settings.seal_max_entries)
    # After the store, which writes what is queued.
    kit.on_close(sealer.close)
    store = PostgresStore(database, clock, cost_nano_usd, kit.logger, _options(settings), continuity)
    kit.on_close(store.close)
    try:
        await store.declare_limits(settings.declared_limits())
    except LedgerRestored:
        # Reads are answered, and nothing is written before an operator accepts it; the store declares them then.
        kit.logger.info("the limits of the configuration are declared when the database is accepted")
    ledger = Ledger(
        store,
        await _prices(settings, kit),
        clock,
        cost_nano_usd,
        lambda: secrets.token_hex(_RANDOM_BYTES),
        telemetry,
        _rules(settings),
    )
    rules = WatchRules(
        settings.max_watchers,
        settings.watch_poll_interval_s,
        max_per_organisation=settings.max_watchers_per_organisation,
    )
    watches = Watches(store, rules)
    kit.on_drain(watches.close)
    kit.ready_check("database", store.check)
    kit.background("sweeper", lambda: _sweep(ledger, settings))
    kit.background("sealer", lambda: sealer.run(settings.seal_interval_s))
    kit.serve(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, LedgerApi(ledger, watches))
    yield


def witness_of(settings: LedgerSettings) -> Witness:
    """What was seen of the ledger before. Raises SettingsError for a file that cannot be read."""
    if not settings.witness_path:
        return MemoryWitness()
    path = Path(settings.witness_path)
    try:
        return WitnessFile(path)
    except (OSError, ValueError) as error:
        what = (
            "it is not the first start, so what the ledger saw last is not known: repair the file, or remove it only if"
            " you trust the database as it is; `llmops ledger verify --head NUMBER:HASH`, with the newest head of the"
            " log, tells whether it lost anything"
        )
        raise SettingsError(f"ledger.witness_path: {path}: {error}; {what}") from None


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
        settings.max_lent_basis_points,
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
        try:
            while await ledger.sweep(settings.sweep_batch) == settings.sweep_batch:
                pass
            await _forget(ledger, retention_us, settings.sweep_batch)
        except LedgerRestored:
            pass  # said once by who found it; readiness says it all the time
        await asyncio.sleep(settings.sweep_interval_s)


async def _forget(ledger: Ledger, retention_us: int, batch: int) -> None:
    """Deletes what is too old, batch after batch while they are full."""
    for _ in range(_MAX_FORGETS_PER_ROUND):
        if await ledger.forget(retention_us, batch) < batch:
            return
