"""Sealed outcomes: what opens, and what must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestrator.adapters.sealing import seal, unseal
from services.orchestrator.core.errors import AnswerUnreadable
from services.orchestrator.core.ports import Outcome
from services.orchestrator.core.request_names import name_of

NAME = name_of("acme", "key-1", "Complete", "k", b"request")


@pytest.mark.parametrize(
    "outcome", [Outcome(), Outcome(b"answer"), Outcome(b"", b"failure"), Outcome(b"a" * 70_000, b"f")]
)
def test_what_was_sealed_opens_whole(outcome: Outcome) -> None:
    assert unseal(NAME, seal(NAME, outcome)) == outcome
    assert seal(NAME, outcome) != seal(NAME, outcome), "a nonce of its own each time"


@pytest.mark.parametrize("moved", [{"scope": b"s" * 32}, {"digest": b"d" * 32}, {"organisation": "globex"}])
def test_an_outcome_in_another_row_does_not_open_even_under_its_key(moved: dict[str, object]) -> None:
    sealed = seal(NAME, Outcome(b"answer"))
    with pytest.raises(AnswerUnreadable):
        unseal(replace(NAME, **moved), sealed)  # type: ignore[arg-type]


def test_a_later_format_is_not_guessed_at() -> None:
    with pytest.raises(AnswerUnreadable):
        unseal(NAME, b"\x02" + seal(NAME, Outcome(b"answer"))[1:])
