"""What a process keeps by itself: recent records, from which Explain answers, and answers by idempotency key.

And the twin of a ledger that lends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.core.errors import BudgetUnavailable, RecordNotFound, ServiceRefused
from services.orchestrator.core.leases import CostFunction, Lease, Part, Price, unbooked_nano_usd
from services.orchestrator.core.model import Candidate, Record, UsageLine
from services.orchestrator.core.ports import Claim, Clock, Loan, Outcome, RequestName, Wish


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


class MemoryLender:
    """The port `Lender` for one budget: lends half of what is left at most, nothing below a tenth."""

    def __init__(self, cap_nano_usd: int, prices: Sequence[Price], cost: CostFunction) -> None:
        self.cap_nano_usd = cap_nano_usd
        self.spent_nano_usd = 0
        self.most_per_call_nano_usd: int | None = None
        self.other_limits = False
        # While it is True nobody answers.
        self.away = False
        self.held: dict[str, int] = {}
        self.booked: dict[str, tuple[UsageLine, ...]] = {}
        self.parts: dict[tuple[str, int], tuple[UsageLine, ...]] = {}
        self._prices = {Candidate(price.provider, price.model): price for price in prices}
        self._cost = cost
        self._answers: dict[str, Loan | None] = {}

    async def take(self, wish: Wish) -> Loan | None:
        """See Lender. The same question gets the first answer."""
        self._check()
        if wish.request_id not in self._answers:
            self._answers[wish.request_id] = self._lend(wish)
        return self._answers[wish.request_id]

    async def give_back(self, lease: Lease) -> int:
        """See Lender."""
        self._check()
        if lease.allotment_id not in self.booked:
            self.held.pop(lease.allotment_id, None)
            self.booked[lease.allotment_id] = lease.lines
            self.spent_nano_usd += unbooked_nano_usd(lease, self._cost)
        elif self.booked[lease.allotment_id] != lease.lines:
            raise ServiceRefused("ALREADY_EXISTS", "REQUEST_ID_REUSED", "given back before with other lines", {})
        return unbooked_nano_usd(lease, self._cost)

    async def give_back_part(self, part: Part) -> int:
        """See Lender."""
        self._check()
        lease = part.lease
        name, cost = (lease.allotment_id, part.number), unbooked_nano_usd(lease, self._cost)
        if name not in self.parts:
            self.parts[name] = lease.lines
            self.spent_nano_usd += cost
            if lease.allotment_id in self.held:
                left = max(self.held[lease.allotment_id] - cost, 0)
                self.held[lease.allotment_id] = min(left, part.keep_nano_usd)
        elif self.parts[name] != lease.lines:
            raise ServiceRefused("ALREADY_EXISTS", "REQUEST_ID_REUSED", "given back before with other lines", {})
        return cost

    def _lend(self, wish: Wish) -> Loan | None:
        unpriced = [model for model in wish.models if model not in self._prices]
        if unpriced:
            raise ServiceRefused("FAILED_PRECONDITION", "MODEL_UNPRICED", f"{unpriced[0].model} has no price", {})
        left = self.cap_nano_usd - self.spent_nano_usd - sum(self.held.values())
        amount = min(wish.amount_nano_usd, left // 2 if left * 10 > self.cap_nano_usd else 0)
        if amount <= 0:
            return None
        allotment_id = f"allotment-{len(self._answers)}"
        self.held[allotment_id] = amount
        prices = tuple(self._prices[model] for model in wish.models)
        return Loan(allotment_id, amount, prices, self.most_per_call_nano_usd, self.other_limits)

    def _check(self) -> None:
        if self.away:
            raise BudgetUnavailable(outage=True)


class RecordedLendingEvents:
    """The port `LendingEvents`, kept."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.refusals: list[str] = []
        self.losses: list[tuple[str, int]] = []

    def decided(self, outcome: str) -> None:
        """See LendingEvents."""
        self.outcomes.append(outcome)

    def refused(self, reason: str) -> None:
        """See LendingEvents."""
        self.refusals.append(reason)

    def lost(self, allotment_id: str, amount_nano_usd: int) -> None:
        """See LendingEvents."""
        self.losses.append((allotment_id, amount_nano_usd))


class RecordedShadowEvents:
    """The port `ShadowEvents`, kept."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str]] = []
        self.comparisons: list[tuple[str, float, float]] = []

    def ended(self, model: str, outcome: str) -> None:
        """See ShadowEvents."""
        self.outcomes.append((model, outcome))

    def compared(self, model: str, copy_s: float, answer_s: float) -> None:
        """See ShadowEvents."""
        self.comparisons.append((model, copy_s, answer_s))
