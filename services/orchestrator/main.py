"""Wires the coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmops.orchestrator.v1 import orchestrator_pb2_grpc

from meshkit.kit import Kit
from services.orchestrator.adapters.afterwards import BackgroundWork
from services.orchestrator.adapters.cache import RemoteCache
from services.orchestrator.adapters.guard import PolicyDigests, RemoteGuard
from services.orchestrator.adapters.ledger import RemoteLedger
from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.adapters.prompts import RegistryWatch, SnapshotPrompts
from services.orchestrator.adapters.report import ContractReports
from services.orchestrator.adapters.router import RemoteRouter
from services.orchestrator.api import OrchestratorApi
from services.orchestrator.core.admission import Services
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.policy import Policy
from services.orchestrator.settings import OrchestratorSettings


@asynccontextmanager
async def build(settings: OrchestratorSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves OrchestratorService until the block ends; then finishes the accounting under way."""
    records = MemoryRecords(settings.explain_max_records)
    prompts = SnapshotPrompts()
    digests = PolicyDigests(kit.clock)
    work = BackgroundWork(
        settings.max_pending_work,
        settings.accounting_timeout_s,
        kit.gauge("llmops_orchestrator_pending_work", "Work after answers, under way"),
        kit.counter("llmops_orchestrator_work_failures_total", "Work after answers that failed", ("work",)),
        kit.logger,
    )
    services = Services(
        prompts=prompts,
        guard=RemoteGuard(kit.channel("guard"), digests),
        cache=RemoteCache(kit.channel("cache"), digests.current),
        router=RemoteRouter(kit.channel("router")),
        ledger=RemoteLedger(kit.channel("ledger")),
        records=records,
        afterwards=work,
        clock=kit.clock,
    )
    policy = Policy(settings.guard_required, settings.semantic_cache, settings.assumed_output_tokens)
    kit.serve(
        orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server,
        OrchestratorApi(Coordinator(services, policy), records, ContractReports(), kit.clock),
    )

    async def pause() -> None:
        await asyncio.sleep(settings.registry_retry_s)

    watch = RegistryWatch(kit.channel("registry"), prompts, kit.as_service, pause, kit.logger)
    kit.background("registry-watch", watch.run)
    try:
        yield
    finally:
        await work.close()
