"""The measures on rows worked out by hand, and the fit on rows whose answer is known."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from meshkit.model_files import read_entry, read_file, released_manifest
from models.complexity import measure
from models.complexity.data import GSM8K, MMLU, Assumed, Outcomes, Reader, Rows, parts, without_each_group
from models.complexity.evaluate import tables
from models.complexity.fit import HEADS, QUALITIES, estimates, fit, gains
from models.complexity.train import weights_of
from models.errors import TrainingError
from services.router.adapters.complexity import MANIFEST_ENTRY, WEIGHTS, load_complexity
from services.router.core.complexity import NEVER, CostQuality
from services.router.core.complexity_features import FEATURE_NAMES

ROOT = Path(__file__).resolve().parents[3]
GAIN = np.array([1.0, 0.0, 1.0, 0.0])
KNOWING, WRONG = np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.1, 0.9, 0.2, 0.8])


def test_a_perfect_ranking_recovers_the_gap_first() -> None:
    assert measure.recovered(KNOWING, GAIN).tolist() == [0, 0.5, 1, 1, 1]
    assert measure.recovered(WRONG, GAIN).tolist() == [0, 0, 0, 0.5, 1]
    assert measure.apgr(KNOWING, GAIN) == 0.75
    assert measure.apgr(WRONG, GAIN) == 0.25
    assert [measure.cpt(KNOWING, GAIN, part) for part in (0.5, 0.8)] == [0.25, 0.5]
    assert measure.cpt(WRONG, GAIN, 0.5) == 0.75


def test_probabilities_are_measured() -> None:
    happened = np.array([True, False, True, False])
    assert measure.auc(KNOWING, happened) == 1
    assert measure.auc(np.full(4, 0.5), happened) == 0.5
    assert measure.brier(np.array([1.0, 0.0, 1.0, 0.0]), happened) == 0
    assert measure.brier(np.full(4, 0.5), happened) == 0.25
    half = np.arange(100) % 2 == 0
    assert measure.calibration_error(np.full(100, 0.5), half) == pytest.approx(0)
    assert measure.calibration_error(np.full(100, 0.8), half) == pytest.approx(0.3)


def test_an_interval_holds_its_value_and_is_the_same_twice() -> None:
    values = np.arange(200.0)
    first, second = (measure.interval(200, lambda rows: float(values[rows].mean())) for _ in range(2))
    assert first == second
    assert first.low < first.value == 99.5 < first.high
    assert first.high - first.low == pytest.approx(2 * 1.96 * 57.7 / np.sqrt(200), rel=0.1)


def made_up(count: int, seed: int) -> Outcomes:
    """Rows where the strong model helps with half of one topic and with nothing of the other."""
    random = np.random.default_rng(seed)
    topic = random.integers(0, 2, count)
    embeddings = random.normal(0, 0.05, (count, 40))
    embeddings[np.arange(count), topic] += 1.0
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    features = random.normal(0, 1, (count, len(FEATURE_NAMES)))
    helped = (topic == 1) & (random.random(count) < 0.5)
    rows = Rows(tuple(f"row {number} {seed}" for number in range(count)), embeddings, features)
    return Outcomes(rows, 1.0 - helped, np.ones(count), np.array([f"subject {each}" for each in topic]))


@pytest.fixture(scope="module")
def training() -> Outcomes:
    return made_up(1_500, 1)


def test_the_fit_finds_who_needs_the_strong_model_and_how_likely(training: Outcomes) -> None:
    dev, test = made_up(800, 2), made_up(800, 3)
    model = fit(training, dev, None, "made-up", heads=4)
    p, _ = estimates(model, test.rows, embedded=True)
    needy = test.domains == "subject 1"
    assert p[needy].mean() == pytest.approx(0.5, abs=0.08)
    assert p[~needy].mean() == pytest.approx(1.0, abs=0.08)
    assert measure.apgr(-p, test.gain) > 0.7
    assert model.calibration.thresholds(CostQuality(0.99)).min_p_weak_suffices < NEVER
    blind, _ = estimates(model, test.rows, embedded=False)
    assert measure.apgr(-blind, test.gain) == pytest.approx(0.5, abs=0.1)


def test_every_threshold_keeps_its_promise_on_the_rows_that_it_was_read_from(training: Outcomes) -> None:
    dev = made_up(800, 2)
    model = fit(training, dev, None, "made-up", heads=4)
    p, uncertainty = estimates(model, dev.rows, embedded=True)
    for quality in QUALITIES:
        limits = model.calibration.thresholds(CostQuality(float(quality)))
        to_weak = (p >= limits.min_p_weak_suffices) & (uncertainty <= limits.max_uncertainty)
        assert np.where(to_weak, dev.weak, dev.strong).mean() >= quality
        assert to_weak.any()


def test_the_fast_arithmetic_of_the_run_time_is_that_of_the_training(training: Outcomes) -> None:
    model = fit(training, training, None, "made-up", heads=4)
    p, _ = estimates(model, training.rows, embedded=True)
    table = model.calibration.probabilities(gains(model, training.rows, embedded=True)).mean(axis=1)
    assert np.abs(p - table).max() < 1e-4


def test_rows_with_an_assumed_gain_count_beside_the_measured_ones(training: Outcomes) -> None:
    elsewhere = made_up(300, 4).rows
    moved = Rows(elsewhere.texts, np.roll(elsewhere.embeddings, 20, axis=1), elsewhere.features)
    with_them = fit(training, training, Assumed(moved, np.ones(300)), "made-up", heads=4)
    without = fit(training, training, None, "made-up", heads=4)
    p, unsure = estimates(with_them, moved, embedded=True)
    before, unsure_before = estimates(without, moved, embedded=True)
    assert p.mean() < before.mean() - 0.2
    assert unsure.mean() < unsure_before.mean()


def test_two_trainings_write_the_same_bytes(training: Outcomes) -> None:
    first, second = (weights_of(fit(training, training, None, "made-up", heads=2)) for _ in range(2))
    assert first == second


def test_equal_texts_stay_on_one_side(training: Outcomes) -> None:
    twice = Outcomes(
        Rows(
            training.rows.texts * 2,
            *(np.tile(each, (2, 1)) for each in (training.rows.embeddings, training.rows.features)),
        ),
        *(np.tile(each, 2) for each in (training.weak, training.strong)),
        np.tile(training.domains, 2),
    )
    first, second = np.split(parts(twice), 2)
    assert (first == second).all()
    assert np.bincount(first, minlength=5).min() > 200


def test_a_subject_is_scored_once_and_never_by_a_model_that_knows_it(training: Outcomes) -> None:
    domains = np.array([f"subject {number % 20}" for number in range(len(training.rows))])
    rows = Outcomes(training.rows, training.weak, training.strong, domains)
    scored = np.zeros(len(domains), dtype=np.int64)
    for fitted, dev, inside in without_each_group(rows):
        assert not set(domains[fitted | dev]) & set(domains[inside])
        assert not (fitted & dev).any()
        assert fitted.sum() > 2 * dev.sum() > 0
        scored += inside
    assert (scored == 1).all()


def test_missing_data_is_named(tmp_path: Path) -> None:
    reader = Reader(tmp_path, ROOT / ".llmops/models", None, print)
    with pytest.raises(TrainingError, match=r"mmlu\.jsonl\.gz is not there; --data names"):
        reader.outcomes(MMLU)


def test_rows_are_read_with_their_split_and_embedded_once(tmp_path: Path) -> None:
    # U+2028 ends a line for some readers; a row may hold it.
    written = [
        {"id": "1", "text": "one\u2028two", "domain": "law", "weak_correct": 0, "strong_correct": 1, "split": "train"},
        {"id": "2", "text": "three", "domain": "law", "weak_correct": 1, "strong_correct": 1, "split": "test"},
    ]
    path = tmp_path / MMLU
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("\n".join(json.dumps(row, ensure_ascii=False) for row in written).encode()))
    said: list[str] = []
    for _ in range(2):
        outcomes, split = Reader(tmp_path, ROOT / ".llmops/models", tmp_path / "cache", said.append).outcomes(MMLU)
    assert outcomes.rows.texts == ("one\u2028two", "three")
    assert outcomes.gain.tolist() == [1, 0]
    assert split.tolist() == ["train", "test"]
    assert outcomes.rows.embeddings.shape == (2, 384)
    assert said == ["embedding 2 texts, about 0 s"]


SETS = {
    MMLU: lambda number: {
        "text": f"Question {number} of {'law' if number % 2 else 'sums'}",
        "domain": f"s{number % 9}",
    },
    GSM8K: lambda number: {"text": f"{number} apples and {number} pears make how many?"},
    "complexity/gsm8k-train/train.jsonl.gz": lambda number: {"text": f"{number} sheep leave", "n_steps": number % 5},
    "complexity/arena-hard/v0.1.jsonl.gz": lambda number: {"prompt": f"Write program {number}"},
    "complexity/arena-hard/v2.0.jsonl.gz": lambda number: {"prompt": f"Write a longer program {number}"},
    "benign/clinc150/train.jsonl.gz": lambda number: {"text": f"alarm at {number}"},
    "benign/clinc150/oos_train.jsonl.gz": lambda number: {"text": f"song {number}"},
    "benign/clinc150/test.jsonl.gz": lambda number: {"text": f"timer {number}"},
    "benign/self-instruct/user-oriented.jsonl.gz": lambda number: {"text": f"a poem about {number}"},
}


def test_the_tables_say_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    for name, row in SETS.items():
        outcome = [
            {
                "weak_correct": number % 3 % 2,
                "strong_correct": 1,
                "split": ("train", "test")[number % 2],
            }
            for number in range(80)
        ]
        lines = [json.dumps(row(number) | outcome[number]) for number in range(80)]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress("\n".join(lines).encode()))
    reader = Reader(tmp_path, ROOT / ".llmops/models", tmp_path / "cache", print)
    found = "\n".join(tables(load_complexity(), reader))
    assert "### MMLU test rows: 40 rows, weak model 0.350 right, strong 1.000" in found
    assert "### Subjects left out: 40 training rows" in found
    assert "### GSM8K: 80 rows" in found
    assert found.count("| length: longer goes to the strong model |") == 3
    (tmp_path / GSM8K).unlink()
    assert "gsm8k.jsonl.gz is not in the data folder; not measured" in "\n".join(tables(load_complexity(), reader))


def test_the_shipped_file_is_the_one_of_the_manifest() -> None:
    entry = read_entry(released_manifest(), MANIFEST_ENTRY)
    content = read_file(released_manifest().parent, entry, WEIGHTS)
    model = load_complexity()
    assert hashlib.sha256(weights_of(model)).hexdigest() == entry.file(WEIGHTS).sha256
    assert len(content) < 500_000
    assert model.heads.shape[1] == HEADS
    assert model.calibration.qualities == tuple(QUALITIES.tolist())
    assert model.encoder == read_entry(released_manifest(), "encoder").id
