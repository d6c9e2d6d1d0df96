"""Arrival times are fixed before a run starts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.schedule import arrivals


@settings(deadline=None)
@given(rate=st.floats(0.5, 2000), duration=st.floats(0.01, 5), seed=st.integers(0, 1000))
def test_arrivals_ascend_within_the_duration_and_repeat_with_the_seed(rate: float, duration: float, seed: int) -> None:
    times = arrivals(rate, duration, seed)
    assert times == sorted(times)
    assert all(0 < time < duration for time in times)
    assert times == arrivals(rate, duration, seed)


def test_another_seed_gives_another_schedule() -> None:
    assert arrivals(100, 1, seed=1) != arrivals(100, 1, seed=2)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_users() -> None:
    times = arrivals(1000, 20, seed=3)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.001, rel=0.03)
    assert variance**0.5 == pytest.approx(mean, rel=0.05)  # an exponential's deviation is its mean


def test_even_arrivals_are_equally_far_apart() -> None:
    assert arrivals(4, 1, seed=0, spacing="even") == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (1, 0), (-1, 1)])
def test_a_schedule_needs_a_rate_and_a_duration(rate: float, duration: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        arrivals(rate, duration, seed=0)
