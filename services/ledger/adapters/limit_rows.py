"""Changes of limits in PostgreSQL, in a transaction of the caller. The row of the version lets one happen at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.ledger.adapters import statements
from services.ledger.adapters.codec import decode_answer, limit_of, limit_row, text, usage_arguments
from services.ledger.core import decide, limit_changes
from services.ledger.core.errors import LedgerError
from services.ledger.core.limits import Limit, LimitSet, declare
from services.ledger.core.operations import SetLimit
from services.ledger.core.ports import window_query


async def declare_limits(connection: Any, limits: Sequence[Limit]) -> None:
    """See Store."""
    before = await _lock(connection)
    await _save(connection, before, declare(before, limits))


async def set_limit(
    connection: Any, operation: SetLimit, time_us: Callable[[], int], max_limits: int
) -> decide.Outcome:
    """See Store. What is decided here was decided under the lock: the moment, the answer, and what is counted."""
    before = await _lock(connection)
    known = await connection.fetchrow(statements.ANSWER, *operation.key)
    if known is not None:
        answer = decode_answer(operation.key.kind, known["answer"])
        return decide.replay((known["fingerprint"], answer), operation.fingerprint)
    now_us, wanted = time_us(), operation.limit
    left = limit_changes.left_window(before, wanted, now_us)
    if left is not None:
        # Batches that are under way count what nobody sees yet; those that come wait, and find the limits changed. A
        # batch that does not end is waited for shortly: asyncpg.LockNotAvailableError.
        await connection.fetchval(statements.SETTLED_SEQ)
    counted = left is not None and bool(
        await connection.fetch(statements.USAGE, *usage_arguments(window_query(wanted, left)))
    )
    try:
        after, entry = limit_changes.set_limit(before, operation, now_us, max_limits, counted=counted)
    except LedgerError as error:
        return decide.Outcome(error)
    await _save(connection, before, after)
    organisation, kind, request_id = entry.key
    arguments = (now_us, kind, organisation, request_id, entry.fingerprint, text(entry.answer), entry.note)
    await connection.execute(statements.PLAIN_ENTRY, *arguments)
    return decide.Outcome(entry.answer, (entry,))


async def _lock(connection: Any) -> LimitSet:
    version = await connection.fetchval(statements.LOCK_LIMITS)
    return LimitSet(version, map(limit_of, await connection.fetch(statements.LIMITS)))


async def _save(connection: Any, before: LimitSet, after: LimitSet) -> None:
    if after is before:
        return
    await connection.execute(statements.DROP_LIMITS, [i for i in before.by_id if i not in after.by_id])
    changed = [limit for i, limit in after.by_id.items() if before.by_id.get(i) != limit]
    await connection.executemany(statements.SAVE_LIMITS, [limit_row(limit) for limit in changed])
    await connection.execute(statements.SAVE_LIMITS_VERSION, after.version)
