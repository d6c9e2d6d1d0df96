"""An exported audit log: whatever is done to it, it is found, and where."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.identity.adapters.signing import NoteSigner, NoteVerifier
from services.identity.core import audit
from services.identity.core.audit import Deed, Event, LogHead, append
from services.identity.core.checkpoints import Checkpoint, make_checkpoint, read_note
from services.identity.core.verification import Verdict, export_lines, verify
from tests.support.identity_world import ACME, ADMIN, START

SIGNER = NoteSigner("test/audit", base64.b64encode(bytes(range(32))).decode())
STRANGER = NoteSigner("test/audit", base64.b64encode(bytes(32)).decode())
CHECK = NoteVerifier(SIGNER.verifier_key()).verify


def a_log(count: int, every: int = 4, name: str = "org") -> list[Event | Checkpoint]:
    """Events with a checkpoint after every few, as the service keeps them."""
    head, log = LogHead(), []
    for number in range(1, count + 1):
        deed = Deed("organisation.create", f"{name}-{number}", f"organisation/{name}-{number}", {}, {"é": "\n\u2028"})
        event, head = append(head, deed, ADMIN, f"r-{number}", START)
        log.append(event)
        if number % every == 0 or number == count:
            log.append(make_checkpoint("test/audit", head.count, head.tree().root(), START, SIGNER))
    return log


def export(log: list[Event | Checkpoint]) -> bytes:
    parts = ((e.text, e.leaf_hash) if isinstance(e, Event) else e for e in log)
    return "".join(f"{line}\n" for line in export_lines(parts)).encode()


def unsigned(checkpoint: Event | Checkpoint) -> Checkpoint:
    """As somebody leaves it who has no key, or a service that has none."""
    assert isinstance(checkpoint, Checkpoint)
    return replace(checkpoint, note=checkpoint.note.partition("— ")[0])


LOG = a_log(10)
EXPORT = export(LOG)
LINES = EXPORT.splitlines(keepends=True)
# Lines by number, from 1: begin, events and checkpoints, end.
SEQUENCES = {at: (part.sequence if isinstance(part, Event) else 0) for at, part in enumerate(LOG, start=2)}


def found(data: bytes) -> tuple[int, int, str]:
    problem = verify(data, CHECK).problem
    assert problem is not None, "nothing was found"
    return problem.line, problem.sequence, problem.text


def test_an_untouched_export_is_whole() -> None:
    verdict = verify(EXPORT, CHECK)
    assert (verdict.problem, verdict.events, verdict.checkpoints, verdict.signatures) == (None, 10, 3, 3)
    assert verify(EXPORT).signatures == 0


def test_the_last_signed_count_and_time_are_told() -> None:
    verdict = verify(EXPORT, CHECK)
    assert (verdict.signed_events, verdict.signed_time) == (10, START.isoformat())


def test_an_empty_log_is_whole() -> None:
    assert verify(export([])) == Verdict()


def test_a_log_that_nobody_signed_is_refused_with_a_public_key() -> None:
    # Found by review: an export that somebody wrote anew, its `end` too, passed for want of anything to check.
    assert found(export([]))[2] == "nothing here is signed by a key that was given"
    forged = rewritten([part for part in LOG if isinstance(part, Event)], 3, consistently=True)
    assert found(export(forged))[1:] == (1, "no checkpoint covers event 1 to event 10")


@pytest.mark.parametrize("cut", [5, 6, 8])
def test_events_behind_the_last_checkpoint_are_refused(cut: int) -> None:
    # `end` is written anew: everything hashes well, and events 5 and so on are covered by nothing.
    log = [part for part in LOG[: cut + 1] if isinstance(part, Event) or part.leaf_count == 4]
    assert isinstance(log[-1], Event)
    for check in (CHECK, None):
        problem = verify(export(log), check).problem
        assert problem is not None
        assert problem.text == f"no checkpoint covers event 5 to event {log[-1].sequence}"
        assert problem.sequence == 5


def test_an_invented_tail_is_refused_though_an_unsigned_checkpoint_covers_it() -> None:
    *signed, last = LOG
    assert isinstance(last, Checkpoint)
    assert found(export([*signed, unsigned(last)]))[2] == "the checkpoint is not signed, and one before it is"


def test_a_tail_deleted_behind_a_signed_checkpoint_is_found_by_an_earlier_export_only() -> None:
    # What a signature does not prove: README and SECURITY say so.
    shorter = LOG[:5]
    assert isinstance(shorter[-1], Checkpoint)
    assert verify(export(shorter), CHECK).problem is None
    rolled_back = verify(export(shorter), CHECK, verify(EXPORT, CHECK).roots).problem
    assert rolled_back is not None
    assert "the log was rolled back" in rolled_back.text


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(EXPORT) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found_and_located(at: int, difference: int) -> None:
    line = EXPORT.count(b"\n", 0, at) + 1
    changed = EXPORT[:at] + bytes([EXPORT[at] ^ difference]) + EXPORT[at + 1 :]
    where, sequence, text = found(changed)
    assert where == line, text
    # In a line that holds an event, it is that event.
    if SEQUENCES.get(line):
        assert sequence == SEQUENCES[line]


def test_every_single_byte_is_guarded() -> None:
    for at in range(len(EXPORT)):
        changed = EXPORT[:at] + bytes([EXPORT[at] ^ 1]) + EXPORT[at + 1 :]
        assert verify(changed).problem is not None, f"byte {at} may be changed"


def test_a_missing_event_is_named() -> None:
    assert found(b"".join(LINES[:3] + LINES[4:]))[1:] == (3, "event 3 is missing here, or stands elsewhere")


def test_reordered_and_repeated_events_are_named() -> None:
    assert found(b"".join([*LINES[:2], LINES[3], LINES[2], *LINES[4:]]))[1] == 2
    assert found(b"".join([*LINES[:3], LINES[2], *LINES[3:]]))[1:] == (2, "event 2 stands here again, or out of order")


@pytest.mark.parametrize("kept", range(len(LINES)))
def test_a_truncated_export_is_found(kept: int) -> None:
    line, _, text = found(b"".join(LINES[:kept]))
    assert line >= kept
    assert kept < 2 or "truncated after event" in text


def test_a_truncated_export_with_its_end_is_found() -> None:
    assert "missing" in found(b"".join([*LINES[:-3], LINES[-1]]))[2]


def test_something_behind_the_end_is_found() -> None:
    assert found(EXPORT + b"x")[2] == "something was added after the end"
    assert "neither an event nor a checkpoint" in found(EXPORT + b"x\n")[2]


def rewritten(log: list[Event | Checkpoint], at: int, *, consistently: bool) -> list[Event | Checkpoint]:
    """One event replaced, its hash with it; consistently: and every later link, as somebody with the database could."""
    head, made = LogHead(), []
    for part in log:
        if isinstance(part, Checkpoint):
            made.append(part)
            continue
        event = json.loads(part.text)
        if part.sequence == at:
            event["target"] = "organisation/forged"
        if consistently:
            event["previous"] = head.last_hash.hex()
        text = audit.canonical(event)
        leaf = audit.leaf_hash(text.encode())
        tree = head.tree()
        tree.append(leaf)
        head = LogHead(head.count + 1, leaf, tree.to_bytes())
        made.append(replace(part, text=text, leaf_hash=leaf))
    return made


@pytest.mark.parametrize("at", [1, 3, 7])
def test_a_replaced_event_with_a_fitting_hash_is_named_by_the_chain(at: int) -> None:
    line, sequence, text = found(export(rewritten(LOG, at, consistently=False)))
    assert (sequence, text) == (at, f"event {at} was replaced by another")
    assert SEQUENCES[line] == at + 1


@pytest.mark.parametrize(("at", "between"), [(1, "1 and event 4"), (6, "5 and event 8"), (10, "9 and event 10")])
def test_a_rewritten_chain_is_found_by_the_next_checkpoint(at: int, between: str) -> None:
    text = found(export(rewritten(LOG, at, consistently=True)))[2]
    assert between in text.replace("event 1 ", "1 ").replace("event 5 ", "5 ").replace("event 9 ", "9 ")


def test_a_log_rewritten_with_its_checkpoints_is_found_by_their_signatures() -> None:
    head, forged = LogHead(), []
    for number in range(1, 4):
        event, head = append(head, Deed("bootstrap", "x", "y"), ACME, f"{number}", START)
        forged.append(event)
    forged.append(make_checkpoint("test/audit", 3, head.tree().root(), START, STRANGER))
    assert verify(export(forged)).problem is None
    assert found(export(forged))[2] == "the checkpoint is not signed by a key that was given"
    assert found(export([*forged[:3], unsigned(forged[3])]))[2] == "nothing here is signed by a key that was given"


def test_a_log_that_was_signed_later_is_whole_and_its_unsigned_part_is_told() -> None:
    late = [unsigned(part) if isinstance(part, Checkpoint) and part.leaf_count == 4 else part for part in LOG]
    verdict = verify(export(late), CHECK)
    assert (verdict.problem, verdict.checkpoints, verdict.signatures) == (None, 3, 2)
    assert (verdict.unsigned, verdict.unsigned_line) == (1, 6)
    assert export(late).splitlines()[5].startswith(b"checkpoint ")
    assert verify(EXPORT, CHECK).unsigned == verify(export(late)).unsigned == 0


@pytest.mark.parametrize("at", [1, 4, 6])
def test_what_was_rewritten_before_the_first_signature_is_found_by_it(at: int) -> None:
    # With an unsigned checkpoint over four events that fits the forged ones.
    forged = rewritten(LOG, at, consistently=True)
    tree = audit.LogHead().tree()
    for part in forged[:4]:
        assert isinstance(part, Event)
        tree.append(part.leaf_hash)
    forged[4] = unsigned(make_checkpoint("test/audit", 4, tree.root(), START, SIGNER))
    assert verify(export(forged[:5])).problem is None
    assert found(export(forged))[2].endswith("the log was rewritten between event 1 and event 8")


def test_a_changed_signing_key_is_known_by_both() -> None:
    changed = [
        make_checkpoint("test/audit", 4, read_note(part.note).root, START, STRANGER)
        if isinstance(part, Checkpoint) and part.leaf_count == 4
        else part
        for part in LOG
    ]
    assert found(export(changed))[2] == "the checkpoint is not signed by a key that was given"
    stranger = NoteVerifier(STRANGER.verifier_key()).verify
    verdict = verify(export(changed), lambda note: CHECK(note) or stranger(note))
    assert (verdict.problem, verdict.signatures, verdict.unsigned) == (None, 3, 0)
    # The newest is by the other one.
    assert verify(export(changed), stranger).problem is not None


def test_a_rollback_and_another_past_are_found_by_an_earlier_export() -> None:
    earlier = verify(EXPORT, CHECK).roots
    assert verify(export(a_log(14)), CHECK, earlier).problem is None
    shorter = verify(export(a_log(9)), CHECK, earlier).problem
    assert shorter is not None
    assert "the log was rolled back" in shorter.text
    other = verify(export(a_log(14, name="other")), CHECK, earlier).problem
    assert other is not None
    assert (other.sequence, other.text) == (4, "the first 4 events are not those of the earlier export")


@pytest.mark.parametrize(
    "line", [b"event 00 {}", b"event", b"checkpoint x", b"\xff\xfe", b"", b"begin 00 {}", b"event " + b"0" * 64 + b" ["]
)
def test_nonsense_is_a_problem_and_no_crash(line: bytes) -> None:
    assert found(b"".join([*LINES[:2], line + b"\n", *LINES[2:]]))[0] == 3
    assert found(line)[0] == 1


def test_a_well_hashed_line_that_is_no_event_is_a_problem() -> None:
    numbers = (b'{"sequence":Infinity}', b'{"sequence":1e999}', b'{"sequence":1.0}', b'{"sequence":true}')
    for content in (b"[]", b"{}", b'{"sequence":"x"}', b"nonsense", b"\xff", *numbers):
        line = b"event " + audit.leaf_hash(content).hex().encode() + b" " + content + b"\n"
        assert "not one that an export holds" in found(LINES[0] + line + LINES[-1])[2]


def test_a_checkpoint_is_a_note_that_standard_tools_read() -> None:
    [*_, last] = LOG
    assert isinstance(last, Checkpoint)
    origin, count, root, time, blank, signature, end = last.note.split("\n")
    assert (origin, count, blank, end) == ("test/audit", "10", "", "")
    assert len(base64.b64decode(root)) == 32
    assert time.startswith("time 2026-11-28T12:00:00")
    # Name, then key id and Ed25519 signature: 4 + 64 bytes.
    assert signature.startswith("— test/audit ")
    assert len(base64.b64decode(signature.split(" ")[2])) == 68
    assert read_note(last.note).leaf_count == 10


@pytest.mark.parametrize("note", ["", "a\n1\n", "a\nx\nAA==\n\n", "a\n1\nAA==\n\n", "a\n1\n***\n\n"])
def test_a_note_that_is_none_is_refused(note: str) -> None:
    with pytest.raises(ValueError, match="checkpoint|base64|SHA-256"):
        read_note(note)


@pytest.mark.parametrize("key", ["", "a+b", "test/audit+00000000+AQ==", SIGNER.verifier_key()[:-4] + "AAA="])
def test_a_verifier_key_that_cannot_be_read_says_so(key: str) -> None:
    with pytest.raises(ValueError, match="not a verifier key"):
        NoteVerifier(key)
    with pytest.raises(ValueError, match="keygen"):
        NoteSigner("test/audit", key)
