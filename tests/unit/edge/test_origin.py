"""Headers of a request: ids, credential, deadline."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.core.errors import BadCredential, InvalidRequest
from services.edge.core.origin import (
    CallTerms,
    Deadlines,
    Origin,
    credential_of,
    request_id7,
    sent_request_id,
    sent_traceparent,
    terms_of,
    timeout_s_of,
)

DEADLINES = Deadlines(unary_s=120, stream_s=600, max_s=900)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ORIGIN = Origin("req-1", TRACEPARENT)


@given(time_ns=st.integers(0, 2**63), bits=st.integers(0, 2**74 - 1))
def test_made_ids_are_uuids_of_version_7(time_ns: int, bits: int) -> None:
    made = request_id7(time_ns, bits)
    parsed = uuid.UUID(made)
    assert (str(parsed), parsed.version, parsed.variant) == (made, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == time_ns // 1_000_000 % 2**48


@given(first=st.integers(0, 2**74 - 1), second=st.integers(0, 2**74 - 1))
def test_no_random_bit_is_lost(first: int, second: int) -> None:
    assert (request_id7(0, first) == request_id7(0, second)) == (first == second)


@given(st.text(max_size=80))
def test_only_harmless_request_ids_are_kept(sent: str) -> None:
    kept = sent_request_id({"x-request-id": sent})
    assert kept == (sent if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", sent) else "")


@pytest.mark.parametrize(
    "sent",
    [
        TRACEPARENT.upper(),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff" + TRACEPARENT[2:],
        TRACEPARENT + "\n",
        "",
    ],
)
def test_a_malformed_traceparent_is_ignored(sent: str) -> None:
    assert sent_traceparent({"traceparent": sent}) == ""


def test_a_valid_traceparent_gives_the_trace_id() -> None:
    assert sent_traceparent({"traceparent": TRACEPARENT}) == TRACEPARENT
    assert ORIGIN.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert Origin("x", "").trace_id == ""


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ({"authorization": "Bearer key-1"}, "key-1"),
        ({"authorization": "bearer  key-1 "}, "key-1"),
        ({"x-api-key": "key-2"}, "key-2"),
        ({"authorization": "Bearer key-1", "x-api-key": "key-2"}, "key-1"),
        ({"authorization": f"Bearer {'k' * 16_384}"}, "k" * 16_384),
        ({}, ""),
    ],
)
def test_credentials_come_from_either_header(headers: dict[str, str], credential: str) -> None:
    assert credential_of(headers) == credential


def test_terms_do_not_show_the_credential() -> None:
    terms = terms_of({"x-api-key": "key-2"}, ORIGIN, DEADLINES, stream=False)
    assert terms.credential == "key-2"
    assert "key-2" not in f"{terms!r} {terms}"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer schlüssel"},
        {"x-api-key": "a\tb"},
        {"x-api-key": "k" * 16_385},
    ],
)
def test_what_cannot_be_a_key_is_refused_without_repeating_it(headers: dict[str, str]) -> None:
    with pytest.raises(BadCredential) as refused:
        credential_of(headers)
    assert all(value not in str(refused.value) for value in headers.values())


@pytest.mark.parametrize(
    ("headers", "stream", "timeout_s"),
    [
        ({}, False, 120),
        ({}, True, 600),
        ({"x-llmops-timeout-s": "2.5"}, False, 2.5),
        ({"x-llmops-timeout-s": "100000"}, True, 900),
        ({"x-litellm-timeout": "7"}, False, 7),
        ({"x-litellm-timeout": "7", "x-litellm-stream-timeout": "8"}, True, 8),
        ({"x-litellm-timeout": "7", "x-llmops-timeout-s": "9"}, True, 9),
    ],
)
def test_the_clients_time_is_taken_and_capped(headers: dict[str, str], *, stream: bool, timeout_s: float) -> None:
    assert timeout_s_of(headers, DEADLINES, stream=stream) == timeout_s


@pytest.mark.parametrize("sent", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_time_that_is_none_is_refused(sent: str) -> None:
    with pytest.raises(InvalidRequest, match="x-llmops-timeout-s"):
        timeout_s_of({"x-llmops-timeout-s": sent}, DEADLINES, stream=False)


def test_terms_become_call_metadata() -> None:
    terms = terms_of({"authorization": "Bearer k", "idempotency-key": "once-1"}, ORIGIN, DEADLINES, stream=False)
    assert dict(terms.metadata()) == {
        "x-request-id": "req-1",
        "authorization": "Bearer k",
        "traceparent": TRACEPARENT,
        "idempotency-key": "once-1",
    }
    assert CallTerms(Origin("r", ""), "", "", 1.0).metadata() == (("x-request-id", "r"),)


@pytest.mark.parametrize("sent", ["", "with space", "é", "k" * 256])
def test_an_idempotency_key_must_fit_a_header(sent: str) -> None:
    with pytest.raises(InvalidRequest, match="idempotency-key"):
        terms_of({"idempotency-key": sent}, ORIGIN, DEADLINES, stream=False)
