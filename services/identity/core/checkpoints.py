"""Checkpoints of the audit log, in the form of C2SP tlog-checkpoint: a note that standard tools verify."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.identity.core.merkle import HASH_BYTES

_LEAST_BODY_LINES = 3
_TIME = "time "


class Signer(Protocol):
    """Signs notes."""

    def signature_line(self, body: bytes) -> str:
        """The signature of a note's text, as the line that stands below it; empty when nothing signs."""
        ...

    def signed(self, note: str) -> bool:
        """Whether this signer signed a note."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log was when it had so many events."""

    leaf_count: int
    note: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a note says: of which log, how many events, the root over them, and when; "" when it does not say."""

    origin: str
    leaf_count: int
    root: bytes
    time: str = ""


def make_checkpoint(origin: str, leaf_count: int, root: bytes, now: datetime, signer: Signer) -> Checkpoint:
    """The note over a tree head. The time is an extension line: signed, and ignored by other verifiers."""
    body = f"{origin}\n{leaf_count}\n{base64.b64encode(root).decode()}\n{_TIME}{now.isoformat()}\n"
    return Checkpoint(leaf_count, f"{body}\n{signer.signature_line(body.encode())}")


def read_note(note: str) -> Claim:
    """What a note says. Raises ValueError when it is none."""
    body, separator, _ = note.partition("\n\n")
    lines = body.split("\n")
    if not separator or len(lines) < _LEAST_BODY_LINES or not lines[1].isdecimal():
        raise ValueError("is not a checkpoint")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except binascii.Error:
        raise ValueError("has a root that is not base64") from None
    if len(root) != HASH_BYTES:
        raise ValueError("has a root that is not a SHA-256")
    times = (line.removeprefix(_TIME) for line in lines[_LEAST_BODY_LINES:] if line.startswith(_TIME))
    return Claim(lines[0], int(lines[1]), root, next(times, ""))


def bears_signature(note: str) -> bool:
    """Whether anything stands where signatures do, by whomever."""
    return bool(note.partition("\n\n")[2])
