"""L1: what stands above a stop line is explained by what was recorded: overruns, and charges beyond holds."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from services.ledger.core.errors import LedgerError
from services.ledger.core.limits import Scope
from services.ledger.core.operations import AllotAnswer, CommitAnswer, ExpireAnswer, Kept, OnExpiry
from services.ledger.core.service import Rules
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, LENDING, Desk, done, limit, used_tokens

VERBS = (
    "reserve",
    "reserve",
    "commit",
    "void",
    "extend",
    "dispatch",
    "adjust",
    "wait",
    "allot",
    "allot",
    "part",
    "part",
    "last",
)


def lend(desk: Desk, request_id: str, wanted: int) -> AllotAnswer:
    return done(desk.ledger.allot(ADA, request_id, wanted, 30 * MICROSECONDS, "edge-1"))


def give_back(desk: Desk, allotment_id: str, request_id: str, amount: int, kept: Kept | None) -> CommitAnswer:
    call = desk.ledger.commit(ADA, request_id, allotment_id, [used_tokens(amount)], lent=True, kept=kept)
    return done(call)


def test_what_comes_back_after_its_money_was_given_to_others_is_an_overrun() -> None:
    """The replica kept less than its calls took, and the loan had not ended: nobody was told."""
    desk = Desk([limit(Scope.USER, Period.HOUR, 100)], rules=LENDING)
    lent = lend(desk, "a", 50)
    give_back(desk, lent.allotment_id, "p1", 0, Kept(10, 0))
    assert desk.reserve(90).granted
    part = give_back(desk, lent.allotment_id, "p2", 25, Kept(0, 0))
    last = give_back(desk, lent.allotment_id, "p3", 5, None)
    assert (part.overrun_nano_usd, last.overrun_nano_usd, desk.used()["USER", "ada"]) == (15, 5, (30, 90))
    assert [told for told in desk.told() if told[0] == "OVERRUN"] == [("OVERRUN", 15), ("OVERRUN", 5)]


class Play:
    """Random calls and loans under limits that nobody edits."""

    def __init__(self, random: Random) -> None:
        self.random = random
        limits = [
            limit(Scope.USER, Period.HOUR, random.choice((100, 150)), stop=random.choice((9000, 10_000))),
            limit(Scope.ORGANISATION, Period.DAY, random.choice((100, 200, 300))),
        ]
        rules = Rules(on_expiry=random.choice(list(OnExpiry)), max_lent_basis_points=10_000)
        self.desk = Desk(limits, rules=rules)
        self.holds = ["nowhere"]
        self.loans = ["nowhere"]

    def step(self, number: int) -> None:
        verb, desk, hold, loan = (
            self.random.choice(VERBS),
            self.desk,
            self.random.choice(self.holds[-10:]),
            self.random.choice(self.loans[-3:]),
        )
        if verb == "reserve":
            payer = ADA._replace(user=self.random.choice(("ada", "bob")))
            granted = desk.reserve(self.random.choice((5, 30, 55, 90)), payer, ttl_s=self.random.choice((1, 30, 60)))
            self.holds += [granted.reservation_id] if granted.granted else []
        elif verb == "allot":
            lent = lend(desk, f"a{number}", self.random.choice((50, 500)))
            self.loans += [lent.allotment_id] if lent.allotment_id else []
        elif verb == "part":
            kept = Kept(self.random.choice((0, 20, 999)), self.random.choice((0, 5)) * MICROSECONDS)
            give_back(desk, loan, f"p{number}", self.random.choice((5, 30, 90)), kept)
        elif verb == "last":
            give_back(desk, loan, f"l{number}", self.random.choice((0, 5, 30, 90)), None)
        elif verb == "wait":
            desk.clock.turn(self.random.choice((1, 31, 61)))
        elif verb == "extend":
            add, spent = self.random.choice((0, 10, 60)), self.random.choice((0, 20, 90))
            done(desk.ledger.extend(ADA, f"e{number}", hold, add, spent, 30 * MICROSECONDS))
        else:
            amounts = {"commit": (0, 5, 30, 60, 130), "adjust": (-20, -5)}.get(verb)
            getattr(desk, verb)(hold, *([self.random.choice(amounts)] if amounts else []))

    def check(self) -> None:
        recorded: Counter[str] = Counter()
        for entry in self.desk.memory.journal:
            beyond = 0
            if isinstance(entry.answer, CommitAnswer):
                beyond = entry.answer.overrun_nano_usd
            elif isinstance(entry.answer, ExpireAnswer):
                beyond = max(entry.spent_delta_nano_usd + entry.held_delta_nano_usd, 0)
            recorded.update(dict.fromkeys(entry.counter_ids, beyond))
        books = self.desk.memory.books
        for counter_id, counter in books.counters.items():
            organisation, scope, subject, period, _, unit = counter.key
            in_force = books.limits.in_force(organisation, scope, subject, period, unit)
            assert in_force is not None
            assert counter.used_nano_usd <= in_force.stop_line_nano_usd + recorded[counter_id], "L1"


@pytest.mark.parametrize("seed", range(8))
def test_l1_nothing_passes_a_line_unrecorded(seed: int) -> None:
    random = Random(seed)
    for _ in range(40):
        play = Play(random)
        for number in range(60):
            with suppress(LedgerError):
                play.step(number)
            play.check()
