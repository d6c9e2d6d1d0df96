"""Runs of canaries as they come in: judged off the loop, kept in the store, told in the log and the metrics."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from meshkit.executors import Executor
from services.router.core.canaries import Canaries, CanaryPlan, Judgement
from services.router.core.catalogue import Catalogue
from services.router.core.errors import RequestIdReused
from services.router.core.ports import CanaryStore

_KEPT_RELEASES = 1000


class _Metrics(Protocol):
    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any: ...

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any: ...


class CanaryDesk:
    """One a process; it outlives configurations."""

    def __init__(self, canaries: Canaries, executor: Executor, metrics: _Metrics, logger: logging.Logger) -> None:
        self.canaries = canaries
        self._executor = executor
        self._logger = logger
        self._saving = asyncio.Lock()
        self._store: CanaryStore | None = None
        self._released: OrderedDict[str, tuple[str, bool]] = OrderedDict()
        self._runs = metrics.counter(
            "llmops_router_canary_runs_total", "Runs of canaries by what they said.", ("model_name", "outcome")
        )
        self._quarantined = metrics.gauge(
            "llmops_router_quarantined", "1 while a watched model is quarantined.", ("model_name",)
        )

    async def open(self, plan: CanaryPlan, catalogue: Catalogue, store: CanaryStore) -> None:
        """Begins with what the store knows."""
        self._store = store
        self.canaries.configure(plan, catalogue, await self._executor.run(store.load))
        for model, alarm in self.canaries.quarantined.items():
            self._logger.warning("%s is still quarantined: %s", model, alarm)
        self._tell_gauges(plan.models)

    def reconfigure(self, plan: CanaryPlan, catalogue: Catalogue, store: CanaryStore) -> None:
        """Takes over a changed file; what was learnt goes into the new store with the next run."""
        before = self.canaries.plan.models
        self._store = store
        self.canaries.configure(plan, catalogue)
        self._tell_gauges({*before, *plan.models})

    async def judge(self, model: str, answers: Mapping[str, Sequence[str]]) -> Judgement:
        """One run. Raises InvalidRequest for a model that is not watched, and Overloaded."""
        run = self.canaries.run(model, answers)
        judgement = self.canaries.note(run, *await self._executor.run(run.judge))
        outcome = "differs" if judgement.suspicions else "reference" if judgement.is_reference else "same"
        self._runs.labels(model, outcome).inc()
        if judgement.is_new_alarm:
            self._logger.error("%s is quarantined: %s; `llmops models release` ends it", model, judgement.alarm)
        self._tell_gauges((model,))
        await self._save()
        return judgement

    async def release(self, request_id: str, model: str) -> bool:
        """Whether there was a quarantine to end. Raises ModelNotFound, and RequestIdReused for another model's id."""
        known = self._released.get(request_id)
        if known is not None:
            if known[0] != model:
                raise RequestIdReused("This request_id released another model; use a new one.")
            return known[1]
        was_quarantined = self.canaries.release(model)
        self._released[request_id] = (model, was_quarantined)
        while len(self._released) > _KEPT_RELEASES:
            self._released.popitem(last=False)
        self._logger.warning("%s is released: its next canaries are the reference", model)
        if model in self.canaries.plan.models:
            self._tell_gauges((model,))
        await self._save()
        return was_quarantined

    def _tell_gauges(self, models: Sequence[str] | set[str]) -> None:
        for model in models:
            self._quarantined.labels(model).set(model in self.canaries.quarantined)

    async def _save(self) -> None:
        """What cannot be kept is known until the process ends."""
        async with self._saving:
            if self._store is None:
                return
            save: Callable[[Mapping[str, Any]], None] = self._store.save
            try:
                await self._executor.run(save, dict(self.canaries.watched))
            except OSError as error:
                self._logger.error("what canaries learnt cannot be kept: %s", error.strerror)  # noqa: TRY400
