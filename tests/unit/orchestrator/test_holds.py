"""How much is held for a request before it is known what it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestrator.core.model import Plan
from services.orchestrator.core.policy import Policy, is_covered, tokens_to_hold
from tests.support.orchestrator_ports import CHEAP, Script, ScriptedServices

POLICY = Policy(guard_required=True, semantic_cache=True, assumed_output_tokens=1000)
TURN = ScriptedServices(Script()).resolve("request", "q-1")


@pytest.mark.parametrize(
    ("asked", "ceiling", "held"), [(None, 128_000, 1000), (None, 300, 300), (500, 128_000, 500), (10**9, 4096, 4096)]
)
def test_what_is_held_for_an_answer(asked: int | None, ceiling: int, held: int) -> None:
    """BerriAI/litellm#27509: without max_tokens the whole budget was held; and 10^9 tokens are nobody's answer."""
    plan = Plan((CHEAP,), ("cheap",), ceiling, "route#1")
    assert tokens_to_hold(POLICY, replace(TURN, max_output_tokens=asked), plan)[1] == held


@pytest.mark.parametrize(
    ("asked", "ceiling", "held", "covered"),
    [
        (None, 128_000, 1000, False),
        (None, 0, 1000, False),
        (None, 800, 800, True),
        (500, 0, 500, True),
        (500, 0, 400, False),
    ],
)
def test_whether_a_hold_covers_the_longest_answer(asked: int | None, ceiling: int, held: int, *, covered: bool) -> None:
    plan = Plan((CHEAP,), ("cheap",), ceiling, "route#1")
    assert is_covered(replace(TURN, max_output_tokens=asked), plan, held) is covered
