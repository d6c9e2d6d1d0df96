"""Does a request need the strong model? The arithmetic, its safety and the shipped weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from meshkit.encoder_memory import HashingTextModel
from meshkit.model_files import ModelNotInstalled, ModelRefused, released_manifest
from services.router.adapters.complexity import MANIFEST_ENTRY, WEIGHTS, ShippedScorer, load_complexity
from services.router.core.complexity import (
    MAX_UNCERTAINTY,
    NEVER,
    Band,
    CostQuality,
    Thresholds,
    from_arrays,
    to_arrays,
)
from services.router.core.complexity_features import FEATURE_NAMES, MAX_READ_CHARS, features_of
from services.router.core.ports import Question

MODEL = load_complexity()
EASY = "set an alarm for seven tomorrow morning"
# Any quality, any certainty: what is left decides.
ANYTHING = CostQuality(min_p_weak_suffices=0.0, max_uncertainty=MAX_UNCERTAINTY)
KNOWN = MODEL.centre + MODEL.directions @ MODEL.landmarks[0][: MODEL.directions.shape[1]]
FEATURES = features_of(EASY)
anything = st.floats(width=32, allow_nan=True, allow_infinity=True)
probabilities = st.floats(0, 1)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("What? Why?", "log_question_marks", np.log1p(2)),
        ("Solve and prove it.", "log_task_words", np.log1p(2)),
        ("It is not so, and it isn't.", "log_negations", np.log1p(2)),
        ("A. one\nB. two\n(C) three\nAnswer:", "options", 3 / 8),
        ("x = 3 + 4", "log_math_marks", np.log1p(2)),
        ("f(x) { return [1]; }", "log_code_marks", np.log1p(5)),
        ("12 and 3.5", "log_numbers", np.log1p(2)),
        ("1234567890", "digit_share", 1.0),
        ("ça", "non_ascii_share", 0.5),
        ("NASA flies", "capital_word_share", 0.5),
        ("extraordinary cat", "long_word_share", 0.5),
        ("One. Two. Three.", "log_sentence_ends", np.log1p(2)),
        ("a\nb\nc", "log_lines", np.log1p(2)),
        ("abc" * MAX_READ_CHARS, "log_characters", np.log1p(3 * MAX_READ_CHARS)),
        ("one two", "log_words", np.log1p(2)),
        ("one three", "mean_word_length", 4.0),
    ],
)
def test_what_is_counted(text: str, name: str, expected: float) -> None:
    assert features_of(text)[FEATURE_NAMES.index(name)] == pytest.approx(expected, rel=1e-6)


@given(st.text())
def test_every_text_has_finite_features(text: str) -> None:
    found = features_of(text)
    assert found.shape == (len(FEATURE_NAMES),)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_no_more_of_a_long_text_is_counted_than_its_beginning() -> None:
    start = "word " * 600
    long, short = features_of(start + "?" * 1_000_000), features_of(start[:MAX_READ_CHARS])
    assert np.array_equal(long[1:], short[1:])
    assert long[0] > short[0]


@given(probabilities, probabilities, probabilities, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_greater_probability_never_moves_a_request_to_the_dearer_band(
    least: float, p: float, more: float, uncertainty: float, most: float
) -> None:
    thresholds = Thresholds(least, most)
    if thresholds.band(p, uncertainty) is Band.WEAK:
        assert thresholds.band(max(p, more), uncertainty) is Band.WEAK


@given(probabilities, st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_uncertain_and_what_is_not_a_number_go_to_the_dearer_band(p: float, first: float, second: float) -> None:
    most, uncertainty = sorted((first, second))
    if uncertainty > most:
        assert Thresholds(0.0, most).band(p, uncertainty) is Band.STRONG
    assert Thresholds(0.0, most).band(p, most) is Band.WEAK
    assert Thresholds(0.0, 0.5).band(float("nan"), 0.0) is Band.STRONG
    assert Thresholds(0.0, 0.5).band(p, float("nan")) is Band.STRONG


@given(
    st.none() | arrays(np.float32, st.sampled_from([0, 3, 384]), elements=anything),
    arrays(np.float32, st.sampled_from([0, 16, 17]), elements=anything),
)
def test_whatever_comes_in_a_probability_goes_out(
    embedding: np.ndarray[tuple[int], np.dtype[np.float32]] | None,
    features: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> None:
    found = MODEL.score(embedding, features, CostQuality(), encoder=MODEL.encoder)
    assert 0 <= found.p_weak_suffices <= 1
    assert 0 <= found.uncertainty <= MAX_UNCERTAINTY
    if features.shape != FEATURES.shape or not np.isfinite(features).all():
        assert (found.uncertainty, found.band) == (MAX_UNCERTAINTY, Band.STRONG)


@pytest.mark.parametrize(
    "useless",
    [np.zeros(384), np.full(384, np.nan), np.full(384, np.inf), np.ones(3), np.eye(384)[0] * 1e-9],
    ids=["zero", "nan", "inf", "other size", "no direction"],
)
def test_an_embedding_without_a_direction_counts_as_absent(
    useless: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    found = MODEL.score(useless.astype(np.float32), FEATURES, CostQuality(), encoder=MODEL.encoder)
    assert found == MODEL.score(None, FEATURES, CostQuality())
    assert found != MODEL.score(KNOWN, FEATURES, CostQuality(), encoder=MODEL.encoder)


def test_the_length_of_an_embedding_says_nothing() -> None:
    unit, longer = (
        MODEL.score(KNOWN * np.float32(scale), FEATURES, ANYTHING, encoder=MODEL.encoder) for scale in (1, 7)
    )
    assert unit != MODEL.score(None, FEATURES, ANYTHING)
    assert unit.p_weak_suffices == pytest.approx(longer.p_weak_suffices, abs=1e-5)


def test_what_is_unlike_everything_known_is_uncertain() -> None:
    far = -MODEL.directions[:, 0] * 5
    known, unknown = (
        MODEL.score(each.astype(np.float32), FEATURES, ANYTHING, encoder=MODEL.encoder) for each in (KNOWN, far)
    )
    assert unknown.uncertainty > MODEL.calibration.max_uncertainty
    assert unknown.uncertainty > known.uncertainty
    assert MODEL.score(far.astype(np.float32), FEATURES, CostQuality(0.5), encoder=MODEL.encoder).band is Band.STRONG


@pytest.mark.parametrize(("language", "band"), [("", "weak"), ("en", "weak"), ("en-GB", "weak"), ("de", "strong")])
def test_a_language_that_was_never_measured_is_uncertain(language: str, band: str) -> None:
    point = CostQuality(min_p_weak_suffices=0.0)
    assert MODEL.score(None, FEATURES, point, language=language).band is Band(band)


@pytest.mark.parametrize("text", ["", " \n", "\U0001f600", "?!"])
def test_without_a_word_nothing_is_known(text: str) -> None:
    for embedding in (KNOWN, None):
        found = MODEL.score(embedding, features_of(text), CostQuality(0.01), encoder=MODEL.encoder)
        assert (found.uncertainty, found.band) == (MAX_UNCERTAINTY, Band.STRONG)


def test_a_better_promise_never_sends_more_to_the_weak_band() -> None:
    for calibration in (MODEL.calibration, MODEL.cheap_calibration):
        limits = [calibration.thresholds(CostQuality(quality)) for quality in np.linspace(0.01, 1, 100)]
        least = [each.min_p_weak_suffices for each in limits]
        assert least == sorted(least)
        assert least[0] < least[-1] == NEVER


def test_a_promise_between_two_measured_points_is_rounded_up() -> None:
    read = MODEL.calibration.thresholds
    assert read(CostQuality(0.941)) == read(CostQuality(0.95)) != read(CostQuality(0.94))


def test_explicit_thresholds_replace_the_curve() -> None:
    read = MODEL.calibration.thresholds(CostQuality(0.95, min_p_weak_suffices=0.3, max_uncertainty=0.2))
    assert read == Thresholds(0.3, 0.2)
    assert MODEL.calibration.thresholds(CostQuality(0.95, max_uncertainty=0.2)).min_p_weak_suffices > 0.3


@pytest.mark.parametrize(
    ("point", "says"),
    [
        (CostQuality(0), "quality above 0"),
        (CostQuality(1.01), "quality above 0"),
        (CostQuality(float("nan")), "quality above 0"),
        (CostQuality(min_p_weak_suffices=1.1), "min_p_weak_suffices from 0 to 1"),
        (CostQuality(max_uncertainty=0.6), "max_uncertainty from 0 to 0.5"),
    ],
)
def test_a_point_that_cannot_be_kept_says_what_to_do(point: CostQuality, says: str) -> None:
    assert says in point.problem()
    assert not CostQuality().problem()


def test_a_model_survives_its_file_and_one_of_other_features_does_not() -> None:
    written = to_arrays(MODEL)
    before, after = (
        each.score(KNOWN, FEATURES, ANYTHING, encoder=MODEL.encoder) for each in (MODEL, from_arrays(written))
    )
    assert before == after
    with pytest.raises(ValueError, match="do not fit"):
        from_arrays(written | {"feature_mean": np.zeros(3, dtype=np.float32)})
    with pytest.raises(KeyError):
        from_arrays({name: array for name, array in written.items() if name != "heads"})


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    manifest = shutil.copy(released_manifest(), tmp_path / "manifest.json")
    with pytest.raises(ModelNotInstalled):
        load_complexity(manifest)
    weights = tmp_path / "complexity" / WEIGHTS
    weights.parent.mkdir()
    content = bytearray(released_manifest().parent.joinpath("complexity", WEIGHTS).read_bytes())
    weights.write_bytes(content)
    assert load_complexity(manifest).encoder == MODEL.encoder
    content[-200] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelRefused, match="not the file that the manifest names"):
        load_complexity(manifest)


def test_the_manifest_says_what_the_weights_do() -> None:
    models = json.loads(released_manifest().read_bytes())["models"]
    entry = models[MANIFEST_ENTRY]
    assert entry["encoder"] == MODEL.encoder
    curve = MODEL.calibration
    for quality, least in entry["thresholds"]["min_p_by_quality"].items():
        assert curve.thresholds(CostQuality(float(quality))).min_p_weak_suffices == pytest.approx(least, abs=1e-6)
    assert entry["thresholds"]["max_uncertainty"] == pytest.approx(curve.max_uncertainty, abs=1e-6)
    assert all(row["licence"] and "NC" not in row["licence"] for row in entry["trained_on"])


def test_heads_that_disagree_are_uncertainty() -> None:
    torn = replace(MODEL, cheap_heads=np.where(np.arange(MODEL.cheap_heads.shape[1]) % 2, 1, -1) * MODEL.cheap_heads)
    assert torn.estimate(None, FEATURES)[1] > MODEL.estimate(None, FEATURES)[1]


def test_a_vector_of_another_encoder_counts_as_absent() -> None:
    model = HashingTextModel()
    vector = model.embed(EASY).vector
    absent = MODEL.score(None, FEATURES, CostQuality())
    assert MODEL.score(vector, FEATURES, CostQuality(), encoder=model.name) == absent
    assert MODEL.score(vector, FEATURES, CostQuality()) == absent
    assert MODEL.score(vector, FEATURES, CostQuality(), encoder=MODEL.encoder) != absent


def test_a_route_is_told_which_band_and_how_sure() -> None:
    """As the planner asks: a promised quality, or the route's own threshold instead."""
    scorer = ShippedScorer(MODEL)
    question = Question("What is the capital of France?", "en", "", None)
    judged = scorer.judge(question, 0.95, 0.0)
    assert 0 <= judged.p_weak_suffices <= 1
    assert scorer.judge(question, 0.95, 1e-6).simple or judged.uncertainty > 0.2
    assert not scorer.judge(question, 0.95, 0.999999).simple
    assert not scorer.judge(question, 1.0, 0.0).simple, "the whole quality is promised by the dear model alone"
    assert not scorer.judge(replace(question, language="de"), 0.5, 0.0).simple, "measured in English only"
