"""Invariants of the ledger under arbitrary histories, by the ids of the design: L1 to L7 and L10."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from services.ledger.core.books import Movement, State, recount
from services.ledger.core.errors import LedgerError, NotFound, ReservationEnded
from services.ledger.core.limits import Limit, Payer, Scope
from services.ledger.core.operations import Kind, ReserveAnswer
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import Desk, done, limit, used_tokens

PAYERS = [
    Payer("acme", team, user, key, feature)
    for team in ("", "search")
    for user in ("ada", "bob")
    for key in ("key-1", "key-2")
    for feature in ("", "chat")
]
Request = tuple[str, int, Payer, int, ReserveAnswer]
amounts = st.integers(0, 120)
limit_rows = st.lists(
    st.builds(
        limit,
        st.sampled_from(Scope),
        st.sampled_from(Period),
        st.integers(0, 300),
        alert=st.integers(1, 9000),
        stop=st.integers(9000, 10_000),
    ),
    max_size=6,
    unique_by=lambda row: row.limit_id,
)


class LedgerMachine(RuleBasedStateMachine):
    """A ledger with random limits, callers that hold, extend, commit, void, forget, and a clock that runs."""

    requests = Bundle("requests")

    @initialize(limits=limit_rows)
    def begin(self, limits: list[Limit]) -> None:
        self.desk = Desk(limits)
        self.number = 0

    def fresh(self) -> str:
        self.number += 1
        return f"id-{self.number}"

    def snapshot(self) -> tuple[dict[str, tuple[int, int]], int]:
        books = self.desk.memory.books
        used = {i: (c.spent_nano_usd, c.held_nano_usd) for i, c in books.counters.items() if c.used_nano_usd}
        return used, len(self.desk.memory.journal)

    @rule(target=requests, amount=amounts, payer=st.sampled_from(PAYERS), ttl_s=st.integers(1, 900))
    def reserve(self, amount: int, payer: Payer, ttl_s: int) -> Request:
        request_id = self.fresh()
        # What is due ends with the next verb anyway: settled first, so that L6 can compare before and after.
        done(self.desk.ledger.sweep(1000))
        before, _ = self.snapshot()
        answer = self.desk.reserve(amount, payer, request_id, ttl_s)
        after, _ = self.snapshot()
        if not answer.granted:
            assert answer.violations, "a denial without a reason"
            assert after == before, "L6"
        for violation in answer.violations:
            free = violation.limit.cap_nano_usd > 0 and violation.requested <= violation.remaining
            assert not free, "refused although it fits"
        return request_id, amount, payer, ttl_s, answer

    @rule(request=requests)
    def repeat(self, request: Request) -> None:
        request_id, amount, payer, ttl_s, answer = request
        before = self.snapshot()
        assert self.desk.reserve(amount, payer, request_id, ttl_s) == answer, "L3"
        assert self.snapshot() == before, "L3"

    @rule(request=requests, add=amounts, spent=amounts, ttl_s=st.integers(1, 900))
    def extend(self, request: Request, add: int, spent: int, ttl_s: int) -> None:
        reservation_id = request[-1].reservation_id
        with suppress(NotFound, ReservationEnded):
            done(self.desk.ledger.extend(PAYERS[0], self.fresh(), reservation_id, add, spent, ttl_s * MICROSECONDS))

    @rule(request=requests, used=st.lists(amounts, max_size=3))
    def commit(self, request: Request, used: list[int]) -> None:
        reservation_id = request[-1].reservation_id
        known = self.desk.memory.books.reservations.get(reservation_id)
        lines = [used_tokens(amount, attempt) for attempt, amount in enumerate(used, 1)]
        try:
            booked = done(self.desk.ledger.commit(PAYERS[0], self.fresh(), reservation_id, lines))
        except LedgerError:
            assert known is None or known.state is State.COMMITTED, "L7"
        else:
            assert booked.amount_nano_usd == sum(used), "L7"

    @rule(request=requests)
    def void(self, request: Request) -> None:
        with suppress(NotFound, ReservationEnded):
            done(self.desk.ledger.void(PAYERS[0], self.fresh(), request[-1].reservation_id, "not-sent"))

    @rule(seconds=st.sampled_from([1, 30, 600, 3600, 86_400, 31 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.desk.clock.turn(seconds)

    @rule(most=st.integers(1, 3))
    def sweep(self, most: int) -> None:
        done(self.desk.ledger.sweep(most))

    @invariant()
    def l1_never_above_the_stop_line_but_for_recorded_overruns(self) -> None:
        books = self.desk.memory.books
        overruns: dict[str, int] = defaultdict(int)
        for entry in self.desk.memory.journal:
            if entry.key.kind in (Kind.COMMIT, Kind.EXPIRE):
                for counter_id in entry.counter_ids:
                    overruns[counter_id] += max(0, entry.spent_delta_nano_usd + entry.held_delta_nano_usd)
        for counter_id, counter in books.counters.items():
            organisation, scope, subject, period, *_ = counter.key
            ruling = books.limits.in_force(organisation, scope, subject, period)
            assert ruling is not None
            assert counter.used_nano_usd <= ruling.stop_line_nano_usd + overruns[counter_id], "L1"

    @invariant()
    def l2_counters_follow_from_the_journal_and_from_live_reservations(self) -> None:
        books = self.desk.memory.books
        movements = (
            Movement(e.counter_ids, e.spent_delta_nano_usd, e.held_delta_nano_usd) for e in self.desk.memory.journal
        )
        totals = recount(movements)
        held: dict[str, int] = defaultdict(int)
        for reservation in books.reservations.values():
            assert (reservation.state is State.HELD) or reservation.held_nano_usd == 0
            for counter_id in reservation.counter_ids:
                held[counter_id] += reservation.held_nano_usd
        for counter_id, counter in books.counters.items():
            assert (counter.spent_nano_usd, counter.held_nano_usd) == totals.get(counter_id, (0, 0)), "L2"
            assert counter.held_nano_usd == held[counter_id], "L2"
            assert counter.spent_nano_usd >= 0

    @invariant()
    def l4_what_a_reservation_moved_is_what_it_booked(self) -> None:
        moved: dict[str, int] = defaultdict(int)
        commits: dict[str, int] = defaultdict(int)
        for entry in self.desk.memory.journal:
            moved[entry.reservation_id] += entry.spent_delta_nano_usd
            commits[entry.reservation_id] += entry.key.kind is Kind.COMMIT
        for reservation_id, reservation in self.desk.memory.books.reservations.items():
            assert moved[reservation_id] == reservation.booked_nano_usd, "L4"
            assert commits[reservation_id] <= 1, "L4"

    @invariant()
    def l5_postings_sum_to_zero_in_every_entry(self) -> None:
        for entry in self.desk.memory.journal:
            assert sum(p.amount_nano_usd for p in entry.postings) == 0, "L5"
            debits = sum(p.amount_nano_usd for p in entry.postings if p.account.startswith("key:"))
            assert debits == entry.spent_delta_nano_usd, "L5"

    @invariant()
    def l10_the_alert_comes_once_per_window_and_never_too_late(self) -> None:
        books = self.desk.memory.books
        raised: dict[str, int] = defaultdict(int)
        for entry in self.desk.memory.journal:
            for counter_id in entry.alerted:
                raised[counter_id] += 1
        assert all(times == 1 for times in raised.values()), "L10"
        for counter in books.counters.values():
            organisation, scope, subject, period, *_ = counter.key
            ruling = books.limits.in_force(organisation, scope, subject, period)
            assert ruling is not None
            if ruling.cap_nano_usd > 0 and counter.used_nano_usd >= max(1, ruling.alert_line_nano_usd):
                assert counter.alerted, "L10"
        assert len(self.desk.events.alerts) == len(raised), "L10"


LedgerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase
