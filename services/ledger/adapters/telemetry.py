"""Tells operators what happened: counters and log lines, without organisations, users or content in labels."""

from __future__ import annotations

import logging
from typing import Protocol

from services.ledger.core.limits import Limit
from services.ledger.core.operations import Alert
from services.ledger.core.windows import MICROSECONDS

_NANO_PER_USD = 1e9


class Metric(Protocol):
    """A counter of the process."""

    def labels(self, *values: str) -> Metric:
        """The child of these label values."""
        ...

    def inc(self, amount: float = 1) -> None:
        """Adds."""
        ...


class Level(Protocol):
    """A gauge of the process."""

    def set(self, value: float) -> None:
        """What it shows."""
        ...


class MetricFactory(Protocol):
    """Makes counters and gauges; the kit does."""

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Metric:
        """A counter of the process."""
        ...

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Level:
        """A gauge of the process."""
        ...


class LedgerTelemetry:
    """See core.ports.Observer."""

    def __init__(self, metrics: MetricFactory, logger: logging.Logger) -> None:
        self._logger = logger
        decisions = metrics.counter("llmops_ledger_decisions_total", "Decisions on holds.", labels=("verb", "decision"))
        self._decided = {
            (verb, granted): decisions.labels(verb, "granted" if granted else "denied")
            for verb in ("reserve", "extend")
            for granted in (True, False)
        }
        self._alerts = metrics.counter("llmops_ledger_alerts_total", "Alert lines passed.", labels=("scope", "period"))
        self._booked = metrics.counter("llmops_ledger_booked_usd_total", "Money booked by commits.")
        self._overrun = metrics.counter("llmops_ledger_overrun_usd_total", "Money booked beyond holds.")
        self._late = metrics.counter("llmops_ledger_late_commits_total", "Commits after expiry.")
        self._after_void = metrics.counter(
            "llmops_ledger_commits_after_void_total", "Commits of reservations that were voided: must stay at zero."
        )
        self._orphans = metrics.counter(
            "llmops_ledger_orphan_commits_total", "Usage of reservations that were not known: must stay at zero."
        )
        self._shadow_denials = metrics.counter(
            "llmops_ledger_shadow_denials_total",
            "Requests that limits in shadow mode would have denied.",
            labels=("scope", "period", "unit"),
        )
        self._clock_ahead = metrics.gauge(
            "llmops_ledger_clock_ahead_seconds",
            "How far the machine's clock is ahead of the time that passed; 0 while it is believed.",
        )
        self._expired = metrics.counter("llmops_ledger_expired_holds_total", "Holds that ended by themselves.")

    def decided(self, verb: str, *, granted: bool) -> None:
        """See Observer."""
        self._decided[verb, granted].inc()

    def alert(self, alert: Alert) -> None:
        """See Observer. The log names the limit; its subject may be a person and stays out."""
        limit = alert.limit
        scope, period = limit.scope.name.lower(), limit.period.name.lower()
        self._alerts.labels(scope, period).inc()
        fields = {
            "limit_id": limit.limit_id,
            "scope": scope,
            "period": period,
            "used_nano_usd": alert.used_nano_usd,
            "cap_nano_usd": limit.cap_nano_usd,
        }
        self._logger.warning("a limit passed its alert line", extra={"fields": fields})

    def booked(self, amount_nano_usd: int, overrun_nano_usd: int, *, late: bool) -> None:
        """See Observer. Metrics are approximate by nature: the float ends here, the journal has the integers."""
        self._booked.inc(amount_nano_usd / _NANO_PER_USD)
        if overrun_nano_usd:
            self._overrun.inc(overrun_nano_usd / _NANO_PER_USD)
        if late:
            self._late.inc()

    def committed_after_void(self, reservation_id: str) -> None:
        """See Observer."""
        self._after_void.inc()
        fields = {"reservation_id": reservation_id}
        self._logger.error("a voided reservation was committed: its call was executed", extra={"fields": fields})

    def shadow_denied(self, limit: Limit) -> None:
        """See Observer."""
        names = (limit.scope.name.lower(), limit.period.name.lower(), limit.unit.name.lower())
        self._shadow_denials.labels(*names).inc()

    def orphan(self, reservation_id: str) -> None:
        """See Observer."""
        self._orphans.inc()
        fields = {"reservation_id": reservation_id}
        self._logger.error("usage of an unknown reservation was booked: the ledger lost it", extra={"fields": fields})

    def expired(self, reservations: int, charged_nano_usd: int) -> None:
        """See Observer."""
        self._expired.inc(reservations)
        fields = {"reservations": reservations, "charged_nano_usd": charged_nano_usd}
        self._logger.info("holds ended by themselves", extra={"fields": fields})

    def clock_ahead(self, ahead_us: int) -> None:
        """The machine's clock is not believed from now on, or is again (0)."""
        self._clock_ahead.set(ahead_us / MICROSECONDS)
        if ahead_us:
            self._logger.error(
                "the machine's clock jumped ahead and is not believed: time goes on evenly. If the clock is wrong now,"
                " set it back; if it was wrong before and is right now, restart this process to confirm it",
                extra={"fields": {"ahead_s": ahead_us // MICROSECONDS}},
            )
        else:
            self._logger.warning("the machine's clock is believed again")
