"""A ledger of a page, written to be plainly right: no counters, no journal, sums over everything that ever happened.

It knows nothing of the code under test but the shapes of limits and payers. Its state is a list of holds; what a limit
has used is added up from them, and a rate is an exact fraction of time that has not drained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from math import ceil
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.ledger.core.limits import EVERY_ORGANISATION, Limit, Mode, Payer, Scope, Unit
from services.ledger.core.windows import Period

MINUTE_NS = 60 * 10**9
ASK_AGAIN_US = 10**6
MOST_AHEAD_NS = 10 * MINUTE_NS
SKEW_NS = MINUTE_NS


class Place(NamedTuple):
    """What is counted: one subject in one window."""

    scope: Scope
    subject: str
    period: Period
    unit: Unit
    start_s: int


@dataclass
class Hold:
    """A reservation, for ever."""

    payer: Payer
    amount: int
    expire_us: int
    places: list[Place]
    taken: list[tuple[Place, Fraction, int]]
    tokens: int
    reserved: int = 0
    spent_so_far: int = 0
    booked: int = 0
    state: str = "held"
    dispatched: bool = False
    after: dict[Place, Fraction] = field(default_factory=dict)


class Objection(NamedTuple):
    """A limit that does not fit: what is left, what was asked, and after what wait it may."""

    place: Place
    left: int
    asked: int
    wait_us: int | None


class Verdict(NamedTuple):
    """What a reservation comes to."""

    granted: bool
    violations: frozenset[Objection]
    shadow: frozenset[Objection]
    alerts: frozenset[tuple[Place, int]]


@dataclass
class Model:
    """The books of one organisation."""

    limits: dict[str, Limit]
    holds: dict[str, Hold] = field(default_factory=dict)
    alerted: set[Place] = field(default_factory=set)
    ahead: dict[Place, tuple[int, Fraction]] = field(default_factory=dict)
    expired: list[int] = field(default_factory=list)

    def in_force(self, payer: Payer, now_s: int) -> Iterator[tuple[Limit, Place]]:
        for scope, subject in payer.subjects():
            ranked: dict[tuple[Period, Unit], tuple[tuple[bool, bool], Limit]] = {}
            for limit in self.limits.values():
                if limit.scope is scope and limit.subject in ("", subject):
                    rank = (limit.organisation != EVERY_ORGANISATION, limit.subject != "")
                    key = (limit.period, limit.unit)
                    if key not in ranked or rank > ranked[key][0]:
                        ranked[key] = (rank, limit)
            for _, limit in ranked.values():
                yield limit, Place(scope, subject, limit.period, limit.unit, start_of(limit, now_s))

    def spent(self, place: Place) -> int:
        return sum(hold.booked for hold in self.holds.values() if place in hold.places)

    def held(self, place: Place) -> int:
        return sum(hold.amount for hold in self.holds.values() if hold.state == "held" and place in hold.places)

    def live(self, place: Place) -> int:
        return sum(hold.state == "held" and place in hold.places for hold in self.holds.values())

    def pending(self, place: Place, now_ns: int) -> Fraction:
        at, level = self.ahead.get(place, (now_ns, Fraction(0)))
        ahead = level - (now_ns - at)
        # Further ahead than anything leads: the clock was wrong when it was written.
        return min(ahead, Fraction(MOST_AHEAD_NS)) if 0 < ahead <= MOST_AHEAD_NS + SKEW_NS else Fraction(0)

    def move(self, place: Place, now_ns: int, by: Fraction) -> None:
        # Else the seconds by which a clock is set back later would count as use.
        if not by:
            return
        level = min(max(self.pending(place, now_ns) + by, Fraction(0)), Fraction(MOST_AHEAD_NS))
        self.ahead[place] = (now_ns, level)

    def settle(self, now_us: int) -> None:
        """Ends what is past its time."""
        due = [(h.expire_us, i) for i, h in self.holds.items() if h.state == "held" and h.expire_us <= now_us]
        for _, name in sorted(due):
            hold = self.holds[name]
            before = hold.amount
            hold.state, hold.booked, hold.amount = "expired", hold.spent_so_far if hold.dispatched else 0, 0
            if not hold.dispatched:
                self.give_back(hold, hold.expire_us, now_us)
            self.raise_alerts(hold.places, hold.booked - before)
            self.expired.append(hold.booked)

    def give_back(self, hold: Hold, at_us: int, now_us: int) -> None:
        for place, amount, _ in hold.taken:
            self.move(place, now_us * 1000, -self.undrained(hold, place, amount, at_us))

    def undrained(self, hold: Hold, place: Place, amount: Fraction, at_us: int) -> Fraction:
        """What is left of the end of a charge."""
        return max(min(amount, hold.after[place] - at_us * 1000), Fraction(0))

    def reserve(self, name: str, payer: Payer, amount: int, ttl_us: int, now_us: int) -> Verdict:
        violations, shadow, alerts, hold = set(), set(), set(), Hold(payer, amount, now_us + ttl_us, [], [], amount)
        for limit, place in self.in_force(payer, now_us // 10**6):
            found = self.objection(limit, place, amount, now_us)
            if found is not None:
                (shadow if limit.mode is Mode.SHADOW else violations).add(Objection(place, *found))
            if limit.unit in (Unit.REQUESTS, Unit.TOKENS):
                count = 1 if limit.unit is Unit.REQUESTS else max(amount, 1)
                if found is None:
                    cost = Fraction(count * MINUTE_NS, limit.max_count)
                    hold.taken.append((place, cost, limit.max_count))
            elif limit.period is not Period.QUERY:
                hold.places.append(place)
        if violations:
            # What is used may stand above a line that was lowered: then the first denial says so.
            alerts = self.raise_alerts(hold.places, 1)
            return Verdict(False, frozenset(violations), frozenset(shadow), frozenset(alerts))
        hold.reserved = amount
        for place, cost, _ in hold.taken:
            self.move(place, now_us * 1000, cost)
            hold.after[place] = now_us * 1000 + self.pending(place, now_us * 1000)
        self.holds[name] = hold
        alerts = self.raise_alerts(hold.places, 1)
        return Verdict(True, frozenset(), frozenset(shadow), frozenset(alerts))

    def cost(self, count: int, limit: Limit) -> Fraction:
        return Fraction(count * MINUTE_NS, limit.max_count)

    def objection(self, limit: Limit, place: Place, amount: int, now_us: int) -> tuple[int, int, int | None] | None:
        """What is left, what was asked, and after what wait it may fit, of a limit that a request does not fit."""
        if limit.unit is Unit.MONEY:
            return self.money_objection(limit, place, amount, now_us)
        if limit.unit is Unit.CONCURRENCY:
            live = self.live(place)
            wait_us = ASK_AGAIN_US if limit.max_count else None
            return None if live < limit.max_count else (limit.max_count - live, 1, wait_us)
        count = 1 if limit.unit is Unit.REQUESTS else max(amount, 1)
        if limit.max_count == 0:
            return 0, count, None
        burst, cost = self.cost(limit.burst_count or limit.max_count, limit), self.cost(count, limit)
        free = burst - self.pending(place, now_us * 1000)
        if cost <= free:
            return None
        wait = None if cost > burst else ceil((cost - free) / 1000)
        return max(int(free * limit.max_count // MINUTE_NS), 0), count, wait

    def money_objection(
        self, limit: Limit, place: Place, amount: int, now_us: int
    ) -> tuple[int, int, int | None] | None:
        line, spent, held, least = limit.cap_nano_usd, 0, 0, max(amount, 1)
        if limit.period is not Period.QUERY:
            line = line * limit.stop_basis_points // 10_000
            spent, held = self.spent(place), self.held(place)
        if limit.cap_nano_usd and spent + held + least <= line:
            return None
        end_s, wait_us = end_of(limit, now_us // 10**6), None
        if limit.cap_nano_usd and limit.period is not Period.QUERY and spent + least <= line:
            # It would fit if those under way gave back all that they hold, which they do when they please.
            wait_us = ASK_AGAIN_US
        elif limit.cap_nano_usd and least <= line and end_s is not None:
            wait_us = end_s * 10**6 - now_us
        return line - spent - held, amount, wait_us

    def raise_alerts(self, places: list[Place], added: int) -> set[tuple[Place, int]]:
        raised: set[tuple[Place, int]] = set()
        for place in places if added > 0 else ():
            limit = self.limit_of(place)
            if limit is None or place.unit is not Unit.MONEY or place in self.alerted or not limit.cap_nano_usd:
                continue
            used = self.spent(place) + self.held(place)
            if used >= limit.cap_nano_usd * limit.alert_basis_points // 10_000:
                self.alerted.add(place)
                raised.add((place, used))
        return raised

    def limit_of(self, place: Place) -> Limit | None:
        rows = [
            ((x.organisation != EVERY_ORGANISATION, x.subject != ""), x)
            for x in self.limits.values()
            if (x.scope, x.period, x.unit) == (place.scope, place.period, place.unit)
            and x.subject in ("", place.subject)
        ]
        return max(rows, key=lambda row: row[0])[1] if rows else None

    def extend(self, name: str, add: int, spent: int, ttl_us: int, now_us: int) -> bool:
        hold = self.holds[name]
        limits = [limit for limit, _ in self.in_force(hold.payer, now_us // 10**6) if limit.mode is Mode.ENFORCE]
        refused = any(limit.cap_nano_usd == limit.max_count == 0 for limit in limits)
        queries = [limit for limit in limits if limit.period is Period.QUERY]
        refused = refused or any(self.too_much(limit, hold.reserved, add) for limit in queries)
        for place in hold.places:
            limit = self.limit_of(place)
            if place.unit is Unit.MONEY and limit is not None and limit.mode is Mode.ENFORCE:
                refused = refused or self.too_much(limit, self.spent(place) + self.held(place), add)
        if add and not refused:
            hold.amount, hold.reserved = hold.amount + add, hold.reserved + add
        if add:
            self.raise_alerts(hold.places, add)
        hold.spent_so_far = max(hold.spent_so_far, spent)
        hold.dispatched = hold.dispatched or spent > 0
        hold.expire_us = max(hold.expire_us, now_us + ttl_us)
        return not (add and refused)

    def too_much(self, limit: Limit, used: int, add: int) -> bool:
        line = limit.cap_nano_usd
        if limit.period is not Period.QUERY:
            line = line * limit.stop_basis_points // 10_000
        return add > 0 and used + add > line

    def commit(self, name: str, amount: int, now_us: int) -> None:
        hold = self.holds[name]
        live = hold.state == "held"
        kept = live or (hold.state == "expired" and hold.dispatched)
        grown = amount - hold.booked - hold.amount
        for place, taken, per_minute in hold.taken:
            if place.unit is Unit.TOKENS:
                used = min(Fraction(amount * MINUTE_NS, per_minute), Fraction(MOST_AHEAD_NS))
                by = used - (taken if kept else 0)
                self.move(place, now_us * 1000, by if by >= 0 else -self.undrained(hold, place, -by, now_us))
            elif not kept:
                self.move(place, now_us * 1000, taken)
        hold.state, hold.booked, hold.amount = "committed", amount, 0
        self.raise_alerts(hold.places, grown)

    def void(self, name: str, now_us: int) -> int:
        hold = self.holds[name]
        if hold.state == "expired" and hold.dispatched:
            charged, hold.booked, hold.state = hold.booked, 0, "voided"
            self.give_back(hold, now_us, now_us)
            return charged
        if hold.state != "held":
            return 0
        released, hold.amount, hold.state = hold.amount, 0, "voided"
        self.give_back(hold, now_us, now_us)
        return released

    def forgets(self, wanted: Limit, now_s: int) -> bool:
        """Whether a limit would make somebody's running window, in which something is used, another one."""
        after = Model({**self.limits, wanted.limit_id: wanted})
        for place in {place for hold in self.holds.values() for place in hold.places}:
            old, new = self.limit_of(place), after.limit_of(place)
            left = old and new and place.start_s == start_of(old, now_s) != start_of(new, now_s)
            if left and (self.spent(place) or self.held(place)):
                return True
        return False

    def adjust(self, name: str, delta: int) -> bool:
        hold = self.holds[name]
        if hold.state not in ("committed", "expired") or hold.booked + delta < 0:
            return False
        hold.booked += delta
        self.raise_alerts(hold.places, delta)
        return True


def start_of(limit: Limit, now_s: int) -> int:
    zone = ZoneInfo(limit.time_zone) if limit.time_zone else UTC
    now = datetime.fromtimestamp(now_s, zone)
    if limit.period is Period.HOUR:
        return now_s // 3600 * 3600
    if limit.period is Period.DAY:
        return int(datetime.combine(now.date(), time.min, zone).timestamp())
    if limit.period is Period.MONTH:
        return int(datetime.combine(now.date().replace(day=1), time.min, zone).timestamp())
    return 0


def end_of(limit: Limit, now_s: int) -> int | None:
    """The start of the window after: the first moment of an hour, day or month that begins later."""
    if limit.period not in (Period.HOUR, Period.DAY, Period.MONTH):
        return None
    zone = ZoneInfo(limit.time_zone) if limit.time_zone else UTC
    today = datetime.fromtimestamp(now_s, zone).date()
    if limit.period is Period.HOUR:
        return (now_s // 3600 + 1) * 3600
    next_first = (today.replace(day=1) + timedelta(days=31)).replace(day=1)
    after = today + timedelta(days=1) if limit.period is Period.DAY else next_first
    return int(datetime.combine(after, time.min, zone).timestamp())
