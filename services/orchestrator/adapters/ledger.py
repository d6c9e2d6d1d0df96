"""The ledger behind its port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf import duration_pb2
from llmops.common.v1 import context_pb2, usage_pb2
from llmops.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from meshkit.context import new_request_id, remaining_s
from meshkit.errors import CallError
from meshkit.money import cost_nano_usd
from services.orchestrator.adapters.conversation import conversation_of
from services.orchestrator.adapters.failures import is_absent, is_outage, is_restored, refused
from services.orchestrator.adapters.limits import described, refusal, tightest
from services.orchestrator.adapters.unbooked import UnbookedCommits
from services.orchestrator.adapters.usage import usage_to
from services.orchestrator.core.errors import BudgetExhausted, BudgetUnavailable
from services.orchestrator.core.model import Plan, Reservation, Turn, UsageLine

_ENDED = "RESERVATION_STATE"
_TTL_AFTER_DEADLINE_S = 30.0
_MAX_TTL_S = 900.0
# The ledger's ids have 128 bytes at most, and a fresh one 32.
_MAX_ASKED_CHARS = 95


class RemoteLedger:
    """The port `Ledger` over the ledger's stub."""

    def __init__(self, channel: Any, unbooked: UnbookedCommits, retry_pause_s: float = 0.25) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._unbooked = unbooked
        self._retry_pause_s = retry_pause_s

    async def reserve(self, turn: Turn, plan: Plan, input_tokens: int, max_output_tokens: int) -> Reservation:
        """See Ledger."""
        ttl_s = min(remaining_s(_MAX_TTL_S) + _TTL_AFTER_DEADLINE_S, _MAX_TTL_S)
        request = ledger_pb2.ReserveRequest(
            request_id=_fresh_id(turn.request_id),
            models=[ledger_pb2.PricedModel(provider=c.provider, model=c.model) for c in plan.candidates],
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            labels=conversation_of(turn).labels,
            estimate_output=turn.max_output_tokens is None,
            ttl=duration_pb2.Duration(seconds=int(ttl_s)),
            calls=plan.max_billed_calls,
        )
        try:
            response: ledger_pb2.ReserveResponse = await self._stub.Reserve(request)
        except CallError as error:
            failed = BudgetUnavailable(outage=is_outage(error)) if is_absent(error) else refused(error)
            failed.unanswered = request if error.status == "DEADLINE_EXCEEDED" or error.unheard else None
            raise failed from error
        if response.decision != ledger_pb2.RESERVE_DECISION_GRANTED:
            raise refusal(response)
        return Reservation(
            reservation_id=response.reservation_id,
            prices={(p.provider, p.model): p for p in response.prices},
            held_nano_usd=response.reserved_nano_usd,
            covered_output_tokens=response.covered_output_tokens or max_output_tokens,
            ttl_s=ttl_s,
            rates=tightest(response.rates),
            labels=request.labels,
        )

    async def mark_dispatched(self, reservation: Reservation) -> None:
        """See Ledger. A reservation that has ended by now needs no mark."""
        request = ledger_pb2.MarkDispatchedRequest(
            request_id=f"{reservation.reservation_id}:dispatched", reservation_id=reservation.reservation_id
        )
        await self._stub.MarkDispatched(request)

    def cost_nano_usd(self, reservation: Reservation, lines: Sequence[UsageLine]) -> int:
        """See Ledger."""
        prices: dict[tuple[str, str], usage_pb2.TokenPrice] = reservation.prices  # type: ignore[assignment]
        return sum(_cost_nano_usd(line, prices) for line in lines)

    async def extend(self, reservation: Reservation, number: int, add_nano_usd: int, spent_nano_usd: int) -> int:
        """See Ledger. Once: whoever asks knows what to do without an answer."""
        request = ledger_pb2.ExtendRequest(
            request_id=f"{reservation.reservation_id}:extend:{number}",
            reservation_id=reservation.reservation_id,
            add_nano_usd=add_nano_usd,
            spent_so_far_nano_usd=spent_nano_usd,
            ttl=duration_pb2.Duration(seconds=int(reservation.ttl_s)),
        )
        try:
            response: ledger_pb2.ExtendResponse = await self._stub.Extend(request)
        except CallError as error:
            if error.reason == _ENDED:
                # It was not heard of for as long as it lives. That is the ledger's word, and no absence.
                raise BudgetExhausted([("hold", "it has ended, and no more is granted under it")], None) from error
            raise BudgetUnavailable from error
        if response.decision != ledger_pb2.RESERVE_DECISION_GRANTED:
            raise BudgetExhausted(described(response.violations), None)
        return response.reserved_nano_usd

    async def commit(self, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
        """See Ledger. The id is derived: repeating the commit books nothing twice.

        Where the ledger was restored from an older copy, it is handed over to whoever waits for that to be accepted.
        """
        request = ledger_pb2.CommitRequest(
            request_id=f"{reservation.reservation_id}:commit",
            reservation_id=reservation.reservation_id,
            lines=[_line(line) for line in lines],
            # A database that was restored lost the reservation; the money is spent all the same.
            accept_orphan=True,
        )
        if isinstance(reservation.labels, context_pb2.CallLabels):
            request.labels.CopyFrom(reservation.labels)
        amount = self.cost_nano_usd(reservation, lines) if reservation.prices else 0
        try:
            await self._until_heard(lambda: self._stub.Commit(request), restored_too=False)
        except CallError as error:
            if not is_restored(error):
                self._unbooked.give_up(reservation.reservation_id, amount, error.reason)
                raise
            self._unbooked.keep(reservation.reservation_id, amount, lambda: self._stub.Commit(request))
        except asyncio.CancelledError:
            self._unbooked.give_up(reservation.reservation_id, amount, "out-of-time")
            raise

    async def void(self, reservation: Reservation, reason: str) -> None:
        """See Ledger."""
        request = ledger_pb2.VoidRequest(
            request_id=f"{reservation.reservation_id}:void",
            reservation_id=reservation.reservation_id,
            reason=reason,
        )
        await self._until_heard(lambda: self._stub.Void(request))

    async def withdraw(self, unanswered: object) -> None:
        """See Ledger. Asking again with the same id tells what became of it, or makes it now; either way it ends."""
        assert isinstance(unanswered, ledger_pb2.ReserveRequest)
        response = await self._until_heard(lambda: self._stub.Reserve(unanswered))
        if response.decision == ledger_pb2.RESERVE_DECISION_GRANTED:
            await self.void(Reservation(response.reservation_id, {}), "not-sent")

    async def _until_heard(self, send: Callable[[], Awaitable[Any]], *, restored_too: bool = True) -> Any:
        """Repeats while the ledger is away and the time for accounting lasts: its ids make repeating harmless."""
        while True:
            try:
                return await send()
            except CallError as error:
                if not is_absent(error) or remaining_s(0.0) <= self._retry_pause_s:
                    raise
                if is_restored(error) and not restored_too:
                    raise
            await asyncio.sleep(self._retry_pause_s)


def _fresh_id(asked: str) -> str:
    """An id of our own: a caller that repeats its request id must not reuse a hold.

    It begins with the caller's, if that leaves room, so that a denial is found by what the caller has.
    """
    fresh = new_request_id()
    return f"{asked}:{fresh}" if asked.isascii() and asked.isprintable() and len(asked) <= _MAX_ASKED_CHARS else fresh


def _cost_nano_usd(line: UsageLine, prices: dict[tuple[str, str], usage_pb2.TokenPrice]) -> int:
    """At the dearest price held when the model has none: a surprise of the router's must not keep a call unbooked."""
    own = prices.get((line.candidate.provider, line.candidate.model))
    return max(cost_nano_usd(line.usage, price) for price in ([own] if own is not None else prices.values()))


def _line(line: UsageLine) -> ledger_pb2.UsageLine:
    return ledger_pb2.UsageLine(
        model=ledger_pb2.PricedModel(provider=line.candidate.provider, model=line.candidate.model),
        usage=usage_to(line.usage),
        attempt=line.attempt,
    )
