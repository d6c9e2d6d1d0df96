"""What was booked day by day, for a comparison with an invoice: every booking of those days is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.ledger.adapters import statements
from services.ledger.core.books import provider_account
from services.ledger.core.identities import id_bound
from services.ledger.core.ports import BookedDay

# A day of a busy mesh has a million entries: longer than statements of a service may take, shorter than callers wait.
_PATIENCE_S = 25


async def read(connection: Any, organisation: str, provider: str, days: Sequence[tuple[int, int]]) -> list[BookedDay]:
    """See Store."""
    starts, ends = zip(*days, strict=True)
    ids = ([id_bound(moment_us) for moment_us in moments] for moments in (starts, ends))
    arguments = (organisation, starts, ends, provider, provider_account(provider), *ids)
    async with connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = {_PATIENCE_S * 1000}", timeout=_PATIENCE_S)
        rows = await connection.fetch(statements.BOOKED_BY_DAY, *arguments, timeout=_PATIENCE_S)
    found = {row[0]: BookedDay(*row[1:]) for row in rows}
    return [found[start] for start in starts]
