"""`verify` finds what is wrong with the books, and finds nothing where they are right; the journal as CSV."""

from __future__ import annotations

import csv
import io

import pytest

from services.ledger.adapters.audit import CSV_HEADER, Difference, export_csv, verify
from services.ledger.adapters.sql import PostgresStore
from services.ledger.core.limits import Limit, Scope, Unit
from services.ledger.core.operations import Kept
from services.ledger.core.service import Ledger, Model
from services.ledger.core.windows import MICROSECONDS, Period
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_postgres import ledger_on, rows
from tests.unit.ledger.builders import ADA, TurnableClock, count_limit, limit, used_tokens

UNIT = [Model("acme-ai", "unit")]
LIMITS = [
    limit(Scope.ORGANISATION, Period.DAY, 1000),
    limit(Scope.USER, Period.HOUR, 500),
    count_limit(Unit.REQUESTS, 100),
    count_limit(Unit.TOKENS, 1000),
    count_limit(Unit.CONCURRENCY, 5),
]


@pytest.fixture
async def store(open_postgres: OpenStore, clock: TurnableClock) -> PostgresStore:
    """Books that saw every verb, with a live hold."""
    store = await open_postgres()
    await store.declare_limits(LIMITS)
    ledger = ledger_on(store, clock, "a")
    await busy(ledger, clock)
    return store


async def busy(ledger: Ledger, clock: TurnableClock) -> None:
    holds = [(await ledger.reserve(ADA, f"r{n}", UNIT, 0, 30, 30 * MICROSECONDS)).reservation_id for n in range(5)]
    await ledger.mark_dispatched(ADA, "d", holds[0])
    await ledger.mark_dispatched(ADA, "d4", holds[4])
    await ledger.extend(ADA, "e4", holds[4], 0, 11, 30 * MICROSECONDS)
    await ledger.extend(ADA, "e", holds[0], 5, 12, 30 * MICROSECONDS)
    await ledger.commit(ADA, "c1", holds[1], [used_tokens(25), used_tokens(15, 2, "double", "other-ai")])
    await ledger.adjust(ADA, "a1", holds[1], -5, "", "credit-note")
    await ledger.void(ADA, "v", holds[2], "=cache-hit")
    clock.turn(40)
    await ledger.sweep(10)
    await ledger.adjust(ADA, "a4", holds[4], 3, "", "by-hand")
    await ledger.void(ADA, "v4", holds[4], "=upstream-refused")
    await ledger.commit(ADA, "c0", holds[0], [used_tokens(20)])
    await ledger.commit(ADA, "o", holds[3][:12] + "-lost", [used_tokens(9)], accept_orphan=True)
    await ledger.reserve(ADA, "live", UNIT, 0, 40, 0)
    lent = await ledger.allot(ADA, "allot", 100, 30 * MICROSECONDS, "edge-1")
    await ledger.commit(ADA, "part", lent.allotment_id, [used_tokens(1)], lent=True, kept=Kept(99, 0))
    await ledger.set_limit(ADA, "lower", Limit("", "acme", Scope.USER, "", Period.HOUR, 60))
    assert (await ledger.reserve(ADA, "denied", UNIT, 0, 40, 0)).alerts


async def verified(store: PostgresStore) -> Difference | None:
    async with store._database.pool.acquire() as connection:
        return await verify(connection)


async def test_right_books_are_right(store: PostgresStore) -> None:
    assert await verified(store) is None


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        (
            """INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id,
            held_delta_nano_usd, spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
            VALUES (1, 8, 'acme', 'x', 0, '', 0, 0, '{}', '[["key:k", 5], ["provider:p", -4]]', '[]', '', '[]')""",
            "postings sum to zero",
        ),
        (
            """INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id,
            held_delta_nano_usd, spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
            VALUES (1, 8, 'acme', 'x', 0, '', 0, 7, '{}', '[["key:k", 5], ["provider:p", -5]]', '[]', '', '[]')""",
            "what is spent is debited to keys",
        ),
        ("UPDATE counters SET spent_nano_usd = spent_nano_usd + 1 WHERE unit = 1", "counters spent what"),
        ("UPDATE counters SET held_nano_usd = held_nano_usd + 1 WHERE unit = 4", "counters hold what the journal"),
        ("DELETE FROM counters WHERE unit = 1", "counters spent what"),
        ("DELETE FROM counters WHERE unit = 4", "counters hold what the journal"),
        ("DELETE FROM counters WHERE unit = 3", "rates moved as the journal says"),
        ("UPDATE reservations SET held_nano_usd = held_nano_usd + 1 WHERE state = 1", "counters hold what live"),
        ("UPDATE reservations SET state = 3 WHERE state = 1", "counters hold what live"),
        ("UPDATE reservations SET booked_nano_usd = booked_nano_usd + 1 WHERE state = 2", "reservations booked"),
        ("UPDATE counters SET tat_ns = tat_ns - 1 WHERE unit = 3", "rates moved as the journal says"),
    ],
)
async def test_the_first_difference_is_named(store: PostgresStore, damage: str, law: str) -> None:
    await rows(store, damage)
    found = await verified(store)
    assert found is not None
    assert found.law.startswith(law)
    assert found.expected != found.found


async def test_the_journal_as_csv(store: PostgresStore) -> None:
    out = io.StringIO()
    async with store._database.pool.acquire() as connection:
        entries = await export_csv(connection, out, "acme")
        assert await export_csv(connection, io.StringIO(), "globex") == 0
    header, *lines = csv.reader(io.StringIO(out.getvalue()))
    assert tuple(header) == CSV_HEADER
    assert len(lines) == entries
    found = {line[3]: line for line in lines}
    assert set(found) == {"reserve", "dispatch", "extend", "commit", "adjust", "void", "expire", "allot", "set_limit"}
    assert found["adjust"][1].startswith("2026-11-24T13:20:40")
    # A spreadsheet would run it.
    assert found["void"][-1] == "'=upstream-refused"


async def test_what_callers_write_stays_in_its_cell_and_is_no_formula(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """A bare carriage return ended the row, and what followed it could be a formula."""
    store = await open_postgres()
    ledger = ledger_on(store, clock, "a")
    reasons = ["left\r=1+1", "a\nb", "x\r\ny", "\r=1", " \t@SUM(A1)", "\N{FULLWIDTH EQUALS SIGN}1", "a=1", 'b", "=2']
    for number, reason in enumerate(reasons):
        hold = await ledger.reserve(ADA, f"r{number}\r@A1", UNIT, 0, 1, 0)
        await ledger.void(ADA, f"v{number}", hold.reservation_id, reason)
    out = io.StringIO(newline="")
    async with store._database.pool.acquire() as connection:
        assert await export_csv(connection, out) == 2 * len(reasons)
    lines = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert {len(line) for line in lines} == {len(CSV_HEADER)}
    assert out.getvalue().count("\n") == len(lines)
    assert "\r" not in out.getvalue()
    assert {line[4] for line in lines if line[3] == "reserve"} == {rf"r{n}\r@A1" for n in range(len(reasons))}
    assert [line[-1] for line in lines if line[3] == "void"] == [
        r"left\r=1+1",
        r"a\nb",
        r"x\r\ny",
        r"'\r=1",
        "' \t@SUM(A1)",
        "'\N{FULLWIDTH EQUALS SIGN}1",
        "a=1",
        'b", "=2',
    ]
