"""The servicer speaks the contract: every field there and back."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.common.v1 import context_pb2, usage_pb2
from llmops.ledger.v1 import ledger_pb2 as pb

from meshkit.errors import describe
from meshkit.identity import Principal
from meshkit.testing import call_context
from services.ledger.api import LedgerApi
from services.ledger.core.errors import InvalidRequest, ModelUnpriced, NotFound, RequestIdReused
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Scope, Unit
from services.ledger.core.watching import Watches, WatchRules
from services.ledger.core.windows import Period
from tests.unit.ledger.builders import START, Desk, count_limit, done, limit

ACME = Principal("acme", "search", "ada", "key-1", frozenset({"caller", "operator"}))
UNIT = pb.PricedModel(provider="acme-ai", model="unit")
START_S = int(START.timestamp())


def desk_api(desk: Desk) -> LedgerApi:
    return LedgerApi(desk.ledger, Watches(desk.memory, WatchRules()))


def reserve(api: LedgerApi, amount: int, request_id: str = "r", **labels: str) -> pb.ReserveResponse:
    request = pb.ReserveRequest(
        request_id=request_id,
        models=[UNIT],
        max_output_tokens=amount,
        labels=context_pb2.CallLabels(**labels),
        ttl=Duration(seconds=30, nanos=500_000_000),
    )
    with call_context(ACME):
        return done(api.Reserve(request, None))


def test_reserve_grants() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100)])
    granted = reserve(desk_api(desk), 85)
    assert granted.decision == pb.RESERVE_DECISION_GRANTED
    assert granted.reserved_nano_usd == 85
    assert granted.expire_time == Timestamp(seconds=START_S + 30, nanos=500_000_000)
    assert granted.prices[0].version == "test/1"
    assert granted.prices[0].output_nano_usd_per_million_tokens == 10**6
    assert (granted.alerts[0].limit.scope, granted.alerts[0].used_nano_usd) == (pb.LIMIT_SCOPE_USER, 85)
    assert not granted.HasField("retry_after")


def test_reserve_denies() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100), limit(Scope.ORGANISATION, Period.QUERY, 150)])
    api = desk_api(desk)
    reserve(api, 90)
    denied = reserve(api, 20, "r2")
    assert denied.decision == pb.RESERVE_DECISION_DENIED
    assert denied.reservation_id == ""
    assert not denied.HasField("expire_time")
    assert denied.retry_after == Duration(seconds=1)
    violation = denied.violations[0]
    assert (violation.remaining_nano_usd, violation.requested_nano_usd) == (10, 20)
    assert violation.window_end_time == Timestamp(seconds=START_S + 2400)
    assert violation.limit.cap_nano_usd == 100
    too_dear = reserve(api, 200, "r3")
    assert not too_dear.HasField("retry_after")
    assert [v.limit.period for v in too_dear.violations] == [pb.LIMIT_PERIOD_QUERY, pb.LIMIT_PERIOD_HOUR]
    assert not too_dear.violations[0].HasField("window_end_time")


def test_a_hold_for_several_calls_is_so_many_times_one() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100)])
    api = desk_api(desk)
    one = pb.ReserveRequest(request_id="a", models=[UNIT], max_output_tokens=30)
    three = pb.ReserveRequest(request_id="b", models=[UNIT], max_output_tokens=30, calls=3)
    with call_context(ACME):
        assert done(api.Reserve(three, None)).reserved_nano_usd == 90
        assert done(api.Reserve(three, None)).reserved_nano_usd == 90, "the same request gets the same answer"
        with pytest.raises(RequestIdReused):
            done(api.Reserve(pb.ReserveRequest(request_id="b", models=[UNIT], max_output_tokens=30, calls=2), None))
        assert done(api.Reserve(one, None)).decision == pb.RESERVE_DECISION_DENIED


def test_labels_choose_the_user_and_the_feature() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100), limit(Scope.FEATURE, Period.HOUR, 100)])
    reserve(desk_api(desk), 10, end_user="grace", feature="chat")
    assert desk.used() == {("USER", "grace"): (0, 10), ("FEATURE", "chat"): (0, 10)}


def test_extend_commit_and_void() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100)])
    api = desk_api(desk)
    hold, other = reserve(api, 50), reserve(api, 20, "r2")
    with call_context(ACME):
        extended = done(
            api.Extend(pb.ExtendRequest(request_id="e", reservation_id=hold.reservation_id, add_nano_usd=40), None)
        )
        usage = usage_pb2.Usage(input_tokens=7, output_tokens=70)
        line = pb.UsageLine(model=UNIT, usage=usage, attempt=1)
        booked = done(
            api.Commit(pb.CommitRequest(request_id="c", reservation_id=hold.reservation_id, lines=[line]), None)
        )
        voided = done(api.Void(pb.VoidRequest(request_id="v", reservation_id=other.reservation_id), None))
    assert extended.decision == pb.RESERVE_DECISION_DENIED
    assert (extended.reserved_nano_usd, extended.violations[0].remaining_nano_usd) == (50, 30)
    assert extended.expire_time == Timestamp(seconds=START_S + 60)
    assert (booked.amount_nano_usd, booked.overrun_nano_usd, booked.late) == (70, 20, False)
    assert voided.released_nano_usd == 20


def test_limits_and_usage() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100), limit(Scope.TEAM, Period.LIFETIME, 100)])
    api = desk_api(desk)
    wanted = pb.Limit(scope=pb.LIMIT_SCOPE_KEY, period=pb.LIMIT_PERIOD_MONTH, cap_nano_usd=500)
    with call_context(ACME):
        saved = done(api.SetLimit(pb.SetLimitRequest(request_id="s", limit=wanted), None)).limit
        listed = done(api.ListLimits(pb.ListLimitsRequest(page_size=2), None))
        rest = done(api.ListLimits(pb.ListLimitsRequest(page_size=2, page_token=listed.next_page_token), None))
    assert (saved.alert_basis_points, saved.stop_basis_points, saved.version) == (8000, 9500, 1)
    assert saved.limit_id
    assert len(listed.limits) + len(rest.limits) == 3
    assert not rest.next_page_token
    reserve(api, 10)
    with call_context(ACME):
        request = pb.GetUsageRequest(scope=pb.LIMIT_SCOPE_USER, at_time=Timestamp(seconds=START_S))
        usage = done(api.GetUsage(request, None)).usages[0]
        lifetime = done(api.GetUsage(pb.GetUsageRequest(scope=pb.LIMIT_SCOPE_TEAM), None)).usages[0]
    assert (usage.subject, usage.held_nano_usd, usage.spent_nano_usd) == ("ada", 10, 0)
    assert usage.window_start_time == Timestamp(seconds=START_S - 1200)
    assert usage.window_end_time == Timestamp(seconds=START_S + 2400)
    assert not lifetime.HasField("window_start_time")


@pytest.mark.parametrize(
    "moment",
    [Timestamp(nanos=-1), Timestamp(seconds=10**15), Timestamp(seconds=2**63 - 1), Timestamp(seconds=-(2**63))],
)
def test_a_moment_that_is_none_is_named(moment: Timestamp) -> None:
    api = desk_api(Desk([limit(Scope.USER, Period.HOUR, 100)]))
    with call_context(ACME):
        with pytest.raises(InvalidRequest, match="at_time: must be"):
            done(api.GetUsage(pb.GetUsageRequest(at_time=moment), None))
        day = pb.InvoiceDay(start_time=moment)
        with pytest.raises(InvalidRequest, match=r"days\[1\].start_time: must be"):
            done(api.Reconcile(pb.ReconcileRequest(provider="p", days=[pb.InvoiceDay(), day]), None))


def test_errors_carry_what_the_runtime_maps() -> None:
    desk = Desk()
    api = desk_api(desk)
    reserve(api, 1)
    with pytest.raises(RequestIdReused) as reused:
        reserve(api, 2)
    failure = describe(reused.value)
    assert (failure.status, failure.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    request = pb.ReserveRequest(request_id="u", models=[pb.PricedModel(provider="p", model="m")])
    with call_context(ACME), pytest.raises(ModelUnpriced) as unpriced:
        done(api.Reserve(request, None))
    failure = describe(unpriced.value)
    assert (failure.status, failure.reason) == ("FAILED_PRECONDITION", "MODEL_UNPRICED")
    assert failure.metadata == {"provider": "p", "model": "m"}


def test_an_allotment_is_lent_to_a_service_and_given_back() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100), limit(Scope.KEY, Period.QUERY, 60), count_limit(Unit.TOKENS, 9)])
    api, mesh = desk_api(desk), Principal("mesh", "", "", "edge", frozenset({"service"}))
    subject = pb.AllotmentSubject(organisation="acme", user="ada", key_id="key-1")
    asked = pb.AllotRequest(
        request_id="a",
        subject=subject,
        wanted_nano_usd=30,
        lease=Duration(seconds=10),
        replica="edge-1",
        models=[UNIT],
        settle_within=Duration(seconds=5),
    )
    line = pb.UsageLine(model=UNIT, usage=usage_pb2.Usage(output_tokens=35), attempt=1)
    with call_context(mesh):
        lent = done(api.Allot(asked, None))
        part = pb.ReturnAllotmentRequest(
            request_id="p", allotment_id=lent.allotment_id, organisation="acme", keep_nano_usd=20
        )
        part.keep_for.SetInParent()
        assert (done(api.ReturnAllotment(part, None)).booked_nano_usd, desk.used()["USER", "ada"]) == (0, (0, 20))
        back = pb.ReturnAllotmentRequest(
            request_id="b", allotment_id=lent.allotment_id, organisation="acme", lines=[line]
        )
        returned = done(api.ReturnAllotment(back, None))
    assert (lent.granted_nano_usd, lent.expire_time) == (30, Timestamp(seconds=START_S + 10))
    assert [(p.provider, p.output_nano_usd_per_million_tokens) for p in lent.prices] == [("acme-ai", 10**6)]
    assert (lent.most_per_call_nano_usd, [x.unit for x in lent.not_lent]) == (60, [pb.LIMIT_UNIT_TOKENS])
    assert (returned.booked_nano_usd, returned.overrun_nano_usd, returned.late) == (35, 5, False)
    assert desk.used()["USER", "ada"] == (35, 0)


def test_an_allotment_that_was_lost_is_booked_for_the_subject_that_is_named() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 100)])
    subject = pb.AllotmentSubject(organisation="acme", user="ada", key_id="key-1")
    line = pb.UsageLine(model=UNIT, usage=usage_pb2.Usage(output_tokens=35), attempt=1)
    back = pb.ReturnAllotmentRequest(
        request_id="b", allotment_id=id_bound(START_S * 10**6) + "-lost", organisation="acme", lines=[line]
    )
    with call_context(Principal("mesh", "", "", "edge", frozenset({"service"}))):
        with pytest.raises(NotFound):
            done(desk_api(desk).ReturnAllotment(back, None))
        back.subject.CopyFrom(subject)
        back.subject.organisation = "globex"
        with pytest.raises(InvalidRequest, match="subject.organisation"):
            done(desk_api(desk).ReturnAllotment(back, None))
        back.subject.organisation = "acme"
        returned = done(desk_api(desk).ReturnAllotment(back, None))
    assert (returned.booked_nano_usd, returned.orphan, desk.used()["USER", "ada"]) == (35, True, (35, 0))
