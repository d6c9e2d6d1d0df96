"""Which sentences to quote: central ones, early ones, those near the question, and none twice.

Centrality is the mean cosine to the other sentences (degree centrality, as in LexRank: Erkan and Radev, JAIR 22,
2004). Redundancy is kept out by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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
_SUMMARY_WEIGHTS = (0.65, 0.25, 0.10)
_QUESTION_WEIGHTS = (0.70, 0.30)
_HEADING_SHARE = 0.15
_LEAD_BONUS = 0.10
_FACT_BONUS = 0.25
_LEANING_SHARE = 0.6


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


@dataclass(frozen=True, slots=True)
class Traits:
    """What a sentence is, apart from what it says; one entry a sentence.

    `slight` marks headings and scraps, `section` the index of the heading above (-1 for none or the title), `leads` the
    first sentence of the text or below a heading, `factual` a number in it, `leaning` a beginning that leans on the
    sentence before.
    """

    slight: Sequence[bool]
    section: Sequence[int]
    leads: Sequence[bool]
    factual: Sequence[bool]
    leaning: Sequence[bool]


def summary_scores(vectors: Floats, query: Floats | None, traits: Traits) -> Floats:
    """One score a sentence.

    Early sentences weigh more (reports lead with the point), and so do those that open a section or carry a number;
    those that begin with "this" or "however" weigh less, because they say little on their own.
    """
    count = len(vectors)
    similarity = vectors @ vectors.T
    centrality = (similarity.sum(axis=1) - 1) / max(1, count - 1)
    places = np.cumsum(~np.asarray(traits.slight)) - 1
    position = 1 / (1 + np.maximum(places, 0).astype(np.float32))
    central, early, asked = _SUMMARY_WEIGHTS
    scores = central * _unit_range(centrality) + early * position
    if query is not None:
        scores = scores + asked * _unit_range(vectors @ query)
    scores = scores + _LEAD_BONUS * np.asarray(traits.leads) + _FACT_BONUS * np.asarray(traits.factual)
    scores = np.where(np.asarray(traits.leaning), scores * _LEANING_SHARE, scores)
    return np.asarray(scores, dtype=np.float32)


def question_scores(near_query: Floats, word_overlap: Floats, traits: Traits) -> Floats:
    """Nearness in meaning, helped by shared words and by the heading above."""
    meaning, words = _QUESTION_WEIGHTS
    scores = meaning * near_query + words * word_overlap
    above = np.asarray([scores[index] if index >= 0 else 0.0 for index in traits.section], dtype=np.float32)
    return np.asarray(scores + _HEADING_SHARE * np.maximum(above, 0.0), dtype=np.float32)


def select(scores: Floats, vectors: Floats, traits: Traits, *, wanted: int, relevance_share: float) -> list[int]:
    """Indices by maximal marginal relevance, best first, at most `wanted`; slight ones only when there are no others.

    `relevance_share` is the lambda of the paper. Ties go to the earlier sentence.
    """
    chosen: list[int] = []
    open_ = ~np.asarray(traits.slight) if not all(traits.slight) else np.ones(len(scores), dtype=bool)
    relevance = np.zeros_like(scores)
    relevance[open_] = _unit_range(scores[open_])
    nearest = np.zeros(len(scores), dtype=np.float32)
    for _ in range(min(wanted, int(open_.sum()))):
        gain = relevance_share * relevance - (1 - relevance_share) * nearest
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
