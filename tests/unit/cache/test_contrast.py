"""The contrast guard refuses what an embedding does not see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.core.contrast import MAX_MARKS, Reader, Signature, contrast
from services.cache.core.words import OPPOSITES

PARTITION = b"p" * 32
READER = Reader(b"secret", 1_000)


def compare(stored: str, asked: str) -> str:
    signature = READER.read(stored, PARTITION).signature
    assert signature is not None
    kept = Signature.decode(signature.encode())
    assert kept == signature
    return contrast(kept, READER.read(asked, PARTITION))


@given(st.text(max_size=200))
def test_a_question_never_contrasts_with_itself(text: str) -> None:
    assert compare(text, text) == ""


@given(st.text(alphabet="ab 12AB.'\"-/", max_size=60), st.text(alphabet="ab 12AB.'\"-/", max_size=60))
def test_refusing_does_not_depend_on_chance(left: str, right: str) -> None:
    assert compare(left, right) == compare(left, right)


numbers = st.integers(2, 10**6).map(str)


@given(numbers, numbers)
def test_another_number_is_refused_whatever_it_is(left: str, right: str) -> None:
    refusal = compare(f"how much is {left} kilos", f"how much is {right} kilos")
    assert refusal == ("" if left == right else "numbers-differ")


@pytest.mark.parametrize("line", range(len(OPPOSITES)))
def test_every_line_of_opposites_refuses(line: int) -> None:
    left, right = (min(side) for side in OPPOSITES[line])
    assert compare(f"tell me the {left} thing", f"tell me the {right} thing") != ""
    assert compare(f"tell me the {left} thing", f"tell me the {left} thing please") == ""


def test_two_words_of_one_side_do_not_contrast() -> None:
    assert compare("enable the dark mode", "activate the dark mode") == ""


@pytest.mark.parametrize("negation", ["not", "never", "without", "don't", "can’t"])
def test_a_negation_more_is_refused(negation: str) -> None:
    assert compare("what they eat", f"what they {negation} eat") == "negation-differs"


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        # The encoder's vocabulary has no such characters: these pairs have a cosine of exactly 1.
        ("Translate 🍎 into French", "Translate 🍌 into French"),
        ("what does ∑ mean", "what does ∏ mean"),
        ("translate สวัสดี into English", "translate ขอบคุณ into English"),
        ("what does " + "a" * 101 + " mean", "what does " + "b" * 101 + " mean"),
        # It strips accents as well.
        ("what does año mean", "what does ano mean"),
        # In a long question one character hardly moves the vector.
        ("is x < y", "is x > y"),
        ("what is 5 + 3", "what is 5 - 3"),
        ("what is 5 - 3", "what is 5 / 3"),
        ("explain a || b", "explain a && b"),
    ],
)
def test_characters_that_an_encoder_does_not_see_are_compared(stored: str, asked: str) -> None:
    assert compare(stored, asked) != ""
    assert compare(asked, stored) != ""


def test_punctuation_of_prose_says_nothing() -> None:
    assert compare("Well - what (exactly) is a mesh?", "Well, what exactly is a mesh") == ""


def test_an_address_is_found_behind_whatever_precedes_it() -> None:
    assert compare("mail (--x@a.com", "mail (--x@b.com") == "literals-differ"


def test_a_long_text_and_one_with_too_many_marks_are_not_read() -> None:
    assert READER.read("a" * 1_001, PARTITION).signature is None
    many = " ".join("9" * 1 for _ in range(MAX_MARKS + 1))
    assert READER.read(many, PARTITION).signature is None
    stored = READER.read("x", PARTITION).signature
    assert stored is not None
    assert contrast(stored, READER.read(many, PARTITION)) == "too-many-marks"


def test_a_signature_of_other_tables_or_of_nobody_is_not_read() -> None:
    signature = READER.read("Paris 2024", PARTITION).signature
    assert signature is not None
    encoded = signature.encode()
    assert Signature.decode(bytes([encoded[0] + 1]) + encoded[1:]) is None
    assert Signature.decode(b"") is None
    assert Signature.decode(encoded[:-1]) is None


def test_a_signature_holds_no_text_and_depends_on_partition_and_key() -> None:
    text = "Does Ada Lovelace pay 4711 dollars to billing@example.com?"
    signature = READER.read(text, PARTITION).signature
    assert signature is not None
    for word in ("Ada", "ada", "Lovelace", "lovelace", "4711", "billing"):
        assert word.encode() not in signature.encode()
    assert READER.read(text, b"q" * 32).signature != signature
    assert Reader(b"other", 1_000).read(text, PARTITION).signature != signature
