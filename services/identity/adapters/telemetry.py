"""Metrics and log lines of identity: names and counts, never a credential."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from services.identity.core.audit import Event


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
        self._counted: set[str] = set()
        self._asked = instruments.counter(
            "llmops_identity_authentications_total",
            "Credentials that processes asked about: key, token, unknown, ended.",
            ("outcome",),
        )
        self._deeds = instruments.counter("llmops_identity_admin_actions_total", "Audited actions.", ("action",))
        self._renewed = instruments.counter(
            "llmops_identity_digests_renewed_total", "Keys that are kept under the current pepper since their last use."
        )
        self._secrets = instruments.gauge(
            "llmops_identity_secrets", "Secrets that still work, by pepper: one that has none may go.", ("pepper_id",)
        )
        self._failures = instruments.counter(
            "llmops_identity_store_failures_total", "Looks at the database that failed in the background."
        )
        self._rewritten = instruments.counter(
            "llmops_identity_audit_log_mismatches_total",
            "Looks at an audit log that does not continue the one that was seen: nothing is signed over it.",
        )

    def count_watchers(self, count: Callable[[], int]) -> None:
        """Shows the number of open watches, read when metrics are."""
        self._instruments.gauge("llmops_identity_watchers", "Open watches.").set_function(count)

    def authenticated(self, outcome: str) -> None:
        """See Observer."""
        self._asked.labels(outcome).inc()

    def done(self, event: Event, action: str) -> None:
        """See Observer."""
        self._deeds.labels(action).inc()
        fields = {"action": action, "sequence": event.sequence, "organisation": event.organisation}
        self._logger.info("admin action", extra={"fields": fields})

    def secrets_counted(self, by_pepper: Mapping[str, int]) -> None:
        """See Observer."""
        for pepper_id in self._counted - set(by_pepper):
            self._secrets.labels(pepper_id).set(0)
        self._counted |= set(by_pepper)
        for pepper_id, count in by_pepper.items():
            self._secrets.labels(pepper_id).set(count)

    def digest_renewed(self, pepper_id: str) -> None:
        """See Observer."""
        self._renewed.inc()

    def log_rewritten(self, problem: str) -> None:
        """See Observer."""
        self._rewritten.inc()
        self._logger.error("the audit log was rewritten: nothing is signed", extra={"fields": {"problem": problem}})

    def store_failed(self, error: Exception) -> None:
        """See Observer."""
        self._failures.inc()
        fields = {"error": type(error.__cause__ or error).__name__}
        self._logger.warning("identity's database does not answer", extra={"fields": fields})
