"""What a process keeps by itself: recent records, from which Explain answers, and answers by idempotency key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.core.errors import RecordNotFound
from services.orchestrator.core.model import Record
from services.orchestrator.core.ports import Claim, Clock, Outcome, RequestName


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


@dataclass(slots=True)
class _Entry:
    digest: bytes
    owner: str
    expires_s: float
    outcome: Outcome | None = None


class MemoryAnswers:
    """The port `Answers` for a process without a database: its replicas do not know of each other's answers."""

    def __init__(self, clock: Clock, lock_s: float, retention_s: float, max_answers: int) -> None:
        self._clock = clock
        self._lock_s = lock_s
        self._retention_s = retention_s
        self._max_answers = max_answers
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    async def claim(self, name: RequestName, owner: str) -> Claim:
        """See Answers. Above the limit the oldest answers are forgotten; claims never are."""
        now_s = self._clock.monotonic()
        entry = self._entries.get(name.scope)
        if entry is not None and entry.expires_s > now_s:
            shown = entry.outcome if entry.digest == name.digest else None
            return Claim(granted=False, digest=entry.digest, outcome=shown)
        self._entries[name.scope] = _Entry(name.digest, owner, now_s + self._lock_s)
        return Claim(granted=True, digest=name.digest)

    async def renew(self, held: Sequence[tuple[RequestName, str]]) -> frozenset[str]:
        """See Answers."""
        kept = set()
        for name, owner in held:
            entry = self._entries.get(name.scope)
            if entry is not None and entry.owner == owner and entry.outcome is None:
                entry.expires_s = self._clock.monotonic() + self._lock_s
                kept.add(owner)
        return frozenset(kept)

    async def keep(self, name: RequestName, owner: str, outcome: Outcome) -> Outcome | None:
        """See Answers."""
        entry = self._entries.get(name.scope)
        if entry is not None and entry.digest != name.digest:
            return None
        if entry is not None and entry.outcome is not None:
            return entry.outcome
        if entry is not None and entry.owner != owner and outcome.failure:
            return None
        expires_s = self._clock.monotonic() + self._retention_s
        self._entries[name.scope] = _Entry(name.digest, owner, expires_s, outcome)
        self._entries.move_to_end(name.scope)
        self._forget()
        return None

    async def release(self, name: RequestName, owner: str) -> None:
        """See Answers."""
        entry = self._entries.get(name.scope)
        if entry is not None and entry.owner == owner and entry.outcome is None:
            del self._entries[name.scope]

    def _forget(self) -> None:
        while len(self._entries) > self._max_answers:
            oldest = next((scope for scope, entry in self._entries.items() if entry.outcome is not None), None)
            if oldest is None:
                return
            del self._entries[oldest]
