"""Decisions about a request that are nobody else's: what to hold, what may be kept, what an abandoned call cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.orchestrator.core.model import (
    Candidate,
    Checked,
    CheckedOutput,
    ModelAnswer,
    Plan,
    Progress,
    Turn,
    Usage,
    UsageLine,
)

# English averages four bytes per token and Chinese three; three never holds too little for either by much.
_BYTES_PER_TOKEN = 3
_TOKENS_PER_REQUEST = 16
# As the router estimates a try that broke off: 1024 x 1024 cost 765 tokens in OpenAI's first published scheme and about
# 1,400 with Anthropic.
_TOKENS_PER_IMAGE = 1000
# What a provider wrote and nobody read when a stream was left: 80 ms, a pause between two reads and a cancellation, of
# 200 tokens a second.
UNREAD_TOKENS = 16
# What the router says to a model that is to go on where another one's answer broke off.
_GO_ON_BYTES = 145


@dataclass(frozen=True, slots=True)
class Metering:
    """How the cost of a running stream is watched.

    A hold is raised when `raise_at` of it is used up. When the ledger refuses, the stream is cut once the hold is used
    up, or, without `cut`, goes on and overruns. What was spent is reported every `report_s`.
    """

    raise_at: float = 0.8
    cut: bool = True
    report_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides."""

    guard_required: bool
    semantic_cache: bool
    assumed_output_tokens: int
    metering: Metering = Metering()


def estimated_tokens(utf8_bytes: int) -> int:
    """An estimate that rather counts too many: for holds, and for what no provider reported."""
    return -(-utf8_bytes // _BYTES_PER_TOKEN)


def tokens_to_hold(policy: Policy, turn: Turn, plan: Plan) -> tuple[int, int]:
    """Input and output tokens to reserve for.

    Without an explicit maximum the hold assumes a usual answer, not the model's ceiling: a ceiling of 128,000 tokens
    would pin budgets that nobody spends. What exceeds the hold is booked as an overrun and blocks the next request.
    It is for one call: the ledger, or a lease, holds it as often as the plan may be billed for.
    """
    ceiling = plan.max_output_tokens or policy.assumed_output_tokens
    output = policy.assumed_output_tokens if turn.max_output_tokens is None else turn.max_output_tokens
    return _input_tokens(turn), min(output, ceiling)


def is_covered(turn: Turn, plan: Plan, held_output_tokens: int) -> bool:
    """Whether a hold covers the longest answer that can come, so that it need not be raised: providers stop there."""
    limits = [limit for limit in (turn.max_output_tokens, plan.max_output_tokens) if limit]
    return bool(limits) and held_output_tokens >= min(limits)


def may_store(turn: Turn, checked: Checked, answer: ModelAnswer, output: CheckedOutput) -> bool:
    """Only whole, allowed answers to unmasked requests are kept: a masked value belongs to one request.

    What passed while the guard was away is not kept: a hit is never checked again, and outlives the outage.
    """
    guarded = checked.verdict is not None and output.verdict is not None
    return turn.cache.store and answer.complete and guarded and not checked.masked and not output.blocked


def abandoned_lines(
    candidate: Candidate, turn: Turn, received_bytes: int = 0, attempt: int = 1, shown_bytes: int = 0
) -> tuple[UsageLine, ...]:
    """What to book for a call whose end nobody saw: the input, the output that arrived, and what was on its way.

    To the input belongs what another model had written, of which this one was shown `shown_bytes` to go on from.
    """
    usage = Usage(
        input_tokens=_input_tokens(turn, shown_bytes + _GO_ON_BYTES if shown_bytes else 0),
        output_tokens=estimated_tokens(received_bytes) + UNREAD_TOKENS if received_bytes else 0,
        estimated=True,
    )
    return (UsageLine(candidate, usage, attempt),)


def lines_so_far(progress: Progress, plan: Plan, turn: Turn, received_bytes: int) -> tuple[UsageLine, ...]:
    """What a call has cost by estimate, once so many bytes have come: of an answer that comes whole, none.

    A request that lost against the answer's may be billed for as much output as the answer has, although cancelled.
    What a model wrote that another one went on from is in its own try.
    """
    own_bytes = received_bytes - progress.earlier_bytes
    output_tokens = estimated_tokens(own_bytes)
    tries = tuple(
        replace(line, usage=replace(line.usage, output_tokens=max(line.usage.output_tokens, output_tokens)))
        if line.attempt in progress.lost_beside
        else line
        for line in progress.lines
    )
    for attempt, candidate in enumerate(progress.at_work(plan), start=progress.ended + 1):
        tries += abandoned_lines(candidate, turn, own_bytes, attempt, progress.earlier_bytes)
    return tries


def _input_tokens(turn: Turn, added_bytes: int = 0) -> int:
    """Providers count a few tokens per message beside its text; without them an abandoned call is booked too low."""
    text_tokens = estimated_tokens(turn.input_bytes + added_bytes)
    return text_tokens + _TOKENS_PER_REQUEST + _TOKENS_PER_IMAGE * turn.input_images


def total_usage(lines: Sequence[UsageLine]) -> Usage:
    """All tries together, for reports of requests that failed."""
    return Usage(
        input_tokens=sum(line.usage.input_tokens for line in lines),
        output_tokens=sum(line.usage.output_tokens for line in lines),
        cached_input_tokens=sum(line.usage.cached_input_tokens for line in lines),
        cache_write_input_tokens=sum(line.usage.cache_write_input_tokens for line in lines),
        reasoning_tokens=sum(line.usage.reasoning_tokens for line in lines),
        estimated=any(line.usage.estimated for line in lines),
    )
