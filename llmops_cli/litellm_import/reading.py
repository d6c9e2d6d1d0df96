"""What the import notes while it reads: which keys were understood, and which were not and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


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
        self.refused.append(Refused(path, advice))


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

    def __contains__(self, key: str) -> bool:
        return self._raw.get(key) is not None

    def names(self) -> tuple[str, ...]:
        """The keys that nobody has taken yet."""
        return tuple(self._raw)

    def take(self, key: str) -> object:
        """The value, None when there is none."""
        return self._raw.pop(key, None)

    def text(self, *keys: str) -> str:
        """The first of these that is there, with `os.environ/NAME` written as `${NAME}`; empty when none is."""
        found = [value for value in (self.take(key) for key in keys) if value is not None]
        return _REFERENCE.sub(r"${\1}", str(found[0])) if found else ""

    def number(self, key: str) -> float | None:
        """A number; what is none is refused."""
        value = self.take(key)
        if value is None:
            return None
        try:
            return float(str(value))
        except ValueError:
            self.report.refuse(f"{self.path}.{key}", f"expected a number, found {value!r}")
            return None

    def entries(self, key: str) -> Iterator[tuple[str, object]]:
        """The elements of a list with their paths."""
        value = self.take(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.report.refuse(f"{self.path}.{key}", "expected a list")
            return
        for number, entry in enumerate(value):
            yield f"{self.path}.{key}[{number}]", entry

    def close(self, advice: Mapping[str, str], otherwise: str) -> None:
        """Refuses what nobody took; `advice` by the beginning of a key, `otherwise` for the rest."""
        for key, value in self._raw.items():
            if value is None:
                continue
            why = next((text for start, text in advice.items() if key.startswith(start)), otherwise)
            self.report.refuse(f"{self.path}.{key}".lstrip("."), why)
        self._raw.clear()
