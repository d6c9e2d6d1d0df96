"""The ledger's adapter with commits that wait, metrics of their own, and a log to read."""

from __future__ import annotations

import logging
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.orchestrator.adapters.ledger import RemoteLedger
from services.orchestrator.adapters.unbooked import UnbookedCommits

LOG = "unbooked-commits"


class Unbooked:
    """Commits that wait, and what an operator sees of them."""

    def __init__(self, limit: int = 10) -> None:
        self._registry = CollectorRegistry()
        waiting = Gauge("waiting", "waiting", registry=self._registry)
        lost = Counter("lost", "lost", registry=self._registry)
        self.commits = UnbookedCommits(limit, 0.01, waiting, lost, logging.getLogger(LOG))

    def metrics(self) -> tuple[float | None, float | None]:
        """Waiting, lost."""
        return self._registry.get_sample_value("waiting"), self._registry.get_sample_value("lost_total")


def remote(channel: Any, retry_pause_s: float = 0.25, unbooked: Unbooked | None = None) -> RemoteLedger:
    return RemoteLedger(channel, (unbooked or Unbooked()).commits, retry_pause_s)
