"""An encoder without a model, for tests and for trying things out: texts that share words come out close.

It hashes words and character trigrams into signed buckets (Weinberger et al., "Feature Hashing", 2009). It knows no
meaning: synonyms are strangers to it, and its similarities must not be compared with a threshold that was calibrated
on the real encoder.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

from meshkit.encoder import DEFAULT_MAX_QUEUE, EncodedText, QueuedEncoder

_DIMENSIONS = 384
_MAX_TEXT_TOKENS = 254
# As the real encoder: no more of a text is ever read.
_MAX_READ_CHARS = 65_536
_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD_WEIGHT = 1.0
_TRIGRAM_WEIGHT = 0.4
_SIGN_BIT = 1 << 31


class HashingTextModel:
    """A TextModel: deterministic on every machine, 384 dimensions, 254 words per text."""

    name = "hashing@crc32"
    dimensions = _DIMENSIONS

    def embed(self, text: str) -> EncodedText:
        """Embeds one text on the calling thread."""
        tokens = _TOKEN.findall(text[:_MAX_READ_CHARS].lower())
        kept = tokens[:_MAX_TEXT_TOKENS]
        features: list[tuple[str, float]] = []
        for token in kept:
            features.append((token, _WORD_WEIGHT))
            padded = f"<{token}>"
            features += [(padded[start : start + 3], _TRIGRAM_WEIGHT) for start in range(len(padded) - 2)]
        vector = np.zeros(_DIMENSIONS, dtype=np.float32)
        for feature, weight in features:
            digest = zlib.crc32(feature.encode())
            vector[digest % _DIMENSIONS] += weight if digest & _SIGN_BIT else -weight
        # The empty text has no features, and those of others can cancel out: a text must be a point all the same.
        norm = np.linalg.norm(vector)
        vector = vector / norm if norm else np.eye(1, _DIMENSIONS, dtype=np.float32)[0]
        vector.setflags(write=False)
        return EncodedText(vector, len(kept), truncated=len(tokens) > len(kept) or len(text) > _MAX_READ_CHARS)

    def count_tokens(self, text: str) -> int:
        """As `Encoder.count_tokens`."""
        counted = len(_TOKEN.findall(text[:_MAX_READ_CHARS]))
        return counted if len(text) <= _MAX_READ_CHARS else -(-counted * len(text) // _MAX_READ_CHARS)


def memory_encoder(*, workers: int = 0, max_queue: int = DEFAULT_MAX_QUEUE) -> QueuedEncoder:
    """An Encoder that needs no files."""
    return QueuedEncoder(HashingTextModel(), workers=workers, max_queue=max_queue)
