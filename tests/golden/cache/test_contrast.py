"""Written pairs, and what the contrast guard says about each."""

from __future__ import annotations

import csv
from hashlib import sha256
from pathlib import Path

import pytest

from services.cache.core import words
from services.cache.core.contrast import Reader, contrast

PARTITION = b"p" * 32
READER = Reader(b"", 8_000)
LINES = Path(__file__).with_name("contrast.tsv").read_text(encoding="utf-8").splitlines()
ROWS = list(csv.DictReader(LINES, delimiter="\t", quoting=csv.QUOTE_NONE))


def compare(stored: str, asked: str) -> str:
    signature = READER.read(stored, PARTITION).signature
    assert signature is not None
    return contrast(signature, READER.read(asked, PARTITION))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["stored"])
def test_the_guard_says_what_is_written(row: dict[str, str]) -> None:
    assert compare(row["stored"], row["asked"]) == row["refusal"]


@pytest.mark.parametrize("row", [row for row in ROWS if row["refusal"]], ids=lambda row: row["stored"])
def test_what_is_refused_one_way_is_refused_the_other_way(row: dict[str, str]) -> None:
    assert compare(row["asked"], row["stored"]) != ""


def test_tables_change_together_with_their_version() -> None:
    """Stored signatures were read with these tables: raise TABLES_VERSION, then write the new digest here."""
    tables = [
        sorted(words.NEGATIONS),
        [(sorted(left), sorted(right)) for left, right in words.OPPOSITES],
        sorted(words.NUMBER_WORDS.items()),
        sorted(words.UNITS.items()),
        sorted(words.QUESTION_KINDS.items()),
        sorted(words.FILLERS),
        sorted(words.STARTERS),
    ]
    digest = sha256(repr(tables).encode()).hexdigest()[:16]
    assert (words.TABLES_VERSION, digest) == (2, "812e34f02adcaaa7")
