from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.bucketing import BASIS_POINTS, bucket_of, choose_arm

# Computed outside this program (`printf 'summarize@production:user-1' | sha256sum`): they must never change.
GOLDEN = {
    ("summarize", "production", "user-1"): 1375,
    ("summarize", "production", "user-2"): 3253,
    ("summarize", "staging", "user-1"): 657,
    ("answer", "production", "conversation-7f3a"): 6757,
    ("answer", "production", "größe/日本"): 5761,
}


def weights() -> st.SearchStrategy[list[int]]:
    cuts = st.lists(st.integers(0, BASIS_POINTS), max_size=5).map(sorted)
    return cuts.map(lambda c: [b - a for a, b in zip([0, *c], [*c, BASIS_POINTS], strict=True)])


@pytest.mark.parametrize(("key", "bucket"), GOLDEN.items())
def test_buckets_of_known_keys_never_change(key: tuple[str, str, str], bucket: int) -> None:
    assert bucket_of(*key) == bucket


def test_arms_get_their_share() -> None:
    shares = [7_000, 2_500, 500]
    counts = Counter(choose_arm("summarize", "production", f"user-{n}", shares) for n in range(20_000))
    for arm, share in enumerate(shares):
        # Five standard deviations of a binomial share: a fair hash fails once in two million runs, and this is fixed.
        expected = 20_000 * share / BASIS_POINTS
        assert abs(counts[arm] - expected) < 5 * (expected * (1 - share / BASIS_POINTS)) ** 0.5


def test_environments_and_prompts_are_independent_experiments() -> None:
    keys = [f"user-{n}" for n in range(2_000)]
    first = [choose_arm("summarize", "production", key, [5_000, 5_000]) for key in keys]
    for other in (("summarize", "staging"), ("answer", "production")):
        agreeing = sum(a == choose_arm(*other, key, [5_000, 5_000]) for a, key in zip(first, keys, strict=True))
        assert 850 < agreeing < 1_150


@given(st.text(min_size=1, max_size=20), weights())
def test_the_bucket_walks_the_arms_in_order(key: str, shares: list[int]) -> None:
    bucket = bucket_of("p", "e", key)
    arm = choose_arm("p", "e", key, shares)
    assert sum(shares[:arm]) <= bucket < sum(shares[: arm + 1])


@pytest.mark.parametrize("key", GOLDEN)
def test_a_bucket_on_the_border_belongs_to_the_later_arm(key: tuple[str, str, str]) -> None:
    bucket = GOLDEN[key]
    assert choose_arm(*key, [bucket, BASIS_POINTS - bucket]) == 1
    assert choose_arm(*key, [bucket + 1, BASIS_POINTS - bucket - 1]) == 0


@given(st.text(min_size=1, max_size=20), st.integers(0, BASIS_POINTS), st.integers(0, BASIS_POINTS))
def test_a_canary_that_grows_keeps_its_users(key: str, one: int, other: int) -> None:
    small, large = sorted((one, other))
    if choose_arm("p", "e", key, [BASIS_POINTS - small, small]) == 1:
        assert choose_arm("p", "e", key, [BASIS_POINTS - large, large]) == 1


@given(weights())
def test_an_empty_key_takes_the_first_arm(shares: list[int]) -> None:
    assert choose_arm("p", "e", "", shares) == 0


@pytest.mark.parametrize("shares", [[9_999], [10_001], [10_500, -500]])
def test_weights_that_are_no_whole_are_refused(shares: list[int]) -> None:
    with pytest.raises(ValueError, match="10000"):
        choose_arm("p", "e", "k", shares)
