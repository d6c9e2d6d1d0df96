"""The ledger: prices requests, hands operations to the store, tells the observer. Every verb of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from services.ledger.core.decide import Outcome
from services.ledger.core.ending import CostFunction
from services.ledger.core.errors import InvalidRequest, LedgerError, ModelUnpriced
from services.ledger.core.estimates import OutputEstimates, Writer
from services.ledger.core.identities import fingerprint, id_bound, operation_key, storable
from services.ledger.core.limits import EVERY_ORGANISATION, Limit, Payer
from services.ledger.core.operations import (
    NOTHING_FIXED,
    Adjust,
    AdjustAnswer,
    Alert,
    Allot,
    AllotAnswer,
    Answer,
    Commit,
    CommitAnswer,
    Dispatch,
    DispatchAnswer,
    ExpireAnswer,
    Extend,
    ExtendAnswer,
    Kept,
    Kind,
    LeaseTerms,
    LimitAnswer,
    Line,
    OnExpiry,
    Operation,
    OperationKey,
    Reserve,
    ReserveAnswer,
    SetLimit,
    Sweep,
    SweepAnswer,
    Void,
    VoidAnswer,
)
from services.ledger.core.ports import Observer, PriceBook, Store
from services.ledger.core.prices import Price, Tokens, dearest
from services.ledger.core.reports import Reports
from services.ledger.core.windows import MICROSECONDS, SteadyClock

# A reservation id begins with the milliseconds of its moment, in hex.
_MOMENT_DIGITS = 12
# How far the clock of another replica may be ahead of ours.
_MAX_SKEW_US = 60 * MICROSECONDS
A = TypeVar("A", bound=Answer)


class Model(NamedTuple):
    """A model as its provider names it."""

    provider: str
    model: str


class UsedTokens(NamedTuple):
    """What one attempt used."""

    model: Model
    tokens: Tokens
    attempt: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of the verbs; see settings."""

    default_ttl_us: int = 60 * MICROSECONDS
    max_ttl_us: int = 900 * MICROSECONDS
    max_amount_nano_usd: int = 10**15
    retention_us: int = 7 * 86_400 * MICROSECONDS
    default_output_tokens: int = 2048
    on_expiry: OnExpiry = OnExpiry.CHARGE_KNOWN
    on_expiry_of: Mapping[str, OnExpiry] = field(default_factory=dict)
    max_lent_basis_points: int = 2_000


class Ledger:
    """Each method is one RPC; the caller's organisation is always the payer's. Reads are in reports.py."""

    def __init__(
        self,
        store: Store,
        prices: PriceBook,
        clock: SteadyClock,
        cost: CostFunction,
        random_hex: Callable[[], str],
        observer: Observer,
        rules: Rules,
    ) -> None:
        self._store = store
        self._prices = prices
        self._clock = clock
        self._cost = cost
        self._random_hex = random_hex
        self._observer = observer
        self._rules = rules
        self.reports = Reports(store, clock)
        self._outputs = OutputEstimates(rules.default_output_tokens)

    async def reserve(
        self,
        payer: Payer,
        request_id: str,
        models: Sequence[Model],
        input_tokens: int,
        max_output_tokens: int,
        ttl_us: int,
        *,
        estimate_output: bool = False,
        calls: int = 1,
    ) -> ReserveAnswer:
        """Holds the most that `calls` calls on the dearest of `models` may cost. Raises ModelUnpriced.

        With `estimate_output`, `max_output_tokens` is only a ceiling of what is held.
        """
        storable("labels", "".join(payer))
        storable("models", "".join(map("".join, models)))
        covered = max_output_tokens
        # What is expected may change between two tries of one request: only what was asked makes it the same.
        asked: tuple[object, ...] = (tuple(payer), list(map(tuple, models)), input_tokens, max_output_tokens, ttl_us)
        if estimate_output:
            covered = self._outputs.expect(
                [Writer(payer.organisation, *model, payer.feature) for model in models], covered
            )
            asked = (*asked, "estimated")
        if calls > 1:
            asked = (*asked, calls)
        key = operation_key(payer, Kind.RESERVE, request_id)
        one = self._hold(key, fingerprint(*asked), payer, models, Tokens(input_tokens, covered), ttl_us)
        operation = one if calls <= 1 else self._times(one, calls)
        outcome, answer = await self._execute(operation, ReserveAnswer)
        if not outcome.replayed:
            self._observer.decided("reserve", granted=answer.granted)
            self._raise_alerts(answer.alerts)
            for violation in answer.shadow_violations:
                self._observer.shadow_denied(violation.limit)
        return answer

    async def mark_dispatched(self, payer: Payer, request_id: str, reservation_id: str) -> DispatchAnswer:
        """Notes that a call left for a provider. Raises NotFound."""
        operation = Dispatch(
            operation_key(payer, Kind.DISPATCH, request_id),
            fingerprint(reservation_id),
            storable("reservation_id", reservation_id),
        )
        return (await self._execute(operation, DispatchAnswer))[1]

    async def extend(
        self,
        payer: Payer,
        request_id: str,
        reservation_id: str,
        add_nano_usd: int,
        spent_so_far_nano_usd: int,
        ttl_us: int,
    ) -> ExtendAnswer:
        """Raises a hold. Raises NotFound, ReservationEnded."""
        self._check_amount("add_nano_usd", add_nano_usd)
        self._check_amount("spent_so_far_nano_usd", spent_so_far_nano_usd)
        operation = Extend(
            operation_key(payer, Kind.EXTEND, request_id),
            fingerprint(reservation_id, add_nano_usd, spent_so_far_nano_usd, ttl_us),
            storable("reservation_id", reservation_id),
            add_nano_usd,
            spent_so_far_nano_usd,
            self._ttl_us(ttl_us),
        )
        outcome, answer = await self._execute(operation, ExtendAnswer)
        if not outcome.replayed:
            self._observer.decided("extend", granted=answer.granted)
            self._raise_alerts(answer.alerts)
        return answer

    async def commit(
        self,
        payer: Payer,
        request_id: str,
        reservation_id: str,
        used: Sequence[UsedTokens],
        *,
        accept_orphan: bool = False,
        lent: bool = False,
        kept: Kept | None = None,
    ) -> CommitAnswer:
        """Books usage; never refuses for lack of funds. Raises NotFound, ReservationEnded.

        With `accept_orphan` an unknown reservation is booked for `payer`, if its id is one of ours and young enough
        that it cannot have been booked and forgotten. `lent`: it is an allotment; with `kept` a part of one comes back.
        """
        storable("labels", "".join(payer))
        now_us = self._clock.now_us()
        operation = Commit(
            operation_key(payer, Kind.COMMIT, request_id),
            fingerprint(reservation_id, [(*u.model, *u.tokens, u.attempt) for u in used], *(kept or ())),
            storable("reservation_id", reservation_id),
            tuple(self._line(line, now_us) for line in used),
            payer if accept_orphan and self._can_be_orphan(reservation_id, now_us) else None,
            lent,
            kept,
        )
        outcome, answer = await self._execute(operation, CommitAnswer)
        if not outcome.replayed:
            self._observer.booked(answer.amount_nano_usd, answer.overrun_nano_usd, late=answer.late)
            self._raise_alerts(answer.alerts)
            self._learn(outcome, used)
            if answer.after_void:
                self._observer.committed_after_void(reservation_id)
            if answer.orphan:
                self._observer.orphan(reservation_id)
        return answer

    async def void(self, payer: Payer, request_id: str, reservation_id: str, reason: str) -> VoidAnswer:
        """Releases a hold whose call was never executed. Raises NotFound, ReservationEnded."""
        operation = Void(
            operation_key(payer, Kind.VOID, request_id),
            fingerprint(reservation_id, reason),
            storable("reservation_id", reservation_id),
            storable("reason", reason),
        )
        return (await self._execute(operation, VoidAnswer))[1]

    async def adjust(
        self, payer: Payer, request_id: str, reservation_id: str, delta_nano_usd: int, provider: str, reason: str
    ) -> AdjustAnswer:
        """Corrects what was booked. Raises NotFound, NothingToCorrect."""
        self._check_amount("delta_nano_usd", abs(delta_nano_usd))
        operation = Adjust(
            operation_key(payer, Kind.ADJUST, request_id),
            fingerprint(reservation_id, delta_nano_usd, provider, reason),
            storable("reservation_id", reservation_id),
            delta_nano_usd,
            storable("provider", provider),
            storable("reason", reason),
        )
        outcome, answer = await self._execute(operation, AdjustAnswer)
        if not outcome.replayed:
            self._raise_alerts(answer.alerts)
        return answer

    async def allot(
        self,
        payer: Payer,
        request_id: str,
        wanted_nano_usd: int,
        lease_us: int,
        replica: str,
        terms: LeaseTerms = NOTHING_FIXED,
    ) -> AllotAnswer:
        """Lends part of what a payer's money limits have left. A commit gives it back. Raises ModelUnpriced."""
        self._check_amount("wanted_nano_usd", wanted_nano_usd)
        now_us = self._clock.now_us()
        operation = Allot(
            operation_key(payer, Kind.ALLOT, request_id),
            fingerprint(tuple(payer), wanted_nano_usd, lease_us, replica, *terms),
            payer,
            wanted_nano_usd,
            lease_us,
            id_bound(now_us) + self._random_hex(),
            storable("replica", replica),
            tuple(self._prices.price(*model, now_us, terms.max_input_tokens) for model in terms.models),
            terms.settle_us,
            self._rules.max_lent_basis_points,
        )
        outcome, answer = await self._execute(operation, AllotAnswer)
        if not outcome.replayed:
            self._raise_alerts(answer.alerts)
        return answer

    async def sweep(self, max_reservations: int) -> int:
        """Ends holds that are past their time; returns how many."""
        return (await self._execute(Sweep(max_reservations), SweepAnswer))[1].expired

    async def forget(self, older_than_us: int, max_rows: int) -> int:
        """Deletes ended reservations and events that are too old; the journal keeps their story.

        Returns how many at least one of the two had: fewer than `max_rows` means that nothing is left.
        """
        before_us = self._clock.now_us() - older_than_us
        events = await self._store.forget_events(before_us, max_rows)
        return max(events, await self._store.forget_reservations(id_bound(before_us), max_rows))

    async def set_limit(self, payer: Payer, request_id: str, limit: Limit) -> Limit:
        """Creates or changes a limit of the payer's organisation. Raises InvalidRequest, NotFound."""
        storable("limit.subject", limit.subject)
        if payer.organisation == EVERY_ORGANISATION:
            raise InvalidRequest("limit", "limits of every organisation are declared in mesh.yaml")
        operation = SetLimit(operation_key(payer, Kind.SET_LIMIT, request_id), fingerprint(limit), limit)
        outcome = await self._store.set_limit(operation)
        return _answer(outcome, LimitAnswer).limit

    async def _execute(self, operation: Operation, kind: type[A]) -> tuple[Outcome, A]:
        outcome = await self._store.execute(operation)
        expiries = [e.answer for e in outcome.entries if isinstance(e.answer, ExpireAnswer)]
        if expiries:
            self._observer.expired(len(expiries), sum(expiry.charged_nano_usd for expiry in expiries))
            for expiry in expiries:
                self._raise_alerts(expiry.alerts)
        return outcome, _answer(outcome, kind)

    def _hold(
        self,
        key: OperationKey,
        fingerprint: int,
        payer: Payer,
        models: Sequence[Model],
        tokens: Tokens,
        ttl_us: int,
    ) -> Reserve:
        now_us = self._clock.now_us()
        prices = tuple(self._prices.price(provider, model, now_us, tokens.input_tokens) for provider, model in models)
        return Reserve(
            key,
            fingerprint,
            payer,
            self._estimate(tokens, prices),
            prices,
            self._ttl_us(ttl_us),
            id_bound(now_us) + self._random_hex(),
            tokens.input_tokens + tokens.output_tokens,
            self._estimate(Tokens(tokens.input_tokens, 0), prices) if tokens.input_tokens else 0,
            self._rules.on_expiry_of.get(payer.organisation, self._rules.on_expiry),
            tokens.output_tokens,
            all(price.free for price in prices),
        )

    def _times(self, one: Reserve, calls: int) -> Reserve:
        """A hold for several calls. What is certainly charged once one of them was sent stays that of one."""
        amount = one.amount_nano_usd * calls
        self._check_amount("calls", amount)
        return one._replace(amount_nano_usd=amount, tokens=one.tokens * calls)

    def _estimate(self, tokens: Tokens, prices: tuple[Price, ...]) -> int:
        try:
            estimate = self._cost(tokens, dearest(prices))
        except (ValueError, OverflowError) as error:
            raise InvalidRequest("max_output_tokens", str(error)) from None
        self._check_amount("max_output_tokens", estimate)
        return estimate

    def _raise_alerts(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            self._observer.alert(alert)

    def _can_be_orphan(self, reservation_id: str, now_us: int) -> bool:
        made = reservation_id[:_MOMENT_DIGITS]
        return len(reservation_id) > _MOMENT_DIGITS and (
            id_bound(now_us - self._rules.retention_us) <= made <= id_bound(now_us + _MAX_SKEW_US)
        )

    def _learn(self, outcome: Outcome, used: Sequence[UsedTokens]) -> None:
        """An answer as long as the provider says; estimates and failed attempts teach nothing."""
        reservation = outcome.entries[-1].reservation
        if reservation is None:
            return
        for (provider, model), tokens, _ in used:
            if tokens.output_tokens and not tokens.estimated:
                payer = reservation.terms.payer
                writer = Writer(payer.organisation, provider, model, payer.feature)
                self._outputs.observe(writer, tokens.output_tokens)

    def _line(self, used: UsedTokens, now_us: int) -> Line:
        (provider, model), tokens, attempt = used
        storable("lines.model", provider + model)
        try:
            price: Price | None = self._prices.price(provider, model, now_us, tokens.input_tokens)
        except ModelUnpriced:
            # Spent is spent: an unknown model is booked at the dearest price of its reservation.
            price = None
        return Line(provider, model, tokens, attempt, price)

    def _ttl_us(self, asked_us: int) -> int:
        return min(asked_us, self._rules.max_ttl_us) if asked_us > 0 else self._rules.default_ttl_us

    def _check_amount(self, field: str, amount: int) -> None:
        if amount > self._rules.max_amount_nano_usd:
            raise InvalidRequest(field, f"more than {self._rules.max_amount_nano_usd} nano-USD at once")


def _answer(outcome: Outcome, kind: type[A]) -> A:
    if isinstance(outcome.answer, LedgerError):
        raise outcome.answer
    if not isinstance(outcome.answer, kind):
        raise TypeError(f"expected {kind.__name__}, the store gave {type(outcome.answer).__name__}")
    return outcome.answer
