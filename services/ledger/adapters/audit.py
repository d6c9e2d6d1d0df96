"""The books checked from outside: counters recounted from the journal, and the journal as CSV.

Everything is read in one snapshot, so that it can run beside a ledger at work.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TextIO

from services.ledger.core import rates
from services.ledger.core.operations import Kind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Check(NamedTuple):
    """A law of the books. `query` gives what breaks it: where, what is expected, what is found."""

    law: str
    query: str


class Difference(NamedTuple):
    """The first place where the books break a law."""

    law: str
    where: str
    expected: int
    found: int


# Counters of money are those of a reservation that its meters do not name.
_HOLDS = """
    SELECT c.id, sum(r.held_nano_usd) AS held FROM reservations r, unnest(r.counter_ids) AS c (id)
    WHERE r.state = 1 AND NOT EXISTS (
        SELECT FROM jsonb_array_elements(coalesce(r.terms -> 5, '[]')) m WHERE (m ->> 0)::uuid = c.id
    ) GROUP BY c.id
    UNION ALL
    SELECT (m ->> 0)::uuid, sum((m ->> 2)::bigint) FROM reservations r,
        jsonb_array_elements(coalesce(r.terms -> 5, '[]')) m
    WHERE r.state = 1 AND (m ->> 1)::int = 4 GROUP BY 1
"""
CHECKS = (
    Check(
        "postings sum to zero",
        """SELECT 'entry ' || seq, 0, total FROM (
            SELECT j.seq, sum((p ->> 1)::numeric) AS total FROM journal j, jsonb_array_elements(j.postings) p
            GROUP BY j.seq
        ) x WHERE total <> 0 ORDER BY seq LIMIT 1""",
    ),
    Check(
        "what is spent is debited to keys",
        """SELECT 'entry ' || seq, spent_delta_nano_usd, debited FROM (
            SELECT j.seq, j.spent_delta_nano_usd, coalesce((SELECT sum((p ->> 1)::numeric)
                FROM jsonb_array_elements(j.postings) p WHERE p ->> 0 LIKE 'key:%'), 0) AS debited
            FROM journal j
        ) x WHERE spent_delta_nano_usd <> debited ORDER BY seq LIMIT 1""",
    ),
    Check(
        "counters spent what the journal says",
        # A row that is gone counts as zero: whoever deletes one gives a budget anew.
        """SELECT 'counter ' || coalesce(c.counter_id, j.id), coalesce(j.spent, 0), coalesce(c.spent_nano_usd, 0)
        FROM counters c FULL JOIN (
            SELECT id, sum(spent_delta_nano_usd) AS spent FROM journal, unnest(counter_ids) id GROUP BY id
        ) j ON j.id = c.counter_id
        WHERE coalesce(c.spent_nano_usd, 0) <> coalesce(j.spent, 0) ORDER BY 1 LIMIT 1""",
    ),
    Check(
        "counters hold what the journal says",
        """SELECT 'counter ' || coalesce(c.counter_id, j.id), coalesce(j.held, 0), coalesce(c.held_nano_usd, 0)
        FROM counters c FULL JOIN (
            SELECT id, sum(held) AS held FROM (
                SELECT unnest(counter_ids) AS id, held_delta_nano_usd AS held FROM journal
                UNION ALL
                SELECT (m ->> 0)::uuid, (m ->> 2)::bigint FROM journal, jsonb_array_elements(meters) m
                WHERE (m ->> 1)::int = 4
            ) x GROUP BY id
        ) j ON j.id = c.counter_id
        WHERE coalesce(c.held_nano_usd, 0) <> coalesce(j.held, 0) ORDER BY 1 LIMIT 1""",
    ),
    Check(
        "counters hold what live reservations hold",
        f"""SELECT 'counter ' || c.counter_id, coalesce(h.held, 0), c.held_nano_usd FROM counters c
        LEFT JOIN ({_HOLDS}) h ON h.id = c.counter_id
        WHERE c.held_nano_usd <> coalesce(h.held, 0) ORDER BY c.counter_id LIMIT 1""",  # noqa: S608 - a constant
    ),
    Check(
        "reservations booked what the journal says",
        """SELECT 'reservation ' || r.reservation_id, coalesce(j.spent, 0), r.booked_nano_usd FROM reservations r
        LEFT JOIN (
            SELECT reservation_id, sum(spent_delta_nano_usd) AS spent FROM journal GROUP BY reservation_id
        ) j USING (reservation_id)
        WHERE r.booked_nano_usd <> coalesce(j.spent, 0) ORDER BY r.reservation_id LIMIT 1""",
    ),
)
_RATE_MOVEMENTS = """
SELECT m ->> 0 AS id, j.at_us, (m ->> 2)::bigint AS by_ns FROM journal j, jsonb_array_elements(j.meters) m
WHERE j.meters <> '[]' AND (m ->> 1)::int IN (2, 3) ORDER BY j.seq
"""
_RATES = "SELECT counter_id::text, tat_ns FROM counters WHERE unit IN (2, 3)"
_JOURNAL = """
SELECT seq, at_us, organisation, kind, request_id, reservation_id, held_delta_nano_usd, spent_delta_nano_usd,
    counter_ids::text, postings::text, lines::text, meters::text, note FROM journal
WHERE $1 = '' OR organisation = $1 ORDER BY seq
"""
CSV_HEADER = (
    "seq",
    "time",
    "organisation",
    "kind",
    "request_id",
    "reservation_id",
    "held_delta_nano_usd",
    "spent_delta_nano_usd",
    "counter_ids",
    "postings",
    "lines",
    "meters",
    "note",
)
# The full-width ones are signs as well where East Asian text is written.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


async def verify(connection: Any) -> Difference | None:
    """The first difference, or None where the books are right. `connection` is one of asyncpg."""
    async with _snapshot(connection):
        for check in CHECKS:
            row = await connection.fetchrow(check.query)
            if row is not None:
                return Difference(check.law, row[0], int(row[1]), int(row[2]))
        replayed: dict[str, int] = {}
        async for row in connection.cursor(_RATE_MOVEMENTS):
            now_ns = row["at_us"] * rates.NANOSECONDS_PER_MICROSECOND
            replayed[row["id"]] = rates.move(replayed.get(row["id"], 0), now_ns, row["by_ns"])
        found = dict(await connection.fetch(_RATES))
        for counter_id in sorted(replayed.keys() | found.keys()):
            expected_ns, tat_ns = replayed.get(counter_id, 0), found.get(counter_id, 0)
            if expected_ns != tat_ns:
                return Difference("rates moved as the journal says", f"counter {counter_id}", expected_ns, tat_ns)
    return None


async def export_csv(connection: Any, out: TextIO, organisation: str = "") -> int:
    """Writes the journal, oldest entry first; returns the number of entries. Amounts are nano-USD."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    entries = 0
    async with _snapshot(connection):
        async for seq, at_us, owner, kind, *rest in connection.cursor(_JOURNAL, organisation):
            time = (_EPOCH + timedelta(microseconds=at_us)).isoformat()
            writer.writerow((seq, time, _harmless(owner), Kind(kind).name.lower(), *map(_harmless, rest)))
            entries += 1
    return entries


def _harmless(cell: object) -> object:
    """Ids and reasons come from callers: none may end the row, and a spreadsheet must not take one for a formula."""
    if not isinstance(cell, str):
        return cell
    written = cell.replace("\r", r"\r").replace("\n", r"\n")
    return f"'{written}" if cell.lstrip().startswith(_FORMULA_SIGNS) else written


@asynccontextmanager
async def _snapshot(connection: Any) -> AsyncIterator[None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield
