"""Leases: money that the ledger lent to this process, which it spends without asking while the ledger is away.

Pure: functions of (lease, what is asked, now). Nothing is granted beyond what was lent, nor after the lease's end; what
was granted may still settle then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from services.orchestrator.core.model import Candidate, Usage, UsageLine

# The contract takes so many lines of one allotment. Each call may still bring a few: one per try that may be billed.
MAX_LINES = 10_000
_LINES_PER_CALL = 16


class Payer(NamedTuple):
    """Whom a lease is for: what the ledger's limits are about."""

    organisation: str
    team: str
    user: str
    key_id: str
    feature: str


class Price(NamedTuple):
    """What tokens of one model cost under a lease, in nano-USD per million tokens."""

    provider: str
    model: str
    input_nano_usd_per_million_tokens: int
    output_nano_usd_per_million_tokens: int
    cached_input_nano_usd_per_million_tokens: int
    cache_write_input_nano_usd_per_million_tokens: int

    @property
    def free(self) -> bool:
        """Whether no token costs anything."""
        return not any(self[2:])


CostFunction = Callable[[Usage, Price], int]


class Ask(NamedTuple):
    """What an answer may need at most: any of the candidates, so many tokens, as often as `calls` are billed for it."""

    candidates: tuple[Candidate, ...]
    input_tokens: int
    max_output_tokens: int
    calls: int = 1


class Refusal(Enum):
    """Why a lease does not cover a call; the values are labels of a metric."""

    NO_LEASE = "no-lease"
    ENDED = "ended"
    NOT_PRICED = "not-priced"
    INPUT_TOO_LONG = "input-too-long"
    QUERY_LIMIT = "query-limit"
    USED_UP = "used-up"
    TOO_MANY_CALLS = "too-many-calls"


@dataclass(frozen=True, slots=True)
class Lease:
    """What was lent, and what became of it. Times are seconds of this process's monotonic clock.

    `end_s` counts from before the ledger was asked, so it comes no later than the ledger's own end. `holds` are the
    granted calls under way, in nano-USD; `lines` what the ended ones used.
    """

    allotment_id: str
    payer: Payer
    lent_nano_usd: int
    begin_s: float
    end_s: float
    prices: tuple[Price, ...]
    max_input_tokens: int
    most_per_call_nano_usd: int | None = None
    holds: Mapping[str, int] = field(default_factory=dict)
    spent_nano_usd: int = 0
    lines: tuple[UsageLine, ...] = ()

    @property
    def left_nano_usd(self) -> int:
        """What may still be granted; below zero when answers cost more than their holds."""
        return self.lent_nano_usd - self.spent_nano_usd - sum(self.holds.values())

    @property
    def used(self) -> bool:
        """Whether anything was ever granted from it."""
        return bool(self.holds or self.lines)

    @property
    def half_s(self) -> float:
        """When half of its life is over."""
        return (self.begin_s + self.end_s) / 2


class Granted(NamedTuple):
    """The lease after a grant, and what the call holds now."""

    lease: Lease
    held_nano_usd: int


def grant(lease: Lease, hold_id: str, ask: Ask, now_s: float, cost: CostFunction) -> Granted | Refusal:
    """Decides one call as the ledger would: the dearest of its models, all of its tokens, for each call, or nothing."""
    prices = _prices_of(lease, ask)
    refusal = _out_of_bounds(lease, ask, now_s) if prices else Refusal.NOT_PRICED
    if refusal is not None:
        return refusal
    amount = cost(Usage(ask.input_tokens, ask.max_output_tokens), dearest(prices)) * ask.calls
    # A priced call of no tokens may cost more than it says: it needs room for something.
    least = amount or int(not all(price.free for price in prices))
    if lease.most_per_call_nano_usd is not None and least > lease.most_per_call_nano_usd:
        return Refusal.QUERY_LIMIT
    if least > max(lease.left_nano_usd, 0):
        return Refusal.USED_UP
    return Granted(_holding(lease, hold_id, amount), amount)


def _prices_of(lease: Lease, ask: Ask) -> Sequence[Price]:
    """One per model that may answer; none when one of them has none."""
    wanted = {(candidate.provider, candidate.model) for candidate in ask.candidates}
    prices = [price for price in lease.prices if (price.provider, price.model) in wanted]
    return prices if len(prices) == len(wanted) else ()


def _out_of_bounds(lease: Lease, ask: Ask, now_s: float) -> Refusal | None:
    if now_s >= lease.end_s:
        return Refusal.ENDED
    if ask.input_tokens > lease.max_input_tokens:
        return Refusal.INPUT_TOO_LONG
    if len(lease.lines) + _LINES_PER_CALL * (len(lease.holds) + 1) > MAX_LINES:
        return Refusal.TOO_MANY_CALLS
    return None


def extend(lease: Lease, hold_id: str, add_nano_usd: int, now_s: float) -> Granted | Refusal:
    """Raises the hold of a granted call that is under way."""
    held = lease.holds[hold_id] + add_nano_usd
    if now_s >= lease.end_s:
        return Refusal.ENDED
    if lease.most_per_call_nano_usd is not None and held > lease.most_per_call_nano_usd:
        return Refusal.QUERY_LIMIT
    if add_nano_usd > lease.left_nano_usd:
        return Refusal.USED_UP
    return Granted(_holding(lease, hold_id, held), held)


def settle(lease: Lease, hold_id: str, lines: Sequence[UsageLine], cost: CostFunction) -> Lease:
    """Ends a granted call with what it used; no lines release its hold. A call that has ended stays as it is."""
    if hold_id not in lease.holds:
        return lease
    spent = sum(line_cost(lease.prices, line, cost) for line in lines)
    return replace(
        lease,
        holds={name: held for name, held in lease.holds.items() if name != hold_id},
        spent_nano_usd=lease.spent_nano_usd + spent,
        lines=(*lease.lines, *lines),
    )


def line_cost(prices: Sequence[Price], line: UsageLine, cost: CostFunction) -> int:
    """What a line costs; without a price of its own, the dearest of all, as the ledger books it."""
    whose = (line.candidate.provider, line.candidate.model)
    own = next((price for price in prices if (price.provider, price.model) == whose), None)
    return cost(line.usage, own or dearest(prices))


def dearest(prices: Sequence[Price]) -> Price:
    """A price that none exceeds on any component; input takes the dearest of plain, cached and written."""
    per_input = max(max(price[2], price[4], price[5]) for price in prices)
    return Price("", "", per_input, max(price[3] for price in prices), per_input, per_input)


class Part(NamedTuple):
    """What of a lease comes back while calls granted from it still run: the lines that `lease` had when it was cut.

    Of the rest the ledger keeps at most `keep_nano_usd` held, for `keep_for_s` from when it hears of it at least.
    """

    lease: Lease
    number: int
    keep_nano_usd: int
    keep_for_s: float


def cut(lease: Lease, number: int, keep_for_s: float, now_s: float) -> Part:
    """What can come back now. After a lease's end only what its calls hold is needed: no hold is raised any more."""
    raises = max(lease.left_nano_usd, 0) if now_s < lease.end_s else 0
    return Part(lease, number, sum(lease.holds.values()) + raises, keep_for_s)


def booked(lease: Lease, part: Part) -> Lease:
    """The lease without the lines of a part that the ledger has booked; what it spent stays spent."""
    return replace(lease, lines=lease.lines[len(part.lease.lines) :])


def unbooked_nano_usd(lease: Lease, cost: CostFunction) -> int:
    """What the calls cost that have ended and did not come back yet."""
    return sum(line_cost(lease.prices, line, cost) for line in lease.lines)


def shares(scopes: Iterable[str], payer: Payer, other: Payer) -> bool:
    """Whether two payers meet in a limit of one of the scopes, as the contract names them in lower case."""
    return payer.organisation == other.organisation and any(
        scope == "organisation" or (scope in _SUBJECTS and _SUBJECTS[scope](payer) == _SUBJECTS[scope](other))
        for scope in scopes
    )


_SUBJECTS: Mapping[str, Callable[[Payer], str]] = {
    "team": lambda payer: payer.team,
    "user": lambda payer: payer.user,
    "key": lambda payer: payer.key_id,
    "feature": lambda payer: payer.feature,
}


class Step(Enum):
    """What is due for a payer."""

    KEEP = 0
    TAKE = 1
    GIVE_BACK = 2


def due(lease: Lease | None, models: Iterable[Candidate], active_s: float, now_s: float, *, away: bool) -> Step:
    """What is to be done about a payer's lease. `active_s` is when the payer was last granted a call.

    A lease is renewed at half of its life if it was wanted since it began, else given back. It is renewed at once when
    it lacks the price of a model, and when the ledger answers again after calls were granted from it: what they used
    is booked then. While the ledger is away, a lease is kept to its end.
    """
    if lease is None:
        return Step.TAKE
    if now_s >= lease.end_s:
        return Step.GIVE_BACK
    if now_s >= lease.half_s and active_s < lease.begin_s:
        return Step.GIVE_BACK
    known = {(price.provider, price.model) for price in lease.prices}
    lacks = any((model.provider, model.model) not in known for model in models)
    return Step.TAKE if now_s >= lease.half_s or lacks or (lease.used and not away) else Step.KEEP


def _holding(lease: Lease, hold_id: str, held_nano_usd: int) -> Lease:
    return replace(lease, holds={**lease.holds, hold_id: held_nano_usd})
