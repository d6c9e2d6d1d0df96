"""What the router remembers of models: waits by quota, speed, and health."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import ModelSpec
from services.router.core.cooldown import Cooldown
from services.router.core.deployments import Deployments, Health, ModelState, Shut, healthiest
from services.router.core.speed import Durations

EAST, WEST = ModelSpec("east", "p", "big"), ModelSpec("west", "p", "big")
OTHER, POOLED = ModelSpec("other", "p", "small"), ModelSpec("pooled", "q", "x", quota="pool")
ALSO_POOLED, KEYLESS = ModelSpec("also", "r", "y", quota="pool"), ModelSpec("keyless", "k", "m", has_credential=False)


def known(**policy: float) -> Deployments:
    specs = (EAST, WEST, OTHER, POOLED, ALSO_POOLED, KEYLESS)
    return Deployments(specs, BreakerPolicy(min_calls=2, **policy))


def limited(until_s: float) -> Cooldown:
    return Cooldown(until_s, rate_limited=True)


@pytest.mark.parametrize(("named", "together"), [("east", {"east", "west"}), ("pooled", {"pooled", "also"})])
def test_a_wait_is_for_everyone_who_shares_the_quota(named: str, together: set[str]) -> None:
    """BerriAI/litellm#34399, deltawi/deltallm#247: siblings of a limited deployment were asked at once."""
    models = known()
    models.rest(named, limited(50.0), shared=True)
    assert {name for name in models.names() if models.shut(name, 49.0)} == together
    assert models.shut(named, 49.0) == Shut("cooling-down", 50.0, rate_limited=True)
    assert not any(models.shut(name, 50.0) for name in models.names())


def test_a_failure_rests_one_model_alone() -> None:
    models = known()
    models.rest("east", Cooldown(50.0, rate_limited=False), shared=False)
    assert [name for name in models.names() if models.shut(name, 10.0)] == ["east"]
    assert models.shut("east", 10.0) == Shut("cooling-down", 50.0, last_resort=True)


@given(st.lists(st.tuples(st.floats(1, 1e6), st.booleans(), st.booleans()), min_size=1, max_size=8), st.floats(0, 1e6))
def test_the_longest_wait_counts_and_a_wish_for_peace_is_never_forgotten(
    waits: list[tuple[float, bool, bool]], now_s: float
) -> None:
    """BerriAI/litellm#40130: a second failure kept the shorter of the two deadlines."""
    models = known()
    for until_s, rate_limited, shared in waits:
        models.rest("east", Cooldown(until_s, rate_limited=rate_limited), shared=shared)
    running = [(until_s, asked) for until_s, asked, _ in waits if until_s > now_s]
    shut = models.shut("east", now_s)
    assert (shut is None) == (not running)
    if shut is not None:
        assert shut.until_s == max(until_s for until_s, _ in running)
        assert shut.rate_limited == any(asked for _, asked in running) == (not shut.last_resort)


def fail(models: Deployments, model: str, now_s: float) -> None:
    permit = models.begin(model, now_s, streamed=False)
    assert permit is not None
    models.ended(permit, now_s, healthy=False)


def test_a_shut_breaker_is_no_last_resort_and_hides_a_pause() -> None:
    models = known(wait_s=3.0)
    models.rest("east", Cooldown(50.0, rate_limited=False), shared=False)
    fail(models, "east", 10.0)
    fail(models, "east", 10.0)
    assert models.shut("east", 10.0) == Shut("breaker-open", 13.0)
    assert models.begin("east", 10.0, streamed=False) is None
    assert models.shut("west", 10.0) is None


def test_calls_under_way_are_counted_once_however_they_end() -> None:
    models = known()
    permits = [models.begin("east", 0.0, streamed=streamed) for streamed in (True, False, False)]
    assert models.calls_under_way("east") == 3
    for permit in permits:
        assert permit is not None
        models.answered(permit, 1.0)
        models.ended(permit, 1.0, healthy=None)
    assert models.calls_under_way("east") == 0


def test_a_streams_probe_has_passed_with_its_first_token() -> None:
    """A long answer would keep everyone else out until its end."""
    models = known(wait_s=3.0)
    fail(models, "east", 10.0)
    fail(models, "east", 10.0)
    probe = models.begin("east", 13.0, streamed=True)
    assert probe is not None
    assert models.health("east", 13.0).state is ModelState.HALF_OPEN
    assert models.begin("east", 13.0, streamed=True) is None
    models.began_answer(probe, 14.0)
    assert models.health("east", 14.0).state is ModelState.LIVE
    models.ended(probe, 15.0, healthy=False)
    assert models.health("east", 15.0).failure_rate == 1.0, "what happens to it later still counts"


@pytest.mark.parametrize("streamed", [False, True])
def test_the_moving_average_follows_answers_and_is_not_flattered_by_those_given_up(streamed: bool) -> None:  # noqa: FBT001
    models = known()
    speed = models.speed("east", streamed=streamed)
    assert speed.average_s is None
    for took_s, average_s in ((1.0, 1.0), (2.0, 1.2)):
        permit = models.begin("east", 0.0, streamed=streamed)
        assert permit is not None
        if streamed:
            models.began_answer(permit, took_s)
        models.answered(permit, 9.0 if streamed else took_s)
        assert speed.average_s == pytest.approx(average_s)
    for gone_after_s in (0.1, 11.2):
        permit = models.begin("east", 0.0, streamed=streamed)
        assert permit is not None
        models.given_up(permit, gone_after_s)
    assert speed.average_s == pytest.approx(3.2)
    assert models.health("east", 0.0).first_token_s == speed.average_s
    assert models.speed("east", streamed=not streamed).average_s is None


def test_streams_and_whole_answers_have_times_of_their_own() -> None:
    models = known()
    for _ in range(3):
        permit = models.begin("east", 0.0, streamed=True)
        assert permit is not None
        models.began_answer(permit, 1.0)
        models.answered(permit, 60.0)
        permit = models.begin("east", 0.0, streamed=False)
        assert permit is not None
        models.answered(permit, 7.0)
    assert models.slow_after_s("east", 0.95, 3, streamed=True) == 1.0
    assert models.slow_after_s("east", 0.95, 3, streamed=False) == 7.0
    assert models.slow_after_s("east", 0.95, 4, streamed=False) is None
    assert [models.speed("east", streamed=streamed).average_s for streamed in (True, False)] == [1.0, 7.0]
    assert models.health("east", 0.0).first_token_s == 1.0


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=700), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_percentiles_are_those_of_the_last_512(durations: list[float], share: float) -> None:
    kept = Durations()
    for duration_s in durations:
        kept.add(duration_s)
    last = durations[-512:]
    found = kept.percentile_s(share, 1)
    assert found is not None
    assert sum(duration_s < found for duration_s in last) <= share * len(last)
    assert sum(duration_s <= found for duration_s in last) >= share * len(last)


@pytest.mark.parametrize(("quick", "slow", "found"), [(470, 42, 9.0), (480, 32, 1.0), (500, 12, 1.0)])
def test_what_counts_as_slow_is_the_lower_end_of_the_percentile(quick: int, slow: int, found: float) -> None:
    """One call in sixteen is slow: by the plain 95th percentile only calls slower than those would be."""
    models = known()
    for duration_s in [1.0] * quick + [9.0] * slow:
        permit = models.begin("east", 0.0, streamed=False)
        assert permit is not None
        models.answered(permit, duration_s)
    assert models.slow_after_s("east", 0.95, 50, streamed=False) == found


def test_percentiles_follow_what_is_new() -> None:
    kept = Durations()
    for duration_s in [1.0] * 100 + [9.0] * 100:
        kept.add(duration_s)
        kept.percentile_s(0.95, 1)
    assert kept.percentile_s(0.95, 1) == 9.0


def test_states_and_what_a_route_shows_of_its_candidates() -> None:
    models = known(wait_s=3.0)
    models.rest("west", limited(20.0), shared=False)
    fail(models, "other", 10.0)
    fail(models, "other", 10.0)
    healths = {name: models.health(name, 11.0) for name in ("east", "west", "other", "keyless")}
    assert {name: (health.state, health.shut_for_s) for name, health in healths.items()} == {
        "east": (ModelState.LIVE, None),
        "west": (ModelState.COOLING, 9.0),
        "other": (ModelState.BREAKER_OPEN, 2.0),
        "keyless": (ModelState.WITHOUT_KEY, None),
    }
    assert healthiest(list(healths.values())) == healths["east"]
    assert healthiest([healths["keyless"], healths["other"], healths["west"]]) == healths["west"]
    assert (
        healthiest([Health(ModelState.LIVE, None, 0, 2.0, 0), Health(ModelState.LIVE, None, 0, 1.0, 0)]).first_token_s
        == 1.0
    )


def test_what_stays_under_a_new_configuration_is_one_and_the_same() -> None:
    before, after = known(), known(wait_s=7.0)
    early = before.begin("east", 0.0, streamed=True)
    assert early is not None
    after.take_over(before, ["east", "pooled"])
    assert after.calls_under_way("east") == 1
    before.began_answer(early, 2.0)
    before.ended(early, 3.0, healthy=False)
    assert (after.calls_under_way("east"), after.speed("east", streamed=True).average_s) == (0, 2.0)
    fail(after, "east", 3.0)
    assert after.shut("east", 3.0) == before.shut("east", 3.0) == Shut("breaker-open", 10.0), (
        "both count, as is said now"
    )
    before.rest("pooled", limited(50.0), shared=True)
    before.rest("other", limited(50.0), shared=True)
    assert [name for name in after.names() if after.cooling(name, 4.0)] == ["pooled", "also"]
