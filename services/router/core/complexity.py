"""Does a request need the strong model? A calibrated guess from its embedding and a few counts.

The score is the probability that a weak model does as well as a strong one. It was measured on one pair of models and
on examination questions; `models/complexity/README.md` says what that means for other traffic. A request unlike
everything in the training data is uncertain, and an uncertain request goes to the dearer band.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from services.router.core.complexity_features import FEATURE_NAMES, Features

Vector = npt.NDArray[np.float32]
# A probability of one half, give or take one half: nothing is known.
MAX_UNCERTAINTY = 0.5
DEFAULT_QUALITY = 0.95
# Standardised counts are cut here: a text of a megabyte is an outlier, not a direction.
_MAX_DEVIATIONS = 4.0
# How far beyond the usual distance to the nearest known text everything counts as unknown, as a part of that distance.
_NOVELTY_SPAN = 0.25
_MIN_NORM = 1e-6
_WORDS = FEATURE_NAMES.index("log_words")
# 0.95 written in a configuration and 0.95 of the curve are one quality.
_ROUNDING = 1e-9
# A threshold that no probability reaches.
NEVER = 2.0
# What the outcomes were measured in.
_MEASURED_LANGUAGES = frozenset({"", "und", "en"})


class Band(Enum):
    """Which part of a route's models may answer."""

    WEAK = "weak"
    STRONG = "strong"


@dataclass(frozen=True, slots=True)
class CostQuality:
    """What a route promises: `quality` as a part of the strong model's, in (0, 1].

    The thresholds are read off the shipped curve. Each of the other two, where it is set, replaces the curve's own:
    the least probability and the greatest uncertainty at which the weak band answers.
    """

    quality: float = DEFAULT_QUALITY
    min_p_weak_suffices: float | None = None
    max_uncertainty: float | None = None

    def problem(self) -> str:
        """What is wrong with this point, as a sentence's end; empty when nothing is."""
        if not 0 < self.quality <= 1:
            return "needs quality above 0 and at most 1, as a part of the strong model's quality"
        if self.min_p_weak_suffices is not None and not 0 <= self.min_p_weak_suffices <= 1:
            return "needs min_p_weak_suffices from 0 to 1, or leave it out and name a quality"
        if self.max_uncertainty is not None and not 0 <= self.max_uncertainty <= MAX_UNCERTAINTY:
            return f"needs max_uncertainty from 0 to {MAX_UNCERTAINTY}, or leave it out"
        return ""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The weak band answers at this probability or more, unless the uncertainty is greater than this."""

    min_p_weak_suffices: float
    max_uncertainty: float

    def band(self, p_weak_suffices: float, uncertainty: float) -> Band:
        """Anything that is not clearly for the weak band, also what is not a number, goes to the strong one."""
        clear = uncertainty <= self.max_uncertainty and p_weak_suffices >= self.min_p_weak_suffices
        return Band.WEAK if clear else Band.STRONG


@dataclass(frozen=True, slots=True)
class Complexity:
    """`p_weak_suffices` in [0, 1]; `uncertainty` in [0, 0.5], about one standard error of it."""

    p_weak_suffices: float
    uncertainty: float
    band: Band


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """From a predicted gain to a probability, and the points that were measured with it.

    `p = 1 / (1 + exp(-(slope * gain + intercept)))`, where gain is what the strong model is expected to add; slope is
    below zero. `qualities` ascends; `min_p[i]` is the threshold that kept `qualities[i]` on development rows with 90 %
    confidence, `NEVER` where only the strong model does. `max_uncertainty` is what 95 % of those rows stay below.
    """

    slope: float
    intercept: float
    max_uncertainty: float
    qualities: tuple[float, ...]
    min_p: tuple[float, ...]

    def probabilities(self, gains: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Of each gain; any shape."""
        logits = np.minimum(40.0, np.maximum(-40.0, gains * np.float64(self.slope) + self.intercept))
        found: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
        return found

    def thresholds(self, point: CostQuality) -> Thresholds:
        """The promised point's, rounded up to the next measured quality; beyond the last only the strong band."""
        index = bisect_left(self.qualities, point.quality - _ROUNDING)
        read = self.min_p[index] if index < len(self.min_p) else NEVER
        least, most = point.min_p_weak_suffices, point.max_uncertainty
        return Thresholds(read if least is None else least, self.max_uncertainty if most is None else most)


@dataclass(frozen=True, slots=True, eq=False)
class ComplexityModel:
    """Kernel regression on the gain: `landmarks` are known texts, each head one resampling of the training rows.

    Shapes, with d embedding dimensions, k kept directions, f features, m landmarks, h heads: `centre` [d],
    `directions` [d, k], `feature_mean` and `feature_scale` [f], `landmarks` [m, k + f], `heads` [m, h],
    `cheap_heads` [f + 1, h]. `encoder` names the model whose embeddings it reads, as `Embedding.model` does.
    """

    encoder: str
    centre: Vector
    directions: Vector
    feature_mean: Vector
    feature_scale: Vector
    landmarks: Vector
    heads: Vector
    cheap_heads: Vector
    width: float
    feature_weight: float
    mean_gain: float
    usual_distance: float
    calibration: Calibration
    cheap_calibration: Calibration

    def score(
        self,
        embedding: Vector | None,
        features: Features,
        point: CostQuality,
        *,
        encoder: str = "",
        language: str = "",
    ) -> Complexity:
        """One request. `embedding` float32 [d] of the last user message by `encoder`, `features` of the same text.

        Without a usable embedding (absent, of another encoder or size, zero, not finite) the counts alone decide, with
        their own thresholds. Features that are not finite, a text without a word and languages other than English are
        uncertain. `encoder` is
        `Embedding.model`, `language` an ISO 639-1 code, empty or "und". Raises nothing.
        """
        usable = self._usable(embedding) if encoder == self.encoder else None
        calibration = self.cheap_calibration if usable is None else self.calibration
        p, uncertainty = self.estimate(usable, features)
        if language.lower().split("-", 1)[0] not in _MEASURED_LANGUAGES:
            uncertainty = MAX_UNCERTAINTY
        return Complexity(p, uncertainty, calibration.thresholds(point).band(p, uncertainty))

    def estimate(self, embedding: Vector | None, features: Features) -> tuple[float, float]:
        """Probability and uncertainty without a decision; `embedding` of L2 norm 1, or None."""
        counts = self._standardised(features)
        if counts is None:
            return 1.0 - MAX_UNCERTAINTY, MAX_UNCERTAINTY
        if embedding is None:
            gains, novelty = counts @ self.cheap_heads[:-1] + self.cheap_heads[-1], 0.0
            calibration = self.cheap_calibration
        else:
            gains, novelty = self._kernel(embedding, counts)
            calibration = self.calibration
        p = calibration.probabilities(gains)
        mean = float(p.sum()) / len(p)
        spread = math.sqrt(max(0.0, float(p @ p) / len(p) - mean * mean))
        return mean, min(MAX_UNCERTAINTY, math.hypot(spread, MAX_UNCERTAINTY * novelty))

    def _kernel(self, embedding: Vector, counts: Vector) -> tuple[Vector, float]:
        """Gain by each head, and how unlike every landmark the text is, 0 to 1."""
        place = np.concatenate(((embedding - self.centre) @ self.directions, counts * self.feature_weight))
        offsets = self.landmarks - place
        squares = np.einsum("ij,ij->i", offsets, offsets)
        gains: Vector = np.exp(squares * -self.width) @ self.heads + np.float32(self.mean_gain)
        beyond = math.sqrt(float(squares.min())) / self.usual_distance - 1.0
        return gains, min(1.0, max(0.0, beyond / _NOVELTY_SPAN))

    def _standardised(self, features: Features) -> Vector | None:
        """Deviations from the training rows, cut; None where features are not finite or nothing was written."""
        # In double precision: the largest float32 must not overflow on its way to being cut.
        exact = features.astype(np.float64)
        if exact.shape != (len(FEATURE_NAMES),) or not math.isfinite(float(exact @ exact)) or exact[_WORDS] == 0:
            return None
        deviations = (exact - self.feature_mean) / self.feature_scale
        return np.minimum(_MAX_DEVIATIONS, np.maximum(-_MAX_DEVIATIONS, deviations)).astype(np.float32)

    def _usable(self, embedding: Vector | None) -> Vector | None:
        """The embedding with L2 norm 1; None where there is no direction to be read."""
        if embedding is None or embedding.shape != self.centre.shape:
            return None
        exact = embedding.astype(np.float64)
        norm = math.sqrt(float(exact @ exact))
        return (exact / norm).astype(np.float32) if _MIN_NORM < norm < math.inf else None


_ARRAYS = ("centre", "directions", "feature_mean", "feature_scale", "landmarks", "heads", "cheap_heads")
_NUMBERS = ("width", "feature_weight", "mean_gain", "usual_distance")
_CURVE = ("slope", "intercept", "max_uncertainty")


def to_arrays(model: ComplexityModel) -> dict[str, npt.NDArray[np.generic]]:
    """The model as named arrays; `from_arrays` reads them."""
    arrays: dict[str, npt.NDArray[np.generic]] = {name: getattr(model, name) for name in _ARRAYS}
    arrays["encoder"] = np.array([model.encoder])
    arrays |= {name: np.float64(getattr(model, name)).reshape(1) for name in _NUMBERS}
    for prefix, calibration in (("", model.calibration), ("cheap_", model.cheap_calibration)):
        numbers = [getattr(calibration, name) for name in _CURVE]
        arrays[f"{prefix}calibration"] = np.array(numbers, dtype=np.float64)
        arrays[f"{prefix}curve"] = np.array([calibration.qualities, calibration.min_p], dtype=np.float64)
    return arrays


def from_arrays(arrays: Mapping[str, npt.NDArray[np.generic]]) -> ComplexityModel:
    """The model of `to_arrays`. Raises KeyError for a missing array and ValueError for shapes that do not fit."""

    def calibration(prefix: str) -> Calibration:
        slope, intercept, most = (float(number) for number in arrays[f"{prefix}calibration"].astype(np.float64))
        qualities, min_p = arrays[f"{prefix}curve"].astype(np.float64)
        return Calibration(slope, intercept, most, tuple(qualities.tolist()), tuple(min_p.tolist()))

    matrices = {name: arrays[name].astype(np.float32) for name in _ARRAYS}
    numbers = {name: float(arrays[name].astype(np.float64)[0]) for name in _NUMBERS}
    model = ComplexityModel(
        encoder=str(arrays["encoder"][0]),
        centre=matrices["centre"],
        directions=matrices["directions"],
        feature_mean=matrices["feature_mean"],
        feature_scale=matrices["feature_scale"],
        landmarks=matrices["landmarks"],
        heads=matrices["heads"],
        cheap_heads=matrices["cheap_heads"],
        width=numbers["width"],
        feature_weight=numbers["feature_weight"],
        mean_gain=numbers["mean_gain"],
        usual_distance=numbers["usual_distance"],
        calibration=calibration(""),
        cheap_calibration=calibration("cheap_"),
    )
    kept, counted = model.directions.shape[1], len(FEATURE_NAMES)
    fits = (
        model.directions.shape[0] == len(model.centre)
        and model.feature_mean.shape == model.feature_scale.shape == (counted,)
        and model.landmarks.shape[1] == kept + counted
        and model.heads.shape[0] == len(model.landmarks)
        and model.cheap_heads.shape[0] == counted + 1
    )
    if not fits:
        raise ValueError("the complexity model's arrays do not fit each other or this version's features")
    return model
