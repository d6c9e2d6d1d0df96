"""The sequence of a stream: how it begins, and what is booked however it ends."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from services.orchestrator.core.errors import (
    ModelFailed,
    OutputBlocked,
)
from services.orchestrator.core.model import (
    Candidate,
    Continued,
    Delta,
    Finished,
    Started,
    Usage,
    UsageLine,
)
from services.orchestrator.core.policy import UNREAD_TOKENS
from tests.support.orchestrator_ports import CHEAP, USED, Script
from tests.unit.orchestrator.test_coordinator import EXACT_HIT, FAILED, Case


async def test_a_stream_from_the_cache() -> None:
    case = Case(Script(exact=EXACT_HIT))
    events = await case.stream()
    assert [type(e) for e in events] == [Started, Delta, Finished]
    assert events[1] == Delta("kept")


async def test_an_empty_stream_still_starts_and_finishes() -> None:
    assert [type(e) for e in await Case(Script(pieces=())).stream()] == [Started, Finished]


async def test_a_cut_stream_is_booked_by_what_was_seen() -> None:
    case = Case(Script(pieces=("a", "b", ModelFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut", {}))))
    with pytest.raises(ModelFailed):
        await case.stream()
    assert [type(e) for e in case.events] == [Started, Delta, Delta]
    [[line]] = case.script.committed
    assert line.usage == Usage(input_tokens=26, output_tokens=20 + UNREAD_TOKENS, estimated=True)
    assert case.script.stored == []


async def test_a_stream_that_never_began_gives_the_hold_back() -> None:
    case = Case(Script(answer=FAILED))
    with pytest.raises(ModelFailed):
        await case.stream()
    assert case.script.voided == ["upstream-refused"]


async def test_a_reader_who_closes_the_stream_is_booked_by_what_was_seen() -> None:
    case = Case(Script())
    async with aclosing(case.coordinator.stream("request", case.record)) as events:
        assert isinstance(await anext(events), Started)
        await anext(events)
    await case.ports.settled()
    [[line]] = case.script.committed
    assert line.usage.estimated
    assert line.usage.output_tokens == 10 + UNREAD_TOKENS
    assert case.records.get("acme", "q-1").status == "CANCELLED"


async def test_a_blocked_stream_ends_with_the_block_and_is_booked() -> None:
    blocked = replace(Script().output, blocked=True, detectors=("pii-card",))  # type: ignore[type-var]
    case = Case(Script(output=blocked))
    with pytest.raises(OutputBlocked):
        await case.stream()
    assert case.script.committed == [(UsageLine(CHEAP, USED, 1),)]
    assert case.script.stored == []


async def test_a_stream_that_another_model_goes_on_with_says_so_once_and_books_each_models_part() -> None:
    cut = ModelFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut", {})
    case = Case(Script(pieces=("a", "b", "c", cut)))
    other, first = Candidate("other-ai", "big-1"), UsageLine(CHEAP, Usage(26, 10, estimated=True), 1)
    shown = 0

    async def pace() -> None:
        nonlocal shown
        shown += 1
        if shown == 1:
            progress = case.ports.progress
            progress.continued, progress.earlier_bytes = True, progress.received_bytes
            progress.model, progress.running, progress.lines = "other-ai/big-1", (other,), (first,)
            progress.ended = 1

    case.script.pace = pace
    with pytest.raises(ModelFailed):
        await case.stream()
    assert [type(e) for e in case.events] == [Started, Delta, Continued, Delta, Delta]
    assert case.events[2] == Continued("other-ai/big-1")
    assert case.record.model == "other-ai/big-1"
    [lines] = case.script.committed
    # Two pieces of 30 bytes are the second model's: the first one's, booked with its own try, is input of this one.
    assert lines == (first, UsageLine(other, Usage(85, 20 + UNREAD_TOKENS, estimated=True), 2))
