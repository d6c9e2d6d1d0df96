"""The ledger: prices requests, hands operations to the store, tells the observer. Every verb of the contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from services.ledger.core.books import Counter
from services.ledger.core.decide import CostFunction, Outcome
from services.ledger.core.errors import InvalidRequest, LedgerError, ModelUnpriced
from services.ledger.core.limits import Limit, LimitSet, Payer, Scope
from services.ledger.core.operations import (
    Answer,
    Commit,
    CommitAnswer,
    ExpireAnswer,
    Extend,
    ExtendAnswer,
    Kind,
    LimitAnswer,
    Line,
    OperationKey,
    Reserve,
    ReserveAnswer,
    SetLimit,
    Sweep,
    SweepAnswer,
    Void,
    VoidAnswer,
)
from services.ledger.core.pages import COUNTER_ID, LIMIT_ID, after_token, page_size, page_token
from services.ledger.core.ports import Observer, PriceBook, Store, UsageQuery
from services.ledger.core.prices import Price, Tokens, dearest
from services.ledger.core.windows import MICROSECONDS, SteadyClock, Window, window_at

# 9999-01-01 UTC: the calendar ends before a window that begins in that year.
_LAST_YEAR_S = 253_370_764_800
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


class Usage(NamedTuple):
    """Use of one limit in one window."""

    limit: Limit
    counter: Counter
    window: Window


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of the verbs; see settings."""

    default_ttl_us: int = 60 * MICROSECONDS
    max_ttl_us: int = 900 * MICROSECONDS
    max_amount_nano_usd: int = 10**15


class Ledger:
    """Each method is one RPC; the caller's organisation is always the payer's."""

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

    async def reserve(
        self,
        payer: Payer,
        request_id: str,
        models: Sequence[Model],
        input_tokens: int,
        max_output_tokens: int,
        ttl_us: int,
    ) -> ReserveAnswer:
        """Holds the most that a call on the dearest of `models` may cost. Raises ModelUnpriced."""
        _stored("labels", "".join(payer))
        _stored("models", "".join(map("".join, models)))
        now_us = self._clock.now_us()
        prices = tuple(self._prices.price(provider, model, now_us, input_tokens) for provider, model in models)
        estimate = self._estimate(Tokens(input_tokens, max_output_tokens), prices)
        operation = Reserve(
            _key(payer, Kind.RESERVE, request_id),
            _fingerprint(tuple(payer), list(map(tuple, models)), input_tokens, max_output_tokens, ttl_us),
            payer,
            estimate,
            prices,
            self._ttl_us(ttl_us),
            id_bound(now_us) + self._random_hex(),
        )
        outcome, answer = await self._execute(operation, ReserveAnswer)
        if not outcome.replayed:
            self._observer.decided("reserve", granted=answer.granted)
            self._raise_alerts(answer)
        return answer

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
            _key(payer, Kind.EXTEND, request_id),
            _fingerprint(reservation_id, add_nano_usd, spent_so_far_nano_usd, ttl_us),
            _stored("reservation_id", reservation_id),
            add_nano_usd,
            spent_so_far_nano_usd,
            self._ttl_us(ttl_us),
        )
        outcome, answer = await self._execute(operation, ExtendAnswer)
        if not outcome.replayed:
            self._observer.decided("extend", granted=answer.granted)
            self._raise_alerts(answer)
        return answer

    async def commit(
        self, payer: Payer, request_id: str, reservation_id: str, used: Sequence[UsedTokens]
    ) -> CommitAnswer:
        """Books usage; never refuses for lack of funds. Raises NotFound, ReservationEnded."""
        now_us = self._clock.now_us()
        operation = Commit(
            _key(payer, Kind.COMMIT, request_id),
            _fingerprint(reservation_id, [(*u.model, *u.tokens, u.attempt) for u in used]),
            _stored("reservation_id", reservation_id),
            tuple(self._line(line, now_us) for line in used),
        )
        outcome, answer = await self._execute(operation, CommitAnswer)
        if not outcome.replayed:
            self._observer.booked(answer.amount_nano_usd, answer.overrun_nano_usd, late=answer.late)
            self._raise_alerts(answer)
            if answer.after_void:
                self._observer.committed_after_void(reservation_id)
        return answer

    async def void(self, payer: Payer, request_id: str, reservation_id: str, reason: str) -> VoidAnswer:
        """Releases a hold whose call was never executed. Raises NotFound, ReservationEnded."""
        operation = Void(
            _key(payer, Kind.VOID, request_id),
            _fingerprint(reservation_id, reason),
            _stored("reservation_id", reservation_id),
            _stored("reason", reason),
        )
        return (await self._execute(operation, VoidAnswer))[1]

    async def sweep(self, max_reservations: int) -> int:
        """Ends holds that are past their time; returns how many."""
        return (await self._execute(Sweep(max_reservations), SweepAnswer))[1].expired

    async def forget(self, older_than_us: int, max_rows: int) -> int:
        """Deletes ended reservations that are too old for a late commit; the journal keeps their story."""
        return await self._store.forget_reservations(id_bound(self._clock.now_us() - older_than_us), max_rows)

    async def set_limit(self, payer: Payer, request_id: str, limit: Limit) -> Limit:
        """Creates or changes a limit of the payer's organisation. Raises InvalidRequest, NotFound."""
        _stored("limit.subject", limit.subject)
        operation = SetLimit(_key(payer, Kind.SET_LIMIT, request_id), _fingerprint(limit), limit)
        outcome = await self._store.set_limit(operation)
        return _answer(outcome, LimitAnswer).limit

    async def list_limits(self, organisation: str, asked_size: int, token: str) -> tuple[list[Limit], str]:
        """The limits an organisation lives under, by id, and the token of the next page."""
        size, after = page_size(asked_size), after_token(token, LIMIT_ID)
        limits = [x for x in (await self._store.limits()).of_organisation(organisation) if x.limit_id > after]
        return limits[:size], page_token(limits[size - 1].limit_id) if len(limits) > size else ""

    async def usage(
        self, organisation: str, scope: Scope | None, subject: str, at_us: int | None, asked_size: int, token: str
    ) -> tuple[list[Usage], str]:
        """Counters of the windows that contain a moment, and the token of the next page."""
        size, after = page_size(asked_size), after_token(token, COUNTER_ID)
        limits = await self._store.limits()
        at_s = (self._clock.now_us() if at_us is None else at_us) // MICROSECONDS
        if not 0 <= at_s < _LAST_YEAR_S:
            raise InvalidRequest("at_time", "must be in the years 1970 to 9998")
        windows = _windows(limits, organisation, scope, at_s)
        query = UsageQuery(organisation, windows, _stored("subject", subject), after, size + 1)
        found = await self._store.usage(query)
        usages = [usage for _, counter in found[:size] if (usage := _usage(limits, counter, at_s)) is not None]
        return usages, page_token(found[size - 1][0]) if len(found) > size else ""

    async def _execute(self, operation: Reserve | Extend | Commit | Void | Sweep, kind: type[A]) -> tuple[Outcome, A]:
        outcome = await self._store.execute(operation)
        expiries = [e.answer for e in outcome.entries if isinstance(e.answer, ExpireAnswer)]
        if expiries:
            self._observer.expired(len(expiries), sum(expiry.charged_nano_usd for expiry in expiries))
            for expiry in expiries:
                self._raise_alerts(expiry)
        return outcome, _answer(outcome, kind)

    def _estimate(self, tokens: Tokens, prices: tuple[Price, ...]) -> int:
        try:
            estimate = self._cost(tokens, dearest(prices))
        except (ValueError, OverflowError) as error:
            raise InvalidRequest("max_output_tokens", str(error)) from None
        self._check_amount("max_output_tokens", estimate)
        return estimate

    def _raise_alerts(self, answer: ReserveAnswer | ExtendAnswer | CommitAnswer | ExpireAnswer) -> None:
        for alert in answer.alerts:
            self._observer.alert(alert)

    def _line(self, used: UsedTokens, now_us: int) -> Line:
        (provider, model), tokens, attempt = used
        _stored("lines.model", provider + model)
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


def id_bound(at_us: int) -> str:
    """How the ids of reservations made at a moment begin: milliseconds in hex, so that ids sort by time."""
    return f"{at_us // 1000:012x}"


def _key(payer: Payer, kind: Kind, request_id: str) -> OperationKey:
    return OperationKey(payer.organisation, kind, _stored("request_id", request_id))


def _stored(field: str, text: str) -> str:
    # PostgreSQL text holds every character but this one.
    if "\0" in text:
        raise InvalidRequest(field, "must not contain the character NUL")
    return text


def _fingerprint(*payload: object) -> int:
    """64 bits of the payload's digest: tells an honest repetition from another request under the same id."""
    digest = hashlib.blake2b(repr(payload).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _windows(limits: LimitSet, organisation: str, scope: Scope | None, at_s: int) -> tuple[tuple[int, int, int], ...]:
    kinds = {(x.scope, x.period) for x in limits.of_organisation(organisation) if scope is None or x.scope is scope}
    return tuple(sorted((int(s), int(p), window_at(p, at_s).start_s) for s, p in kinds))


def _usage(limits: LimitSet, counter: Counter, at_s: int) -> Usage | None:
    organisation, scope, subject, period, _ = counter.key
    limit = limits.in_force(organisation, scope, subject, period)
    return None if limit is None else Usage(limit, counter, window_at(period, at_s))
