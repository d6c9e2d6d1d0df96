"""An exported audit log, verified without a database: chain, tree, signatures, and that nothing is missing.

An export is lines of `<kind> <SHA-256 in hex> <content>`: `begin`, then events with the checkpoints that cover them,
then `end` with the counts. The hash of an event is its leaf hash; that of any other line is over its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from services.identity.core.audit import GENESIS, canonical
from services.identity.core.checkpoints import Checkpoint, Claim, bears_signature, read_note
from services.identity.core.merkle import Frontier, leaf_hash

FORMAT = "llmops-audit/1"
_PARTS = 3
VerifyNote = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong: where, and what it means. `sequence` 0 means no event in particular."""

    line: int
    sequence: int
    text: str


@dataclass(slots=True)
class Verdict:
    """What a verification found."""

    events: int = 0
    checkpoints: int = 0
    signatures: int = 0
    # Checkpoints without any signature before the first signed one, and the line of the last of them.
    unsigned: int = 0
    unsigned_line: int = 0
    # The newest checkpoint whose signature was checked: how many events it covers, and when it was made.
    signed_events: int = 0
    signed_time: str = ""
    roots: dict[int, bytes] = field(default_factory=dict)
    problem: Problem | None = None


class _Broken(Exception):
    """Ends the verification at the first problem."""


def export_lines(parts: Iterable[tuple[str, bytes] | Checkpoint]) -> Iterator[str]:
    """The lines of an export, from events (text and leaf hash) and checkpoints in the order of the log."""
    yield _line("begin", canonical({"format": FORMAT}))
    events = checkpoints = 0
    for part in parts:
        if isinstance(part, Checkpoint):
            checkpoints += 1
            yield _line("checkpoint", canonical(part.note))
        else:
            events += 1
            yield f"event {part[1].hex()} {part[0]}"
    yield _line("end", canonical({"checkpoints": checkpoints, "events": events}))


def _line(kind: str, content: str) -> str:
    return f"{kind} {hashlib.sha256(content.encode()).hexdigest()} {content}"


def verify(data: bytes, verify_note: VerifyNote | None = None, known: dict[int, bytes] | None = None) -> Verdict:
    """Verifies an export.

    With signatures, the newest checkpoint must be signed. Those from before the log was signed may bear none: the first
    signed one is over all their events as well.

    Args:
        data: the file.
        verify_note: whether a checkpoint is signed by somebody who is trusted; None checks no signatures.
        known: roots by number of events from an earlier export: what was true then must be true now.
    """
    return _Verification(verify_note, known or {}).run(data)


class _Verification:
    def __init__(self, verify_note: VerifyNote | None, known: dict[int, bytes]) -> None:
        self._verify_note = verify_note
        self._known = known
        self._verdict = Verdict()
        self._tree = Frontier()
        self._last = GENESIS
        self._line = 0
        self._covered = 0
        self._kinds: dict[bytes, Callable[[bytes, bytes], None]] = {
            b"event": self._event,
            b"checkpoint": self._checkpoint,
        }

    def run(self, data: bytes) -> Verdict:
        verdict = self._verdict
        try:
            self._walk(data)
        except _Broken as broken:
            verdict.problem = Problem(self._line, broken.args[1], broken.args[0])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Hashed well and still no line of ours: somebody wrote it.
            verdict.problem = Problem(self._line, self._tree.count + 1, "the line is not one that an export holds")
        verdict.events = self._tree.count
        return verdict

    def _walk(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        self._line = 1
        if json.loads(self._other(lines[0] if lines else rest, b"begin")) != {"format": FORMAT}:
            raise self._broken(f"this is not an export of the format {FORMAT}")
        ended = lines[-1].startswith(b"end ") if lines else False
        for self._line, line in enumerate(lines[1:-1] if ended else lines[1:], start=2):
            kind, _, _ = line.partition(b" ")
            read = self._kinds.get(kind)
            if read is None:
                raise self._broken("the line was changed: it is neither an event nor a checkpoint", following=True)
            read(*self._parts(line))
        self._line = len(lines) + (not ended)
        if not ended:
            raise self._broken(f"the export was truncated after event {self._tree.count}, or its last line was changed")
        self._end(lines[-1])
        if rest:
            self._line += 1
            raise self._broken("something was added after the end")

    def _end(self, line: bytes) -> None:
        counts = json.loads(self._other(line, b"end"))
        found = {"checkpoints": self._verdict.checkpoints, "events": self._tree.count}
        if counts != found:
            raise self._broken(
                f"the log had {counts['events']} events and {counts['checkpoints']} checkpoints when it was exported; "
                f"{found['events']} and {found['checkpoints']} are here: the rest is missing before this line"
            )
        missing = [count for count in self._known if count > self._tree.count]
        if missing:
            raise self._broken(f"an earlier export had {max(missing)} events; the log was rolled back")
        self._check_covered()

    def _check_covered(self) -> None:
        """The export ends with a checkpoint: what stands behind the last one could be anybody's."""
        count = self._tree.count
        if self._covered < count:
            raise self._broken(f"no checkpoint covers event {self._covered + 1} to event {count}", at=self._covered + 1)
        if self._verify_note is not None and not self._verdict.signatures:
            raise self._broken("nothing here is signed by a key that was given")

    def _parts(self, line: bytes) -> tuple[bytes, bytes]:
        parts = line.split(b" ", _PARTS - 1)
        if len(parts) != _PARTS:
            raise self._broken("the line was changed: a part is missing", following=True)
        return parts[1], parts[2]

    def _other(self, line: bytes, kind: bytes) -> bytes:
        if not line.startswith(kind + b" "):
            raise self._broken(f"the line was changed: it does not begin with {kind.decode()!r}")
        digest, content = self._parts(line)
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise self._broken("the line was changed")
        return content

    def _event(self, digest: bytes, content: bytes) -> None:
        leaf = leaf_hash(content)
        if leaf.hex().encode() != digest:
            raise self._broken("the event was changed", following=True)
        event: dict[str, Any] = json.loads(content)
        self._check_place(event["sequence"])
        if event["previous"] != self._last.hex():
            at = self._tree.count
            raise self._broken(
                f"event {at} was replaced by another" if at else "the first event names one before it", at=max(at, 1)
            )
        self._tree.append(leaf)
        self._last = leaf
        self._check_known()

    def _check_place(self, sequence: object) -> None:
        if type(sequence) is not int:
            raise ValueError("a place in the log is a whole number")
        due = self._tree.count + 1
        if sequence > due:
            raise self._broken(f"event {due} is missing here, or stands elsewhere", at=due)
        if sequence < due:
            raise self._broken(f"event {sequence} stands here again, or out of order", at=sequence)

    def _check_known(self) -> None:
        count = self._tree.count
        if count in self._known and self._known[count] != self._tree.root():
            raise self._broken(f"the first {count} events are not those of the earlier export", at=count)

    def _checkpoint(self, digest: bytes, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise self._broken("the checkpoint was changed")
        verdict = self._verdict
        note = json.loads(content)
        claim = read_note(note)
        if claim.leaf_count != self._tree.count:
            raise self._broken(f"a checkpoint over {claim.leaf_count} events stands after event {self._tree.count}")
        if claim.root != self._tree.root():
            # Where signatures are checked, nobody vouches for what an unsigned checkpoint says.
            last_good = self._covered if self._verify_note is None else verdict.signed_events
            between = f"between event {last_good + 1} and event {claim.leaf_count}"
            raise self._broken(f"the checkpoint's root is not that of these events: the log was rewritten {between}")
        if self._verify_note is not None:
            self._check_signature(note, claim, self._verify_note)
        verdict.checkpoints += 1
        verdict.roots[claim.leaf_count] = claim.root
        self._covered = claim.leaf_count

    def _check_signature(self, note: str, claim: Claim, verify_note: VerifyNote) -> None:
        verdict = self._verdict
        if verify_note(note):
            verdict.signatures += 1
            verdict.signed_events, verdict.signed_time = claim.leaf_count, claim.time
        elif bears_signature(note):
            raise self._broken("the checkpoint is not signed by a key that was given")
        elif verdict.signatures:
            raise self._broken("the checkpoint is not signed, and one before it is")
        else:
            verdict.unsigned += 1
            verdict.unsigned_line = self._line

    def _broken(self, text: str, *, at: int = 0, following: bool = False) -> _Broken:
        return _Broken(text, at or (self._tree.count + 1 if following else 0))
