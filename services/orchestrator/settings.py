"""What the operator decides about requests as a whole (section `orchestrator` of mesh.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal

from meshkit.settings import Secret

# A claim is renewed this often in its life: it outlives renewals that a slow database swallowed.
RENEWALS_PER_LOCK = 4
# The contract's bounds on allotments.
_MAX_LEASE_S, _MAX_SETTLE_S = 60.0, 900.0
# A hold's longest life.
_MAX_HOLD_S = 900.0
_NANO_PER_USD, _MAX_NANO_USD = 10**9, 10**18


@dataclass(frozen=True, slots=True)
class IdempotencySettings:
    """Requests with idempotency keys (section `orchestrator.idempotency`)."""

    # How long an answer stays, to be sent again.
    retention_s: float = 86_400.0
    # A claim that its owner does not renew ends after this time: what a duplicate waits when the owner has crashed.
    # An owner that the database does not hear for so long has lost it, and may pay for what another does again.
    lock_s: float = 20.0
    # No keyed call lasts longer, whatever deadline it came with: it goes on when its caller has left.
    max_call_s: float = 900.0
    # Longer answers are not kept: later duplicates learn that, and are not charged.
    max_answer_bytes: int = 1024 * 1024
    # An organisation with more rows gets no new keys until older ones end. Counted at each sweep, so it may be
    # overrun by what comes between two.
    max_kept_per_organisation: int = 100_000
    # Keyed calls under way in this process: they go on when their callers leave, so admission does not count them.
    max_in_flight: int = 1024
    # Answers that a process without a database remembers.
    memory_max_answers: int = 1000
    storage_timeout_s: float = 2.0
    # Pause before a call under way in another replica is looked at again.
    look_again_s: float = 0.1
    # At the end of the process, keyed calls under way may take this long to finish.
    drain_s: float = 10.0
    sweep_interval_s: float = 60.0
    sweep_batch: int = 1000

    def validate(self) -> None:
        """Raises ValueError when a limit is no limit."""
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"idempotency.{name} must be greater than 0")
        if self.lock_s < RENEWALS_PER_LOCK * self.storage_timeout_s:
            raise ValueError(
                f"idempotency.lock_s must be at least {RENEWALS_PER_LOCK} times idempotency.storage_timeout_s "
                f"({self.storage_timeout_s:g} s): a claim must outlive a renewal that the database did not take; "
                "raise lock_s or lower storage_timeout_s"
            )


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """What happens while the ledger is away (section `orchestrator.leases`)."""

    # `closed` refuses every call that needs money; `leases` goes on with what the ledger lent beforehand.
    on_ledger_outage: Literal["closed", "leases"] = "closed"
    # The most that is lent per payer: held on its limits all the time, and what a crash of this process strands.
    amount_usd: str = "0.5"
    # A lease ends after this; it is renewed at half of it, so an outage is covered for at least the other half.
    lease_s: float = 60.0
    # So long the money stays held after the lease, for calls that run on and an outage that lasts.
    settle_within_s: float = 300.0
    # Payers (organisation, team, user, key, feature) that leases are kept for: those that were served last.
    max_payers: int = 1000
    # So that no organisation takes every place: it names end users and features as it likes.
    max_payers_per_organisation: int = 100
    # Longer inputs are not decided here: prices may depend on the length.
    max_input_tokens: int = 32_768
    # True lets calls go on where limits on rates or on calls at once are in force, which nobody counts then.
    without_rates: bool = False
    # At the end of the process, giving leases back may take so long.
    drain_s: float = 10.0

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        if self.amount_nano_usd <= 0:
            raise ValueError("leases.amount_usd must be above 0; to lend nothing, set on_ledger_outage to closed")
        if not 1 <= self.lease_s <= _MAX_LEASE_S:
            raise ValueError(f"leases.lease_s must be between 1 and {_MAX_LEASE_S:g}: the ledger lends for no longer")
        if not 0 <= self.settle_within_s <= _MAX_SETTLE_S:
            raise ValueError(f"leases.settle_within_s must be between 0 and {_MAX_SETTLE_S:g}")
        for name in ("max_payers", "max_payers_per_organisation", "max_input_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"leases.{name} must be at least 1")
        if self.drain_s <= 0:
            raise ValueError("leases.drain_s must be positive")

    @property
    def amount_nano_usd(self) -> int:
        """The amount as an integer. Raises ValueError."""
        try:
            nano = Decimal(self.amount_usd) * _NANO_PER_USD
            if nano.is_finite() and nano == nano.to_integral_value() and nano <= _MAX_NANO_USD:
                return int(nano)
        except InvalidOperation:
            pass
        raise ValueError(
            f"leases.amount_usd: {self.amount_usd!r} is no amount in USD of at most nine decimals; write it like '0.5'"
        )


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """Who sends the canaries of `router.canaries` (section `orchestrator.canaries`); without a key, nobody."""

    # A key with role caller: its organisation's budget pays, and its limits hold.
    api_key: Secret = Secret()  # noqa: RUF009 - immutable
    # Pause after a start: restarts in a row must not spend in a row.
    start_after_s: float = 60.0
    timeout_s: float = 60.0
    # Canaries under way at once.
    max_calls: int = 2

    def validate(self) -> None:
        """Raises ValueError when a limit is no limit."""
        if self.start_after_s < 0:
            raise ValueError("canaries.start_after_s must be 0 or more")
        if self.timeout_s <= 0 or self.max_calls < 1:
            raise ValueError("canaries needs timeout_s above 0 and max_calls of 1 or more")


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """Copies for shadow models (section `orchestrator.shadows`). Which calls are copied is the route's to say."""

    # Copies under way in this process; what comes on top is dropped and counted.
    max_at_once: int = 8
    # How long a copy may take. It is booked also when it is given up.
    timeout_s: float = 60.0

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        if self.max_at_once < 1:
            raise ValueError("shadows.max_at_once must be at least 1; for no copies, take `shadow` out of the routes")
        if not 0 < self.timeout_s <= _MAX_HOLD_S:
            raise ValueError(f"shadows.timeout_s must be above 0 and at most {_MAX_HOLD_S:g}: no hold lasts longer")


@dataclass(frozen=True, slots=True)
class DrainSettings:
    """Calls whose caller left, to providers with `drain_on_cancel` (section `orchestrator.drains`)."""

    # Such calls under way in this process; what comes on top is cancelled and booked by estimate.
    max_at_once: int = 64
    # How long one may go on without its caller; the deadline that it came with ends it too.
    timeout_s: float = 120.0

    def validate(self) -> None:
        """Raises ValueError with a sentence that says what to do."""
        if self.max_at_once < 1:
            raise ValueError(
                "drains.max_at_once must be at least 1; to read no call to its end, take `drain_on_cancel` out of "
                "router.providers"
            )
        if not 0 < self.timeout_s <= _MAX_HOLD_S:
            raise ValueError(f"drains.timeout_s must be above 0 and at most {_MAX_HOLD_S:g}: no hold lasts longer")


@dataclass(frozen=True, slots=True)
class OrchestratorSettings:
    """Defaults are safe: unguarded and unaccounted requests are refused."""

    # False lets requests pass unguarded, and marked degraded, while the guard is away.
    guard_required: bool = True
    # False: no semantic cache, and the encoder in the path of those requests alone whose route chooses by it.
    semantic_cache: bool = True
    # What a hold assumes when the caller names no maximum.
    assumed_output_tokens: int = 2048
    # A stream's hold is raised when this part of it is used up.
    raise_hold_at: float = 0.8
    # What happens when the ledger refuses: `cut` ends the stream once its hold is used up, `finish` overruns the limit.
    on_exhausted: Literal["cut", "finish"] = "cut"
    # How often a stream tells the ledger what it spent: what is charged should this process die.
    report_spending_s: float = 15.0
    explain_max_records: int = 10_000
    # Cache writes beyond this number of pending tasks are dropped; commits never are.
    max_pending_work: int = 4096
    accounting_timeout_s: float = 30.0
    # Commits that wait for an operator to accept a ledger that was restored from an older copy. Each takes some KB.
    max_unbooked_commits: int = 10_000
    # Pause before an absent registry is asked for its prompts again.
    registry_retry_s: float = 0.5
    idempotency: IdempotencySettings = field(default_factory=IdempotencySettings)
    leases: LeaseSettings = field(default_factory=LeaseSettings)
    canaries: CanarySettings = field(default_factory=CanarySettings)
    shadows: ShadowSettings = field(default_factory=ShadowSettings)
    drains: DrainSettings = field(default_factory=DrainSettings)

    def validate(self) -> None:
        """Raises ValueError when a limit is no limit."""
        for name in ("assumed_output_tokens", "explain_max_records", "max_pending_work", "max_unbooked_commits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0 < self.raise_hold_at < 1:
            raise ValueError("raise_hold_at must be between 0 and 1")
        for name in ("accounting_timeout_s", "registry_retry_s", "report_spending_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
