"""The one table from reasons to HTTP."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from grpc import StatusCode
from llmops.common.v1 import error_reason_pb2

from services.edge.core import errors
from services.edge.core.error_table import BY_REASON, BY_STATUS, error_answer, error_body, row_of
from services.edge.core.errors import CallFailed, EdgeError, MethodNotAllowed

OPENAI_TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_exceeded",
    "insufficient_quota",
    "server_error",
}


def reasons_of_the_contract() -> list[str]:
    names = [name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()]  # noqa: SIM118
    return [name for name in names if name != "UNSPECIFIED"]


@pytest.mark.parametrize("reason", reasons_of_the_contract())
def test_every_reason_of_the_contract_has_a_row(reason: str) -> None:
    assert reason in BY_REASON


def test_every_canonical_status_has_a_row() -> None:
    assert set(BY_STATUS) == {code.name for code in StatusCode} - {"OK"}


def test_every_error_of_the_edge_has_a_row() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, EdgeError)]
    assert len(classes) > 10
    assert {c.reason for c in classes} <= set(BY_REASON)


def test_rows_hold_real_statuses_and_known_types() -> None:
    for row in (*BY_REASON.values(), *BY_STATUS.values()):
        assert row.http_status == 499 or HTTPStatus(row.http_status).value >= 400
        assert row.type in OPENAI_TYPES


@pytest.mark.parametrize(
    ("reason", "http_status", "kind"),
    [
        ("INVALID_FIELD", 400, "invalid_request_error"),
        ("CREDENTIAL_INVALID", 401, "authentication_error"),
        ("PERMISSION_DENIED", 403, "permission_error"),
        ("MODEL_NOT_FOUND", 404, "invalid_request_error"),
        ("REQUEST_ID_REUSED", 409, "invalid_request_error"),
        ("RATE_LIMITED", 429, "rate_limit_exceeded"),
        ("BUDGET_EXHAUSTED", 429, "insufficient_quota"),
        ("INTERNAL", 500, "server_error"),
        ("UPSTREAM_UNAVAILABLE", 502, "server_error"),
        ("OVERLOADED", 503, "server_error"),
        ("DEADLINE_EXCEEDED", 504, "server_error"),
    ],
)
def test_rows_that_clients_depend_on(reason: str, http_status: int, kind: str) -> None:
    assert (BY_REASON[reason].http_status, BY_REASON[reason].type) == (http_status, kind)


def test_what_costs_money_again_is_not_sent_again() -> None:
    for reason in ("BUDGET_EXHAUSTED", "DEADLINE_EXCEEDED", "UPSTREAM_STREAM_CUT", "INTERNAL", "REQUEST_ID_REUSED"):
        assert error_answer(CallFailed("X", reason, "m")).headers["x-should-retry"] == "false"


def test_a_limit_that_passes_leaves_the_choice_to_the_client_and_says_when() -> None:
    answer = error_answer(CallFailed("RESOURCE_EXHAUSTED", "RATE_LIMITED", "slow down", retry_after_s=1.25))
    assert answer.headers == {"retry-after": "2", "retry-after-ms": "1250"}


def test_a_newer_reason_falls_back_to_its_status() -> None:
    assert row_of(CallFailed("UNAVAILABLE", "SOMETHING_NEW", "m")).http_status == 503
    assert row_of(CallFailed("NO_SUCH_STATUS", "SOMETHING_NEW", "m")).http_status == 500


def test_the_body_has_the_shape_of_openai_and_ours_beside_it() -> None:
    error = CallFailed("FAILED_PRECONDITION", "GUARD_BLOCKED", "refused", metadata={"detectors": "pii-card"})
    body = json.loads(error_body(error, "req-1", "ab" * 16))
    assert body["error"] == {
        "message": "refused",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "guard_blocked",
    }
    assert body["llmops"]["reason"] == "GUARD_BLOCKED"
    assert body["llmops"]["metadata"] == {"detectors": "pii-card"}
    assert (body["llmops"]["request_id"], body["llmops"]["trace_id"]) == ("req-1", "ab" * 16)


def test_a_body_is_one_line_whatever_the_message_holds() -> None:
    assert b"\n" not in error_body(EdgeError("a\nb\u2028c\r"))


def test_405_names_what_is_allowed_and_401_the_scheme() -> None:
    assert error_answer(MethodNotAllowed("/healthz", "GET")).headers["allow"] == "GET"
    assert error_answer(errors.BadCredential("no")).headers["www-authenticate"] == "Bearer"
