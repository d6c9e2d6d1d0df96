"""Strict reading of a parsed YAML file: every mistake names the file, the key and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

_SHOWABLE = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file of the prompt directory: its path inside the directory, and its parsed content or why it has none."""

    file: str
    value: object = None
    problem: str = ""


class FileProblem(Exception):
    """One mistake in one file; the message is a sentence without the file's name."""


class Section:
    """A mapping of a file. Take its keys one by one, then call `done()`: what is left is unknown."""

    def __init__(self, value: object, path: str = "") -> None:
        """Raises FileProblem when `value` is no mapping with text keys."""
        if not isinstance(value, dict):
            where = f"{path} must" if path else "the file must"
            raise FileProblem(f"{where} be a mapping of keys to values")
        for key in value:
            if not isinstance(key, str):
                raise FileProblem(f"{path or 'the file'} has a key that is not text; put it in quotes")
        self._path = path
        self._values = dict(cast("dict[str, object]", value))
        self._known: list[str] = []

    def where(self, key: str) -> str:
        """The key's full path."""
        shown = key if _SHOWABLE.fullmatch(key) else "(a key)"
        return f"{self._path}.{shown}" if self._path else shown

    def has(self, key: str) -> bool:
        """Whether the key is there and not taken yet."""
        return key in self._values

    def take(self, key: str) -> object:
        """The value as it is, None when absent. An empty value counts as absent: YAML writes both alike."""
        self._known.append(key)
        return self._values.pop(key, None)

    def text(self, key: str, *, max_chars: int) -> str:
        """Text; empty when absent."""
        value = self.take(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise FileProblem(f"{self.where(key)} must be text; put it in quotes")
        if len(value) > max_chars:
            raise FileProblem(f"{self.where(key)} has {len(value)} characters; the limit is {max_chars}")
        return value

    def boolean(self, key: str) -> bool | None:
        """True or false; None when absent."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise FileProblem(f"{self.where(key)} must be true or false")
        return value

    def integer(self, key: str, *, least: int, most: int) -> int | None:
        """A whole number within limits; None when absent."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise FileProblem(f"{self.where(key)} must be a whole number from {least} to {most}")
        return value

    def number(self, key: str, *, least: float, most: float) -> float | None:
        """A number within limits; None when absent."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise FileProblem(f"{self.where(key)} must be a number from {least:g} to {most:g}")
        return float(value)

    def texts(self, key: str, *, most: int, max_chars: int) -> tuple[str, ...]:
        """A list of texts; empty when absent."""
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most:
            raise FileProblem(f"{self.where(key)} must be a list of at most {most} texts")
        for item in value:
            if not isinstance(item, str) or not 1 <= len(item) <= max_chars:
                raise FileProblem(f"{self.where(key)} must hold texts of 1 to {max_chars} characters")
        return tuple(value)

    def section(self, key: str) -> Section | None:
        """A mapping; None when absent."""
        value = self.take(key)
        return None if value is None else Section(value, self.where(key))

    def sections(self) -> Iterator[tuple[str, Section]]:
        """Every remaining key with its mapping; an empty value is an empty mapping."""
        for key in list(self._values):
            value = self._values.pop(key)
            yield key, Section({} if value is None else value, self.where(key))

    def keys(self) -> list[str]:
        """Keys that are not taken yet."""
        return list(self._values)

    def done(self) -> None:
        """Raises FileProblem for the first key that nobody took."""
        for key in self._values:
            raise FileProblem(f"{self.where(key)} is not a known key{nearest(key, self._known)}")


def nearest(name: str, known: Sequence[str]) -> str:
    """Ends a sentence: "; did you mean …?", or the known names when none is near."""
    matches = difflib.get_close_matches(name[:64], known, n=1)
    return f"; did you mean {matches[0]}?" if matches else f"; it can be {', '.join(known)}"
