"""The ledger as who lends, behind its port; whom a lease is for; what operators see of leases."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from google.protobuf import duration_pb2
from llmops.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from meshkit.context import current
from meshkit.errors import CallError
from meshkit.kit import Kit
from services.orchestrator.adapters.conversation import conversation_of
from services.orchestrator.adapters.failures import is_absent, is_outage, refused
from services.orchestrator.adapters.usage import usage_to
from services.orchestrator.core.errors import BudgetUnavailable, RequestFailed
from services.orchestrator.core.leases import Lease, Part, Payer, Price
from services.orchestrator.core.model import Turn
from services.orchestrator.core.ports import Loan, Wish

_TIMEOUT_S = 5.0
_NANOSECONDS = 10**9


def payer_of(turn: Turn) -> Payer:
    """Who pays, as the ledger tells it from the same credential and labels."""
    who, labels = current().principal, conversation_of(turn).labels
    return Payer(who.organisation, who.team, labels.end_user or who.user, who.key_id, labels.feature)


class RemoteLender:
    """The port `Lender` over the ledger's stub, in the name of the mesh itself."""

    def __init__(self, channel: Any, as_service: Callable[[float], AbstractContextManager[Any]], replica: str) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._as_service = as_service
        self._replica = replica

    async def take(self, wish: Wish) -> Loan | None:
        """See Lender."""
        request = ledger_pb2.AllotRequest(
            request_id=wish.request_id,
            subject=_subject(wish.payer),
            wanted_nano_usd=wish.amount_nano_usd,
            lease=_duration(wish.lease_s),
            replica=self._replica,
            models=[ledger_pb2.PricedModel(provider=m.provider, model=m.model) for m in wish.models],
            max_input_tokens=wish.max_input_tokens,
            settle_within=_duration(wish.settle_within_s),
        )
        try:
            with self._as_service(_TIMEOUT_S):
                response: ledger_pb2.AllotResponse = await self._stub.Allot(request)
        except CallError as error:
            raise _failure(error) from error
        if not response.allotment_id:
            return None
        return Loan(
            response.allotment_id,
            response.granted_nano_usd,
            tuple(_price(price) for price in response.prices),
            response.most_per_call_nano_usd if response.HasField("most_per_call_nano_usd") else None,
            bool(response.not_lent),
        )

    async def give_back(self, lease: Lease) -> int:
        """See Lender. The id is derived: repeating it books nothing twice. An allotment that was lost is booked too."""
        return await self._return(_returned(lease, "return"))

    async def give_back_part(self, part: Part) -> int:
        """See Lender."""
        request = _returned(part.lease, f"return:{part.number}")
        request.keep_nano_usd = part.keep_nano_usd
        request.keep_for.CopyFrom(_duration(part.keep_for_s))
        return await self._return(request)

    async def _return(self, request: ledger_pb2.ReturnAllotmentRequest) -> int:
        try:
            with self._as_service(_TIMEOUT_S):
                response: ledger_pb2.ReturnAllotmentResponse = await self._stub.ReturnAllotment(request)
        except CallError as error:
            raise _failure(error) from error
        return response.booked_nano_usd


class LendingTelemetry:
    """The port `LendingEvents`: metrics, and the log for what needs a person."""

    def __init__(self, kit: Kit, logger: logging.Logger) -> None:
        self._decisions = kit.counter(
            "llmops_orchestrator_lease_decisions_total", "Calls decided while the ledger was away", ("outcome",)
        )
        self._lost = kit.counter(
            "llmops_orchestrator_lost_lease_nano_usd_total", "Spent from leases that could not be given back"
        )
        self._logger = logger

    def decided(self, outcome: str) -> None:
        """See LendingEvents."""
        self._decisions.labels(outcome).inc()

    def refused(self, reason: str) -> None:
        """See LendingEvents."""
        self._logger.warning("the ledger refused a lease", extra={"fields": {"reason": reason}})

    def lost(self, allotment_id: str, amount_nano_usd: int) -> None:
        """See LendingEvents."""
        self._lost.inc(amount_nano_usd)
        fields = {"allotment_id": allotment_id, "amount_nano_usd": amount_nano_usd}
        self._logger.error("what was spent of a lease is not booked; correct it by hand", extra={"fields": fields})


def _failure(error: CallError) -> RequestFailed:
    """Anything that is no word on the request is absence: a lease is kept and asked about again."""
    return BudgetUnavailable(outage=is_outage(error)) if is_absent(error) else refused(error)


def _returned(lease: Lease, name: str) -> ledger_pb2.ReturnAllotmentRequest:
    request = ledger_pb2.ReturnAllotmentRequest(
        request_id=f"{lease.allotment_id}:{name}",
        allotment_id=lease.allotment_id,
        organisation=lease.payer.organisation,
        subject=_subject(lease.payer),
    )
    for line in lease.lines:
        model = ledger_pb2.PricedModel(provider=line.candidate.provider, model=line.candidate.model)
        request.lines.add(model=model, usage=usage_to(line.usage), attempt=line.attempt)
    return request


def _subject(payer: Payer) -> ledger_pb2.AllotmentSubject:
    return ledger_pb2.AllotmentSubject(**payer._asdict())


def _price(price: Any) -> Price:
    return Price(*(getattr(price, name) for name in Price._fields))


def _duration(seconds: float) -> duration_pb2.Duration:
    whole, nanos = divmod(round(seconds * _NANOSECONDS), _NANOSECONDS)
    return duration_pb2.Duration(seconds=whole, nanos=nanos)
