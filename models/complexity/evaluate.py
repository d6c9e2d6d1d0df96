"""Measures the shipped complexity model: `python -m models.complexity.evaluate --data PATH` prints the tables.

Nothing is chosen here: the weights and thresholds are those of the manifest, the rows are test rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np

from meshkit.model_files import ModelError
from models.complexity import measure
from models.complexity.data import (
    GSM8K,
    MMLU,
    Matrix,
    Outcomes,
    Reader,
    assumed_rows,
    unlabelled_tests,
    without_each_group,
)
from models.complexity.fit import estimates, fit
from models.complexity.train import reader_of
from models.errors import TrainingError
from services.router.adapters.complexity import load_complexity
from services.router.core.complexity import Band, ComplexityModel, CostQuality
from services.router.core.complexity_features import FEATURE_NAMES

PROMISES = (0.90, 0.95, 0.97, 0.99)
_LENGTH = FEATURE_NAMES.index("log_characters")
# Enough for a ranking; the shipped model has more.
_HELD_OUT_HEADS = 4


def tables(model: ComplexityModel, reader: Reader) -> Iterator[str]:
    """Every table as Markdown lines."""
    outcomes, split = reader.outcomes(MMLU)
    yield from _measured("MMLU test rows", model, outcomes[split == "test"])
    if reader.exists(GSM8K):
        yield from _measured("GSM8K", model, reader.outcomes(GSM8K)[0])
    else:
        yield f"GSM8K: {GSM8K} is not in the data folder; not measured."
    yield from _held_out(model, outcomes[split == "train"], reader)
    yield from _unlabelled(model, reader)


def _measured(name: str, model: ComplexityModel, outcomes: Outcomes) -> Iterator[str]:
    weak, strong = outcomes.weak.mean(), outcomes.strong.mean()
    yield f"### {name}: {len(outcomes.rows)} rows, weak model {weak:.3f} right, strong {strong:.3f}\n"
    estimated = {
        "embedding and counts": estimates(model, outcomes.rows, embedded=True),
        "counts alone": estimates(model, outcomes.rows, embedded=False),
    }
    length = outcomes.rows.features[:, _LENGTH]
    needs = {label: -p for label, (p, _) in estimated.items()}
    needs["length: longer goes to the strong model"] = length
    yield from _routing_table(needs, outcomes)
    yield from _score_table(estimated, outcomes)
    p, uncertainty = estimated["embedding and counts"]
    yield from _promise_table(model, p, uncertainty, outcomes)
    yield from _reliability_table(p, outcomes)


def _routing_table(needs: dict[str, Matrix], outcomes: Outcomes) -> Iterator[str]:
    yield "| router | APGR | CPT(50 %) | CPT(80 %) | PGR at 25 / 50 / 75 % strong |"
    yield "|---|---|---|---|---|"
    for label, need in needs.items():
        found = measure.routing(need, outcomes.gain)
        curve = measure.recovered(need, outcomes.gain)
        points = " / ".join(f"{curve[round(share * len(need))]:.2f}" for share in (0.25, 0.5, 0.75))
        yield f"| {label} | {found.apgr.text()} | {found.cpt_50.text()} | {found.cpt_80.text()} | {points} |"
    yield "| random mixing (expected) | 0.500 | 0.500 | 0.800 | 0.25 / 0.50 / 0.75 |\n"
    best, length = needs["embedding and counts"], outcomes.rows.features[:, _LENGTH]
    gain = outcomes.gain
    ahead = measure.interval(
        len(gain),
        lambda rows: measure.apgr(best[rows], gain[rows]) - measure.apgr(length[rows], gain[rows]),
    )
    yield f"APGR of embedding and counts minus that of length, same resamplings: {ahead.text()}.\n"


def _score_table(estimated: dict[str, tuple[Matrix, Matrix]], outcomes: Outcomes) -> Iterator[str]:
    happened = outcomes.weak >= outcomes.strong
    yield "| probability | accuracy at 0.5 | AUC | Brier | calibration error |"
    yield "|---|---|---|---|---|"
    for label, (p, _) in estimated.items():
        found = measure.scores(p, outcomes)
        cells = (found.accuracy, found.auc, found.brier, found.calibration_error)
        yield f"| {label} | {' | '.join(cell.text() for cell in cells)} |"
    constant = np.full(len(happened), happened.mean())
    yield (
        f"| always the rows' own frequency | {happened.mean():.3f} | 0.500 | {measure.brier(constant, happened):.3f} "
        "| 0.000 |\n"
    )


def _promise_table(model: ComplexityModel, p: Matrix, uncertainty: Matrix, outcomes: Outcomes) -> Iterator[str]:
    """What the shipped thresholds keep, beside what the same share of strong calls keeps without the model."""
    yield "| promised | p at least | strong share | uncertain | kept | length, same share | random, same share |"
    yield "|---|---|---|---|---|---|---|"
    for promise in PROMISES:
        limits = model.calibration.thresholds(CostQuality(promise))
        to_weak = np.array([limits.band(*each) is Band.WEAK for each in zip(p, uncertainty, strict=True)])
        strong_rows = int((~to_weak).sum())
        shorter = np.ones(len(p), dtype=np.bool_)
        shorter[np.argsort(-outcomes.rows.features[:, _LENGTH], kind="stable")[:strong_rows]] = False
        share = strong_rows / len(p)
        mixed = outcomes.weak + share * outcomes.gain
        kept = (
            _kept(np.where(to_weak, outcomes.weak, outcomes.strong), outcomes),
            _kept(np.where(shorter, outcomes.weak, outcomes.strong), outcomes),
            _kept(mixed, outcomes),
        )
        unsure = float((uncertainty > limits.max_uncertainty).mean())
        cells = " | ".join(each.text() for each in kept)
        yield f"| {promise:.2f} | {limits.min_p_weak_suffices:.3f} | {share:.3f} | {unsure:.3f} | {cells} |"
    yield ""


def _kept(right: Matrix, outcomes: Outcomes) -> measure.Interval:
    """Quality of a mixture as a part of the strong model's; `right` [n] is the expected outcome of each row."""
    return measure.interval(len(right), lambda rows: float(right[rows].mean() / outcomes.strong[rows].mean()))


def _reliability_table(p: Matrix, outcomes: Outcomes) -> Iterator[str]:
    happened = outcomes.weak >= outcomes.strong
    yield "| tenth of the rows, by p | predicted | happened |"
    yield "|---|---|---|"
    for number, rows in enumerate(np.array_split(np.argsort(p, kind="stable"), 10), start=1):
        yield f"| {number} | {p[rows].mean():.3f} | {happened[rows].mean():.3f} |"
    yield ""


def _held_out(model: ComplexityModel, training: Outcomes, reader: Reader) -> Iterator[str]:
    """Subjects that the model has not seen: five times a fifth of MMLU's subjects, training rows only."""
    assumed = assumed_rows(reader)
    p = np.zeros(len(training.rows))
    uncertain = np.zeros(len(training.rows), dtype=np.bool_)
    for fitted, dev, inside in without_each_group(training):
        without = fit(training[fitted], training[dev], assumed, model.encoder, heads=_HELD_OUT_HEADS)
        p[inside], unsure = estimates(without, training[inside].rows, embedded=True)
        uncertain[inside] = unsure > without.calibration.max_uncertainty
    yield f"### Subjects left out: {len(p)} training rows, five groups of subjects, each scored by a model without it\n"
    length = training.rows.features[:, _LENGTH]
    yield from _routing_table({"embedding and counts": -p, "length: longer goes to the strong model": length}, training)
    yield from _score_table({"embedding and counts": (p, p)}, training)
    yield f"Uncertain: {uncertain.mean():.3f} of the rows.\n"


def _unlabelled(model: ComplexityModel, reader: Reader) -> Iterator[str]:
    yield "### Test sets without outcomes, at a promised quality of 0.95\n"
    yield "| set | rows | mean p | uncertain | to the strong model |"
    yield "|---|---|---|---|---|"
    limits = model.calibration.thresholds(CostQuality())
    for name, rows in unlabelled_tests(reader).items():
        p, uncertainty = estimates(model, rows, embedded=True)
        strong = np.mean([limits.band(*each) is Band.STRONG for each in zip(p, uncertainty, strict=True)])
        unsure = float((uncertainty > limits.max_uncertainty).mean())
        yield f"| {name} | {len(rows)} | {p.mean():.3f} | {unsure:.3f} | {strong:.3f} |"


def main(report: Callable[[str], None] = print) -> None:
    """Entry point."""
    try:
        reader = reader_of("models.complexity.evaluate", "Measures the shipped complexity model.")
        for line in tables(load_complexity(), reader):
            report(line)
    except (TrainingError, ModelError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
