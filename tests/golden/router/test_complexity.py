"""What the shipped weights say of texts of our own, through the real encoder.

Another value means other weights, other features or another encoder: read the new ones before they are written here.
Kernels of other CPUs round the last digits differently, hence the tolerance.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from meshkit.encoder_onnx import OnnxTextModel
from meshkit.model_files import installed, read_entry, released_manifest
from services.router.adapters.complexity import load_complexity
from services.router.core.complexity import CostQuality
from services.router.core.complexity_features import features_of

MODELS = Path(__file__).resolve().parents[3] / ".llmops/models"
TOLERANCE = 0.001
EXPECTED: dict[str, tuple[float, float, str, float]] = {
    "set a timer for ten minutes": (0.8786, 0.0013, "weak", 0.8721),
    "what is the weather like in Lisbon tomorrow": (0.8715, 0.0023, "weak", 0.8501),
    ("Which planet is the largest?\nA. Mars\nB. Jupiter\nC. Venus\nD. Earth\nAnswer:"): (
        0.7952,
        0.026,
        "strong",
        0.8369,
    ),
    (
        "A farmer sells 12 crates with 30 apples each and keeps 45 apples. He packs the rest into "
        "bags of 9. How many bags does he fill?"
    ): (0.8437, 0.004, "weak", 0.835),
    (
        "A tenant stopped paying rent after the roof collapsed. The lease says nothing about "
        "repairs. Which argument is LEAST likely to help the landlord?\n"
        "A. The tenant did not give notice.\n"
        "B. The covenant to pay rent is independent.\n"
        "C. The tenant was not harmed.\n"
        "D. The premises were not let as a dwelling.\n"
        "Answer:"
    ): (0.8028, 0.0167, "strong", 0.7681),
    (
        "Write a Rust program that reads a CSV of trades and prints the running profit per "
        "account. It must handle files that do not fit into memory."
    ): (0.8307, 0.0822, "strong", 0.745),
    "Prove that every finite integral domain is a field.": (0.824, 0.031, "strong", 0.8374),
    "Fasse den folgenden Vertrag in drei Sätzen zusammen.": (0.7983, 0.0033, "strong", 0.7896),
}


@pytest.fixture(scope="module")
def encoder() -> OnnxTextModel:
    entry = read_entry(released_manifest(), "encoder")
    if not installed(MODELS, entry):
        pytest.fail("the encoder is not installed; run `make models`")
    return OnnxTextModel.load(MODELS, entry)


@pytest.mark.parametrize("text", EXPECTED)
def test_scores_are_stable(encoder: OnnxTextModel, text: str) -> None:
    p, uncertainty, band, counted = EXPECTED[text]
    model, features = load_complexity(), features_of(text)
    found = model.score(encoder.embed(text).vector, features, CostQuality(), encoder=encoder.name)
    assert found.p_weak_suffices == pytest.approx(p, abs=TOLERANCE)
    assert found.uncertainty == pytest.approx(uncertainty, abs=TOLERANCE)
    assert found.band.value == band
    assert model.score(None, features, CostQuality()).p_weak_suffices == pytest.approx(counted, abs=TOLERANCE)
