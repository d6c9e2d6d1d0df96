"""Failures survive the wire; what the transport itself says is put in our words."""

from __future__ import annotations

import grpc
import pytest
from llmops.common.v1 import error_reason_pb2

from meshkit.errors import Failure, describe
from meshkit.transports.status import decode, details_of, encode, failure_of


def test_everything_survives() -> None:
    failure = Failure(
        "RESOURCE_EXHAUSTED",
        "BUDGET_EXHAUSTED",
        "zu wenig Geld: 3 €",
        {"limit": "day"},
        (("a.b", "bad"),),
        (("org", "spent"), ("user", "spent")),
        2.5,
    )
    code, message, trailers = encode(failure)
    assert decode(code, message, trailers, "/x/y") == failure


@pytest.mark.parametrize(
    ("failure", "pushback"),
    [
        (Failure("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", "x", retry_after_s=1_000_000), "-1"),
        (Failure("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", "x"), "-1"),
        (Failure("RESOURCE_EXHAUSTED", "RATE_LIMITED", "x", retry_after_s=1.2345), "1235"),
        (Failure("RESOURCE_EXHAUSTED", "RATE_LIMITED", "x"), "-1"),
        (Failure("RESOURCE_EXHAUSTED", "OVERLOADED", "x", retry_after_s=0.1), "100"),
        (Failure("RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED", "x"), None),
        # The mesh's own clients repeat these sooner than people should.
        (Failure("UNAVAILABLE", "STORAGE_UNAVAILABLE", "x", retry_after_s=1), None),
    ],
)
def test_clients_that_repeat_by_themselves_learn_how_long_to_wait(failure: Failure, pushback: str | None) -> None:
    _, _, trailers = encode(failure)
    assert dict(trailers).get("grpc-retry-pushback-ms") == pushback


def test_a_failure_is_kept_as_bytes() -> None:
    failure = Failure("RESOURCE_EXHAUSTED", "RATE_LIMITED", "slower", {"k": "v"}, retry_after_s=1.5)
    assert failure_of(details_of(failure)) == failure


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED"),
        (grpc.StatusCode.UNKNOWN, "INTERNAL"),
    ],
)
def test_the_transports_own_failures_get_a_reason(code: grpc.StatusCode, reason: str) -> None:
    failure = decode(code, "Socket closed", (), "/llmops.guard.v1.GuardService/CheckInput")
    assert (failure.status, failure.reason) == (code.name, reason)


def test_an_unknown_status_name_becomes_unknown() -> None:
    assert encode(Failure("NO_SUCH", "INTERNAL", "x"))[0] is grpc.StatusCode.UNKNOWN


def test_every_reason_of_the_runtime_is_in_the_contract() -> None:
    from meshkit import errors  # noqa: PLC0415

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.MeshError)]
    reasons = {
        name.removeprefix("ERROR_REASON_")
        for name in error_reason_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"].values_by_name
    }
    assert {c.reason for c in classes} <= reasons


def test_a_timeout_is_a_deadline_and_a_bug_is_internal() -> None:
    assert describe(TimeoutError()).status == "DEADLINE_EXCEEDED"
    failure = describe(KeyError("secret"))
    assert failure.status == "INTERNAL"
    assert "secret" not in failure.message
