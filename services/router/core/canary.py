"""Whether a model still answers as it did: a two-sample test on its answers to pinned prompts.

The statistic is the maximum mean discrepancy with a Hamming kernel over words, summed over prompts; its p-value comes
from permutations within each prompt (I. Gao, P. Liang, C. Guestrin, "Model Equality Testing: Which Model Is This API
Serving?", 2024). It needs no probabilities of tokens and no knowledge of the model, and a model that always says the
same is no special case. Words are only compared for equality: hashes of them do as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# Answers to a prompt, by the prompt's id.
Sample = Mapping[str, Sequence[str]]

WORDS = 48
PERMUTATIONS = 1999
MIN_ANSWERS = 4


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm needs `p_value` or less, `consecutive` times one after the other."""

    p_value: float = 0.005
    consecutive: int = 2


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of one model: `suspicions` counts runs in a row that differ; `alarm` is empty without one."""

    reference: Sample
    suspicions: int = 0
    alarm: str = ""


def p_value(reference: Sample, answers: Sample, seed: int) -> float:
    """How likely so great a difference is when one model gave both. In (0, 1]; 1 when nothing is comparable.

    Prompts with fewer than `MIN_ANSWERS` answers on either side are left out. The same `seed` gives the same value.
    """
    kernels = [
        (_kernel([*reference[prompt], *answers[prompt]]), len(reference[prompt]))
        for prompt in comparable(reference, answers)
    ]
    if not kernels:
        return 1.0
    random = np.random.default_rng(seed)
    statistics = np.zeros(1 + PERMUTATIONS)
    for kernel, size in kernels:
        statistics += _discrepancies(kernel, _divisions(len(kernel), size, random))
    # A tie counts as great; the tolerance is for sums in another order.
    as_great = int((statistics[1:] >= statistics[0] - 1e-9).sum())
    return (1 + as_great) / (1 + PERMUTATIONS)


def comparable(reference: Sample, answers: Sample) -> list[str]:
    """The prompts with enough answers on both sides, in order."""
    both = sorted(reference.keys() & answers.keys())
    return [prompt for prompt in both if min(len(reference[prompt]), len(answers[prompt])) >= MIN_ANSWERS]


def judge(watch: Watch | None, answers: Sample, rule: Rule, seed: int) -> tuple[Watch | None, float]:
    """The state after a run, and its p-value. The first run of a model with enough answers becomes its reference.

    A run that cannot be compared says nothing: neither that the model changed nor that it did not.
    """
    if not comparable(answers if watch is None else watch.reference, answers):
        return watch, 1.0
    if watch is None:
        return Watch(answers), 1.0
    found = p_value(watch.reference, answers, seed)
    if found > rule.p_value:
        return replace(watch, suspicions=0), found
    suspicions = watch.suspicions + 1
    alarm = watch.alarm
    if suspicions >= rule.consecutive and not alarm:
        alarm = (
            f"its answers to the pinned prompts changed: p = {found:.4f} or less in {suspicions} runs in a row; "
            "another model may stand behind the name"
        )
    return replace(watch, suspicions=suspicions, alarm=alarm), found


def _kernel(answers: Sequence[str]) -> NDArray[np.float64]:
    """[n, n]: the share of the first words in which two answers agree, place by place.

    Where both have ended they agree as well, so the length counts.
    """
    numbers: dict[str, int] = {}
    table = np.full((len(answers), WORDS), -1, dtype=np.int64)
    for row, answer in enumerate(answers):
        for column, word in enumerate(answer.split()[:WORDS]):
            table[row, column] = numbers.setdefault(word, len(numbers))
    same = (table[:, None, :] == table[None, :, :]).mean(axis=2)
    return np.asarray(same, dtype=np.float64)


def _divisions(total: int, size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """[1 + PERMUTATIONS, total]: 1 for the first sample. The first row is how it was, the others are random."""
    as_it_was = np.arange(total) < size
    divisions = np.tile(as_it_was, (1 + PERMUTATIONS, 1))
    divisions[1:] = random.permuted(divisions[1:], axis=1)
    return divisions.astype(np.float64)


def _discrepancies(kernel: NDArray[np.float64], divisions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared MMD of each division, unbiased: within one sample and within the other, less twice between them."""
    pairs = kernel - np.diag(np.diag(kernel))
    first, second = divisions, 1 - divisions
    n, m = first[0].sum(), second[0].sum()
    ones = ((first @ pairs) * first).sum(axis=1) / (n * (n - 1))
    others = ((second @ pairs) * second).sum(axis=1) / (m * (m - 1))
    between = ((first @ pairs) * second).sum(axis=1) / (n * m)
    return np.asarray(ones + others - 2 * between, dtype=np.float64)
