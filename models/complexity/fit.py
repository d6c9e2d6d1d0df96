"""Fits the complexity model: kernel ridge regression on the gain, resampled heads, calibration, the curve.

Predicting whether the weak model is right routes worse than the length of the prompt, because what both models get
wrong looks hard and gains nothing: the target is the difference of their outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.complexity.data import ASSUMED_WEIGHT, Assumed, Matrix, Outcomes, Rows
from services.router.core.complexity import NEVER, Calibration, ComplexityModel

# Chosen by five-fold cross-validation on the training split (docs/reports/complexity.md).
KEPT_DIRECTIONS = 32
FEATURE_WEIGHT = 0.1
WIDTH = 4.0
KERNEL_PENALTY = 10.0
CHEAP_PENALTY = 30.0
MEASURED_LANDMARKS = 416
ASSUMED_LANDMARKS = 96
HEADS = 16
SEED = 20261129
# Nothing short of the strong model itself keeps all of its quality.
QUALITIES = np.round(np.arange(0.85, 0.995, 0.01), 2)
# One-sided: a promise that only half of all samples keep is none.
_NORMAL_90_PERCENT = 1.2816
_UNCERTAIN_PART = 0.05
_JITTER = 1e-6
_NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    rows: list[Rows]
    gain: Matrix
    weight: Matrix


def fit(
    measured: Outcomes, dev: Outcomes, assumed: Assumed | None, encoder: str, *, heads: int = HEADS
) -> ComplexityModel:
    """Fits on `measured` and, at a smaller weight, `assumed`; calibrates and reads the curve on `dev` alone."""
    random = np.random.default_rng(SEED)
    sets = [measured.rows] + ([assumed.rows] if assumed else [])
    gain = np.concatenate([measured.gain] + ([assumed.gain] if assumed else []))
    weight = np.concatenate(
        [np.ones(len(measured.rows))] + ([np.full(len(assumed.rows), ASSUMED_WEIGHT)] if assumed else [])
    )
    model = _uncalibrated(_Training(sets, gain, weight), encoder, random, heads)
    return _calibrated(model, dev)


def _uncalibrated(training: _Training, encoder: str, random: np.random.Generator, heads: int) -> ComplexityModel:
    measured = training.rows[0]
    embeddings = np.concatenate([rows.embeddings for rows in training.rows])
    features = np.concatenate([rows.features for rows in training.rows])
    centre = measured.embeddings.mean(axis=0)
    directions = _principal(embeddings - centre)
    mean, scale = measured.features.mean(axis=0), measured.features.std(axis=0) + _JITTER
    counts = np.clip((features - mean) / scale, -4.0, 4.0)
    places = np.hstack([(embeddings - centre) @ directions, counts * FEATURE_WEIGHT])
    known, typical = len(measured), 2.0 * places[: len(measured)].var(axis=0).sum()
    chosen = np.concatenate(
        [
            random.permutation(known)[:MEASURED_LANDMARKS],
            known + random.permutation(len(places) - known)[:ASSUMED_LANDMARKS],
        ]
    )
    landmarks, width = places[chosen], WIDTH / typical
    kernel = np.exp(-width * _squares(places, landmarks))
    mean_gain = float(training.gain[:known].mean())
    inner = KERNEL_PENALTY * np.exp(-width * _squares(landmarks, landmarks)) + _JITTER * np.eye(len(landmarks))
    outer = CHEAP_PENALTY * np.diag([1.0] * counts.shape[1] + [0.0])
    ones = np.hstack([counts, np.ones((len(counts), 1))])
    weights = [training.weight * random.poisson(1.0, len(places)) for _ in range(heads)]
    return ComplexityModel(
        encoder=encoder,
        centre=_single(centre),
        directions=_single(directions),
        feature_mean=_single(mean),
        feature_scale=_single(scale),
        landmarks=_single(landmarks),
        heads=_single(np.stack([_ridge(kernel, training.gain - mean_gain, each, inner) for each in weights], axis=1)),
        cheap_heads=_single(np.stack([_ridge(ones, training.gain, each, outer) for each in weights], axis=1)),
        width=width,
        feature_weight=FEATURE_WEIGHT,
        mean_gain=mean_gain,
        usual_distance=1.0,
        calibration=_NOTHING,
        cheap_calibration=_NOTHING,
    )


def _principal(centred: Matrix) -> Matrix:
    """The directions of greatest variance, [d, k]."""
    found = np.linalg.eigh(centred.T @ centred).eigenvectors[:, ::-1][:, :KEPT_DIRECTIONS]
    # The sign of an eigenvector is the library's whim.
    return np.asarray(found * np.sign(found[np.abs(found).argmax(axis=0), np.arange(KEPT_DIRECTIONS)]))


_NOTHING = Calibration(-1.0, 0.0, 0.5, (1.0,), (NEVER,))


def _calibrated(model: ComplexityModel, dev: Outcomes) -> ComplexityModel:
    nearest = np.sqrt(_squares(places(model, dev.rows), model.landmarks.astype(np.float64)).min(axis=1))
    model = replace(model, usual_distance=float(np.quantile(nearest, 1.0 - _UNCERTAIN_PART)))
    suffices = (dev.weak >= dev.strong).astype(np.float64)
    kernel = _platt(gains(model, dev.rows, embedded=True), suffices)
    cheap = _platt(gains(model, dev.rows, embedded=False), suffices)
    model = replace(model, calibration=kernel, cheap_calibration=cheap)
    return replace(
        model,
        calibration=_with_curve(kernel, *estimates(model, dev.rows, embedded=True), dev),
        cheap_calibration=_with_curve(cheap, *estimates(model, dev.rows, embedded=False), dev),
    )


def _with_curve(calibration: Calibration, p: Matrix, uncertainty: Matrix, dev: Outcomes) -> Calibration:
    """The lowest threshold whose quality holds with 90 % confidence, for each quality; NEVER where none does."""
    most = float(np.quantile(uncertainty, 1.0 - _UNCERTAIN_PART))
    candidates = np.unique(np.quantile(p, np.linspace(0.0, 1.0, 401)))
    bounds = []
    for threshold in candidates:
        lost = dev.gain * ((p >= threshold) & (uncertainty <= most))
        bound = lost.mean() + _NORMAL_90_PERCENT * lost.std() / np.sqrt(len(lost))
        bounds.append(1.0 - bound / dev.strong.mean())
    # A threshold counts when every higher one keeps the promise, too.
    safe = np.minimum.accumulate(np.array(bounds)[::-1])[::-1]
    min_p = [float(candidates[safe >= quality][0]) if (safe >= quality).any() else NEVER for quality in QUALITIES]
    return Calibration(calibration.slope, calibration.intercept, most, tuple(QUALITIES.tolist()), tuple(min_p))


def places(model: ComplexityModel, rows: Rows) -> Matrix:
    """Where rows lie among the landmarks, [n, k + f]."""
    counts = np.clip((rows.features - model.feature_mean) / model.feature_scale, -4.0, 4.0)
    return np.hstack([(rows.embeddings - model.centre) @ model.directions, counts * model.feature_weight])


def gains(model: ComplexityModel, rows: Rows, *, embedded: bool) -> Matrix:
    """Predicted gains by each head, [n, h]: the run time's arithmetic, many rows at a time."""
    if embedded:
        kernel = np.exp(-model.width * _squares(places(model, rows), model.landmarks.astype(np.float64)))
        return np.asarray(kernel @ model.heads + model.mean_gain, dtype=np.float64)
    counts = np.clip((rows.features - model.feature_mean) / model.feature_scale, -4.0, 4.0)
    return np.asarray(counts @ model.cheap_heads[:-1] + model.cheap_heads[-1], dtype=np.float64)


def estimates(model: ComplexityModel, rows: Rows, *, embedded: bool) -> tuple[Matrix, Matrix]:
    """Probabilities and uncertainties of `ComplexityModel.estimate`, row by row."""
    found = [
        model.estimate(embedding if embedded else None, features)
        for embedding, features in zip(
            rows.embeddings.astype(np.float32), rows.features.astype(np.float32), strict=True
        )
    ]
    table = np.array(found, dtype=np.float64)
    return table[:, 0], table[:, 1]


def _platt(predicted: Matrix, happened: Matrix) -> Calibration:
    """Logistic regression of the event on the mean prediction, by Newton's method."""
    inputs = np.stack([predicted.mean(axis=1), np.ones(len(predicted))], axis=1)
    coefficients = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-inputs @ coefficients))
        curvature = inputs.T @ (inputs * (p * (1.0 - p))[:, None]) + _JITTER * np.eye(2)
        coefficients = coefficients + np.linalg.solve(curvature, inputs.T @ (happened - p))
    return replace(_NOTHING, slope=float(coefficients[0]), intercept=float(coefficients[1]))


def _ridge(inputs: Matrix, target: Matrix, weight: Matrix, penalty: Matrix) -> Matrix:
    weighted = inputs * weight[:, None]
    return np.asarray(np.linalg.solve(weighted.T @ inputs + penalty, weighted.T @ target), dtype=np.float64)


def _squares(left: Matrix, right: Matrix) -> Matrix:
    """Squared distances, [len(left), len(right)]."""
    found: Matrix = np.maximum(
        0.0, (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2.0 * left @ right.T
    )
    return found


def _single(values: Matrix) -> npt.NDArray[np.float32]:
    return values.astype(np.float32)
