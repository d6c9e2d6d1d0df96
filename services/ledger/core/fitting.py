"""How a request fits the limits of its payer: money, rates and concurrency at once, all or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.ledger.core import rates
from services.ledger.core.books import Books, Counter, Reservation
from services.ledger.core.limits import Binding, Limit, Mode, Unit
from services.ledger.core.operations import Alert, Meter, RateLeft, Reserve, Violation
from services.ledger.core.windows import MICROSECONDS, window_at

# When a call under way ends, and what it gives back, is not known; who waits for that asks again after this.
UNDER_WAY_RETRY_US = MICROSECONDS
_MONEY = Unit.MONEY


class Fit(NamedTuple):
    """The counters to hold an amount on, what to meter, and what stands against it.

    `pending` are the limits on rates, each with its counter's TAT and what would be added to it.
    """

    money_ids: tuple[str, ...]
    violations: tuple[Violation, ...]
    shadow_violations: tuple[Violation, ...]
    alerted: tuple[str, ...]
    alerts: tuple[Alert, ...]
    meters: tuple[Meter, ...]
    pending: tuple[tuple[Limit, int, int], ...]

    def rates_left(self, now_us: int) -> tuple[RateLeft, ...]:
        """What is left of each rate after the decision: a denial has burnt nothing."""
        now_ns = now_us * rates.NANOSECONDS_PER_MICROSECOND
        return tuple(_rate_left(limit, tat, 0 if self.violations else by, now_ns) for limit, tat, by in self.pending)


def fit(books: Books, operation: Reserve, now_us: int) -> Fit:
    """Compares a request with every limit in force. Changes nothing."""
    amount = operation.amount_nano_usd
    # Free is what has no price. A priced call of no tokens may cost more than it says: it needs room for something.
    least = amount or int(not operation.free)
    money_ids: list[str] = []
    found: list[Violation] = []
    alerted: list[str] = []
    alerts: list[Alert] = []
    bindings = books.limits.bindings(operation.payer, now_us // MICROSECONDS)
    for index, (limit, counter_id, key, window_end_s) in enumerate(bindings):
        if key is None:
            if not limit.fits(0, least):
                found.append(Violation(limit, limit.stop_line_nano_usd, amount, None))
            continue
        if limit.unit is not _MONEY:
            metered = _Metered()
            metered.add(books, bindings[index:], operation, now_us)
            found.extend(metered.violations)
            return _fit(money_ids, found, alerted, alerts, tuple(metered.meters), tuple(metered.pending))
        counter = books.counters[counter_id]
        money_ids.append(counter_id)
        used = counter.used_nano_usd
        if not limit.fits(used, least):
            wait = _wait_us(limit, counter, least, window_end_s, now_us)
            found.append(Violation(limit, limit.stop_line_nano_usd - used, amount, window_end_s, wait))
            if limit.mode is not Mode.SHADOW:
                continue
        if alerts_at(limit, counter, used + amount):
            alerts.append(Alert(limit, used + amount))
            alerted.append(counter_id)
    if found:
        return _fit(money_ids, found, alerted, alerts, (), ())
    return Fit(tuple(money_ids), (), (), tuple(alerted), tuple(alerts), (), ())


def _fit(
    money_ids: list[str],
    found: list[Violation],
    alerted: list[str],
    alerts: list[Alert],
    meters: tuple[Meter, ...],
    pending: tuple[tuple[Limit, int, int], ...],
) -> Fit:
    shadow: tuple[Violation, ...] = ()
    if found:
        shadow = tuple(v for v in found if v.limit.mode is Mode.SHADOW)
        found = [v for v in found if v.limit.mode is not Mode.SHADOW]
    return Fit(tuple(money_ids), tuple(found), shadow, tuple(alerted), tuple(alerts), meters, pending)


class _Metered:
    """What a request takes of limits that are not money."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.meters: list[Meter] = []
        self.pending: list[tuple[Limit, int, int]] = []

    def add(self, books: Books, bindings: Iterable[Binding], operation: Reserve, now_us: int) -> None:
        """Compares with each limit on its own; who asks puts the answers together."""
        for binding in bindings:
            counter = books.counters[binding.counter_id]
            if binding.limit.unit is Unit.CONCURRENCY:
                self._call_under_way(binding, counter)
            else:
                # No call is without tokens; the commit knows how many.
                count = 1 if binding.limit.unit is Unit.REQUESTS else max(operation.tokens, 1)
                self._rate(binding, counter, count, now_us * rates.NANOSECONDS_PER_MICROSECOND)

    def _call_under_way(self, binding: Binding, counter: Counter) -> None:
        limit, live = binding.limit, counter.held_nano_usd
        if live + 1 > limit.max_count:
            wait = UNDER_WAY_RETRY_US if limit.max_count else None
            self.violations.append(Violation(limit, limit.max_count - live, 1, None, wait))
        self.meters.append(Meter(binding.counter_id, limit.unit, 1))

    def _rate(self, binding: Binding, counter: Counter, count: int, now_ns: int) -> None:
        limit = binding.limit
        if not limit.max_count:
            self.violations.append(Violation(limit, 0, count, None))
            return
        rate, by_ns = limit.rate, rates.cost_ns(count, limit.max_count)
        fits = rates.fits(counter.tat_ns, now_ns, count, rate)
        if not fits:
            wait_ns = rates.retry_after_ns(counter.tat_ns, now_ns, count, rate)
            wait_us = None if wait_ns is None else -(-wait_ns // rates.NANOSECONDS_PER_MICROSECOND)
            left = rates.remaining(counter.tat_ns, now_ns, rate)
            self.violations.append(Violation(limit, left, count, None, wait_us))
            # In shadow mode the call comes all the same, but an enforced limit would not have counted it.
            by_ns = 0
        if fits:
            tat_ns = rates.move(counter.tat_ns, now_ns, by_ns)
            self.meters.append(Meter(binding.counter_id, limit.unit, by_ns, limit.max_count, tat_ns))
        self.pending.append((limit, counter.tat_ns, by_ns))


def _rate_left(limit: Limit, tat_ns: int, by_ns: int, now_ns: int) -> RateLeft:
    after = rates.move(tat_ns, now_ns, by_ns)
    reset_us = -(-rates.pending_ns(after, now_ns) // rates.NANOSECONDS_PER_MICROSECOND)
    return RateLeft(limit, rates.remaining(after, now_ns, limit.rate), reset_us)


def _wait_us(limit: Limit, counter: Counter, least: int, window_end_s: int | None, now_us: int) -> int | None:
    """An amount that fits without what calls under way hold may fit when they end; any other when the window does.

    None where it fits no empty window either.
    """
    if limit.fits(counter.spent_nano_usd, least):
        return UNDER_WAY_RETRY_US
    if window_end_s is None or not limit.fits(0, least):
        return None
    return window_end_s * MICROSECONDS - now_us


def extension_violations(books: Books, held: Reservation, add: int, now_us: int) -> Iterable[Violation]:
    """What stands against raising a hold: the query as a whole, each counter that carries it, and what suspends.

    Of limits that came after the call only those are asked that admit nothing: the counters of others do not carry it.
    """
    for limit, _, key, window_end_s in books.limits.bindings(held.terms.payer, now_us // MICROSECONDS):
        if limit.suspends:
            yield Violation(limit, 0, add if limit.unit is _MONEY else 0, window_end_s)
        elif key is None and limit.mode is not Mode.SHADOW and not limit.fits(held.reserved_nano_usd, add):
            yield Violation(limit, limit.stop_line_nano_usd - held.reserved_nano_usd, add, None)
    for counter_id in held.money_ids:
        counter = books.counters[counter_id]
        now = limit_of(books, counter)
        if now is None or now.mode is Mode.SHADOW or now.suspends:
            continue
        if not now.fits(counter.used_nano_usd, add):
            end_s = window_at(counter.key.period, counter.key.window_start_s, now.time_zone).end_s
            # A raise stays on the counters of its reservation: their next window does not help it.
            yield Violation(now, now.stop_line_nano_usd - counter.used_nano_usd, add, end_s)


def limit_of(books: Books, counter: Counter) -> Limit | None:
    """The limit that reads a counter now."""
    organisation, scope, subject, period, _, unit = counter.key
    return books.limits.in_force(organisation, scope, subject, period, unit)


def crossed(
    books: Books, counter_ids: Iterable[str], added: int, *, standing: bool = False
) -> tuple[tuple[str, ...], tuple[Alert, ...]]:
    """Counters whose alert line an addition passes for the first time, and the alerts to raise.

    `standing`: also those that stand above their line by what raised no alert, lent or before the line was lowered.
    """
    if added <= 0 and not standing:
        return (), ()
    found = []
    for counter_id in counter_ids:
        counter = books.counters[counter_id]
        limit = limit_of(books, counter)
        used = counter.used_nano_usd + added
        if limit is not None and alerts_at(limit, counter, used):
            found.append((counter_id, Alert(limit, used)))
    return tuple(i for i, _ in found), tuple(a for _, a in found)


def alerts_at(limit: Limit, counter: Counter, used: int) -> bool:
    """Whether a counter's alert is raised when it comes to `used`."""
    return not counter.alerted and limit.cap_nano_usd > 0 and used >= limit.alert_line_nano_usd


def retry_after_us(violations: Iterable[Violation]) -> int | None:
    """When every violated limit lets the request pass; None if one never does."""
    latest = 0
    for violation in violations:
        if violation.retry_after_us is None:
            return None
        latest = max(latest, violation.retry_after_us)
    return latest
