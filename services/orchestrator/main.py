"""Wires the coordinator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from llmops.orchestrator.v1 import orchestrator_pb2_grpc

from meshkit.context import new_request_id
from meshkit.kit import Kit
from meshkit.money import cost_nano_usd
from meshkit.settings import SettingsError
from services.orchestrator.adapters.afterwards import BackgroundWork
from services.orchestrator.adapters.cache import RemoteCache
from services.orchestrator.adapters.canaries import CanaryRounds
from services.orchestrator.adapters.conversation import shadow_copy
from services.orchestrator.adapters.embeddings import RemoteEmbedder
from services.orchestrator.adapters.guard import PolicyDigests, RemoteGuard
from services.orchestrator.adapters.keyed import KeyedRequests
from services.orchestrator.adapters.ledger import RemoteLedger
from services.orchestrator.adapters.lender import LendingTelemetry, RemoteLender, payer_of
from services.orchestrator.adapters.memory import MemoryAnswers, MemoryRecords
from services.orchestrator.adapters.prompts import RegistryWatch, SnapshotPrompts
from services.orchestrator.adapters.report import ContractReports
from services.orchestrator.adapters.router import RemoteRouter
from services.orchestrator.adapters.telemetry import DrainTelemetry, ShadowTelemetry
from services.orchestrator.adapters.unbooked import UnbookedCommits
from services.orchestrator.api import OrchestratorApi
from services.orchestrator.core.admission import Services
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.draining import Drains
from services.orchestrator.core.embedding import EmbeddingCoordinator
from services.orchestrator.core.errors import AnswersUnavailable
from services.orchestrator.core.idempotency import KeyLimits, OncePerKey, Pauses
from services.orchestrator.core.leased_ledger import LeasedLedger
from services.orchestrator.core.lending import Leases, LendingPolicy
from services.orchestrator.core.policy import Metering, Policy
from services.orchestrator.core.ports import Answers, Ledger
from services.orchestrator.core.shadows import ShadowPorts, Shadows
from services.orchestrator.settings import (
    RENEWALS_PER_LOCK,
    CanarySettings,
    DrainSettings,
    IdempotencySettings,
    LeaseSettings,
    OrchestratorSettings,
    ShadowSettings,
)

# How soon a restored ledger is asked again whether it takes commits.
_UNBOOKED_PAUSE_S = 2.0
MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: OrchestratorSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves OrchestratorService until the block ends; then finishes the accounting under way."""
    records, prompts = MemoryRecords(settings.explain_max_records), SnapshotPrompts()
    digests, work = PolicyDigests(kit.clock), _work(settings, kit)
    unbooked = _unbooked(settings, kit)
    remote_ledger = RemoteLedger(kit.channel("ledger"), unbooked)
    leases = _leases(settings.leases, kit)
    ledger: Ledger = remote_ledger if leases is None else LeasedLedger(remote_ledger, leases, work, payer_of)
    services = Services(
        prompts=prompts,
        guard=RemoteGuard(kit.channel("guard"), digests),
        cache=RemoteCache(kit.channel("cache"), digests.current),
        router=RemoteRouter(kit.channel("router")),
        ledger=ledger,
        records=records,
        afterwards=work,
        clock=kit.clock,
    )
    copies, (drains, left_calls) = _copies(settings.shadows, kit), _drains(settings.drains, kit)
    ports = ShadowPorts(services.router, remote_ledger, work, copies, kit.clock, ShadowTelemetry(kit), shadow_copy)
    coordinator = _coordinator(settings, services, ports, drains)
    embeddings = EmbeddingCoordinator(services, RemoteEmbedder(kit.channel("router")), _policy(settings))
    once = await _once(settings.idempotency, kit, work)
    keyed = KeyedRequests(once, coordinator, embeddings, settings.idempotency.max_call_s)
    api = OrchestratorApi(coordinator, embeddings, keyed, records, ContractReports(), kit.clock)
    kit.serve(orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server, api)
    _watch_registry(settings, kit, prompts)
    _send_canaries(settings.canaries, kit)
    try:
        yield
    finally:
        await once.close(settings.idempotency.drain_s)
        # Before the accounts are closed: what a copy, or a call that was left, has cost is booked.
        await copies.stop()
        drains.close()
        await left_calls.stop()
        await work.close()
        await unbooked.close()
        if leases is not None:
            await leases.close(settings.leases.drain_s)


def _coordinator(settings: OrchestratorSettings, services: Services, ports: ShadowPorts, drains: Drains) -> Coordinator:
    policy = _policy(settings)
    return Coordinator(services, policy, drains, Shadows(ports, policy, settings.shadows.max_at_once))


def _policy(settings: OrchestratorSettings) -> Policy:
    metering = Metering(settings.raise_hold_at, settings.on_exhausted == "cut", settings.report_spending_s)
    return Policy(settings.guard_required, settings.semantic_cache, settings.assumed_output_tokens, metering)


def _work(settings: OrchestratorSettings, kit: Kit) -> BackgroundWork:
    return BackgroundWork(
        settings.max_pending_work,
        settings.accounting_timeout_s,
        kit.gauge("llmops_orchestrator_pending_work", "Work after answers, under way"),
        kit.counter("llmops_orchestrator_work_failures_total", "Work after answers that failed", ("work",)),
        kit.logger,
    )


def _copies(settings: ShadowSettings, kit: Kit) -> BackgroundWork:
    return BackgroundWork(
        settings.max_at_once,
        settings.timeout_s,
        kit.gauge("llmops_orchestrator_shadows_under_way", "Copies for shadow models, under way"),
        kit.counter("llmops_orchestrator_shadow_failures_total", "Copies that ended unexpectedly", ("work",)),
        kit.logger,
    )


def _drains(settings: DrainSettings, kit: Kit) -> tuple[Drains, BackgroundWork]:
    left_calls = BackgroundWork(
        settings.max_at_once,
        settings.timeout_s,
        kit.gauge("llmops_orchestrator_drains_under_way", "Calls that are read to their end without their callers"),
        kit.counter("llmops_orchestrator_drain_failures_total", "Such calls that were given up", ("work",)),
        kit.logger,
    )
    return Drains(left_calls, DrainTelemetry(kit), settings.max_at_once), left_calls


def _watch_registry(settings: OrchestratorSettings, kit: Kit, prompts: SnapshotPrompts) -> None:
    pause = _pausing(settings.registry_retry_s)
    watch = RegistryWatch(kit.channel("registry"), prompts, kit.as_service, pause, kit.logger)
    kit.background("registry-watch", watch.run)


def _unbooked(settings: OrchestratorSettings, kit: Kit) -> UnbookedCommits:
    unbooked = UnbookedCommits(
        settings.max_unbooked_commits,
        _UNBOOKED_PAUSE_S,
        kit.gauge("llmops_orchestrator_unbooked_commits", "Commits that wait for a restored ledger to be accepted"),
        kit.counter("llmops_orchestrator_lost_commits_total", "Commits given up; what they used may not be booked"),
        kit.logger,
    )
    kit.background("unbooked-commits", unbooked.run)
    return unbooked


def _leases(settings: LeaseSettings, kit: Kit) -> Leases | None:
    if settings.on_ledger_outage == "closed":
        return None
    policy = LendingPolicy(
        settings.amount_nano_usd,
        settings.lease_s,
        settings.settle_within_s,
        settings.max_payers,
        settings.max_input_tokens,
        settings.without_rates,
        settings.max_payers_per_organisation,
    )
    lender = RemoteLender(kit.channel("ledger"), kit.as_service, f"{kit.process}-{new_request_id()[:8]}")
    leases = Leases(lender, policy, kit.clock, cost_nano_usd, new_request_id, LendingTelemetry(kit, kit.logger))
    kit.background("leases", leases.run)
    return leases


def _send_canaries(settings: CanarySettings, kit: Kit) -> None:
    if not settings.api_key:
        return
    rounds = CanaryRounds(
        kit.channel("router"),
        kit.channel("orchestrator"),
        as_service=kit.as_service,
        as_payer=partial(kit.as_key, settings.api_key, settings.timeout_s),
        sleep=asyncio.sleep,
        now_s=kit.clock.monotonic,
        max_calls=settings.max_calls,
        answers=kit.counter(
            "llmops_orchestrator_canary_answers_total", "Canaries that were sent", ("model_name", "outcome")
        ),
        logger=kit.logger,
    )
    kit.background("canaries", partial(rounds.run, settings.start_after_s))


async def _once(settings: IdempotencySettings, kit: Kit, work: BackgroundWork) -> OncePerKey:
    limits = KeyLimits(settings.max_in_flight, settings.max_answer_bytes, settings.storage_timeout_s)
    answers = await _answers(settings, kit)
    pauses = Pauses(_pausing(settings.look_again_s), _pausing(settings.lock_s / RENEWALS_PER_LOCK))
    once = OncePerKey(answers, work, pauses, new_request_id, limits)
    kit.background("renew-claims", once.renewing)
    return once


async def _answers(settings: IdempotencySettings, kit: Kit) -> Answers:
    """Shared by all replicas where there is a database, else this process's own."""
    if not kit.has_database:
        kit.logger.info("idempotency keys are honoured by this process alone: it has no database")
        return MemoryAnswers(kit.clock, settings.lock_s, settings.retention_s, settings.memory_max_answers)
    try:
        from services.orchestrator.adapters.sql import PostgresAnswers  # noqa: PLC0415 - only where it is used
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"answers under idempotency keys need the package {error.name} where there is a database; install "
            "`pip install 'llmops-mesh[orchestrator]'`"
        ) from None

    database = await kit.database("orchestrator", MIGRATIONS)
    answers = PostgresAnswers(
        database.pool,
        settings.lock_s,
        settings.retention_s,
        settings.storage_timeout_s,
        settings.max_kept_per_organisation,
    )

    async def sweep() -> None:
        while True:
            with contextlib.suppress(AnswersUnavailable):
                while await answers.forget(settings.sweep_batch) == settings.sweep_batch:
                    pass
                await answers.count()
            await asyncio.sleep(settings.sweep_interval_s)

    kit.background("sweep-answers", sweep)
    return answers


def _pausing(duration_s: float) -> Callable[[], Awaitable[None]]:
    async def pause() -> None:
        await asyncio.sleep(duration_s)

    return pause
