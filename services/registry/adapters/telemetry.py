"""Metrics and log lines of the registry: names, versions and counts, never content."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from services.registry.core.prompt import PublishedPrompt


class Instruments(Protocol):
    """The metric constructors of the chassis."""

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:
        """A counter."""
        ...

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:
        """A gauge."""
        ...


class TelemetryObserver:
    """See `core.ports.Observer`."""

    def __init__(self, instruments: Instruments, logger: logging.Logger) -> None:
        """Creates the instruments."""
        self._logger = logger
        self._instruments = instruments
        self._revision = instruments.gauge("llmops_registry_revision", "Revision that this process serves.")
        self._publications = instruments.counter(
            "llmops_registry_publications_total",
            "Accepted publications, by whether they created a version.",
            ("created",),
        )
        self._failures = instruments.counter(
            "llmops_registry_refresh_failures_total", "Looks at the database that failed; memory was served on."
        )
        self._storage_answers = True

    def count_watchers(self, count: Callable[[], int]) -> None:
        """Shows the number of open watches, read when metrics are."""
        gauge = self._instruments.gauge("llmops_registry_watchers", "Open watches.")
        gauge.set_function(count)

    def published(self, prompt: PublishedPrompt, *, created: bool, environments: Sequence[str], publisher: str) -> None:
        """See Observer."""
        self._publications.labels(str(created).lower()).inc()
        fields = {
            "prompt": prompt.label,
            "digest": prompt.digest,
            "created": created,
            "environments": list(environments),
            "publisher": publisher,
        }
        self._logger.info("prompt published", extra={"fields": fields})

    def changed(self, revision: int) -> None:
        """See Observer."""
        self._revision.set(revision)

    def refresh_failed(self, error: Exception) -> None:
        """See Observer. Logs the first failure of a row; the counter has the rest."""
        self._failures.inc()
        if self._storage_answers:
            self._storage_answers = False
            cause = type(error.__cause__ or error).__name__
            self._logger.warning("the registry's database does not answer", extra={"fields": {"error": cause}})

    def refresh_recovered(self) -> None:
        """See Observer."""
        self._storage_answers = True
        self._logger.info("the registry's database answers again")
