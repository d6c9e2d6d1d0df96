from __future__ import annotations

import json
from typing import Any

import pytest

from services.orchestrator.adapters.router import RemoteRouter
from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import Candidate, Usage, UsageLine


class NoChannel:
    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: None


ROUTER = RemoteRouter(NoChannel())
TRIED = {"provider": "acme-ai", "model": "cheap-1", "usage": {"input_tokens": 3, "output_tokens": 0}}


@pytest.mark.parametrize(
    ("status", "reason", "metadata"),
    [
        ("UNAVAILABLE", "SERVICE_UNAVAILABLE", {"service": "llmops.router.v1.RouterService"}),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", {}),
        ("INTERNAL", "INTERNAL", {"error_id": "1"}),
    ],
)
def test_a_call_that_was_lost_may_be_billed(status: str, reason: str, metadata: dict[str, str]) -> None:
    """The router died, hung or failed with a provider at work: the hold was given back and the call was free."""
    assert ROUTER.billed_lines(ModelFailed(status, reason, "lost", metadata)) is None


@pytest.mark.parametrize(
    ("reason", "metadata"),
    [
        ("MODEL_NOT_FOUND", {"model": "nope"}),
        ("OVERLOADED", {}),
        ("DEADLINE_EXCEEDED", {"attempts_json": "[]"}),
        ("DEADLINE_EXCEEDED", {"begun": "false"}),
    ],
)
def test_a_call_that_was_refused_costs_nothing(reason: str, metadata: dict[str, str]) -> None:
    assert ROUTER.billed_lines(ModelFailed("UNAVAILABLE", reason, "refused", metadata)) == ()


def test_tries_that_may_be_billed_are_booked() -> None:
    metadata = {"attempts_json": json.dumps([{**TRIED, "usage": None}, TRIED])}
    failed = ModelFailed("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "all failed", metadata)
    assert ROUTER.billed_lines(failed) == (UsageLine(Candidate("acme-ai", "cheap-1"), Usage(3, 0), 2),)
