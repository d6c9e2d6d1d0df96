"""Wires the registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from llmops.registry.v1 import registry_pb2_grpc

from meshkit.bucketing import choose_arm
from meshkit.executors import Executor
from meshkit.kit import Kit
from meshkit.settings import SettingsError
from services.registry.adapters.files import read_documents
from services.registry.adapters.sql import SqlStore
from services.registry.adapters.telemetry import TelemetryObserver
from services.registry.adapters.templates import MeshTemplates
from services.registry.api import RegistryApi
from services.registry.core.errors import InvalidFiles
from services.registry.core.registry import Ports, Registry, Rules
from services.registry.core.validation import Limits
from services.registry.settings import RegistrySettings

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: RegistrySettings, kit: Kit) -> AsyncIterator[None]:
    """Loads what is stored, publishes the prompt directory, then serves. A wrong file ends the start."""
    database = await kit.database("registry", MIGRATIONS)
    executor = kit.executor("cpu", settings.cpu_threads, settings.cpu_queue)
    observer = TelemetryObserver(kit, kit.logger)
    ports = Ports(
        store=SqlStore(database.pool, executor, settings.storage_timeout_s),
        templates=MeshTemplates(settings.max_result_bytes),
        choose_arm=choose_arm,
        executor=executor,
        clock=kit.clock,
        observer=observer,
    )
    registry = Registry(ports, rules_of(settings))
    observer.count_watchers(lambda: registry.watchers)
    await registry.refresh()
    if settings.prompts_dir:
        await _publish_directory(registry, executor, settings)
    kit.serve(registry_pb2_grpc.add_RegistryServiceServicer_to_server, RegistryApi(registry, executor))
    kit.background("poll", partial(registry.follow, settings.poll_interval_s))
    kit.on_drain(registry.drain)
    yield


async def _publish_directory(registry: Registry, executor: Executor, settings: RegistrySettings) -> None:
    read = partial(read_documents, max_file_bytes=settings.max_file_bytes, max_files=settings.max_files)
    try:
        await registry.publish_directory(await executor.run(read, Path(settings.prompts_dir)))
    except InvalidFiles as error:
        raise SettingsError(f"registry.prompts_dir {settings.prompts_dir}: {error}") from None


def rules_of(settings: RegistrySettings) -> Rules:
    """The part of the settings that the core decides by."""
    return Rules(
        limits=Limits(
            max_prompt_bytes=settings.max_prompt_bytes,
            max_prompts=settings.max_prompts,
            max_versions_per_prompt=settings.max_versions_per_prompt,
            max_total_bytes=settings.max_total_bytes,
        ),
        environments=settings.environments,
        request_retention=timedelta(hours=settings.request_retention_h),
        max_page_bytes=settings.max_page_bytes,
        max_watchers=settings.max_watchers,
    )
