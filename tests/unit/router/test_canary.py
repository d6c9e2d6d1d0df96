"""The two-sample test on answers: how often it errs, and what it finds. By simulation, from fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from services.router.core.canary import MIN_ANSWERS, Rule, Sample, Watch, judge, p_value

PROMPTS, WORDS, CHOICES = 8, 16, 12


class Model:
    """Draws each word of an answer from its own distribution over 12 words; `mixed` answers come from another model."""

    def __init__(self, seed: int, *, mixed: float = 0.0, other: Model | None = None) -> None:
        weights = np.random.default_rng(seed)
        # Some words are much likelier than others, as a model's are.
        self._weights = weights.dirichlet(np.full(CHOICES, 0.1), size=(PROMPTS, WORDS))
        self._mixed, self._other = mixed, other

    def answer(self, prompt: int, dice: np.random.Generator) -> str:
        if self._other is not None and dice.random() < self._mixed:
            return self._other.answer(prompt, dice)
        words = (dice.choice(CHOICES, p=self._weights[prompt, place]) for place in range(WORDS))
        return " ".join(f"w{word}" for word in words)

    def run(self, count: int, dice: np.random.Generator) -> Sample:
        return {f"p{prompt}": [self.answer(prompt, dice) for _ in range(count)] for prompt in range(PROMPTS)}


def share_found(before: Model, after: Model, count: int, runs: int, seed: int = 7) -> float:
    dice = np.random.default_rng(seed)
    found = [p_value(before.run(count, dice), after.run(count, dice), 1) <= Rule().p_value for _ in range(runs)]
    return sum(found) / runs


def test_the_same_model_is_rarely_suspected() -> None:
    assert share_found(Model(1), Model(1), 6, 200) <= 0.02


def test_a_swapped_model_is_always_found() -> None:
    assert share_found(Model(1), Model(2), 6, 60) == 1.0
    assert share_found(Model(1), Model(2), MIN_ANSWERS, 60) == 1.0


def test_more_answers_find_a_mixture_more_often() -> None:
    mixed = Model(1, mixed=0.2, other=Model(2))
    few, many = (share_found(Model(1), mixed, count, 60) for count in (4, 10))
    assert few < many
    assert many > 0.25


def test_under_the_null_p_is_not_smaller_than_it_says() -> None:
    dice = np.random.default_rng(3)
    model = Model(1)
    values = np.array([p_value(model.run(5, dice), model.run(5, dice), 1) for _ in range(120)])
    for level in (0.05, 0.2, 0.5):
        assert (values <= level).mean() <= level + 3 * (level * (1 - level) / 120) ** 0.5


SAME: Sample = {f"p{n}": ["always the same words"] * 6 for n in range(8)}
OTHER: Sample = {f"p{n}": ["always these other words"] * 6 for n in range(8)}


def test_models_that_always_say_the_same() -> None:
    assert p_value(SAME, SAME, 1) == 1.0
    assert p_value(SAME, OTHER, 1) <= 0.0005


def test_a_longer_answer_is_another_answer() -> None:
    longer = {prompt: [f"{answer} and more" for answer in answers] for prompt, answers in SAME.items()}
    assert p_value(SAME, longer, 1) <= 0.0005


def test_prompts_without_enough_answers_are_left_out() -> None:
    few = {"p0": OTHER["p0"][: MIN_ANSWERS - 1]}
    assert p_value(SAME, few, 1) == 1.0
    assert p_value(SAME, {"unknown": OTHER["p0"]}, 1) == 1.0
    # One changed prompt among unchanged ones is seen, the one with too few answers is not.
    assert p_value(SAME, {**SAME, "p0": OTHER["p0"]}, 1) <= 0.005
    assert p_value(SAME, {**SAME, **few}, 1) == 1.0


def test_the_same_seed_gives_the_same_value() -> None:
    dice = np.random.default_rng(5)
    first, second = Model(1).run(6, dice), Model(1, mixed=0.3, other=Model(2)).run(6, dice)
    assert p_value(first, second, 4) == p_value(first, second, 4)


def test_an_alarm_needs_two_runs_in_a_row() -> None:
    watch, found = judge(None, SAME, Rule(), 1)
    assert (watch, found) == (Watch(SAME), 1.0)
    watch, _ = judge(watch, OTHER, Rule(), 1)
    assert watch is not None
    assert (watch.suspicions, watch.alarm) == (1, "")
    watch, _ = judge(watch, SAME, Rule(), 1)
    assert watch == Watch(SAME)
    for _ in range(2):
        watch, _ = judge(watch, OTHER, Rule(), 1)
    assert watch is not None
    assert watch.suspicions == 2
    assert "in 2 runs in a row" in watch.alarm
    # It stays until somebody looked.
    later, _ = judge(watch, SAME, Rule(), 1)
    assert later is not None
    assert later.alarm == watch.alarm


@pytest.mark.parametrize("answers", [{}, {"p0": ["x"] * (MIN_ANSWERS - 1)}, {"unknown": ["x"] * 9}])
def test_a_run_that_cannot_be_compared_says_nothing(answers: Sample) -> None:
    suspected = Watch(SAME, suspicions=1)
    assert judge(suspected, answers, Rule(), 1) == (suspected, 1.0)


def test_a_run_with_too_few_answers_is_no_reference() -> None:
    assert judge(None, {"p0": ["x"] * (MIN_ANSWERS - 1)}, Rule(), 1) == (None, 1.0)
