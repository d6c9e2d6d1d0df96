"""Limits, and which of them are in force for a payer.

Per (scope, period) one limit is in force for a subject, the most specific: the organisation's own before one of every
organisation, then one that names the subject before one that is about each subject by itself. That way a limit can be
raised for one user without touching the others'. Counters belong to what is counted, not to the limit that reads
them, so a change of limits never loses usage.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from services.ledger.core.errors import ZoneUnknown
from services.ledger.core.rates import Rate
from services.ledger.core.windows import Period, window_at, zone_of

EVERY_ORGANISATION = "*"
BASIS_POINTS = 10_000
DEFAULT_ALERT_BASIS_POINTS = 8_000
DEFAULT_STOP_BASIS_POINTS = 9_500
# Payers whose limits are remembered until their next window; beyond that, the memory is dropped and rebuilt.
_MAX_REMEMBERED_PAYERS = 10_000
_NEVER_S = 2**62


class Scope(IntEnum):
    """Whom a limit is about; numbers are those of the contract."""

    ORGANISATION = 1
    TEAM = 2
    USER = 3
    KEY = 4
    FEATURE = 5


class Unit(IntEnum):
    """What a limit counts; numbers are those of the contract."""

    MONEY = 1
    REQUESTS = 2
    TOKENS = 3
    CONCURRENCY = 4


class Mode(IntEnum):
    """Whether a limit is obeyed; numbers are those of the contract. SHADOW only reports."""

    ENFORCE = 1
    SHADOW = 2


# What can be counted over what time. Money first: what an amount is held on comes before what is metered.
MEASURES = (
    *((period, Unit.MONEY) for period in (Period.QUERY, Period.HOUR, Period.DAY, Period.MONTH, Period.LIFETIME)),
    (Period.MINUTE, Unit.REQUESTS),
    (Period.MINUTE, Unit.TOKENS),
    (Period.MOMENT, Unit.CONCURRENCY),
)


class Payer(NamedTuple):
    """Who pays, as the credential and the labels say. `user` is the end user where one is named."""

    organisation: str
    team: str
    user: str
    key_id: str
    feature: str

    def subjects(self) -> Iterator[tuple[Scope, str]]:
        """What limits can be about. Calls without a user share one subject, so that omitting it evades nothing."""
        yield Scope.ORGANISATION, ""
        if self.team:
            yield Scope.TEAM, self.team
        yield Scope.USER, self.user
        yield Scope.KEY, self.key_id
        if self.feature:
            yield Scope.FEATURE, self.feature


@dataclass(frozen=True, slots=True)
class Limit:
    """A cap on a scope over a period; subject "" is each subject by itself. `declared`: by mesh.yaml.

    Money has `cap_nano_usd` and its two lines, everything else `max_count`, and rates a burst. `time_zone` cuts days
    and months.
    """

    limit_id: str
    organisation: str
    scope: Scope
    subject: str
    period: Period
    cap_nano_usd: int
    alert_basis_points: int = DEFAULT_ALERT_BASIS_POINTS
    stop_basis_points: int = DEFAULT_STOP_BASIS_POINTS
    version: int = 1
    declared: bool = False
    unit: Unit = Unit.MONEY
    max_count: int = 0
    burst_count: int = 0
    mode: Mode = Mode.ENFORCE
    time_zone: str = ""

    def objection(self) -> tuple[str, str] | None:
        """The field that contradicts the others, and why; None for a limit that can be kept."""
        return next(self._objections(), None)

    def _objections(self) -> Iterator[tuple[str, str]]:
        if self.scope is Scope.ORGANISATION and self.subject:
            yield "subject", "must be empty with scope ORGANISATION"
        if (self.period, self.unit) not in MEASURES:
            yield "unit", f"{self.unit.name} is not counted per {self.period.name}"
        if self.alert_basis_points > self.stop_basis_points:
            yield "alert_basis_points", "must not be above stop_basis_points: it would never be seen"
        if self.unit is Unit.MONEY and (self.max_count or self.burst_count):
            yield "max_count", "is for other units; money has cap_nano_usd"
        if self.unit is not Unit.MONEY and self.cap_nano_usd:
            yield "cap_nano_usd", "is for money; other units have max_count"
        if self.burst_count > (self.max_count if self.period is Period.MINUTE else 0):
            yield "burst_count", "is part of a minute's max_count and must not exceed it"
        try:
            zone_of(self.time_zone)
        except ValueError as error:
            yield "time_zone", str(error)

    @property
    def place(self) -> tuple[Scope, str, Period, Unit]:
        """What it is about: an organisation has one limit on it."""
        return self.scope, self.subject, self.period, self.unit

    @property
    def suspends(self) -> bool:
        """Whether it admits nothing at all."""
        return self.mode is not Mode.SHADOW and not (self.cap_nano_usd or self.max_count)

    @property
    def rate(self) -> Rate:
        """Of a limit per minute that does not suspend."""
        return Rate(self.max_count, self.burst_count or self.max_count)

    @property
    def stop_line_nano_usd(self) -> int:
        """Where requests stop. One query is compared with the cap itself: nothing accumulates that could overrun."""
        if self.period is Period.QUERY:
            return self.cap_nano_usd
        return self.cap_nano_usd * self.stop_basis_points // BASIS_POINTS

    @property
    def alert_line_nano_usd(self) -> int:
        """Where the alert of a window is raised."""
        return self.cap_nano_usd * self.alert_basis_points // BASIS_POINTS

    def fits(self, used_nano_usd: int, amount_nano_usd: int) -> bool:
        """Whether an amount may be added. A cap of zero admits nothing; what is free fits every other cap."""
        if self.cap_nano_usd == 0:
            return False
        return amount_nano_usd == 0 or used_nano_usd + amount_nano_usd <= self.stop_line_nano_usd


def limit_id_of(organisation: str, scope: Scope, subject: str, period: Period, unit: Unit = Unit.MONEY) -> str:
    """The id of the only limit on these five: the same on every replica and after every restart."""
    return "lim-" + _digest(organisation, subject, int(scope), int(period), *_beside_money(unit)).hex()


class CounterKey(NamedTuple):
    """What one counter counts: everything that one subject used in one window."""

    organisation: str
    scope: Scope
    subject: str
    period: Period
    window_start_s: int
    unit: Unit = Unit.MONEY

    def counter_id(self) -> str:
        """A UUID that is a digest of the key."""
        numbers = (int(self.scope), int(self.period), self.window_start_s, *_beside_money(self.unit))
        return str(uuid.UUID(bytes=_digest(self.organisation, self.subject, *numbers)))


class Binding(NamedTuple):
    """A limit in force for a payer now. `counter_id` is empty and `key` None for QUERY, which counts nothing."""

    limit: Limit
    counter_id: str
    key: CounterKey | None
    window_end_s: int | None


class LimitSet:
    """Every limit at one version of the set. Immutable but for a memory of payers seen."""

    def __init__(self, version: int, limits: Iterable[Limit]) -> None:
        self.version = version
        self.by_id = {limit.limit_id: limit for limit in limits}
        self._index: dict[tuple[str, Scope, Period, Unit], dict[str, Limit]] = {}
        for limit in self.by_id.values():
            key = (limit.organisation, limit.scope, limit.period, limit.unit)
            self._index.setdefault(key, {})[limit.subject] = limit
        self._remembered: dict[Payer, tuple[int, int, tuple[Binding, ...]]] = {}

    def in_force(
        self, organisation: str, scope: Scope, subject: str, period: Period, unit: Unit = Unit.MONEY
    ) -> Limit | None:
        """The most specific limit, or None where nothing is limited."""
        for owner in (organisation, EVERY_ORGANISATION):
            subjects = self._index.get((owner, scope, period, unit))
            if subjects is not None:
                limit = subjects.get(subject) or subjects.get("")
                if limit is not None:
                    return limit
        return None

    def bindings(self, payer: Payer, now_s: int) -> tuple[Binding, ...]:
        """Every limit in force for a payer, money first, with the counters of the windows that contain `now_s`.

        Raises ZoneUnknown.
        """
        remembered = self._remembered.get(payer)
        if remembered is not None and remembered[0] <= now_s < remembered[1]:
            return remembered[2]
        bindings = tuple(self._bind(payer, now_s))
        # Within an hour of UTC only the days and months of other zones begin.
        start_s, end_s = window_at(Period.HOUR, now_s)
        starts = (binding.key.window_start_s for binding in bindings if binding.key is not None)
        ends = (binding.window_end_s for binding in bindings if binding.window_end_s is not None)
        if len(self._remembered) >= _MAX_REMEMBERED_PAYERS:
            self._remembered.clear()
        self._remembered[payer] = (max(start_s, *starts, 0), min(end_s or start_s, *ends, _NEVER_S), bindings)
        return bindings

    def _bind(self, payer: Payer, now_s: int) -> Iterator[Binding]:
        subjects = tuple(payer.subjects())
        for metered in (False, True):
            for scope, subject in subjects:
                for period, unit in MEASURES:
                    if (unit is not Unit.MONEY) is metered:
                        limit = self.in_force(payer.organisation, scope, subject, period, unit)
                        if limit is not None:
                            yield bind(limit, payer.organisation, subject, now_s)

    def of_organisation(self, organisation: str) -> list[Limit]:
        """What an organisation lives under, by id: its own limits, and those of everyone that it does not replace."""
        own = [limit for limit in self.by_id.values() if limit.organisation == organisation]
        replaced = {limit.place for limit in own}
        shared = [
            limit
            for limit in self.by_id.values()
            if limit.organisation == EVERY_ORGANISATION and limit.place not in replaced
        ]
        return sorted(own + shared, key=lambda limit: limit.limit_id)

    def replaced_with(self, limit: Limit) -> LimitSet:
        """The next version of the set, with one limit created or changed."""
        return LimitSet(self.version + 1, {**self.by_id, limit.limit_id: limit}.values())


def bind(limit: Limit, organisation: str, subject: str, now_s: int) -> Binding:
    """A limit with the counter of one subject in the window that contains a moment. Raises ZoneUnknown."""
    if limit.period is Period.QUERY:
        return Binding(limit, "", None, None)
    try:
        window = window_at(limit.period, now_s, limit.time_zone)
    except ValueError:
        raise ZoneUnknown(limit.limit_id, limit.time_zone) from None
    key = CounterKey(organisation, limit.scope, subject, limit.period, window.start_s, limit.unit)
    return Binding(limit, key.counter_id(), key, window.end_s)


def declare(current: LimitSet, declared: Iterable[Limit]) -> LimitSet:
    """Applies the configuration: it is authoritative for the limits it names, and takes back those it named before.

    Versions grow only on change; limits that were set at run time and are not named stay. Returns `current` itself
    when nothing changed.
    """
    wanted = {limit.limit_id: limit for limit in declared}
    kept = {i: limit for i, limit in current.by_id.items() if not limit.declared or i in wanted}
    for limit_id, limit in wanted.items():
        before = kept.get(limit_id)
        kept[limit_id] = limit if before is None else _revise(before, limit)
    if kept == current.by_id:
        return current
    return LimitSet(current.version + 1, kept.values())


def _revise(before: Limit, limit: Limit) -> Limit:
    same = replace(limit, version=before.version)
    return same if same == before else replace(limit, version=before.version + 1)


def _beside_money(unit: Unit) -> tuple[int, ...]:
    # The ids of what counts money are older than the other units.
    return () if unit is Unit.MONEY else (int(unit),)


def _digest(organisation: str, subject: str, *numbers: int) -> bytes:
    # The length keeps ("a", "bc") and ("ab", "c") apart.
    head = ".".join(map(str, (*numbers, len(organisation))))
    return hashlib.blake2b(f"{head}.{organisation}{subject}".encode(), digest_size=16).digest()
