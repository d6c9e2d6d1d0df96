"""Property tests fail for what the code does, not for how busy the machine is."""

from __future__ import annotations

import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_OVER_A_DEADLINE_S = 0.25


@given(wait_s=st.just(_OVER_A_DEADLINE_S))
def test_a_case_may_take_its_time(wait_s: float) -> None:
    time.sleep(wait_s)


def test_the_making_of_a_case_may_take_its_time() -> None:
    assert HealthCheck.too_slow in settings().suppress_health_check
    assert HealthCheck.filter_too_much not in settings().suppress_health_check
