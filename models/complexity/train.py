"""Trains the complexity model: `OMP_NUM_THREADS=1 python -m models.complexity.train --data PATH`.

Writes the weights and their manifest entry. Seeded: two runs on one machine with the same versions write the same
bytes. Other versions of numpy or another CPU may round differently in the last digits; the golden scores in the tests
allow for 0.001.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meshkit.model_files import ModelError
from models.complexity import measure
from models.complexity.data import MMLU, Outcomes, Reader, assumed_rows, parts
from models.complexity.fit import estimates, fit
from models.errors import TrainingError
from models.export import DEFAULT_OUT, MANIFEST, install
from services.router.core.complexity import ComplexityModel, CostQuality, to_arrays

ENTRY = "complexity"
NAME = "complexity-minilm"
FOLDER = "complexity"
WEIGHTS = "weights.npz"
_LICENCES = {
    "complexity/routellm-outcomes": "Apache-2.0 (MMLU MIT)",
    "complexity/arena-hard": "Apache-2.0",
    "complexity/gsm8k-train": "MIT",
    "benign/clinc150": "CC BY 3.0 (Larson et al., 2019)",
}


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The model, the test rows that it has not seen, and which files it was made of."""

    model: ComplexityModel
    test: Outcomes
    sources: dict[str, str]


def train(reader: Reader) -> Trained:
    """Four fifths of MMLU's training split and the assumed rows; development is the fifth."""
    outcomes, split = reader.outcomes(MMLU)
    training = outcomes[split == "train"]
    part = parts(training)
    model = fit(training[part != 0], training[part == 0], assumed_rows(reader), reader.encoder)
    return Trained(model, outcomes[split == "test"], dict(reader.sources))


def weights_of(model: ComplexityModel) -> bytes:
    """The file's bytes. numpy stamps every member with 1980: equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **to_arrays(model))
    return buffer.getvalue()


def description(trained: Trained, content: bytes) -> dict[str, Any]:
    """The manifest's entry."""
    model = trained.model
    p, _ = estimates(model, trained.test.rows, embedded=True)
    routed = measure.routing(-p, trained.test.gain)
    scored = measure.scores(p, trained.test)
    curve = model.calibration
    default = curve.thresholds(CostQuality())
    return {
        "name": NAME,
        "folder": FOLDER,
        "licence": "Apache-2.0",
        "dimensions": len(model.centre),
        "max_tokens": 256,
        "encoder": model.encoder,
        "trained_on": _sources(trained),
        "models_compared": {"weak": "Mixtral-8x7B", "strong": "GPT-4-1106"},
        "thresholds": {
            "chosen_on": "a fifth of MMLU's training split, one-sided 90 % confidence",
            "default_min_p_weak_suffices": round(default.min_p_weak_suffices, 6),
            "max_uncertainty": round(default.max_uncertainty, 6),
            "min_p_by_quality": {
                f"{quality:.2f}": round(float(least), 6)
                for quality, least in zip(curve.qualities, curve.min_p, strict=True)
            },
        },
        "metrics": {
            "set": "MMLU test rows, 95 % bootstrap intervals: value, low, high",
            "rows": len(p),
            "apgr": routed.apgr.numbers(),
            "cpt_50": routed.cpt_50.numbers(),
            "cpt_80": routed.cpt_80.numbers(),
            "auc": scored.auc.numbers(),
            "brier": scored.brier.numbers(),
            "calibration_error": scored.calibration_error.numbers(),
        },
        "files": [{"name": WEIGHTS, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}],
    }


def _sources(trained: Trained) -> list[dict[str, str]]:
    return [
        {"file": file, "sha256": digest, "licence": _LICENCES[file.rsplit("/", 1)[0]]}
        for file, digest in sorted(trained.sources.items())
    ]


def write(trained: Trained, manifest: Path) -> None:
    """Writes the weights beside the manifest's other folders, then names them."""
    content = weights_of(trained.model)
    entry = description(trained, content)
    install(manifest.parent / FOLDER, {WEIGHTS: content})
    known = json.loads(manifest.read_text())
    known["models"][ENTRY] = entry
    manifest.write_text(json.dumps(known, indent=2) + "\n")


def reader_of(prog: str, purpose: str) -> Reader:
    """The command line that training and measuring share."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=purpose)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds complexity/ and benign/")
    parser.add_argument("--models", type=Path, default=DEFAULT_OUT, help=f"the encoder's home (default: {DEFAULT_OUT})")
    parser.add_argument("--cache", type=Path, help="keeps embeddings there; seven minutes of one core without it")
    arguments = parser.parse_args()
    return Reader(arguments.data, arguments.models, arguments.cache, print)


def main() -> None:
    """Entry point."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("set OMP_NUM_THREADS=1: with more threads sums are taken in another order and the bytes differ")
    try:
        trained = train(reader_of("models.complexity.train", "Trains the complexity model."))
        write(trained, MANIFEST)
    except (TrainingError, ModelError) as error:
        sys.exit(str(error))
    print(json.dumps(json.loads(MANIFEST.read_text())["models"][ENTRY]["metrics"], indent=2))


if __name__ == "__main__":
    main()
