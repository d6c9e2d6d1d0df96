"""F15 to F18: providers that hang, break off, or say what is no answer. What is seen, what is billed, a control."""

from __future__ import annotations

import pytest

from llmops_cli.provider_sim import ProviderSim, Rule
from tests.contract.router.faults import Serve, asked, faulty, idle, with_healthy
from tests.support.router_service import Seen, ask, billed

HASTY = {"timeout_s": 0.25, "first_token_timeout_s": 0.25, "idle_timeout_s": 0.25}
FULL = "The simulated provider answers with plain words"
BROKEN_AFTER = 5


def covers(seen: Seen, sim: ProviderSim) -> bool:
    """Whether what is booked is not below the bill."""
    return all(booked >= charged for booked, charged in zip(seen.tokens(), billed(sim.billing), strict=True))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("stall", ["headers", "first-token"])
async def test_f15_a_stall_before_the_first_token(
    serve: Serve, sim: ProviderSim, stall: str, *, streamed: bool
) -> None:
    slow = {"hang_before_headers": True} if stall == "headers" else {"first_token_ms": 30_000.0}
    sim.script = [Rule(model="first", **slow)]  # type: ignore[arg-type]
    router = await serve(with_healthy(faulty(sim.base_url, "first", model=HASTY), sim))
    seen = await ask(router, streamed=streamed)
    assert seen.names() == [("first", "TIMED_OUT"), ("healthy", "SUCCEEDED")]
    assert seen.tries[0].cause == ("first-token-timeout" if streamed else "step-timeout")
    await idle(sim)
    assert [record.outcome for record in sim.billing if record.model == "first"] == ["cancelled"]
    assert (seen.tries[0].estimated, covers(seen, sim)) == (True, True)
    alone = await ask(router, "first", streamed=streamed)
    assert (alone.status, alone.reason, len(alone.tries)) == ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 1)
    hurried = await ask(router, "first", streamed=streamed, timeout_s=0.2)
    assert hurried.status == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("streamed", [False, True])
async def test_f15_a_provider_that_is_slow_within_its_limit_is_waited_for(
    serve: Serve, sim: ProviderSim, *, streamed: bool
) -> None:
    """The negative control of the one above."""
    sim.script = [Rule(model="first", latency_ms=50)]
    router = await serve(with_healthy(faulty(sim.base_url, "first"), sim))
    seen = await ask(router, streamed=streamed)
    assert seen.names() == [("first", "SUCCEEDED")]
    assert seen.tokens() == billed(sim.billing)


BREAKS = {
    # Pauses between pieces, so that what came is read before the connection breaks.
    "hang": {"hang_after_chunks": BROKEN_AFTER},
    "close": {"cut_after_chunks": BROKEN_AFTER, "token_interval_ms": 20.0},
    "reset": {"cut_after_chunks": BROKEN_AFTER, "cut_with": "reset", "token_interval_ms": 20.0},
    "in-band": {"error_after_chunks": BROKEN_AFTER},
}


@pytest.mark.parametrize("how", BREAKS)
async def test_f16_f17_after_the_first_token_nobody_begins_again(serve: Serve, sim: ProviderSim, how: str) -> None:
    """NuGuardAI/nuguard#455: text twice. BerriAI/litellm#41777: a cut as the client's fault; OmniRoute#8210: none."""
    sim.script = [Rule(model="first", **BREAKS[how])]  # type: ignore[arg-type]
    router = await serve(with_healthy(faulty(sim.base_url, "first", model=HASTY), sim))
    seen = await ask(router, streamed=True)
    assert (seen.status, seen.reason) == ("UNAVAILABLE", "UPSTREAM_STREAM_CUT")
    assert 0 < len(seen.text.split()) <= BROKEN_AFTER
    assert FULL.startswith(seen.text.strip())
    await idle(sim)
    assert asked(sim) == ["first"]
    assert len(seen.tries) == 1
    assert (seen.tries[0].estimated, covers(seen, sim)) == (True, True)


@pytest.mark.parametrize("how", [*BREAKS, ""])
async def test_f16_another_model_goes_on_where_the_route_allows_it(serve: Serve, sim: ProviderSim, how: str) -> None:
    """The opposite of the one above, by configuration. The last row is a provider that does not break off."""
    sim.script = [Rule(model="first", **BREAKS.get(how, {}))]  # type: ignore[arg-type]
    settings = faulty(sim.base_url, "first", model=HASTY, route={"continue_on_another": True})
    seen = await ask(await serve(with_healthy(settings, sim)), streamed=True)
    await idle(sim)
    if not how:
        assert seen.events == ["started", "delta", "finished"]
        assert (asked(sim), seen.tokens()) == (["first"], billed(sim.billing))
        return
    assert seen.events == ["started", "delta", "tries", "continued", "delta", "finished"]
    assert [(tried.model, tried.purpose) for tried in seen.tries] == [("first", "FIRST"), ("healthy", "CONTINUATION")]
    assert asked(sim) == ["first", "healthy"]
    assert len(seen.text.split()) > BROKEN_AFTER
    assert covers(seen, sim)
    (second,) = [record for record in sim.billing if record.model == "healthy"]
    last = seen.tries[-1]
    assert (last.input_tokens, last.output_tokens) == (second.billed_input_tokens, second.billed_output_tokens)


@pytest.mark.parametrize("streamed", [False, True])
async def test_f17_an_error_inside_a_200_is_no_answer(serve: Serve, sim: ProviderSim, *, streamed: bool) -> None:
    sim.script = [Rule(model="first", error_after_chunks=0)]
    seen = await ask(await serve(with_healthy(faulty(sim.base_url, "first"), sim)), streamed=streamed)
    assert seen.names() == [("first", "REFUSED"), ("healthy", "SUCCEEDED")]
    assert seen.tries[0].cause.startswith("in-band-")
    control = await ask(await serve(faulty(sim.base_url, "other")), streamed=streamed)
    assert (control.text, control.names()) == (seen.text, [("other", "SUCCEEDED")])


async def test_f17_an_answer_whose_end_mark_is_missing_is_whole_and_one_whose_finish_is_missing_is_not(
    serve: Serve, sim: ProviderSim
) -> None:
    sim.script = [Rule(model="no-mark", omit_done=True), Rule(model="no-finish", cut_after_chunks=1_000)]
    router = await serve(faulty(sim.base_url, "no-mark", "no-finish"))
    whole = await ask(router, "no-mark", streamed=True)
    assert (whole.reason, whole.tokens()) == ("", billed(sim.billing))
    sim.clear_billing()
    cut = await ask(router, "no-finish", streamed=True)
    assert (cut.reason, cut.tries[0].outcome) == ("UPSTREAM_STREAM_CUT", "BROKEN")
    await idle(sim)
    assert cut.tokens()[0] >= billed(sim.billing)[0]


GARBAGE = {
    "truncated": {"malformed": "truncated"},
    "not-utf8": {"malformed": "invalid_utf8"},
    "long-line": {"huge_line_bytes": 3 << 20},
    "bomb": {"gzip_bomb_bytes": 40 << 20},
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("how", GARBAGE)
async def test_f18_what_is_no_answer_ends_in_a_typed_error_or_another_models_answer(
    serve: Serve, sim: ProviderSim, how: str, *, streamed: bool
) -> None:
    sim.script = [Rule(model="first", **GARBAGE[how])]  # type: ignore[arg-type]
    small = {"max_response_bytes": 2 << 20}
    seen = await ask(await serve(with_healthy(faulty(sim.base_url, "first", limits=small), sim)), streamed=streamed)
    assert (seen.tries[0].outcome, seen.tries[0].estimated) == ("BROKEN", True)
    if seen.reason:
        assert (streamed, seen.reason) == (True, "UPSTREAM_STREAM_CUT"), "something had been shown"
        assert FULL.startswith(seen.text.strip()[: len(FULL)])
        assert len(seen.tries) == 1
    else:
        assert seen.names()[1:] == [("healthy", "SUCCEEDED")]
        assert seen.text.startswith(FULL)


@pytest.mark.parametrize("how", ["crlf_lines", "comments", "one_byte_packets"])
async def test_f18_what_is_only_unusual_is_an_answer(serve: Serve, sim: ProviderSim, how: str) -> None:
    """The negative control of the one above."""
    sim.script = [Rule(model="first", **{how: True})]  # type: ignore[arg-type]
    router = await serve(with_healthy(faulty(sim.base_url, "first"), sim))
    seen, plain = await ask(router, streamed=True), await ask(router, "healthy", streamed=True)
    assert (seen.text, seen.names()) == (plain.text, [("first", "SUCCEEDED")])
    assert tuple(2 * count for count in seen.tokens()) == billed(sim.billing)
