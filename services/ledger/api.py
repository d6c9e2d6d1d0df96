"""The servicer: proto to domain and back. Decisions are in core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import lru_cache

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.common.v1 import context_pb2, usage_pb2
from llmops.ledger.v1 import ledger_pb2 as pb
from llmops.ledger.v1 import ledger_pb2_grpc

from meshkit.context import current
from services.ledger.core.errors import InvalidRequest
from services.ledger.core.events import EventKind
from services.ledger.core.limits import (
    DEFAULT_ALERT_BASIS_POINTS,
    DEFAULT_STOP_BASIS_POINTS,
    Limit,
    Mode,
    Payer,
    Scope,
    Unit,
)
from services.ledger.core.operations import Alert, AllotAnswer, Kept, LeaseTerms, RateLeft, ReserveAnswer, Violation
from services.ledger.core.prices import Price, Tokens
from services.ledger.core.reports import Usage, difference_nano_usd, payer_of_subject
from services.ledger.core.service import Ledger, Model, UsedTokens
from services.ledger.core.watching import Watches
from services.ledger.core.windows import MICROSECONDS, Period

_NANOSECONDS_PER_MICROSECOND = 1000
_SCOPES = {
    Scope.ORGANISATION: pb.LIMIT_SCOPE_ORGANISATION,
    Scope.TEAM: pb.LIMIT_SCOPE_TEAM,
    Scope.USER: pb.LIMIT_SCOPE_USER,
    Scope.KEY: pb.LIMIT_SCOPE_KEY,
    Scope.FEATURE: pb.LIMIT_SCOPE_FEATURE,
}
_PERIODS = {
    Period.QUERY: pb.LIMIT_PERIOD_QUERY,
    Period.HOUR: pb.LIMIT_PERIOD_HOUR,
    Period.DAY: pb.LIMIT_PERIOD_DAY,
    Period.MONTH: pb.LIMIT_PERIOD_MONTH,
    Period.LIFETIME: pb.LIMIT_PERIOD_LIFETIME,
    Period.MINUTE: pb.LIMIT_PERIOD_MINUTE,
    Period.MOMENT: pb.LIMIT_PERIOD_MOMENT,
}
_UNITS = {
    Unit.MONEY: pb.LIMIT_UNIT_MONEY,
    Unit.REQUESTS: pb.LIMIT_UNIT_REQUESTS,
    Unit.TOKENS: pb.LIMIT_UNIT_TOKENS,
    Unit.CONCURRENCY: pb.LIMIT_UNIT_CONCURRENCY,
}
_EVENTS = {kind: f"LEDGER_EVENT_KIND_{kind.name}" for kind in EventKind}
_MODES = {Mode.ENFORCE: pb.LIMIT_MODE_ENFORCE, Mode.SHADOW: pb.LIMIT_MODE_SHADOW}


class LedgerApi(ledger_pb2_grpc.LedgerServiceServicer):
    """llmops.ledger.v1.LedgerService."""

    def __init__(self, ledger: Ledger, watches: Watches) -> None:
        self._ledger = ledger
        self._watches = watches

    async def Reserve(self, request: pb.ReserveRequest, context: object) -> pb.ReserveResponse:
        """See the contract."""
        answer = await self._ledger.reserve(
            _payer(request.labels),
            request.request_id,
            [Model(m.provider, m.model) for m in request.models],
            request.input_tokens,
            request.max_output_tokens,
            _microseconds(request.ttl),
            estimate_output=request.estimate_output,
            calls=request.calls or 1,
        )
        return _reserved(answer)

    async def MarkDispatched(self, request: pb.MarkDispatchedRequest, context: object) -> pb.MarkDispatchedResponse:
        """See the contract."""
        answer = await self._ledger.mark_dispatched(_payer(None), request.request_id, request.reservation_id)
        return pb.MarkDispatchedResponse(noted=answer.noted)

    async def Extend(self, request: pb.ExtendRequest, context: object) -> pb.ExtendResponse:
        """See the contract."""
        answer = await self._ledger.extend(
            _payer(None),
            request.request_id,
            request.reservation_id,
            request.add_nano_usd,
            request.spent_so_far_nano_usd,
            _microseconds(request.ttl),
        )
        return pb.ExtendResponse(
            decision=_decision(granted=answer.granted),
            reserved_nano_usd=answer.reserved_nano_usd,
            violations=[_violation(v) for v in answer.violations],
            expire_time=_time(answer.expire_us),
        )

    async def Commit(self, request: pb.CommitRequest, context: object) -> pb.CommitResponse:
        """See the contract."""
        answer = await self._ledger.commit(
            _payer(request.labels),
            request.request_id,
            request.reservation_id,
            [_used(line) for line in request.lines],
            accept_orphan=request.accept_orphan,
        )
        return pb.CommitResponse(
            amount_nano_usd=answer.amount_nano_usd,
            overrun_nano_usd=answer.overrun_nano_usd,
            late=answer.late,
            orphan=answer.orphan,
            after_void=answer.after_void,
        )

    async def Void(self, request: pb.VoidRequest, context: object) -> pb.VoidResponse:
        """See the contract."""
        answer = await self._ledger.void(_payer(None), request.request_id, request.reservation_id, request.reason)
        return pb.VoidResponse(released_nano_usd=answer.released_nano_usd)

    async def Adjust(self, request: pb.AdjustRequest, context: object) -> pb.AdjustResponse:
        """See the contract."""
        answer = await self._ledger.adjust(
            _payer(None),
            request.request_id,
            request.reservation_id,
            request.delta_nano_usd,
            request.provider,
            request.reason,
        )
        return pb.AdjustResponse(booked_nano_usd=answer.booked_nano_usd)

    async def Allot(self, request: pb.AllotRequest, context: object) -> pb.AllotResponse:
        """See the contract. The only RPC, with its return, that names a payer: services alone may call it."""
        answer = await self._ledger.allot(
            _subject(request.subject),
            request.request_id,
            request.wanted_nano_usd,
            _microseconds(request.lease),
            request.replica,
            _terms(request),
        )
        return _lent(answer)

    async def ReturnAllotment(self, request: pb.ReturnAllotmentRequest, context: object) -> pb.ReturnAllotmentResponse:
        """See the contract."""
        answer = await self._ledger.commit(
            _returned_by(request),
            request.request_id,
            request.allotment_id,
            [_used(line) for line in request.lines],
            accept_orphan=request.HasField("subject"),
            lent=True,
            kept=_kept(request),
        )
        return pb.ReturnAllotmentResponse(
            booked_nano_usd=answer.amount_nano_usd,
            overrun_nano_usd=answer.overrun_nano_usd,
            late=answer.late,
            orphan=answer.orphan,
        )

    async def Reconcile(self, request: pb.ReconcileRequest, context: object) -> pb.ReconcileResponse:
        """See the contract."""
        starts = [_microseconds(day.start_time) for day in request.days]
        organisation = current().principal.organisation
        booked = await self._ledger.reports.reconcile(organisation, request.provider, starts)
        days = [
            pb.ReconciledDay(start_time=asked.start_time, invoiced_nano_usd=asked.amount_nano_usd, **day._asdict())
            for asked, day in zip(request.days, booked, strict=True)
        ]
        difference = difference_nano_usd([asked.amount_nano_usd for asked in request.days], booked)
        return pb.ReconcileResponse(days=days, difference_nano_usd=difference)

    async def WhyBlocked(self, request: pb.WhyBlockedRequest, context: object) -> pb.WhyBlockedResponse:
        """See the contract."""
        organisation = current().principal.organisation
        decision, usages, passes = await self._ledger.reports.why_blocked(organisation, request.request_id)
        return pb.WhyBlockedResponse(
            request_id=decision.request_id,
            decide_time=_time(decision.at_us),
            violations=[_violation(v) for v in decision.answer.violations],
            usages=[_usage(usage) for usage in usages],
            would_pass_now=passes,
        )

    async def Watch(self, request: pb.WatchRequest, context: object) -> AsyncIterator[pb.WatchResponse]:
        """See the contract."""
        organisation = current().principal.organisation
        async with aclosing(self._watches.watch(organisation, request.after_revision)) as events:
            async for revision, event in events:
                if event is None:
                    yield pb.WatchResponse(revision=revision)
                    continue
                yield pb.WatchResponse(
                    revision=revision,
                    kind=_EVENTS[event.kind],
                    event_time=_time(event.at_us),
                    alerts=[_alert(alert) for alert in event.alerts],
                    request_id=event.request_id,
                    reservation_id=event.reservation_id,
                    amount_nano_usd=event.amount_nano_usd,
                )

    async def GetUsage(self, request: pb.GetUsageRequest, context: object) -> pb.GetUsageResponse:
        """See the contract."""
        usages, token = await self._ledger.reports.usage(
            current().principal.organisation,
            Scope(request.scope) if request.scope else None,
            request.subject,
            _microseconds(request.at_time) if request.HasField("at_time") else None,
            request.page_size,
            request.page_token,
        )
        return pb.GetUsageResponse(usages=[_usage(u) for u in usages], next_page_token=token)

    async def ListLimits(self, request: pb.ListLimitsRequest, context: object) -> pb.ListLimitsResponse:
        """See the contract."""
        limits, token = await self._ledger.reports.list_limits(
            current().principal.organisation, request.page_size, request.page_token
        )
        return pb.ListLimitsResponse(limits=[_limit(x) for x in limits], next_page_token=token)

    async def SetLimit(self, request: pb.SetLimitRequest, context: object) -> pb.SetLimitResponse:
        """See the contract."""
        wanted = _wanted(request.limit, current().principal.organisation)
        return pb.SetLimitResponse(limit=_limit(await self._ledger.set_limit(_payer(None), request.request_id, wanted)))


def _payer(labels: context_pb2.CallLabels | None) -> Payer:
    """Who pays: the credential; the labels only choose among its limits."""
    principal = current().principal
    end_user, feature = (labels.end_user, labels.feature) if labels is not None else ("", "")
    return Payer(principal.organisation, principal.team, end_user or principal.user, principal.key_id, feature)


def _subject(subject: pb.AllotmentSubject) -> Payer:
    return payer_of_subject(subject.organisation, subject.team, subject.user, subject.key_id, subject.feature)


def _terms(request: pb.AllotRequest) -> LeaseTerms:
    return LeaseTerms(
        tuple((m.provider, m.model) for m in request.models),
        request.max_input_tokens,
        _microseconds(request.settle_within),
    )


def _lent(answer: AllotAnswer) -> pb.AllotResponse:
    return pb.AllotResponse(
        allotment_id=answer.allotment_id,
        granted_nano_usd=answer.granted_nano_usd,
        expire_time=_time(answer.expire_us) if answer.allotment_id else None,
        prices=[_price(p) for p in answer.prices],
        most_per_call_nano_usd=answer.most_per_call_nano_usd,
        not_lent=[_limit(limit) for limit in answer.not_lent],
    )


def _kept(request: pb.ReturnAllotmentRequest) -> Kept | None:
    kept = Kept(request.keep_nano_usd, _microseconds(request.keep_for))
    return kept if request.HasField("keep_for") else None


def _returned_by(request: pb.ReturnAllotmentRequest) -> Payer:
    """Whose an allotment is. It has its own payer: the subject counts only when it was lost."""
    if not request.HasField("subject"):
        return payer_of_subject(request.organisation, "", "", "", "")
    if request.subject.organisation != request.organisation:
        raise InvalidRequest("subject.organisation", "must be that of the request")
    return _subject(request.subject)


def _reserved(answer: ReserveAnswer) -> pb.ReserveResponse:
    return pb.ReserveResponse(
        decision=_decision(granted=answer.granted),
        reservation_id=answer.reservation_id,
        reserved_nano_usd=answer.reserved_nano_usd,
        violations=[_violation(v) for v in answer.violations],
        alerts=[_alert(a) for a in answer.alerts],
        retry_after=None if answer.retry_after_us is None else _duration(answer.retry_after_us),
        prices=[_price(p) for p in answer.prices],
        expire_time=_time(answer.expire_us) if answer.granted else None,
        shadow_violations=[_violation(v) for v in answer.shadow_violations],
        rates=[_rate(rate) for rate in answer.rates],
        covered_output_tokens=answer.covered_output_tokens,
    )


def _used(line: pb.UsageLine) -> UsedTokens:
    usage = line.usage
    tokens = Tokens(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.reasoning_tokens,
        usage.estimated,
    )
    return UsedTokens(Model(line.model.provider, line.model.model), tokens, line.attempt)


def _decision(*, granted: bool) -> pb.ReserveDecision:
    return pb.RESERVE_DECISION_GRANTED if granted else pb.RESERVE_DECISION_DENIED


@lru_cache(maxsize=1024)
def _price(price: Price) -> usage_pb2.TokenPrice:
    return usage_pb2.TokenPrice(**price._asdict())


def _wanted(asked: pb.Limit, organisation: str) -> Limit:
    return Limit(
        asked.limit_id,
        organisation,
        Scope(asked.scope),
        asked.subject,
        Period(asked.period),
        asked.cap_nano_usd,
        asked.alert_basis_points or DEFAULT_ALERT_BASIS_POINTS,
        asked.stop_basis_points or DEFAULT_STOP_BASIS_POINTS,
        unit=Unit(asked.unit or Unit.MONEY),
        max_count=asked.max_count,
        burst_count=asked.burst_count,
        mode=Mode(asked.mode or Mode.ENFORCE),
        time_zone=asked.time_zone,
    )


def _limit(limit: Limit) -> pb.Limit:
    return pb.Limit(
        limit_id=limit.limit_id,
        scope=_SCOPES[limit.scope],
        subject=limit.subject,
        period=_PERIODS[limit.period],
        cap_nano_usd=limit.cap_nano_usd,
        alert_basis_points=limit.alert_basis_points,
        stop_basis_points=limit.stop_basis_points,
        version=limit.version,
        unit=_UNITS[limit.unit],
        max_count=limit.max_count,
        burst_count=limit.burst_count,
        mode=_MODES[limit.mode],
        time_zone=limit.time_zone,
    )


def _violation(violation: Violation) -> pb.LimitViolation:
    limit, remaining, requested, end_s, wait_us = violation
    money = limit.unit is Unit.MONEY
    return pb.LimitViolation(
        limit=_limit(limit),
        remaining_nano_usd=remaining if money else 0,
        requested_nano_usd=requested if money else 0,
        window_end_time=None if end_s is None else Timestamp(seconds=end_s),
        remaining_count=0 if money else remaining,
        requested_count=0 if money else requested,
        retry_after=None if wait_us is None else _duration(wait_us),
    )


def _alert(alert: Alert) -> pb.LimitAlert:
    return pb.LimitAlert(limit=_limit(alert.limit), used_nano_usd=alert.used_nano_usd)


def _rate(rate: RateLeft) -> pb.RateStatus:
    return pb.RateStatus(limit=_limit(rate.limit), remaining_count=rate.remaining, reset_after=_duration(rate.reset_us))


def _usage(usage: Usage) -> pb.LimitUsage:
    start_s, end_s = usage.window
    return pb.LimitUsage(
        limit=_limit(usage.limit),
        subject=usage.counter.key.subject,
        window_start_time=None if end_s is None else Timestamp(seconds=start_s),
        window_end_time=None if end_s is None else Timestamp(seconds=end_s),
        spent_nano_usd=usage.counter.spent_nano_usd,
        held_nano_usd=usage.counter.held_nano_usd if usage.limit.unit is Unit.MONEY else 0,
        used_count=usage.used_count,
    )


def _microseconds(time: Duration | Timestamp) -> int:
    return time.seconds * MICROSECONDS + time.nanos // _NANOSECONDS_PER_MICROSECOND


def _duration(microseconds: int) -> Duration:
    seconds, rest = divmod(microseconds, MICROSECONDS)
    return Duration(seconds=seconds, nanos=rest * _NANOSECONDS_PER_MICROSECOND)


def _time(microseconds: int) -> Timestamp:
    seconds, rest = divmod(microseconds, MICROSECONDS)
    return Timestamp(seconds=seconds, nanos=rest * _NANOSECONDS_PER_MICROSECOND)
