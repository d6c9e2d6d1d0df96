"""Plays on a ledger and on its model at once, and compares every answer and every counter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

from services.ledger.adapters.memory import MemoryStore
from services.ledger.core.books import State
from services.ledger.core.errors import InvalidRequest, LedgerError, NotFound, NothingToCorrect, ReservationEnded
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Limit, Mode, Payer, Scope, Unit, limit_id_of
from services.ledger.core.operations import Kind, ReserveAnswer, Violation
from services.ledger.core.rates import pending_ns
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, Desk, done, used_tokens
from tests.unit.ledger.model import Hold, Model, Objection, Place, start_of

USERS, KEYS, FEATURES = ("ada", "bob"), ("key-1", "key-2"), ("", "chat")
MONEY_PERIODS = (Period.QUERY, Period.HOUR, Period.DAY, Period.MONTH, Period.LIFETIME)
# Counts that divide a minute of nanoseconds: the ledger rounds up, its model does not.
COUNTS = (0, 1, 3, 10, 60, 100, 600)
WAITS_S = (-20, 0, 1, 7, 30, 90, 600, 3600, 86_400, 31 * 86_400)
VERBS = ("reserve",) * 6 + ("commit",) * 4 + ("wait",) * 3
VERBS += ("extend", "void", "dispatch", "adjust", "repeat", "orphan", "sweep", "edit")
MakeStore = Callable[[Any, Any], MemoryStore]


def any_limit(random: Random) -> Limit:
    """A limit of any kind; small enough that it matters."""
    scope = random.choice(list(Scope))
    owner = random.choice(("*", "acme"))
    unit = random.choice((Unit.MONEY, Unit.MONEY, Unit.MONEY, Unit.REQUESTS, Unit.TOKENS, Unit.CONCURRENCY))
    subjects = {Scope.USER: USERS, Scope.KEY: KEYS, Scope.FEATURE: FEATURES, Scope.TEAM: ("search",)}
    subject = random.choice(("", *subjects.get(scope, ())))
    mode = Mode.SHADOW if random.random() < 0.15 else Mode.ENFORCE
    if unit is Unit.MONEY:
        period = random.choice(MONEY_PERIODS)
        cap = random.choice((0, 40, 100, 250, 600, 5000))
        limit_id = limit_id_of(owner, scope, subject, period, unit)
        zone = random.choice(("", "Asia/Kolkata", "Europe/Berlin")) if period in (Period.DAY, Period.MONTH) else ""
        lines = (random.choice((5000, 8000, 9000)), random.choice((9000, 9500, 10_000)))
        return Limit(limit_id, owner, scope, subject, period, cap, *lines, mode=mode, time_zone=zone)
    most = random.choice((0, 1, 2, 5)) if unit is Unit.CONCURRENCY else random.choice(COUNTS)
    period = Period.MOMENT if unit is Unit.CONCURRENCY else Period.MINUTE
    burst = random.choice((0, most, (most + 1) // 2)) if period is Period.MINUTE else 0
    limit_id = limit_id_of(owner, scope, subject, period, unit)
    meter: dict[str, Any] = {"unit": unit, "max_count": most, "burst_count": burst, "mode": mode}
    return Limit(limit_id, owner, scope, subject, period, 0, **meter)


class Play:
    """One organisation, a few payers, and a clock; `step` does one thing to both and compares."""

    def __init__(self, random: Random, make_store: MakeStore = MemoryStore) -> None:
        self.random = random
        limits = {limit.limit_id: limit for limit in (any_limit(random) for _ in range(random.randint(1, 7)))}
        self.desk = Desk(list(limits.values()), make_store=make_store)
        self.model = Model(limits)
        self.names: list[str] = []
        self.asked: list[tuple[str, Payer, int, int, ReserveAnswer]] = []
        self.numbers = count(1)
        self.steps = 0
        self._seen = 0

    def run(self, steps: int) -> None:
        """Random steps; the laws are checked every few."""
        for _ in range(steps):
            self.step(self.random.choice(VERBS))
            if self.steps % 25 == 0:
                self.check_laws()

    def step(self, verb: str) -> None:
        """One verb on both."""
        self.steps += 1
        getattr(self, verb)()

    @property
    def now_us(self) -> int:
        return self.desk.memory._clock.now_us()

    def reserve(self) -> None:
        payer = Payer(
            "acme",
            self.random.choice(("", "search")),
            self.random.choice(USERS),
            self.random.choice(KEYS),
            self.random.choice(FEATURES),
        )
        amount, ttl_s = self.random.choice((0, 1, 7, 30, 55, 120)), self.random.choice((1, 30, 60, 900))
        self.model.settle(self.now_us)
        before, entries = self.used(), len(self.desk.memory.journal)
        request_id = f"r{next(self.numbers)}"
        answer = self.desk.reserve(amount, payer, request_id, ttl_s)
        verdict = self.model.reserve(answer.reservation_id, payer, amount, ttl_s * MICROSECONDS, self.now_us)
        assert answer.granted == verdict.granted, "L1, R1: not the decision of the model"
        assert self.places(payer, answer.violations) == verdict.violations, "every violated limit is named"
        assert self.places(payer, answer.shadow_violations) == verdict.shadow, "L14"
        assert {a.used_nano_usd for a in answer.alerts} == {used for _, used in verdict.alerts}, "L10"
        if not answer.granted:
            changed = [e for e in self.desk.memory.journal[entries:] if e.key.kind is not Kind.EXPIRE]
            assert [(e.held_delta_nano_usd, e.meters) for e in changed] == [(0, ())], "L6, R2"
            if not any(e.key.kind is Kind.EXPIRE for e in self.desk.memory.journal[entries:]):
                after = self.used()
                assert {p: after[p] for p in before} == before, "L6, R2"
        else:
            self.names.append(answer.reservation_id)
        self.asked.append((request_id, payer, amount, ttl_s, answer))

    def repeat(self) -> None:
        if not self.asked:
            return
        request_id, payer, amount, ttl_s, answer = self.random.choice(self.asked[-40:])
        entries = len(self.desk.memory.journal)
        assert self.desk.reserve(amount, payer, request_id, ttl_s) == answer, "L3"
        assert len(self.desk.memory.journal) == entries, "L3: a repetition changes nothing"

    def commit(self) -> None:
        name = self.name()
        amount, request_id = self.random.choice((0, 5, 30, 60, 130)), f"c{next(self.numbers)}"
        self.model.settle(self.now_us)
        state = self.model.holds[name].state if name in self.model.holds else "unknown"
        try:
            answer = self.desk.commit(name, amount, request_id=request_id)
        except (NotFound, ReservationEnded):
            assert state in ("committed", "unknown"), "L7"
            return
        assert state not in ("committed", "unknown"), "L4: booked twice"
        self.model.commit(name, amount, self.now_us)
        assert (answer.amount_nano_usd, answer.late) == (amount, state == "expired"), "L7"
        assert answer.after_void == (state == "voided")
        assert self.desk.commit(name, amount, request_id=request_id) == answer, "L3"

    def void(self) -> None:
        name = self.name()
        self.model.settle(self.now_us)
        try:
            released = self.desk.void(name)
        except LedgerError:
            assert name not in self.model.holds or self.model.holds[name].state == "committed"
            return
        assert released == self.model.void(name, self.now_us), "L4"

    def extend(self) -> None:
        name = self.name()
        add, spent = self.random.choice((0, 0, 10, 60)), self.random.choice((0, 0, 20, 90))
        self.model.settle(self.now_us)
        call = self.desk.ledger.extend(ADA, f"e{next(self.numbers)}", name, add, spent, 30 * MICROSECONDS)
        try:
            answer = done(call)
        except LedgerError:
            assert name not in self.model.holds or self.model.holds[name].state != "held"
            return
        granted = self.model.extend(name, add, spent, 30 * MICROSECONDS, self.now_us)
        assert answer.granted == granted, "L1: a raise that does not fit"

    def dispatch(self) -> None:
        name = self.name()
        if name not in self.model.holds:
            return
        self.model.settle(self.now_us)
        hold = self.model.holds[name]
        assert self.desk.dispatch(name) == (hold.state == "held")
        hold.dispatched = hold.dispatched or hold.state == "held"

    def adjust(self) -> None:
        name, delta = self.name(), self.random.choice((-100, -20, -5, 5, 50))
        if name not in self.model.holds:
            return
        self.model.settle(self.now_us)
        try:
            booked = self.desk.adjust(name, delta)
        except NothingToCorrect:
            assert not self.model.adjust(name, delta), "L12"
            return
        assert self.model.adjust(name, delta), "L12: more was given back than was booked"
        assert booked == self.model.holds[name].booked

    def orphan(self) -> None:
        name, amount = f"{id_bound(self.now_us)}-lost-{next(self.numbers)}", self.random.choice((0, 9, 80))
        self.model.settle(self.now_us)
        call = self.desk.ledger.commit(ADA, f"o{name}", name, [used_tokens(amount)], accept_orphan=True)
        assert done(call).orphan
        hold = Hold(ADA, 0, self.now_us, [], [], 0)
        for limit, place in self.model.in_force(ADA, self.now_us // MICROSECONDS):
            if limit.unit is Unit.MONEY and limit.period is not Period.QUERY:
                hold.places.append(place)
            elif limit.unit in (Unit.REQUESTS, Unit.TOKENS) and limit.max_count:
                hold.taken.append((place, self.model.cost(1, limit), limit.max_count))
        self.model.holds[name] = hold
        hold.state = "voided"
        self.model.commit(name, amount, self.now_us)

    def sweep(self) -> None:
        self.model.settle(self.now_us)
        self.desk.sweep()

    def wait(self) -> None:
        self.desk.clock.turn(self.random.choice(WAITS_S))

    def edit(self) -> None:
        """L11: a limit is edited, or made, while calls are under way."""
        limit = any_limit(self.random)
        limit_id = limit_id_of("acme", limit.scope, limit.subject, limit.period, limit.unit)
        wanted = replace(limit, limit_id=limit_id, organisation="acme")
        forgets = self.model.forgets(wanted, self.now_us // MICROSECONDS)
        try:
            saved = done(self.desk.ledger.set_limit(ADA, f"s{next(self.numbers)}", replace(wanted, limit_id="")))
        except InvalidRequest:
            assert forgets, "only what leaves a window in use is refused"
            return
        assert not forgets, "what a running window counts is forgotten"
        self.model.limits[saved.limit_id] = saved

    def name(self) -> str:
        """Mostly a recent hold: the old ones have ended."""
        if not self.names:
            return "nowhere"
        return self.random.choice(self.names[-12:]) if self.random.random() < 0.9 else self.random.choice(self.names)

    def places(self, payer: Payer, violations: tuple[Violation, ...]) -> frozenset[Objection]:
        subjects, now_s = dict(payer.subjects()), self.now_us // MICROSECONDS
        return frozenset(
            Objection(
                Place(x.scope, subjects[x.scope], x.period, x.unit, start_of(x, now_s)),
                v.remaining,
                v.requested,
                v.retry_after_us,
            )
            for v in violations
            for x in (v.limit,)
        )

    def used(self) -> dict[str, tuple[int, int, int]]:
        return {i: (c.spent_nano_usd, c.held_nano_usd, c.tat_ns) for i, c in self.desk.memory.books.counters.items()}

    def check_laws(self) -> None:
        """Everything that holds at every moment."""
        self.model.settle(self.now_us)
        self.desk.sweep()
        self._counters_follow_from_the_model()
        self._journal_adds_up()

    def _counters_follow_from_the_model(self) -> None:
        now_ns = self.now_us * 1000
        for counter in self.desk.memory.books.counters.values():
            _, scope, subject, period, start_s, unit = counter.key
            place = Place(scope, subject, period, unit, start_s)
            if unit is Unit.MONEY:
                assert (counter.spent_nano_usd, counter.held_nano_usd) == (
                    self.model.spent(place),
                    self.model.held(place),
                ), "L2"
                assert counter.alerted == (place in self.model.alerted), "L10"
            elif unit is Unit.CONCURRENCY:
                assert counter.held_nano_usd == self.model.live(place), "L2: slots are live holds"
            else:
                assert pending_ns(counter.tat_ns, now_ns) == self.model.pending(place, now_ns), "R1"

    def _journal_adds_up(self) -> None:
        memory = self.desk.memory
        for entry in memory.journal[self._seen :]:
            assert sum(p.amount_nano_usd for p in entry.postings) == 0, "L5"
            debits = sum(p.amount_nano_usd for p in entry.postings if p.account.startswith("key:"))
            assert debits == entry.spent_delta_nano_usd, "L5"
        self._seen = len(memory.journal)
        for name, hold in self.model.holds.items():
            reservation = memory.books.reservations[name]
            assert reservation.booked_nano_usd == hold.booked, "L4"
            assert (reservation.state is State.HELD) == (hold.state == "held"), "L8"

    def recounted(self) -> None:
        """L2 from the journal alone, which costs a walk over all of it."""
        moved: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for entry in self.desk.memory.journal:
            for counter_id in entry.counter_ids:
                moved[counter_id][0] += entry.spent_delta_nano_usd
                moved[counter_id][1] += entry.held_delta_nano_usd
            for meter in entry.meters:
                moved[meter.counter_id][1] += meter.amount if meter.unit is Unit.CONCURRENCY else 0
        for counter_id, counter in self.desk.memory.books.counters.items():
            assert [counter.spent_nano_usd, counter.held_nano_usd] == moved[counter_id], "L2"
