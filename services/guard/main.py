"""Wires the guard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmops.guard.v1 import guard_pb2_grpc

from meshkit.kit import Kit
from meshkit.settings import SettingsError
from services.guard.adapters.json_schema import JsonSchemaCompiler
from services.guard.adapters.metrics import MetricObserver
from services.guard.adapters.re2 import Re2Engine
from services.guard.api import GuardApi
from services.guard.core.active_policy import PolicyBook
from services.guard.core.errors import InvalidPatternError
from services.guard.core.guard import Guard, GuardLimits
from services.guard.core.ports import Classifier
from services.guard.core.schema_cost import SchemaLimits
from services.guard.settings import GuardSettings

# Model heads plug in here.
_CLASSIFIERS: tuple[Classifier, ...] = ()


@asynccontextmanager
async def build(settings: GuardSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves GuardService until the context is left. Raises SettingsError when a custom pattern is not valid."""
    try:
        policies = PolicyBook(settings.effective_policies(), Re2Engine())
    except InvalidPatternError as error:
        raise SettingsError(str(error)) from error
    guard = Guard(
        policies=policies,
        schemas=JsonSchemaCompiler(
            settings.max_schemas,
            settings.max_schema_cache_chars,
            SchemaLimits(settings.max_schema_evaluations, settings.max_json_depth),
        ),
        executor=kit.executor("scan", settings.scan_threads, settings.max_scan_queue),
        observer=MetricObserver(kit.counter, kit.logger),
        limits=GuardLimits(
            inline_scan_chars=settings.inline_scan_chars,
            exact_token_count_chars=settings.exact_token_count_chars,
            max_classifier_windows=settings.max_classifier_windows,
        ),
        encoder=await kit.encoder(),
        classifiers=_CLASSIFIERS,
    )
    kit.serve(guard_pb2_grpc.add_GuardServiceServicer_to_server, GuardApi(guard))
    yield
