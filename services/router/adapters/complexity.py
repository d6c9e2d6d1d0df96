"""The shipped complexity model, read from the files that came with this code."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from meshkit.model_files import ModelRefused, read_entry, read_file, released_manifest
from services.router.core.complexity import Band, ComplexityModel, CostQuality, from_arrays
from services.router.core.complexity_features import features_of
from services.router.core.facts import Judged
from services.router.core.ports import Question

MANIFEST_ENTRY = "complexity"
WEIGHTS = "weights.npz"


def load_complexity(manifest: Path | None = None) -> ComplexityModel:
    """Reads the weights beside `manifest`, by default the released one: 0.2 MB, about 2 ms, once per process.

    Raises ModelNotInstalled when the file is missing and ModelRefused when it is not the one that the manifest names
    or was trained for other features than this code counts.
    """
    named = manifest or released_manifest()
    entry = read_entry(named, MANIFEST_ENTRY)
    content = read_file(named.parent, entry, WEIGHTS)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return from_arrays(arrays)
    except (KeyError, ValueError) as error:
        raise ModelRefused(f"{entry.id} does not fit this version: {error}; run `models.complexity.train`") from error


class ShippedScorer:
    """The port ComplexityScorer over the shipped model. About 0.1 ms, in the event loop: no slower than a hop of it."""

    def __init__(self, model: ComplexityModel) -> None:
        self._model = model

    def judge(self, question: Question, quality: float, threshold: float) -> Judged:
        """See ComplexityScorer."""
        found = self._model.score(
            question.embedding,
            features_of(question.text),
            CostQuality(quality, threshold or None),
            encoder=question.encoder,
            language=question.language,
        )
        return Judged(found.p_weak_suffices, found.uncertainty, simple=found.band is Band.WEAK)
