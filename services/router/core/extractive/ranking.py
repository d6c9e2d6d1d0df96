"""Which sentences to quote: central ones, early ones, those near the question, and none twice.

Centrality is the mean cosine to the other sentences (degree centrality, as in LexRank: Erkan and Radev, JAIR 22,
2004). Redundancy is kept out by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_WORD = re.compile(r"\w+")
# Function words carry no topic; a short list is enough because rare words weigh more anyway.
_FUNCTION_WORDS = (
    "a an and are as at be been but by can do does for from had has have he her his how i if in into is it its me my "
    "no not of on or our she so that the their them they this to us was we were what when where which who why will "
    "with would you your"
)
_STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
_MMR_RELEVANCE = 0.7
_SUMMARY_WEIGHTS = (0.65, 0.25, 0.10)
_QUESTION_WEIGHTS = (0.70, 0.30)


def _words(text: str) -> list[str]:
    """Lower-case words without function words, a plural s cut off: enough to match a question to its answer."""
    words = [word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]  # noqa: PLR2004


def lexical_vectors(sentences: Sequence[str], query: str) -> tuple[Floats, Floats]:
    """tf-idf vectors of unit length, [sentences, words] and [words]; rows of texts without words are zero."""
    counts = [Counter(_words(text)) for text in (*sentences, query)]
    documents = Counter(word for count in counts[:-1] for word in count)
    columns = {word: column for column, word in enumerate(documents)}
    matrix = np.zeros((len(counts), max(1, len(columns))), dtype=np.float32)
    for row, count in enumerate(counts):
        for word, times in count.items():
            if word in columns:
                matrix[row, columns[word]] = (1 + math.log(times)) * math.log(1 + len(sentences) / documents[word])
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix = np.divide(matrix, norms, out=matrix, where=norms > 0)
    return matrix[:-1], matrix[-1]


def summary_scores(vectors: Floats, query: Floats | None, headings: Sequence[bool]) -> Floats:
    """One score a sentence. Early sentences weigh more (reports lead with the point), headings weigh little."""
    count = len(vectors)
    similarity = vectors @ vectors.T
    centrality = (similarity.sum(axis=1) - 1) / max(1, count - 1)
    position = np.asarray([1 / (1 + place) for place in range(count)], dtype=np.float32)
    central, early, asked = _SUMMARY_WEIGHTS
    scores = central * _unit_range(centrality) + early * position
    if query is not None:
        scores = scores + asked * _unit_range(vectors @ query)
    return np.asarray(np.where(np.asarray(headings), scores * 0.1, scores), dtype=np.float32)


def question_scores(near_query: Floats, word_overlap: Floats, headings: Sequence[bool]) -> Floats:
    """Nearness in meaning, helped by shared words."""
    meaning, words = _QUESTION_WEIGHTS
    scores = meaning * near_query + words * word_overlap
    return np.asarray(np.where(np.asarray(headings), scores * 0.5, scores), dtype=np.float32)


def select(scores: Floats, vectors: Floats, wanted: int) -> list[int]:
    """Indices by maximal marginal relevance, best first, at most `wanted`. Ties go to the earlier sentence."""
    chosen: list[int] = []
    relevance = _unit_range(scores)
    nearest = np.zeros(len(scores), dtype=np.float32)
    open_ = np.ones(len(scores), dtype=bool)
    while len(chosen) < min(wanted, len(scores)):
        gain = _MMR_RELEVANCE * relevance - (1 - _MMR_RELEVANCE) * nearest
        best = int(np.argmax(np.where(open_, gain, -np.inf)))
        chosen.append(best)
        open_[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen


def _unit_range(values: Floats) -> Floats:
    """Stretched to [0, 1]; equal values become zero."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:  # noqa: PLR2004 - equal but for rounding
        return np.zeros_like(values)
    return np.asarray((values - low) / (high - low), dtype=np.float32)
