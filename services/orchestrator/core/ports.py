"""What the sequence needs from the services. Adapters hold the stubs; failures arrive as this package's errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from services.orchestrator.core.leases import Lease, Part, Payer, Price
from services.orchestrator.core.model import (
    Candidate,
    Checked,
    CheckedOutput,
    Found,
    ModelAnswer,
    Plan,
    Progress,
    Record,
    Reservation,
    Turn,
    UsageLine,
)


class Prompts(Protocol):
    """The registry's snapshot."""

    def resolve(self, request: object, request_id: str) -> Turn:
        """Renders the request. Raises PromptNotFound, RegistryUnavailable, NothingToSend or the renderer's error."""
        ...


class Guard(Protocol):
    """Checks. Raises GuardUnavailable when it cannot answer."""

    def check_input(self, turn: Turn, *, embed: bool) -> Awaitable[Checked]:
        """Checks the conversation."""
        ...

    def check_output(self, turn: Turn, checked: Checked, completion: object) -> Awaitable[CheckedOutput]:
        """Checks a whole answer and restores masked values."""
        ...

    def check_stream(
        self, turn: Turn, checked: Checked, pieces: AsyncGenerator[object, None], progress: Progress
    ) -> AsyncGenerator[object, None]:
        """Yields what may be shown; at the end sets `progress.output`."""
        ...


class Cache(Protocol):
    """Earlier answers. Raises CacheUnavailable when it cannot answer; the request goes on without it."""

    def lookup(self, turn: Turn, plan: Plan, checked: Checked | None, *, allow_stale: bool = False) -> Awaitable[Found]:
        """The exact tier, or with the guard's embedding both. `allow_stale` asks the exact tier, then past its time.

        BYPASS when it was not asked: an answer is only served under the very policy that allowed it, and before the
        guard has spoken its digest may not be known.
        """
        ...

    def store(
        self, turn: Turn, plan: Plan, checked: Checked, answer: ModelAnswer, output: CheckedOutput
    ) -> Awaitable[None]:
        """Keeps an answer."""
        ...


class CacheUnavailable(Exception):
    """The cache cannot answer; never shown to a caller."""


class Router(Protocol):
    """Models. Raises ModelFailed."""

    def plan(self, turn: Turn) -> Awaitable[Plan]:
        """Which models may answer. A plan without any says why, and what may stand in for an answer."""
        ...

    def complete(self, turn: Turn, plan: Plan, checked: Checked, progress: Progress) -> Awaitable[ModelAnswer]:
        """One answer, by a model of the plan; fills `progress` with the tries on the way to it."""
        ...

    def stream(self, turn: Turn, plan: Plan, checked: Checked, progress: Progress) -> AsyncGenerator[object, None]:
        """Yields pieces; fills `progress` while it runs, heeds its alarm, and sets `progress.answer` at the end."""
        ...

    def billed_lines(self, error: Exception) -> tuple[UsageLine, ...] | None:
        """The tries of a failed call that may be billed; None when nobody can tell, as when the router died."""
        ...

    def attempts(self, error: Exception) -> Sequence[object]:
        """Every try of a failed call, in the router's terms; none when nobody can tell."""
        ...


class Ledger(Protocol):
    """Money. Raises BudgetExhausted, BudgetUnavailable, or what the ledger says of unpriced models."""

    def reserve(self, turn: Turn, plan: Plan, input_tokens: int, max_output_tokens: int) -> Awaitable[Reservation]:
        """Holds the most that the call may cost, as often as the plan may be billed for."""
        ...

    def cost_nano_usd(self, reservation: Reservation, lines: Sequence[UsageLine]) -> int:
        """What the lines cost at the reservation's prices; the ledger books the same."""
        ...

    def mark_dispatched(self, reservation: Reservation) -> Awaitable[None]:
        """Notes that a call has left for a model: should this process die, expiry charges what is known."""
        ...

    def extend(self, reservation: Reservation, number: int, add_nano_usd: int, spent_nano_usd: int) -> Awaitable[int]:
        """Raises a hold, reports what was spent, and lets the hold live on. Returns what is held now.

        `number` counts the extensions of a reservation. Raises BudgetExhausted when a limit does not cover the raise,
        BudgetUnavailable when nobody can tell.
        """
        ...

    def commit(self, reservation: Reservation, lines: Sequence[UsageLine]) -> Awaitable[None]:
        """Books usage and releases the rest."""
        ...

    def void(self, reservation: Reservation, reason: str) -> Awaitable[None]:
        """Releases the hold."""
        ...

    def withdraw(self, unanswered: object) -> Awaitable[None]:
        """Releases what a reservation holds whose answer never came."""
        ...


class Wish(NamedTuple):
    """A lease that a payer may need: money, for a time, at prices of these models. Asking again repeats nothing."""

    request_id: str
    payer: Payer
    models: tuple[Candidate, ...]
    amount_nano_usd: int
    lease_s: float
    settle_within_s: float
    max_input_tokens: int


class Loan(NamedTuple):
    """What the ledger lent. `other_limits`: limits on anything but money are in force, which a loan does not keep."""

    allotment_id: str
    amount_nano_usd: int
    prices: tuple[Price, ...]
    most_per_call_nano_usd: int | None
    other_limits: bool


class Lender(Protocol):
    """The ledger, as who lends. Raises BudgetUnavailable when it does not answer, ServiceRefused for its refusals."""

    def take(self, wish: Wish) -> Awaitable[Loan | None]:
        """Part of what the payer's limits have left, which counts as held from now on; None when nothing is lent."""
        ...

    def give_back(self, lease: Lease) -> Awaitable[int]:
        """Books what the calls of a lease used, in nano-USD, and frees the rest; once, however often it is asked."""
        ...

    def give_back_part(self, part: Part) -> Awaitable[int]:
        """Books calls that have ended, in nano-USD, while others run; each number once, however often it is asked."""
        ...


class LendingEvents(Protocol):
    """What an operator wants to see of leases. Never content."""

    def decided(self, outcome: str) -> None:
        """A call was decided here, because the ledger did not answer: "granted", or why not."""
        ...

    def refused(self, reason: str) -> None:
        """The ledger refused to lend, or to take back."""
        ...

    def lost(self, allotment_id: str, amount_nano_usd: int) -> None:
        """What was spent of a lease will not be booked by this process; an operator may."""
        ...


@dataclass(frozen=True, slots=True)
class RequestName:
    """What identifies a request with an idempotency key: `scope` is whose key it is, `digest` what was asked.

    `seal_key` (32 bytes) is for the answer's encryption. It is never stored: the client's next request brings it.
    """

    organisation: str
    scope: bytes
    digest: bytes
    seal_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a keyed request ended, in the contract's terms. A stream that broke off has an answer and a failure."""

    answer: bytes = b""
    failure: bytes = b""


@dataclass(frozen=True, slots=True)
class Claim:
    """A name in the store. Granted: it is the caller's. Else it has an outcome, or somebody is at work.

    `digest` is that of the request which the name belongs to; when it is another's, no outcome is shown.
    """

    granted: bool
    digest: bytes
    outcome: Outcome | None = None


class Answers(Protocol):
    """What keyed requests ended with, for all replicas. Raises AnswersUnavailable."""

    async def claim(self, name: RequestName, owner: str) -> Claim:
        """Takes a name that nobody has. A claim that was neither ended nor renewed in time is anybody's.

        Raises AnswerUnreadable for an outcome that was damaged, TooManyKept when the organisation has no room.
        """
        ...

    async def renew(self, held: Sequence[tuple[RequestName, str]]) -> frozenset[str]:
        """Lets claims live on, all in one step. Returns the owners that still have theirs; the others lost them."""
        ...

    async def keep(self, name: RequestName, owner: str, outcome: Outcome) -> Outcome | None:
        """Ends a claim with an outcome, which stays for a while. Returns the outcome that stands instead, if one does.

        The first that is kept stands. A whole answer is kept also by an owner that lost its claim, as long as the name
        belongs to the same request: it was paid for. A failure is kept by the owner alone.
        """
        ...

    async def release(self, name: RequestName, owner: str) -> None:
        """Ends the owner's claim without one: the next request is the first again."""
        ...


class Records(Protocol):
    """What happened to recent requests."""

    def put(self, record: Record) -> None:
        """Remembers a request, for a while."""
        ...

    def get(self, organisation: str, request_id: str) -> Record:
        """Raises RecordNotFound."""
        ...


class Afterwards(Protocol):
    """Work that follows the answer: bounded, with deadlines of its own, finished before the process ends."""

    def run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Takes the work over."""
        ...


class ShadowEvents(Protocol):
    """What an operator wants to see of copies. `model` is a name of the router's configuration. Never content."""

    def ended(self, model: str, outcome: str) -> None:
        """A copy is over: "answered", "failed", "denied" by the ledger, "dropped" unasked, or "cancelled" too late."""
        ...

    def compared(self, model: str, copy_s: float, answer_s: float) -> None:
        """How long a copy's answer took, and the answer that the caller got."""
        ...


class DrainEvents(Protocol):
    """What an operator wants to see of calls that are read to their end although their caller has left."""

    def drained(self, outcome: str) -> None:
        """One is over: "counted" by the provider, "estimated" because it did not say, or "no-room": not read at all."""
        ...


class Clock(Protocol):
    """Time."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...
