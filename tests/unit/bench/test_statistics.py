"""Percentiles are measured values, by the definition in the docstring."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.statistics import Samples, Summary, median, percentile, summarise

durations = st.lists(st.floats(0, 100), min_size=1, max_size=300)


@settings(deadline=None)
@given(values=durations, percent=st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_sample_that_enough_samples_do_not_exceed(
    values: list[float], percent: float
) -> None:
    found = percentile(sorted(values), percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9
    smaller = [value for value in values if value < found]
    assert len(smaller) < len(values) * percent / 100 + 1e-9


def test_known_percentiles() -> None:
    hundred = [float(i) for i in range(1, 101)]
    assert [percentile(hundred, p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 50) == 7.0


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_a_percentile_lies_between_0_and_100(percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile([1.0], percent)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="undefined"):
        percentile([], 50)
    assert summarise([]) == Summary(count=0)


def test_a_summary_of_samples() -> None:
    samples = Samples([0.004, 0.001, 0.003, 0.002])
    assert samples.summary() == Summary(count=4, mean_s=0.0025, p50_s=0.002, p90_s=0.004, p99_s=0.004, max_s=0.004)
    assert samples.microseconds() == [4000, 1000, 3000, 2000]


def test_samples_are_bounded() -> None:
    samples = Samples([1.0, 2.0], max_samples=2)
    with pytest.raises(OverflowError, match="at most 2"):
        samples.add(3.0)


def test_the_median_of_rounds() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
