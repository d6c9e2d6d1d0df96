"""Breakers and budgets as pure machines: every rule here fails when its line in the machine is changed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.router.core.breaker import Breaker, BreakerPolicy, BreakerState, Pass
from services.router.core.retry_budget import ShareBucket

POLICY = BreakerPolicy(min_calls=4, window_s=10.0, wait_s=1.0, max_wait_s=4.0)


def end(breaker: Breaker, healthy: bool | None, now_s: float) -> None:  # noqa: FBT001
    passed = breaker.begin(now_s)
    assert passed is not None
    breaker.ended(passed, healthy=healthy, now_s=now_s)


def opened(at_s: float = 100.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(POLICY.min_calls):
        end(breaker, False, at_s)
    return breaker


def test_it_opens_at_half_of_enough_calls() -> None:
    breaker = Breaker(POLICY)
    for healthy in (True, True, False):
        end(breaker, healthy, 100.0)
    assert breaker.state(100.0) is BreakerState.CLOSED
    assert breaker.failure_rate(100.0) == pytest.approx(1 / 3)
    end(breaker, False, 100.0)
    assert breaker.state(100.0) is BreakerState.OPEN
    assert (breaker.until_s(100.0), breaker.begin(100.9)) == (101.0, None)


def test_under_another_policy_it_goes_on_and_counts_of_another_window_do_not() -> None:
    breaker, patient = Breaker(POLICY), replace(POLICY, min_calls=5)
    for _ in range(3):
        end(breaker, False, 100.0)
    breaker.follow(patient)
    end(breaker, False, 100.0)
    assert breaker.state(100.0) is BreakerState.CLOSED
    breaker.follow(replace(patient, window_s=1000.0))
    end(breaker, False, 100.0)
    assert (breaker.state(100.0), breaker.failure_rate(100.0)) == (BreakerState.CLOSED, 1.0)
    again = opened()
    again.follow(patient)
    assert again.until_s(100.0) == 101.0


def test_few_failures_and_few_calls_leave_it_closed() -> None:
    breaker = Breaker(POLICY)
    for healthy in (False, False, False):
        end(breaker, healthy, 100.0)
    assert breaker.state(100.0) is BreakerState.CLOSED, "too few calls to tell"
    breaker = Breaker(POLICY)
    for healthy in [True, True, False] * 20:
        end(breaker, healthy, 100.0)
    assert breaker.state(100.0) is BreakerState.CLOSED, "a third failed"


def test_a_success_never_opens_it_and_what_says_nothing_is_not_counted() -> None:
    breaker = Breaker(POLICY)
    for healthy in (False, False, False, None, None, True):
        end(breaker, healthy, 100.0)
    assert breaker.state(100.0) is BreakerState.CLOSED
    assert breaker.failure_rate(100.0) == 0.75


def test_calls_from_before_the_window_are_forgotten() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        end(breaker, False, 100.0)
    end(breaker, False, 111.0)
    assert breaker.state(111.0) is BreakerState.CLOSED
    assert breaker.failure_rate(122.0) == 0.0


def test_one_probe_at_a_time_and_a_success_closes() -> None:
    breaker = opened()
    assert breaker.state(101.0) is BreakerState.HALF_OPEN
    probe = breaker.begin(101.0)
    assert probe is not None
    assert probe.probe
    assert (breaker.admits(101.0), breaker.begin(101.0), breaker.until_s(101.0)) == (False, None, None)
    breaker.ended(probe, healthy=True, now_s=102.0)
    assert breaker.state(102.0) is BreakerState.CLOSED
    assert breaker.failure_rate(102.0) == 0.0, "it starts anew"


def test_a_probe_that_fails_doubles_the_wait_up_to_the_cap() -> None:
    breaker, now_s, waits = opened(), 101.0, []
    for _ in range(4):
        end(breaker, False, now_s)
        until_s = breaker.until_s(now_s)
        assert until_s is not None
        waits.append(until_s - now_s)
        now_s = until_s
    assert waits == [2.0, 4.0, 4.0, 4.0]
    end(breaker, True, now_s)
    for _ in range(POLICY.min_calls):
        end(breaker, False, now_s)
    assert breaker.until_s(now_s) == now_s + 1.0, "after a probe that passed the first wait is the short one again"


def test_a_probe_whose_caller_left_makes_room_for_the_next() -> None:
    breaker = opened()
    end(breaker, None, 101.0)
    assert breaker.state(101.0) is BreakerState.HALF_OPEN
    assert breaker.admits(101.0)


def test_calls_from_before_it_opened_decide_nothing() -> None:
    breaker = Breaker(POLICY)
    early = [breaker.begin(100.0) for _ in range(3)]
    for _ in range(POLICY.min_calls):
        end(breaker, False, 100.0)
    probe = breaker.begin(101.0)
    for passed in early:
        assert passed is not None
        breaker.ended(passed, healthy=False, now_s=101.0)
    assert breaker.failure_rate(101.0) == 0.0
    assert breaker.begin(101.0) is None, "the probe is still under way"
    assert probe is not None
    breaker.ended(probe, healthy=False, now_s=101.0)
    assert breaker.state(101.0) is BreakerState.OPEN


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: it never lets two probes through, never lets calls through while it waits."""

    @initialize()
    def start(self) -> None:
        self.breaker, self.now_s, self.under_way = Breaker(POLICY), 50.0, list[Pass]()

    @rule(seconds=st.floats(min_value=0, max_value=6))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def begin(self) -> None:
        state, admits = self.breaker.state(self.now_s), self.breaker.admits(self.now_s)
        passed = self.breaker.begin(self.now_s)
        assert (passed is not None) == admits
        assert not (state is BreakerState.OPEN and passed)
        if passed is not None:
            assert passed.probe == (state is BreakerState.HALF_OPEN)
            self.under_way.append(passed)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), healthy=st.sampled_from([True, False, False, None]))
    def end(self, data: st.DataObject, healthy: bool | None) -> None:  # noqa: FBT001
        passed = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.breaker.state(self.now_s)
        self.breaker.ended(passed, healthy=healthy, now_s=self.now_s)
        after = self.breaker.state(self.now_s)
        if before is not after:
            opened_now = after is BreakerState.OPEN
            assert opened_now == (healthy is False)
            assert before is BreakerState.CLOSED or passed.probe

    @invariant()
    def one_probe(self) -> None:
        if hasattr(self, "under_way"):
            current = [passed for passed in self.under_way if passed.probe and passed.period == self.breaker._period]
            assert len(current) <= 1
            until_s = self.breaker.until_s(self.now_s)
            assert until_s is None or 0 < until_s - self.now_s <= POLICY.max_wait_s


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.booleans(), max_size=400), st.sampled_from([0.05, 0.2, 0.5]))
def test_extra_calls_are_at_most_their_share_and_what_was_saved(events: list[bool], share: float) -> None:
    bucket, calls, extra = ShareBucket(share, start=2.0, most=5.0), 0, 0
    for is_call in events:
        if is_call:
            calls += 1
            bucket.called()
        else:
            extra += bucket.take()
    assert extra <= 2.0 + share * calls + 1e-6


def test_no_more_is_saved_up_than_the_most() -> None:
    bucket = ShareBucket(0.2, start=0.0, most=5.0)
    for _ in range(1000):
        bucket.called()
    assert [bucket.take() for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_tenth_of_the_calls_is_a_tenth() -> None:
    """Ten times 0.1 is a little less than 1 in binary."""
    bucket, extra = ShareBucket(0.1, start=0.0, most=5.0), 0
    for _ in range(500):
        bucket.called()
        extra += bucket.take()
    assert extra == 50
