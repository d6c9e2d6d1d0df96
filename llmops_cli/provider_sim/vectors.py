"""The vectors of the simulated models: no meaning, only the promise that one text has one vector."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
_BYTES_PER_NUMBER = 4


def unit_vectors(texts: Sequence[str], dimensions: int) -> Vectors:
    """float32 [texts, dimensions], each row of length one, from the texts alone: the same for every model.

    A shorter vector is the beginning of a longer one of the same text, brought to length one again, as vectors of
    models that can be shortened are.
    """
    size_bytes = dimensions * _BYTES_PER_NUMBER
    # Hashed and not drawn: no release of numpy promises that its generators will give the same numbers.
    digests = b"".join(hashlib.shake_256(text.encode()).digest(size_bytes) for text in texts)
    # A half more: no number is zero, and so no row.
    rows = np.frombuffer(digests, "<i4").reshape(len(texts), dimensions) + 0.5
    vectors: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return vectors
