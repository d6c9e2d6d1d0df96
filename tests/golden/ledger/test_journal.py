"""What the journal stores, byte for byte: rows of earlier releases must stay readable.

To accept an intended change, run with `LLMOPS_REGEN=1` and review the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from services.ledger.adapters.codec import decode_answer, written
from services.ledger.core.limits import Limit, Scope, Unit
from services.ledger.core.operations import Kind, LeaseTerms
from services.ledger.core.seals import Head, restored_entry
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, Desk, count_limit, done, limit, used_tokens

GOLDEN = Path(__file__).parent / "journal.json"
# As it was written before migration 0003: shorter answers, and no meters.
OLD = Path(__file__).parent / "journal-before-0003.json"
ANSWER = 11


def history() -> Desk:
    """Every kind of entry once, denials, alerts, overruns and late commits included."""
    limits = [limit(Scope.USER, Period.HOUR, 100), limit(Scope.ORGANISATION, Period.QUERY, 90)]
    desk = Desk([*limits, count_limit(Unit.TOKENS, 600), count_limit(Unit.CONCURRENCY, 3)])
    hold = desk.reserve(50, request_id="granted")
    desk.reserve(95, request_id="denied")
    done(desk.ledger.extend(ADA, "extended", hold.reservation_id, 35, 20, 30 * MICROSECONDS))
    done(desk.ledger.extend(ADA, "refused", hold.reservation_id, 40, 30, 30 * MICROSECONDS))
    desk.clock.turn(61)
    done(desk.ledger.sweep(10))
    lines = [used_tokens(40), used_tokens(3, 2, "double", "other-ai")]
    done(desk.ledger.commit(ADA, "late", hold.reservation_id, lines))
    desk.void(desk.reserve(1, request_id="short").reservation_id, "voided")
    done(desk.ledger.set_limit(ADA, "limited", Limit("", "acme", Scope.TEAM, "", Period.DAY, 5)))
    desk.adjust(hold.reservation_id, -12, request_id="adjusted")
    desk.dispatch(desk.reserve(2, request_id="sent").reservation_id, "dispatched")
    terms = LeaseTerms((("acme-ai", "unit"),), settle_us=MICROSECONDS)
    done(desk.ledger.allot(ADA, "allotted", 10, 10 * MICROSECONDS, "edge-1", terms))
    desk.memory.journal.append(restored_entry(Head(9, bytes(32)), Head(7, bytes(32)), 1))
    return desk


def rows(desk: Desk) -> list[list[object]]:
    entries: list[list[object]] = json.loads(written(desk.memory.books, frozenset(), desk.memory.journal, 0)[1])
    return entries


def test_the_journal_is_written_as_ever() -> None:
    found = rows(history())
    if os.environ.get("LLMOPS_REGEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(GOLDEN.read_text())


def test_stored_answers_are_read_as_they_were_given() -> None:
    desk = history()
    for row, entry in zip(json.loads(GOLDEN.read_text()), desk.memory.journal, strict=True):
        assert decode_answer(Kind(row[0]), json.dumps(row[ANSWER])) == entry.answer
    assert {entry.key.kind for entry in desk.memory.journal} == set(Kind)


def test_answers_of_older_programs_are_read() -> None:
    for row in json.loads(OLD.read_text()):
        answer = decode_answer(Kind(row[0]), json.dumps(row[ANSWER]))
        plain = [value for value in row[ANSWER] if not isinstance(value, (list, dict))]
        assert [value for value in answer if not isinstance(value, (tuple, Limit))][: len(plain)] == plain
