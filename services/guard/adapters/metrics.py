"""Decisions as metrics and log lines. Labels are words of this program and of the configuration, never content."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from services.guard.core.findings import Action, Verdict


class MetricObserver:
    """The port Observer. Blocks by policy and blocks by error are counted apart."""

    def __init__(self, counter: Callable[[str, str, tuple[str, ...]], Any], logger: logging.Logger) -> None:
        self._decisions = counter(
            "llmops_guard_decisions_total", "Verdicts by direction and decision.", ("direction", "decision", "cause")
        )
        self._findings = counter(
            "llmops_guard_findings_total", "Findings by detector and action.", ("detector", "action")
        )
        self._failures = counter("llmops_guard_detector_failures_total", "Detectors that raised.", ("detector",))
        self._logger = logger
        # Children by their labels: looking them up takes longer than counting. As few as words of configuration.
        self._known: dict[tuple[str, Action, str], Any] = {}

    def decided(self, direction: str, verdict: Verdict) -> None:
        """See Observer."""
        hardest = verdict.findings[0] if verdict.findings else None
        cause = "error" if hardest is not None and hardest.category == "error" else "policy"
        key = (direction, verdict.decision, cause)
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = self._decisions.labels(direction, verdict.decision.name.lower(), cause)
        child.inc()
        for finding in verdict.findings:
            self._findings.labels(finding.detector, finding.action.name.lower()).inc()

    def detector_failed(self, detector: str, error: BaseException) -> None:
        """See Observer. Logs the type only: an error's text may quote what was scanned."""
        self._failures.labels(detector).inc()
        self._logger.warning("guard detector %s failed: %s", detector, type(error).__name__)
