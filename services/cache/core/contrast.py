"""The contrast guard: what two questions must agree on before one answer may serve both.

An embedding tells what a question is about; it hardly tells 2023 from 2024, "enable" from "disable", or a flight from
A to B from one from B to A, and emojis, accents and scripts that its vocabulary lacks it does not see at all. So a
question is read for what decides an answer: numbers and dates, names, quotations, addresses, identifiers, symbols,
words outside ASCII, negation, opposites, the kind of question, and the order of words. What is kept of a stored
question is a signature of keyed 64-bit hashes, not text.

The guard only ever refuses. Where it is unsure (another word order, a capital letter) it refuses: that costs one
model call.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct, error, unpack_from
from typing import ClassVar

from services.cache.core.words import (
    FILLERS,
    NEGATIONS,
    NUMBER_WORDS,
    OPPOSITES,
    QUESTION_KINDS,
    STARTERS,
    TABLES_VERSION,
    UNITS,
)

# A question with more of one kind is not read: it is a document, and similarity says little about documents.
MAX_MARKS = 128
# Encoders read a longer word, and one of letters that their vocabulary lacks, as "unknown": all such are one to them.
MAX_SEEN_WORD_CHARS = 100
# Three bits per line of the table of opposites.
_SIDES_BYTES = 24
_HEAD = Struct(f">BBB{_SIDES_BYTES}sQQBBB")
_HASH_BYTES = 8

_TOKEN = re.compile(
    r"""
    (?P<literal> https?://\S+ | www\.\S+ | (?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+
      | "[^"\n]{1,300}" | “[^”\n]{1,300}” | «[^»\n]{1,300}» | `[^`\n]{1,300}` | (?<!\w)'[^'\n]{1,300}'(?!\w) )
  | (?P<number> (?<![\w.])-?[$€£¥]?\d+(?:[.,:/-]\d+)*(?:\s?[%$€£¥°])? (?![\w]) )
  | (?P<word> \w+ (?: ['’]\w+ | [./_+#@:\\-]+\w+ )* [+#]* )
  | (?P<stop> [.?!:\n] )
  | (?P<symbol> (?<=\d\s)-(?=\s\d) | [^\w\s.,;:?!'"’‘“”«»()\[\]{}`…–—-] )
    """,
    re.VERBOSE,
)
_CURRENCIES = "$€£¥"
_GROUPED = re.compile(r",(?=\d{3}(?:\D|$))")
_CAMEL = re.compile(r"[a-z][A-Z]|[A-Z]{2,}[a-z]")
_PLAIN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*\Z")


def _sides_by_word() -> dict[str, list[tuple[int, int]]]:
    """Of each word, the lines of the table of opposites that it is in, and on which side (0 left, 1 right)."""
    sides: dict[str, list[tuple[int, int]]] = {}
    for line, pair in enumerate(OPPOSITES):
        for side, words in enumerate(pair):
            for word in words:
                sides.setdefault(word, []).append((line, side))
    return sides


_SIDES = _sides_by_word()
_LEFT, _RIGHT, _RIGHT_FIRST = 1, 2, 4
_LINE_BITS = 3
# A capital at the beginning of a sentence says nothing about words that the tables know.
_ORDINARY = STARTERS | _SIDES.keys() | NUMBER_WORDS.keys() | NEGATIONS


@dataclass(frozen=True, slots=True)
class Signature:
    """What is kept of a stored question.

    Attributes:
        numbers: Hashes of numbers, amounts, dates and ranks, in order.
        names: Hashes of words that occur capitalised, in order, folded.
        literals: Hashes of quotations, addresses, identifiers, symbols and words that are not ASCII, in order.
        negated: Parity of negations.
        sides: Three bits per line of the table of opposites: left side present, right side present, right side first.
        questions: One bit per kind of question.
        bag: Hash of the content words, sorted.
        order: Hash of the content words, in order.
    """

    numbers: tuple[int, ...]
    names: tuple[int, ...]
    literals: tuple[int, ...]
    negated: bool
    sides: int
    questions: int
    bag: int
    order: int

    def encode(self) -> bytes:
        """Bytes for the store."""
        lists = (self.numbers, self.names, self.literals)
        head = _HEAD.pack(
            TABLES_VERSION,
            self.negated,
            self.questions,
            self.sides.to_bytes(_SIDES_BYTES, "big"),
            self.bag,
            self.order,
            *map(len, lists),
        )
        return head + b"".join(mark.to_bytes(_HASH_BYTES, "big") for marks in lists for mark in marks)

    @staticmethod
    def decode(encoded: bytes) -> "Signature | None":
        """Reads `encode`'s bytes; None when other tables wrote them, or nobody did."""
        try:
            version, negated, questions, sides, bag, order, *counts = _HEAD.unpack_from(encoded)
            marks = unpack_from(f">{sum(counts)}Q", encoded, _HEAD.size)
        except error:
            return None
        if version != TABLES_VERSION:
            return None
        numbers, names = counts[0], counts[0] + counts[1]
        return Signature(
            numbers=marks[:numbers],
            names=marks[numbers:names],
            literals=marks[names:],
            negated=bool(negated),
            sides=int.from_bytes(sides, "big"),
            questions=questions,
            bag=bag,
            order=order,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A question as it was just read.

    Attributes:
        signature: What the store would keep; None when the text has too many marks.
        words: Hashes of all words, in order, folded: finds a stored name that is spelt in lower case now.
    """

    signature: Signature | None
    words: tuple[int, ...]

    EMPTY: ClassVar["Reading"]


Reading.EMPTY = Reading(None, ())


def contrast(stored: Signature, asked: Reading) -> str:
    """Why the stored question's answer must not serve the asked one; empty when nothing speaks against it."""
    now = asked.signature
    if now is None:
        return "too-many-marks"
    stored_names = frozenset(stored.names)
    checks = (
        ("numbers-differ", sorted(stored.numbers) != sorted(now.numbers)),
        ("literals-differ", sorted(stored.literals) != sorted(now.literals)),
        ("names-differ", not stored_names.issuperset(now.names) or not stored_names.issubset(asked.words)),
        ("negation-differs", stored.negated != now.negated),
        ("opposites-differ", _opposed(stored.sides, now.sides)),
        ("questions-differ", bool(stored.questions and now.questions) and not stored.questions & now.questions),
        ("order-differs", _reordered(stored, now, [word for word in asked.words if word in stored_names])),
    )
    return next((reason for reason, differs in checks if differs), "")


def _opposed(stored: int, asked: int) -> bool:
    """Whether some line of the table is there in both, with other sides or with its sides in another order."""
    line = (1 << _LINE_BITS) - 1
    while stored and asked:
        if stored & line and asked & line and stored & line != asked & line:
            return True
        stored >>= _LINE_BITS
        asked >>= _LINE_BITS
    return False


def _reordered(stored: Signature, asked: Signature, asked_names: list[int]) -> bool:
    return (
        stored.numbers != asked.numbers
        or stored.literals != asked.literals
        or list(stored.names) != asked_names
        or (stored.bag == asked.bag and stored.order != asked.order)
    )


class Reader:
    """Reads questions. `key` is the deployment's secret: without one, whoever has the database can test guesses."""

    def __init__(self, key: bytes, max_chars: int) -> None:
        self._key = key
        self._max_chars = max_chars

    def read(self, text: str, partition: bytes) -> Reading:
        """Reads a question; hashes of different partitions do not compare. About 5 us per word."""
        if len(text) > self._max_chars:
            return Reading.EMPTY
        return _Scan(blake2b(self._key, digest_size=32, key=partition).digest()).read(text)


class _Scan:
    """One pass over a text."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._numbers: list[str] = []
        self._names: set[str] = set()
        self._literals: list[str] = []
        self._words: list[str] = []
        self._negations = 0
        self._sides = 0
        self._questions = 0

    def read(self, text: str) -> Reading:
        begins = True
        after_number = False
        for match in _TOKEN.finditer(text):
            kind, token = match.lastgroup, match.group()
            if kind == "stop":
                begins, after_number = True, False
                continue
            if kind == "symbol":
                self._literals.append(token)
                continue
            if kind == "literal":
                self._literals.append(token.strip("\"'“”«»`.,;:!?)"))
            elif kind == "number":
                self._numbers.append(_number(token))
            else:
                self._word(token.replace("’", "'"), begins=begins, after_number=after_number)
            begins, after_number = False, kind == "number"
        return self._reading()

    def _word(self, token: str, *, begins: bool, after_number: bool) -> None:
        if not _PLAIN.match(token) or _CAMEL.search(token):
            self._identifier(token)
            return
        folded = token.casefold()
        if not token.isascii() or len(token) > MAX_SEEN_WORD_CHARS:
            self._literals.append(folded)
        if after_number and folded in UNITS:
            self._numbers[-1] += UNITS[folded]
            return
        parts = folded.split("-") if "-" in folded else (folded,)
        for part in parts:
            self._meaning(part)
        is_name = token[0].isupper() and folded != "i" and not (begins and folded.removesuffix("'s") in _ORDINARY)
        if is_name and not folded.startswith("i'"):
            self._names.update(part.removesuffix("'s") for part in parts)

    def _meaning(self, word: str) -> None:
        word = word.removesuffix("'s")
        self._words.append(word)
        if word in NEGATIONS or word.endswith("n't"):
            self._negations += 1
        if word in NUMBER_WORDS:
            self._numbers.append(NUMBER_WORDS[word])
        if word in QUESTION_KINDS:
            self._questions |= 1 << QUESTION_KINDS[word]
        for line, side in _SIDES.get(word, ()):
            self._side(line * _LINE_BITS, side)

    def _side(self, shift: int, side: int) -> None:
        if side == 0:
            self._sides |= _LEFT << shift
        elif self._sides >> shift & _LEFT:
            self._sides |= _RIGHT << shift
        else:
            self._sides |= (_RIGHT | _RIGHT_FIRST) << shift

    def _identifier(self, token: str) -> None:
        """Words with digits, underscores, dots, slashes or inner capitals are compared as they are written."""
        folded = token.casefold()
        if folded in NUMBER_WORDS:
            self._numbers.append(NUMBER_WORDS[folded])
        elif token[0].isdigit():
            self._numbers.append(folded)
        else:
            self._literals.append(token)
        self._words.append(folded)

    def _reading(self) -> Reading:
        content = [word for word in self._words if word not in FILLERS]
        words = tuple(map(self._hash, self._words))
        # Every occurrence counts, however it is spelt: the order must not depend on capitals.
        names = [word for word in self._words if word in self._names]
        if max(len(self._numbers), len(names), len(self._literals)) > MAX_MARKS:
            return Reading(None, words)
        signature = Signature(
            numbers=tuple(map(self._hash, self._numbers)),
            names=tuple(map(self._hash, names)),
            literals=tuple(map(self._hash, self._literals)),
            negated=self._negations % 2 == 1,
            sides=self._sides,
            questions=self._questions,
            bag=self._hash_all(sorted(content)),
            order=self._hash_all(content),
        )
        return Reading(signature, words)

    def _hash(self, text: str) -> int:
        return int.from_bytes(blake2b(text.encode(), digest_size=_HASH_BYTES, key=self._key).digest(), "big")

    def _hash_all(self, words: Iterable[str]) -> int:
        # No word contains a line feed, so joining is unambiguous.
        return self._hash("\n".join(words))


def _number(token: str) -> str:
    """One spelling per number: no spaces, no commas that group three digits, the currency first."""
    number = _GROUPED.sub("", token.replace(" ", ""))
    return number[-1] + number[:-1] if number[-1] in _CURRENCIES else number
