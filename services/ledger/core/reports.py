"""Reads of the ledger: usage, limits, why a request was denied, and an invoice against the journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.ledger.core.books import Books, Counter
from services.ledger.core.ending import INT64_MAX
from services.ledger.core.errors import InvalidRequest, NotFound
from services.ledger.core.fitting import fit
from services.ledger.core.limits import Binding, Limit, LimitSet, Payer, Scope
from services.ledger.core.operations import Asked, Kind, OperationKey, Reserve
from services.ledger.core.pages import COUNTER_ID, LIMIT_ID, after_token, page_size, page_token
from services.ledger.core.ports import BookedDay, Decision, Store, UsageQuery
from services.ledger.core.rates import MINUTE_NS, NANOSECONDS_PER_MICROSECOND, pending_ns
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock, Window, is_known, window_at

# 9999-01-01 UTC: the calendar ends before a window that begins in that year.
_LAST_YEAR_S = 253_370_764_800
_DAY_US = 86_400 * MICROSECONDS


class Usage(NamedTuple):
    """Use of one limit in one window. `used_count` is what is used of a limit that is not money."""

    limit: Limit
    counter: Counter
    window: Window
    used_count: int = 0


class Explanation(NamedTuple):
    """A denial as it was decided, and the same limits now."""

    decision: Decision
    usages: tuple[Usage, ...]
    would_pass_now: bool


class Reports:
    """Each method is one RPC and changes nothing."""

    def __init__(self, store: Store, clock: SteadyClock) -> None:
        self._store = store
        self._clock = clock

    async def list_limits(self, organisation: str, asked_size: int, token: str) -> tuple[list[Limit], str]:
        """The limits an organisation lives under, by id, and the token of the next page."""
        size, after = page_size(asked_size), after_token(token, LIMIT_ID)
        limits = [x for x in (await self._store.limits()).of_organisation(organisation) if x.limit_id > after]
        return limits[:size], page_token(limits[size - 1].limit_id) if len(limits) > size else ""

    async def usage(
        self, organisation: str, scope: Scope | None, subject: str, at_us: int | None, asked_size: int, token: str
    ) -> tuple[list[Usage], str]:
        """Counters of the windows that contain a moment, and the token of the next page."""
        size, after = page_size(asked_size), after_token(token, COUNTER_ID)
        if "\0" in subject:
            raise InvalidRequest("subject", "must not contain the character NUL")
        limits = await self._store.limits()
        now_us = self._clock.now_us()
        at_s = (now_us if at_us is None else at_us) // MICROSECONDS
        if not 0 <= at_s < _LAST_YEAR_S:
            raise InvalidRequest("at_time", "must be in the years 1970 to 9998")
        windows = _windows(limits, organisation, scope, at_s)
        found = await self._store.usage(UsageQuery(organisation, windows, subject, after, size + 1))
        usages = [usage for _, counter in found[:size] if (usage := _usage(limits, counter, at_s, now_us)) is not None]
        return usages, page_token(found[size - 1][0]) if len(found) > size else ""

    async def why_blocked(self, organisation: str, request_id: str) -> Explanation:
        """A denial, and whether the same request would pass now. Raises NotFound."""
        if "\0" in request_id:
            raise InvalidRequest("request_id", "must not contain the character NUL")
        decision = await self._store.decision(organisation, request_id)
        if decision is None or decision.answer.granted:
            raise NotFound("denial", request_id or "latest")
        asked = decision.answer.asked
        if asked is None:  # decided by a program that did not keep it
            return Explanation(decision, (), would_pass_now=False)
        limits, now_us = await self._store.limits(), self._clock.now_us()
        bindings = limits.bindings(asked.payer, now_us // MICROSECONDS)
        books = Books(limits)
        books.counters.update(await self._store.counters([b.counter_id for b in bindings if b.key is not None]))
        books.open_counters((b.counter_id, b.key) for b in bindings if b.key is not None)
        passes = not fit(books, _as_asked(asked), now_us).violations
        violated = {_place(violation.limit) for violation in decision.answer.violations}
        usages = tuple(_now(books, b, now_us) for b in bindings if b.key is not None and _place(b.limit) in violated)
        return Explanation(decision, usages, passes)

    async def reconcile(self, organisation: str, provider: str, start_times_us: Sequence[int]) -> list[BookedDay]:
        """What was booked on days of UTC that begin at these moments. Raises InvalidRequest."""
        for index, start_us in enumerate(start_times_us):
            if start_us % _DAY_US or not 0 <= start_us < _LAST_YEAR_S * MICROSECONDS:
                raise InvalidRequest(f"days[{index}].start_time", "must be the start of a day of UTC from 1970 to 9998")
        if len(set(start_times_us)) != len(start_times_us):
            raise InvalidRequest("days", "name each day once")
        if "\0" in provider:
            raise InvalidRequest("provider", "must not contain the character NUL")
        days = [(start_us, start_us + _DAY_US) for start_us in start_times_us]
        return await self._store.booked_by_day(organisation, provider, days)


def difference_nano_usd(invoiced: Iterable[int], booked: Iterable[BookedDay]) -> int:
    """Invoiced less booked, all days together. Raises InvalidRequest where that is no amount."""
    difference = sum(invoiced) - sum(day.booked_nano_usd for day in booked)
    if abs(difference) > INT64_MAX:
        raise InvalidRequest("days", "all days together do not fit into 64 bits of nano-USD")
    return difference


def _as_asked(asked: Asked) -> Reserve:
    key = OperationKey(asked.payer.organisation, Kind.RESERVE, "")
    return Reserve(key, 0, asked.payer, asked.amount_nano_usd, (), 0, "", asked.tokens, free=asked.free)


def _place(limit: Limit) -> tuple[int, ...]:
    return limit.scope, limit.period, limit.unit


def _now(books: Books, binding: Binding, now_us: int) -> Usage:
    limit, counter_id, key, end_s = binding
    start_s = 0 if key is None else key.window_start_s
    counter = books.counters[counter_id]
    return Usage(limit, counter, Window(start_s, end_s), _count(limit, counter, now_us))


def _count(limit: Limit, counter: Counter, now_us: int) -> int:
    """What is used of a limit that is not money: live holds, or what has not drained of a minute's cap."""
    if limit.period is Period.MOMENT:
        return counter.held_nano_usd
    if limit.period is not Period.MINUTE:
        return 0
    return -(-pending_ns(counter.tat_ns, now_us * NANOSECONDS_PER_MICROSECOND) * limit.max_count // MINUTE_NS)


def _windows(limits: LimitSet, organisation: str, scope: Scope | None, at_s: int) -> tuple[tuple[int, int, int], ...]:
    chosen: Iterable[Limit] = limits.of_organisation(organisation)
    windows = {
        (int(x.scope), int(x.period), window_at(x.period, at_s, x.time_zone).start_s)
        for x in chosen
        if (scope is None or x.scope is scope) and is_known(x.period, x.time_zone)
    }
    return tuple(sorted(windows))


def _usage(limits: LimitSet, counter: Counter, at_s: int, now_us: int) -> Usage | None:
    organisation, scope, subject, period, start_s, unit = counter.key
    limit = limits.in_force(organisation, scope, subject, period, unit)
    if limit is None or not is_known(period, limit.time_zone):
        return None
    window = window_at(period, at_s, limit.time_zone)
    # Another limit's zone cuts other days: their counters are not this limit's.
    return Usage(limit, counter, window, _count(limit, counter, now_us)) if window.start_s == start_s else None


def payer_of_subject(organisation: str, team: str, user: str, key_id: str, feature: str) -> Payer:
    """Whose limits an allotment is held on. Raises InvalidRequest."""
    payer = Payer(organisation, team, user, key_id, feature)
    if "\0" in "".join(payer):
        raise InvalidRequest("subject", "must not contain the character NUL")
    return payer
