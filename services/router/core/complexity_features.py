"""What can be counted in a request's text: the one function that training and run time share.

A changed feature makes the shipped weights wrong: train again, the golden scores in the tests will say so.
"""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

FEATURE_NAMES = (
    "log_characters",
    "log_words",
    "log_lines",
    "log_numbers",
    "log_math_marks",
    "log_code_marks",
    "log_question_marks",
    "log_task_words",
    "log_negations",
    "log_sentence_ends",
    "mean_word_length",
    "long_word_share",
    "digit_share",
    "options",
    "capital_word_share",
    "non_ascii_share",
)
# The rest of a longer text is only counted in `log_characters`: the encoder reads about 1,000 characters, too.
MAX_READ_CHARS = 2_048
_LONG_WORD_CHARS = 9
# Lists of answers beyond this say no more.
_MAX_OPTIONS = 8
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_OPTION = re.compile(r"^\(?[A-H][).:]\s", re.MULTILINE)
_DIGITS = b"0123456789"
_MATH = b"=+*/^<>%$\\"
_CODE = b"{}[];`_#"
_TASK = frozenset(
    {
        *(
            "prove",
            "proof",
            "derive",
            "explain",
            "why",
            "step",
            "compare",
            "contrast",
            "analyse",
            "analyze",
            "evaluate",
        ),
        *("design", "implement", "optimise", "optimize", "justify", "discuss", "debug", "refactor", "calculate"),
        *("compute", "solve", "show"),
    }
)
_NEGATION = frozenset(
    {"not", "except", "least", "never", "neither", "nor", "false", "incorrect", "without", "cannot"},
)

Features = npt.NDArray[np.float32]


def features_of(text: str) -> Features:
    """float32 [len(FEATURE_NAMES)], always finite, for any text; reads `MAX_READ_CHARS` of it."""
    read = text[:MAX_READ_CHARS]
    words, ascii_part = _WORD.findall(read), read.encode("ascii", "ignore")
    word_count, character_count = max(1, len(words)), max(1, len(read))
    lengths, lowered = list(map(len, words)), list(map(str.lower, words))
    counts = (
        len(text),
        len(words),
        read.count("\n"),
        len(_NUMBER.findall(read)),
        _count(ascii_part, _MATH),
        _count(ascii_part, _CODE),
        read.count("?"),
        sum(word in _TASK for word in lowered),
        sum(word in _NEGATION for word in lowered) + read.count("n't"),
        read.count(". "),
    )
    shares = (
        sum(lengths) / word_count,
        sum(length >= _LONG_WORD_CHARS for length in lengths) / word_count,
        _count(ascii_part, _DIGITS) / character_count,
        min(_MAX_OPTIONS, len(_OPTION.findall(read))) / _MAX_OPTIONS,
        sum(map(str.isupper, words)) / word_count,
        (len(read) - len(ascii_part)) / character_count,
    )
    return np.array([*map(math.log1p, counts), *shares], dtype=np.float32)


def _count(text: bytes, wanted: bytes) -> int:
    """How many of these bytes there are: deleting them is faster than looking for them."""
    return len(text) - len(text.translate(None, wanted))
