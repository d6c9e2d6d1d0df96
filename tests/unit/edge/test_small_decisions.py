"""Admission, CORS, header values, settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.reports import facts_of, started_facts
from services.edge.core.admission import Admission
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.answer_headers import answer_headers, duration_text, id_headers
from services.edge.core.cors import cors_headers, preflight_headers
from services.edge.core.errors import EdgeOverloaded
from services.edge.core.origin import Origin
from services.edge.settings import EdgeLimits, EdgeSettings


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60))
def test_admission_never_exceeds_its_limits_and_loses_nothing(steps: list[tuple[bool, int]]) -> None:
    admission, held = Admission(3, 100), []
    for enter, size in steps:
        if enter:
            fits = len(held) < 3 and (sum(held) == 0 or sum(held) + size <= 100)
            if fits:
                admission.enter(size)
                held.append(size)
            else:
                with pytest.raises(EdgeOverloaded) as refused:
                    admission.enter(size)
                assert refused.value.retry_after_s
        elif held:
            admission.leave(held.pop())
        assert (admission.requests, admission.body_bytes) == (len(held), sum(held))


def test_one_large_body_always_fits_alone() -> None:
    admission = Admission(3, 100)
    admission.enter(1000)
    with pytest.raises(EdgeOverloaded):
        admission.enter(1)


def test_cors_is_off_without_origins() -> None:
    assert cors_headers({"origin": "https://a.example"}, ()) == {}


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [(("https://a.example",), "https://a.example"), (("*",), "*"), (("https://b.example",), None)],
)
def test_cors_allows_the_configured_origins_only(origins: tuple[str, ...], allowed: str | None) -> None:
    headers = cors_headers({"origin": "https://a.example"}, origins)
    assert headers.get("access-control-allow-origin") == allowed


def test_a_preflight_repeats_the_headers_that_were_asked_for() -> None:
    headers = preflight_headers({"access-control-request-headers": "x-llmops-timeout-s"}, "POST")
    assert headers["access-control-allow-headers"] == "x-llmops-timeout-s"


def test_unknown_facts_give_no_headers() -> None:
    assert answer_headers(Origin("r", ""), AnswerFacts()) == {"x-request-id": "r"}
    assert id_headers(Origin("r", "")) == {"x-request-id": "r"}


def test_a_cost_of_zero_is_known_and_names_are_made_ascii() -> None:
    facts = AnswerFacts(prompt_version="grüße/v1\r\n", cost_nano_usd=0)
    headers = answer_headers(Origin("r", ""), facts)
    assert headers["x-llmops-cost-nano-usd"] == "0"
    assert headers["x-llmops-prompt"] == "gr%C3%BC%C3%9Fe/v1%0D%0A"


def test_whose_absence_was_tolerated_is_in_a_header() -> None:
    """On streams too: nobody should have to read one to its end to learn it."""
    for facts in (
        facts_of(pb.CallReport(degraded=["cache", "ledger"])),
        started_facts(pb.StreamStarted(degraded=["cache", "ledger"])),
    ):
        assert answer_headers(Origin("r", ""), facts)["x-llmops-degraded"] == "cache,ledger"


@pytest.mark.parametrize(
    "change",
    [{"port": 70_000}, {"tls_key_file": "k.pem"}, {"ping_after_s": 0}, {"drain_timeout_s": -1.0}],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)).partition("_")[0]):
        EdgeSettings(**change).validate()  # type: ignore[arg-type]


def test_defaults_are_valid_and_limits_must_admit_something() -> None:
    EdgeSettings().validate()
    EdgeLimits().validate()
    with pytest.raises(ValueError, match=r"limits\.max_connections"):
        EdgeLimits(max_connections=0).validate()


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0, "0ms"), (0.0001, "1ms"), (0.12, "120ms"), (1, "1s"), (1.001, "2s"), (360, "6m0s"), (86_399.5, "24h0m0s")],
)
def test_times_are_written_as_openai_does_and_never_too_short(duration_s: float, text: str) -> None:
    assert duration_text(duration_s) == text
