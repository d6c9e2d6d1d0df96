"""What the import notes while it reads: which keys were understood, and which were not and why."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
# Plain text there, and filled in from the environment here.
_OURS = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")

# No count, time or weight of a configuration is larger.
_MOST = 1e15


@dataclass(frozen=True, slots=True)
class Refused:
    """A key that has no counterpart. `advice` says what to do instead."""

    path: str
    advice: str


@dataclass(slots=True)
class Report:
    """Everything that is to be told. `notes` are about keys that were mapped, but not one to one."""

    refused: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, path: str, advice: str) -> None:
        """Notes a key that could not be mapped."""
        if Refused(path, advice) not in self.refused:
            self.refused.append(Refused(path, advice))

    def note(self, path: str, remark: str) -> None:
        """Notes what became of a key that was mapped."""
        if f"{path}: {remark}" not in self.notes:
            self.notes.append(f"{path}: {remark}")


class Section:
    """A mapping of the file. Whoever takes a key has understood it; `close` refuses the rest."""

    def __init__(self, raw: object, path: str, report: Report) -> None:
        self.path = path
        self.report = report
        self._raw: dict[str, object] = {}
        if isinstance(raw, Mapping):
            self._raw = {str(key): value for key, value in raw.items()}
        elif raw is not None:
            report.refuse(path, "expected a mapping of keys")

    def names(self) -> tuple[str, ...]:
        """The keys that nobody has taken yet."""
        return tuple(self._raw)

    def take(self, key: str) -> object:
        """The value, None when there is none."""
        return self._raw.pop(key, None)

    def peek(self, key: str) -> object:
        """The value, which is left for somebody to take."""
        return self._raw.get(key)

    def text(self, *keys: str) -> str:
        """The first of these that is there, with `os.environ/NAME` written as `${NAME}`; empty when none is."""
        found = ""
        for key in keys:
            value = self.take(key)
            if value is None:
                continue
            if isinstance(value, Mapping | list):
                self.report.refuse(f"{self.path}.{key}", "expected text")
            elif _OURS.search(str(value)):
                self.report.refuse(f"{self.path}.{key}", "${…} would be filled in here; write os.environ/NAME")
            elif found:
                self.report.note(f"{self.path}.{key}", f"left out, {keys[0]} is there")
            else:
                found = _REFERENCE.sub(r"${\1}", str(value))
        return found

    def number(self, key: str, *, at_least: float = 0.0) -> float | None:
        """A number; what is none, or too small, or has no end, is refused."""
        value = self.take(key)
        if value is None:
            return None
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not at_least <= number < _MOST:
            self.report.refuse(f"{self.path}.{key}", f"expected a number of {at_least:g} or more")
            return None
        return number

    def first_number(self, key: str, other: Section) -> tuple[float | None, str]:
        """A number of this section, else of the other one, and where it was written."""
        own, others = self.number(key), other.number(key)
        path = f"{other.path}.{key}"
        if own is None:
            return others, path
        if others is not None:
            self.report.note(path, f"left out, {self.path} has it")
        return own, f"{self.path}.{key}"

    def positive(self, key: str) -> float | None:
        """A number above zero."""
        number = self.number(key)
        if number == 0:
            self.report.refuse(f"{self.path}.{key}", "expected a number above zero")
            return None
        return number

    def flag(self, key: str) -> bool | None:
        """True or false; anything else is refused."""
        value = self.take(key)
        if value is None or isinstance(value, bool):
            return value
        self.report.refuse(f"{self.path}.{key}", "expected true or false")
        return None

    def settle(self, key: str, why: str) -> None:
        """Takes a key that needs no counterpart, and says why."""
        if self.take(key) is not None:
            self.report.note(f"{self.path}.{key}".lstrip("."), why)

    def entries(self, key: str) -> Iterator[tuple[str, object]]:
        """The elements of a list with their paths."""
        value = self.take(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.report.refuse(f"{self.path}.{key}".lstrip("."), "expected a list")
            return
        for number, entry in enumerate(value):
            yield f"{self.path}.{key}[{number}]".lstrip("."), entry

    def close(self, advice: Mapping[str, str], otherwise: str) -> None:
        """Refuses what nobody took; `advice` by the beginning of a key, `otherwise` for the rest."""
        for key, value in self._raw.items():
            if value is None:
                continue
            why = next((text for start, text in advice.items() if key.startswith(start)), otherwise)
            self.report.refuse(f"{self.path}.{key}".lstrip("."), why)
        self._raw.clear()
