"""Wires the cache."""

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from llmops.cache.v1 import cache_pb2_grpc

from meshkit.group_commit import GroupCommit
from meshkit.kit import Kit
from services.cache.adapters.faiss import FaissVectorIndex, available
from services.cache.adapters.metrics import MetricEvents
from services.cache.adapters.sql import PostgresEntryStore
from services.cache.api import CacheApi, DisabledCacheApi
from services.cache.core.contrast import Reader
from services.cache.core.counts import CountsByOrganisation
from services.cache.core.entries import Receipt, Write
from services.cache.core.errors import StorageUnavailable
from services.cache.core.hot import HotEntries
from services.cache.core.known import KnownNames
from services.cache.core.mirror import Mirror
from services.cache.core.policy import SECOND_US, KeepingPolicy
from services.cache.core.ports import EntryStore
from services.cache.core.semantic import SemanticLimits, SemanticTier
from services.cache.core.service import AnswerCache, Parts
from services.cache.core.upkeep import SweepLimits, Upkeep
from services.cache.settings import CacheSettings

_ENTRY_ID_BYTES = 16
_MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: CacheSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves CacheService until the context is left. Raises SettingsError when there is no database."""
    if not settings.enabled:
        kit.serve(cache_pb2_grpc.add_CacheServiceServicer_to_server, DisabledCacheApi())
        yield
        return
    database = await kit.database("cache", _MIGRATIONS)
    store = PostgresEntryStore(database.pool, settings.storage.timeout_s)
    writer: GroupCommit[Write, Receipt] = GroupCommit(
        store.put_many, max_batch=settings.storage.write_batch, max_queue=settings.storage.max_write_queue
    )
    kit.on_close(writer.close)
    events = MetricEvents(kit.counter, kit.gauge, kit.logger)
    reader = Reader(settings.semantic.signature_key.reveal().encode(), settings.semantic.max_question_chars)
    semantic = _semantic(settings, kit, store, reader)
    mirror = _mirror(settings, kit, store, semantic)
    parts = Parts(
        store=store,
        writer=writer,
        mirror=mirror,
        semantic=semantic,
        reader=reader,
        keeping=_keeping(settings),
        working=kit.executor("work", settings.work_threads, settings.max_work_queue),
        clock=kit.clock,
        new_entry_id=lambda: secrets.token_hex(_ENTRY_ID_BYTES),
        events=events,
        counts=CountsByOrganisation(settings.memory.max_tracked_organisations),
        languages=frozenset(settings.semantic.languages),
        max_inline_hash_bytes=settings.max_inline_hash_bytes,
        stale_us=settings.storage.keep_stale_s * SECOND_US,
    )
    cache = AnswerCache(parts)
    await _first_sync(mirror, kit.logger)
    upkeep = Upkeep(cache, store, mirror, semantic, kit.clock, events, _sweep_limits(settings))
    kit.background("sync", lambda: upkeep.follow(settings.memory.invalidation_poll_s))
    kit.background("load", upkeep.load)
    kit.background("sweep", lambda: upkeep.sweep_often(settings.storage.sweep_interval_s))
    kit.serve(cache_pb2_grpc.add_CacheServiceServicer_to_server, CacheApi(cache, settings.semantic.max_messages))
    yield


async def _first_sync(mirror: Mirror, logger: logging.Logger) -> None:
    """A cache is no reason not to start: the background loop goes on trying, and look-ups say UNAVAILABLE meanwhile."""
    try:
        await mirror.sync()
    except StorageUnavailable:
        logger.warning("the cache starts without its database and goes on asking for it")


def _semantic(settings: CacheSettings, kit: Kit, store: EntryStore, reader: Reader) -> SemanticTier | None:
    own = settings.semantic
    if not own.enabled:
        return None
    if not available():
        _say_off(kit.logger)
        return None
    return SemanticTier(
        store=store,
        new_index=FaissVectorIndex,
        searching=kit.executor("search", own.search_threads, own.max_search_queue),
        # Only the two background loops use it, one call each at a time.
        building=kit.executor("build", 1, 8),
        known=KnownNames(settings.memory.max_known_names),
        limits=SemanticLimits(
            threshold=own.threshold,
            candidates=own.candidates,
            max_partition_entries=own.max_partition_entries,
            max_partitions=own.max_partitions,
            max_index_bytes=own.max_index_bytes,
            max_wanted=own.max_waiting_partitions,
        ),
        reader=reader,
    )


def _say_off(logger: logging.Logger) -> None:
    logger.warning(
        "the semantic tier is off: FAISS is not installed; install the extra `cache`, or set semantic.enabled"
    )


def _mirror(settings: CacheSettings, kit: Kit, store: EntryStore, semantic: SemanticTier | None) -> Mirror:
    return Mirror(
        store,
        kit.clock,
        HotEntries(settings.memory.max_entries, settings.memory.max_bytes),
        KnownNames(settings.memory.max_known_names),
        semantic,
        max_staleness_s=settings.memory.max_staleness_s,
        # Half of what is kept: clocks of other processes stamp the log, and reading it takes time.
        max_gap_s=settings.storage.removal_log_s / 2,
    )


def _keeping(settings: CacheSettings) -> KeepingPolicy:
    ttl = settings.ttl
    seconds = {"volatile": ttl.volatile_s, "standard": ttl.standard_s, "stable": ttl.stable_s}
    return KeepingPolicy(
        ttl_us={name: value * SECOND_US for name, value in seconds.items()},
        max_ttl_us=ttl.max_ttl_s * SECOND_US,
        max_entry_bytes=settings.storage.max_entry_bytes,
    )


def _sweep_limits(settings: CacheSettings) -> SweepLimits:
    storage = settings.storage
    return SweepLimits(
        max_entries_per_organisation=storage.max_entries_per_organisation,
        mutations_us=storage.request_id_window_s * SECOND_US,
        removals_us=storage.removal_log_s * SECOND_US,
        batch=storage.sweep_batch,
        stale_us=storage.keep_stale_s * SECOND_US,
    )
