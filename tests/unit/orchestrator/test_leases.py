"""What a lease covers: pure decisions, by example and over random histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.money import cost_nano_usd
from services.orchestrator.core.leases import (
    MAX_LINES,
    Ask,
    Granted,
    Lease,
    Payer,
    Price,
    Refusal,
    Step,
    dearest,
    due,
    extend,
    grant,
    line_cost,
    settle,
)
from services.orchestrator.core.model import Candidate, Usage, UsageLine

ADA = Payer("acme", "search", "ada", "key-1", "")
# One token of output costs one nano-USD, or three; input is free.
CHEAP, DEAR = Candidate("acme-ai", "cheap"), Candidate("acme-ai", "dear")
PRICES = (Price("acme-ai", "cheap", 0, 10**6, 0, 0), Price("acme-ai", "dear", 0, 3 * 10**6, 0, 0))
LEASE = Lease("a-1", ADA, 100, 10.0, 70.0, PRICES, 1000)


def ask(output_tokens: int, *candidates: Candidate, input_tokens: int = 0) -> Ask:
    return Ask(candidates or (CHEAP,), input_tokens, output_tokens)


def granted(lease: Lease, hold_id: str, asked: Ask, now_s: float = 20.0) -> Lease:
    decided = grant(lease, hold_id, asked, now_s, cost_nano_usd)
    assert isinstance(decided, Granted), decided
    return decided.lease


def line(output_tokens: int, candidate: Candidate = CHEAP) -> UsageLine:
    return UsageLine(candidate, Usage(output_tokens=output_tokens), 1)


def test_a_call_holds_what_the_dearest_of_its_models_may_cost() -> None:
    decided = grant(LEASE, "h", ask(20, CHEAP, DEAR), 20.0, cost_nano_usd)
    assert isinstance(decided, Granted)
    assert (decided.held_nano_usd, decided.lease.left_nano_usd) == (60, 40)


def test_money_is_held_for_each_call_that_may_be_billed() -> None:
    asked = Ask((CHEAP,), 0, 20, calls=3)
    decided = grant(LEASE, "h", asked, 20.0, cost_nano_usd)
    assert isinstance(decided, Granted)
    assert decided.held_nano_usd == 60
    assert grant(LEASE, "h", asked._replace(calls=6), 20.0, cost_nano_usd) is Refusal.USED_UP
    assert grant(replace(LEASE, most_per_call_nano_usd=59), "h", asked, 20.0, cost_nano_usd) is Refusal.QUERY_LIMIT


def test_input_counts_at_the_dearest_of_its_prices() -> None:
    cached = Price("acme-ai", "cheap", 10**6, 0, 0, 4 * 10**6)
    decided = grant(replace(LEASE, prices=(cached,)), "h", ask(0, input_tokens=5), 20.0, cost_nano_usd)
    assert isinstance(decided, Granted)
    assert decided.held_nano_usd == 20


FREE = Price("local", "free", 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("lease", "asked", "now_s", "expected"),
    [
        (LEASE, ask(1), 70.0, Refusal.ENDED),
        (LEASE, ask(1, input_tokens=1001), 20.0, Refusal.INPUT_TOO_LONG),
        (LEASE, ask(1, CHEAP, Candidate("acme-ai", "new")), 20.0, Refusal.NOT_PRICED),
        (LEASE, Ask((), 0, 1), 20.0, Refusal.NOT_PRICED),
        (replace(LEASE, most_per_call_nano_usd=9), ask(10), 20.0, Refusal.QUERY_LIMIT),
        (LEASE, ask(101), 20.0, Refusal.USED_UP),
        (replace(LEASE, spent_nano_usd=100), ask(0), 20.0, Refusal.USED_UP),
        (replace(LEASE, lines=(line(0),) * (MAX_LINES - 15)), ask(1), 20.0, Refusal.TOO_MANY_CALLS),
    ],
)
def test_what_a_lease_does_not_cover_is_refused(lease: Lease, asked: Ask, now_s: float, expected: Refusal) -> None:
    assert grant(lease, "h", asked, now_s, cost_nano_usd) is expected


def test_at_the_very_line_it_is_covered() -> None:
    limited = replace(LEASE, most_per_call_nano_usd=100, lines=(line(0),) * (MAX_LINES - 16))
    assert granted(limited, "h", ask(100, input_tokens=1000), 69.9).left_nano_usd == 0


def test_what_is_free_needs_no_money_but_a_lease() -> None:
    spent = replace(LEASE, prices=(FREE,), spent_nano_usd=130)
    free = Ask((Candidate("local", "free"),), 5, 5)
    assert granted(spent, "h", free).holds == {"h": 0}
    assert grant(spent, "h", free, 70.0, cost_nano_usd) is Refusal.ENDED


def test_a_raise_stays_within_the_lease_the_query_and_the_time() -> None:
    lease = granted(granted(LEASE, "h", ask(30)), "other", ask(20))
    assert extend(lease, "h", 50, 20.0) == Granted(replace(lease, holds={"h": 80, "other": 20}), 80)
    assert extend(lease, "h", 51, 20.0) is Refusal.USED_UP
    assert extend(lease, "h", 1, 70.0) is Refusal.ENDED
    assert extend(replace(lease, most_per_call_nano_usd=31), "h", 2, 20.0) is Refusal.QUERY_LIMIT


def test_a_call_settles_once_also_after_the_end() -> None:
    lease = granted(LEASE, "h", ask(30))
    ended = settle(lease, "h", [line(12), line(3, DEAR)], cost_nano_usd)
    assert (ended.spent_nano_usd, ended.left_nano_usd, ended.holds) == (21, 79, {})
    assert settle(ended, "h", [line(12)], cost_nano_usd) == ended
    assert settle(lease, "h", (), cost_nano_usd) == LEASE
    assert (LEASE.used, lease.used, ended.used) == (False, True, True)


def test_a_line_without_a_price_costs_what_the_dearest_model_costs() -> None:
    assert line_cost(PRICES, line(5, Candidate("new-ai", "stranger")), cost_nano_usd) == 15
    assert dearest(PRICES) == Price("", "", 0, 3 * 10**6, 0, 0)


def test_a_lease_is_renewed_at_half_of_its_life_if_it_was_wanted() -> None:
    assert due(None, [CHEAP], 0.0, 20.0, away=False) is Step.TAKE
    assert due(LEASE, [CHEAP], 11.0, 39.9, away=False) is Step.KEEP
    assert due(LEASE, [CHEAP], 11.0, 40.0, away=False) is Step.TAKE
    assert due(LEASE, [CHEAP], 9.0, 40.0, away=False) is Step.GIVE_BACK
    assert due(LEASE, [CHEAP], 69.0, 70.0, away=False) is Step.GIVE_BACK


def test_a_model_without_a_price_and_what_was_used_are_reasons_to_renew_at_once() -> None:
    assert due(LEASE, [CHEAP, Candidate("acme-ai", "new")], 11.0, 12.0, away=False) is Step.TAKE
    used = settle(granted(LEASE, "h", ask(30)), "h", [line(30)], cost_nano_usd)
    assert due(used, [CHEAP], 11.0, 21.0, away=False) is Step.TAKE
    assert due(used, [CHEAP], 11.0, 21.0, away=True) is Step.KEEP, "it is all there is"


ACTIONS = st.one_of(
    st.tuples(st.just("grant"), st.integers(0, 60), st.booleans()),
    st.tuples(st.just("extend"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("wait"), st.integers(0, 20), st.none()),
)


@given(st.lists(ACTIONS, max_size=60), st.integers(1, 200), st.none() | st.integers(1, 80))
def test_l15_never_more_is_granted_than_was_lent_nor_after_the_end(
    actions: list[tuple[str, int, object]], lent: int, per_call: int | None
) -> None:
    lease = replace(LEASE, lent_nano_usd=lent, most_per_call_nano_usd=per_call)
    now_s, overrun, used = 10.0, 0, 0
    for number, (action, first, second) in enumerate(actions):
        before, hold_id = lease, f"h-{number}" if action == "grant" else f"h-{first}"
        if action == "wait":
            now_s += first
        elif action == "settle":
            actual, held = int(second), lease.holds.get(hold_id)  # type: ignore[call-overload]
            lease = settle(lease, hold_id, [line(actual)], cost_nano_usd)
            if held is not None:
                used, overrun = used + actual, overrun + max(actual - held, 0)
        elif action == "grant" or hold_id in lease.holds:
            decided = (
                grant(lease, hold_id, ask(first, DEAR if second else CHEAP), now_s, cost_nano_usd)
                if action == "grant"
                else extend(lease, hold_id, int(second), now_s)  # type: ignore[call-overload]
            )
            if isinstance(decided, Granted):
                lease = decided.lease
                assert now_s < 70
                assert per_call is None or decided.held_nano_usd <= per_call
                assert (
                    decided.held_nano_usd == before.holds.get(hold_id, 0) + before.left_nano_usd - lease.left_nano_usd
                )
        assert lease.spent_nano_usd + sum(lease.holds.values()) <= lent + overrun
        assert lease.spent_nano_usd == used == sum(line_cost(PRICES, each, cost_nano_usd) for each in lease.lines)
