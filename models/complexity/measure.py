"""Measures of a router between two models, as RouteLLM defines them (arXiv 2406.18665), with bootstrap intervals.

PGR is the part of the quality gap that routing recovers; APGR its mean over all shares of strong calls (here the whole
integral, not ten points); CPT(x) the least share of strong calls that recovers x of the gap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.complexity.data import Matrix, Outcomes

RESAMPLINGS = 1_000
_BINS = 10
_EVEN = 0.5
_SEED = 7
Chosen = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure on the rows themselves, and between which values 95 % of the resampled ones lie."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """As `0.688 (0.655-0.719)`."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"

    def numbers(self) -> list[float]:
        """Value, low, high, rounded for the manifest."""
        return [round(number, 4) for number in (self.value, self.low, self.high)]


def interval(count: int, measure: Callable[[Chosen], float]) -> Interval:
    """`measure` of all rows and of resampled ones; seeded, so that two runs agree."""
    random = np.random.default_rng(_SEED)
    sampled = [measure(random.integers(0, count, count)) for _ in range(RESAMPLINGS)]
    low, high = np.quantile(sampled, [0.025, 0.975])
    return Interval(measure(np.arange(count)), float(low), float(high))


def recovered(need: Matrix, gain: Matrix) -> Matrix:
    """PGR when the 0, 1, .. n neediest rows go to the strong model, [n + 1]. Equal needs keep the rows' order."""
    order = np.argsort(-need, kind="stable")
    return np.asarray(np.concatenate([[0.0], np.cumsum(gain[order])]) / gain.sum(), dtype=np.float64)


def apgr(need: Matrix, gain: Matrix) -> float:
    """Mean PGR over all shares of strong calls; random mixing has one half."""
    return float(np.trapezoid(recovered(need, gain), dx=1.0 / len(need)))


def cpt(need: Matrix, gain: Matrix, part: float) -> float:
    """The least share of strong calls that recovers `part` of the gap; random mixing needs `part`."""
    return float(np.argmax(recovered(need, gain) >= part)) / len(need)


def auc(p: Matrix, happened: npt.NDArray[np.bool_]) -> float:
    """Chance that a row where it happened has a greater `p` than one where it did not; ties count half."""
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    positives = int(happened.sum())
    below = ranks[happened].sum() - positives * (positives + 1) / 2.0
    return float(below / (positives * (len(p) - positives)))


def calibration_error(p: Matrix, happened: npt.NDArray[np.bool_]) -> float:
    """Mean distance between prediction and frequency over ten bins of equal size."""
    bins = np.array_split(np.argsort(p, kind="stable"), _BINS)
    return float(sum(len(rows) * abs(p[rows].mean() - happened[rows].mean()) for rows in bins) / len(p))


def brier(p: Matrix, happened: npt.NDArray[np.bool_]) -> float:
    """Mean squared error of the probability."""
    return float(np.mean((p - happened) ** 2))


@dataclass(frozen=True, slots=True)
class Routing:
    """How well a ranking routes."""

    apgr: Interval
    cpt_50: Interval
    cpt_80: Interval


def routing(need: Matrix, gain: Matrix) -> Routing:
    """The measures of a ranking; a greater need goes to the strong model first."""
    count = len(need)
    return Routing(
        interval(count, lambda rows: apgr(need[rows], gain[rows])),
        interval(count, lambda rows: cpt(need[rows], gain[rows], 0.5)),
        interval(count, lambda rows: cpt(need[rows], gain[rows], 0.8)),
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """How good the probability that the weak model suffices is, on rows where it is known."""

    accuracy: Interval
    auc: Interval
    brier: Interval
    base_brier: float
    calibration_error: Interval


def scores(p: Matrix, outcomes: Outcomes) -> Scores:
    """The measures of a probability; `base_brier` is that of always naming the rows' own frequency."""
    happened = outcomes.weak >= outcomes.strong
    count = len(p)
    return Scores(
        interval(count, lambda rows: float(np.mean((p[rows] >= _EVEN) == happened[rows]))),
        interval(count, lambda rows: auc(p[rows], happened[rows])),
        interval(count, lambda rows: brier(p[rows], happened[rows])),
        float(happened.mean() * (1.0 - happened.mean())),
        interval(count, lambda rows: calibration_error(p[rows], happened[rows])),
    )
