"""The shipped complexity model, read from the files that came with this code."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from meshkit.model_files import ModelRefused, read_entry, read_file, released_manifest
from services.router.core.complexity import ComplexityModel, from_arrays

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
