"""The servicer: proto to domain and back. Decisions are in core."""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.common.v1 import context_pb2, usage_pb2
from llmops.ledger.v1 import ledger_pb2 as pb
from llmops.ledger.v1 import ledger_pb2_grpc

from meshkit.context import current
from services.ledger.core.limits import (
    DEFAULT_ALERT_BASIS_POINTS,
    DEFAULT_STOP_BASIS_POINTS,
    Limit,
    Payer,
    Scope,
)
from services.ledger.core.operations import ReserveAnswer, Violation
from services.ledger.core.prices import Price, Tokens
from services.ledger.core.service import Ledger, Model, Usage, UsedTokens
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
}


class LedgerApi(ledger_pb2_grpc.LedgerServiceServicer):
    """llmops.ledger.v1.LedgerService."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def Reserve(self, request: pb.ReserveRequest, context: object) -> pb.ReserveResponse:
        """See the contract."""
        answer = await self._ledger.reserve(
            _payer(request.labels),
            request.request_id,
            [Model(m.provider, m.model) for m in request.models],
            request.input_tokens,
            request.max_output_tokens,
            _microseconds(request.ttl),
        )
        return _reserved(answer)

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
        used = [_used(line) for line in request.lines]
        answer = await self._ledger.commit(_payer(None), request.request_id, request.reservation_id, used)
        return pb.CommitResponse(
            amount_nano_usd=answer.amount_nano_usd, overrun_nano_usd=answer.overrun_nano_usd, late=answer.late
        )

    async def Void(self, request: pb.VoidRequest, context: object) -> pb.VoidResponse:
        """See the contract."""
        answer = await self._ledger.void(_payer(None), request.request_id, request.reservation_id, request.reason)
        return pb.VoidResponse(released_nano_usd=answer.released_nano_usd)

    async def GetUsage(self, request: pb.GetUsageRequest, context: object) -> pb.GetUsageResponse:
        """See the contract."""
        usages, token = await self._ledger.usage(
            current().principal.organisation,
            Scope(request.scope) if request.scope else None,
            request.subject,
            request.at_time.ToMicroseconds() if request.HasField("at_time") else None,
            request.page_size,
            request.page_token,
        )
        return pb.GetUsageResponse(usages=[_usage(u) for u in usages], next_page_token=token)

    async def ListLimits(self, request: pb.ListLimitsRequest, context: object) -> pb.ListLimitsResponse:
        """See the contract."""
        limits, token = await self._ledger.list_limits(
            current().principal.organisation, request.page_size, request.page_token
        )
        return pb.ListLimitsResponse(limits=[_limit(x) for x in limits], next_page_token=token)

    async def SetLimit(self, request: pb.SetLimitRequest, context: object) -> pb.SetLimitResponse:
        """See the contract."""
        asked = request.limit
        wanted = Limit(
            asked.limit_id,
            current().principal.organisation,
            Scope(asked.scope),
            asked.subject,
            Period(asked.period),
            asked.cap_nano_usd,
            asked.alert_basis_points or DEFAULT_ALERT_BASIS_POINTS,
            asked.stop_basis_points or DEFAULT_STOP_BASIS_POINTS,
        )
        return pb.SetLimitResponse(limit=_limit(await self._ledger.set_limit(_payer(None), request.request_id, wanted)))


def _payer(labels: context_pb2.CallLabels | None) -> Payer:
    """Who pays: the credential; the labels only choose among its limits."""
    principal = current().principal
    end_user, feature = (labels.end_user, labels.feature) if labels is not None else ("", "")
    return Payer(principal.organisation, principal.team, end_user or principal.user, principal.key_id, feature)


def _reserved(answer: ReserveAnswer) -> pb.ReserveResponse:
    return pb.ReserveResponse(
        decision=_decision(granted=answer.granted),
        reservation_id=answer.reservation_id,
        reserved_nano_usd=answer.reserved_nano_usd,
        violations=[_violation(v) for v in answer.violations],
        alerts=[pb.LimitAlert(limit=_limit(a.limit), used_nano_usd=a.used_nano_usd) for a in answer.alerts],
        retry_after=None if answer.retry_after_us is None else _duration(answer.retry_after_us),
        prices=[_price(p) for p in answer.prices],
        expire_time=_time(answer.expire_us) if answer.granted else None,
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
    )


def _violation(violation: Violation) -> pb.LimitViolation:
    end_s = violation.window_end_s
    return pb.LimitViolation(
        limit=_limit(violation.limit),
        remaining_nano_usd=violation.remaining_nano_usd,
        requested_nano_usd=violation.requested_nano_usd,
        window_end_time=None if end_s is None else Timestamp(seconds=end_s),
    )


def _usage(usage: Usage) -> pb.LimitUsage:
    start_s, end_s = usage.window
    return pb.LimitUsage(
        limit=_limit(usage.limit),
        subject=usage.counter.key.subject,
        window_start_time=None if end_s is None else Timestamp(seconds=start_s),
        window_end_time=None if end_s is None else Timestamp(seconds=end_s),
        spent_nano_usd=usage.counter.spent_nano_usd,
        held_nano_usd=usage.counter.held_nano_usd,
    )


def _microseconds(duration: Duration) -> int:
    return duration.seconds * MICROSECONDS + duration.nanos // _NANOSECONDS_PER_MICROSECOND


def _duration(microseconds: int) -> Duration:
    seconds, rest = divmod(microseconds, MICROSECONDS)
    return Duration(seconds=seconds, nanos=rest * _NANOSECONDS_PER_MICROSECOND)


def _time(microseconds: int) -> Timestamp:
    seconds, rest = divmod(microseconds, MICROSECONDS)
    return Timestamp(seconds=seconds, nanos=rest * _NANOSECONDS_PER_MICROSECOND)
