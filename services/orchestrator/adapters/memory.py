"""Recent records in memory: what Explain answers from until a trace store exists."""

from __future__ import annotations

from collections import OrderedDict

from services.orchestrator.core.errors import RecordNotFound
from services.orchestrator.core.model import Record


class MemoryRecords:
    """The port `Records`: the newest `limit` records of this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()

    def put(self, record: Record) -> None:
        """See Records. A repeated request id replaces the older record."""
        key = (record.organisation, record.request_id)
        self._records.pop(key, None)
        self._records[key] = record
        if len(self._records) > self._limit:
            self._records.popitem(last=False)

    def get(self, organisation: str, request_id: str) -> Record:
        """See Records."""
        record = self._records.get((organisation, request_id))
        if record is None:
            raise RecordNotFound(request_id)
        return record
