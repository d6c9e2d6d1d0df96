"""Which rule a call gets, and that scripts are checked and reproducible."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_cli.provider_sim import Distribution, Rule, Script, ScriptError
from llmops_cli.provider_sim.script import MAX_DELAY_MS, Matcher, Selected, is_instant, sample_ms

CHAT = "/v1/chat/completions"


def statuses(matcher: Matcher, models: list[str], path: str = CHAT) -> list[int | None]:
    selected = [matcher.select(model, path) for model in models]
    return [one.rule.status if one else None for one in selected]


def test_the_first_rule_that_matches_applies() -> None:
    matcher = Matcher(Script(rules=(Rule(model="gpt-*", status=500), Rule(model="*", status=429))))
    assert statuses(matcher, ["gpt-4o", "claude", "my-gpt-4o"]) == [500, 429, 429]


def test_rules_match_by_path() -> None:
    matcher = Matcher(Script(rules=(Rule(path="/v1/messages", status=529),)))
    assert statuses(matcher, ["m"], "/v1/messages") == [529]
    assert statuses(matcher, ["m"]) == [None]


def test_a_rule_can_be_limited_to_some_calls() -> None:
    rules = (Rule(first_call=2, last_call=3, status=500), Rule(every=2, status=429))
    matcher = Matcher(Script(rules=rules))
    # The second rule sees only the calls that the first leaves: the 1st, 4th, 5th and 6th.
    assert statuses(matcher, ["m"] * 6) == [429, 500, 500, None, 429, None]


def test_calls_are_counted_per_rule_and_only_when_the_patterns_match() -> None:
    matcher = Matcher(Script(rules=(Rule(model="b", first_call=2, status=500),)))
    assert statuses(matcher, ["a", "a", "b", "a", "b"]) == [None, None, None, None, 500]


@settings(deadline=None)
@given(order=st.permutations(["a"] * 5 + ["b"] * 5), seed=st.integers(0, 2**32))
def test_delays_depend_on_seed_rule_and_call_number_but_not_on_interleaving(order: list[str], seed: int) -> None:
    delay = Distribution(uniform=(0, 1000))
    script = Script(seed=seed, rules=(Rule(model="a", latency_ms=delay), Rule(model="b", latency_ms=delay)))

    def delays(models: list[str]) -> dict[str, list[float]]:
        matcher, seen = Matcher(script), {"a": [], "b": []}
        for model in models:
            selected = matcher.select(model, CHAT)
            assert isinstance(selected, Selected)
            seen[model].append(sample_ms(selected.rule.latency_ms, selected.rng()))
        return seen

    assert delays(order) == delays(["a"] * 5 + ["b"] * 5)


def test_another_seed_gives_other_delays() -> None:
    rule = Rule(latency_ms=Distribution(uniform=(0, 1000)))

    def first(seed: int) -> float:
        selected = Matcher(Script(seed=seed, rules=(rule,))).select("m", CHAT)
        assert selected is not None
        return sample_ms(rule.latency_ms, selected.rng())

    assert first(1) != first(2)


@pytest.mark.parametrize(
    "delay",
    [
        Distribution(uniform=(-50, 1e9)),
        Distribution(normal=(10, 1e7)),
        Distribution(lognormal=(100, 9)),
        Distribution(exponential=1e6),
    ],
)
def test_samples_stay_within_the_limits(delay: Distribution) -> None:
    rng = random.Random(7)
    samples = [delay.sample(rng) for _ in range(500)]
    assert min(samples) >= 0
    assert max(samples) <= MAX_DELAY_MS
    assert len(set(samples)) > 1


def test_a_lognormal_delay_has_the_median_it_was_given() -> None:
    rng = random.Random(7)
    samples = sorted(Distribution(lognormal=(200, 0.5)).sample(rng) for _ in range(4001))
    assert 190 < samples[2000] < 210


def test_yaml_and_json_are_read_alike(tmp_path: Path) -> None:
    yaml_file = tmp_path / "script.yaml"
    yaml_file.write_text(
        "seed: 3\nrules:\n  - {model: m, latency_ms: {uniform: [1, 2]}, headers: {Retry-After: '7'}}\n"
    )
    json_text = b'{"seed":3,"rules":[{"model":"m","latency_ms":{"uniform":[1,2]},"headers":{"Retry-After":"7"}}]}'
    script = Script.load(yaml_file)
    assert script == Script.from_json(json_text)
    assert script.rules[0].latency_ms == Distribution(uniform=(1, 2))


def test_an_empty_file_is_an_empty_script(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert Script.load(path) == Script()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"rules":[{"modle":"m"}]}', "modle"),
        (b'{"rules":[{"status":700}]}', "status"),
        (b'{"rules":[{"latency_ms":-1}]}', "latency_ms"),
        (b'{"rules":[{"latency_ms":{}}]}', "exactly one"),
        (b'{"rules":[{"latency_ms":{"uniform":[1,2],"exponential":3}}]}', "exactly one"),
        (b'{"rules":[{"cut_with":"axe"}]}', "cut_with"),
        (b"{", "cannot be read"),
    ],
)
def test_a_wrong_script_is_refused_with_the_name_of_the_field(text: bytes, named: str) -> None:
    with pytest.raises(ScriptError, match=named):
        Script.from_json(text)


def test_a_rule_built_in_code_is_checked_too() -> None:
    with pytest.raises(ScriptError, match="every"):
        Rule(every=0)


@pytest.mark.parametrize(
    ("rule", "instant"),
    [
        (Rule(), True),
        (Rule(model="m", first_call=3, text="hello", output_tokens=4), True),
        (Rule(latency_ms=1), False),
        (Rule(status=500), False),
        (Rule(omit_usage=True), False),
        (Rule(headers={"x": "y"}), False),
        (Rule(one_byte_packets=True), False),
    ],
)
def test_only_a_rule_without_delay_and_fault_is_answered_at_once(rule: Rule, *, instant: bool) -> None:
    assert is_instant(rule) is instant
