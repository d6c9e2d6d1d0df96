"""Counts as metrics and log lines."""

import logging
from collections.abc import Callable
from typing import Any

from services.cache.core.entries import Tier


class MetricEvents:
    """Events on the process's metrics; labels are fixed words of this program, never a caller's text."""

    def __init__(
        self,
        counter: Callable[[str, str, tuple[str, ...]], Any],
        gauge: Callable[[str, str], Any],
        logger: logging.Logger,
    ) -> None:
        """Wires the metrics.

        Args:
            counter: Makes a counter from name, help and labels, as the chassis does.
            gauge: Makes a gauge from name and help, likewise.
            logger: Of the service.
        """
        lookups = counter("llmops_cache_lookups_total", "Lookups by how they were answered.", ("tier",))
        self._looked_up = {tier.value: lookups.labels(tier.value) for tier in Tier}
        self._refused = counter(
            "llmops_cache_refused_candidates_total", "Semantic candidates that were not served.", ("reason",)
        )
        self._failed = counter("llmops_cache_upkeep_failures_total", "Background steps that failed.", ("task",))
        self._hot_bytes = gauge("llmops_cache_hot_bytes", "Memory of the entries that are served without the database.")
        self._known_names = gauge("llmops_cache_known_names", "Fingerprints that the store is known to hold.")
        self._index_bytes = gauge("llmops_cache_index_bytes", "Memory of the loaded vector indexes.")
        self._logger = logger

    def looked_up(self, tier: str) -> None:
        """See Events."""
        self._looked_up[tier].inc()

    def refused(self, reason: str) -> None:
        """See Events."""
        self._refused.labels(reason).inc()

    def sized(self, hot_bytes: int, known_names: int, index_bytes: int) -> None:
        """See Events."""
        self._hot_bytes.set(hot_bytes)
        self._known_names.set(known_names)
        self._index_bytes.set(index_bytes)

    def failed(self, task: str, error: Exception) -> None:
        """See Events."""
        self._failed.labels(task).inc()
        self._logger.warning("cache %s failed: %s", task, error)
