"""Changes of limits in PostgreSQL, in a transaction of the caller. The row of the version lets one happen at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from services.ledger.adapters import statements
from services.ledger.adapters.codec import columns, decode_answer, key_of, limit_of, limit_row, text
from services.ledger.core import decide, limit_changes
from services.ledger.core.errors import LedgerError
from services.ledger.core.limits import CounterKey, Limit, LimitSet, declare
from services.ledger.core.operations import SetLimit


async def declare_limits(
    connection: Any, limits: Sequence[Limit], time_us: Callable[[], int], logger: logging.Logger
) -> None:
    """See Store. Tells what stands in another time zone than it is declared in."""
    before = await _lock(connection)
    now_us = time_us()
    used = await _used(connection, "", limit_changes.left_windows(before, declare(before, limits), now_us))
    after, forgotten = limit_changes.declare_and_keep(before, limits, used, now_us)
    await _save(connection, before, after)
    if keeping := [x.limit_id for x in limits if after.by_id[x.limit_id].time_zone != x.time_zone]:
        fields: dict[str, object] = {"limits": len(keeping), "first": keeping[0]}
        logger.warning("limits keep their time zone: their running windows are used", extra={"fields": fields})
    if forgotten:
        fields = {"counters": forgotten}
        logger.warning("limits of another time zone took the place of others, and count anew", extra={"fields": fields})


async def set_limit(
    connection: Any, operation: SetLimit, time_us: Callable[[], int], max_limits: int
) -> decide.Outcome:
    """See Store. What is decided here was decided under the lock: the moment, the answer, and what is counted."""
    before = await _lock(connection)
    known = await connection.fetchrow(statements.ANSWER, *operation.key)
    if known is not None:
        answer = decode_answer(operation.key.kind, known["answer"])
        return decide.replay((known["fingerprint"], answer), operation.fingerprint)
    now_us = time_us()
    try:
        after, entry = limit_changes.set_limit(before, operation, now_us, max_limits)
        windows = limit_changes.left_windows(before, after, now_us)
        used = await _used(connection, operation.limit.organisation, windows)
        limit_changes.refuse_forgetting(before, after, used, now_us)
    except LedgerError as error:
        return decide.Outcome(error)
    await _save(connection, before, after)
    organisation, kind, request_id = entry.key
    arguments = (now_us, kind, organisation, request_id, entry.fingerprint, text(entry.answer), entry.note)
    await connection.execute(statements.PLAIN_ENTRY, *arguments)
    return decide.Outcome(entry.answer, (entry,))


async def _used(connection: Any, organisation: str, windows: Sequence[tuple[int, int, int]]) -> list[CounterKey]:
    """Keys of what is counted in any of these windows, of one organisation or, unnamed, of all."""
    if not windows:
        return []
    # Batches that are under way count what nobody sees yet; those that come wait, and find the limits changed. A batch
    # that does not end is waited for shortly: asyncpg.LockNotAvailableError.
    await connection.fetchval(statements.SETTLED_SEQ)
    return [key_of(row) for row in await connection.fetch(statements.USED, organisation, *columns(windows, 3))]


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
