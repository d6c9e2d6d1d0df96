"""What the simulated model says: decided from the rule and the request alone, before any byte leaves."""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import Final

import msgspec
import orjson

from llmops_cli.provider_sim.request import ChatRequest, WantedVectors, instance_of
from llmops_cli.provider_sim.script import Rule, ScriptedToolCall

_TEXT: Final = (
    "The simulated provider answers with plain words so that tests can count tokens and compare every chunk "
    "with what was sent and billed "
)
_WORDS: Final = tuple(_TEXT.split())
_TOKEN: Final = re.compile(r"\s*\S+\s*|\s+")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, cut into the events of a stream.

    `pieces[i]` is the text of content event i; for tool calls the pieces are the argument fragments of
    `tool_calls` in order. `tokens_after[i]` is the number of output tokens generated once event i is out.
    `dimensions` is the length of each vector of an embeddings call, which are one event without tokens.
    """

    text: str
    pieces: tuple[str, ...]
    tokens_after: tuple[int, ...]
    tool_calls: tuple[ScriptedToolCall, ...]
    finish: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    dimensions: int = 0


def compose(rule: Rule, request: ChatRequest) -> Answer:
    """The answer of a rule to a request; `finish` is stop, length or tool_calls."""
    if request.vectors is not None:
        return _vectors(rule, request, request.vectors)
    limit = request.max_tokens
    calls = () if rule.echo or rule.text is not None else rule.tool_calls or _forced(request)
    finish = "tool_calls" if calls else "stop"
    if calls:
        text, pieces, tokens_after = _cut("".join(call.arguments for call in calls), None, rule.chunks)
        pieces, tokens_after = tuple(call.arguments for call in calls), _per_call(calls)
    else:
        fixed = _fixed_text(rule, request)
        if fixed is None:
            wanted = rule.output_tokens
            text, pieces, tokens_after = _filler(min(wanted, limit) if limit is not None else wanted, rule.chunks)
        else:
            wanted = len(_TOKEN.findall(fixed))
            text, pieces, tokens_after = _cut(fixed, limit, rule.chunks)
        if limit is not None and wanted > limit:
            finish = "length"
    return Answer(
        text=text,
        pieces=pieces,
        tokens_after=tokens_after,
        tool_calls=calls,
        finish=finish,
        input_tokens=request.input_tokens if rule.input_tokens is None else rule.input_tokens,
        output_tokens=(tokens_after[-1] if tokens_after else 0) + rule.reasoning_tokens,
        cached_tokens=rule.cached_tokens,
        reasoning_tokens=rule.reasoning_tokens,
    )


def generated_tokens(answer: Answer, chunks: int) -> int:
    """Output tokens generated when `chunks` content events are out; reasoning precedes the first of them."""
    if chunks <= 0 or not answer.tokens_after:
        return 0
    return answer.reasoning_tokens + answer.tokens_after[min(chunks, len(answer.tokens_after)) - 1]


def _vectors(rule: Rule, request: ChatRequest, wanted: WantedVectors) -> Answer:
    return Answer(
        text="",
        pieces=("",),
        tokens_after=(0,),
        tool_calls=(),
        finish="stop",
        input_tokens=request.input_tokens if rule.input_tokens is None else rule.input_tokens,
        output_tokens=0,
        cached_tokens=0,
        reasoning_tokens=0,
        dimensions=wanted.dimensions or rule.dimensions,
    )


def _forced(request: ChatRequest) -> tuple[ScriptedToolCall, ...]:
    if request.forced_tool is None:
        return ()
    arguments = orjson.dumps(instance_of(request.forced_tool.schema) or {}).decode()
    return (ScriptedToolCall(request.forced_tool.name, arguments),)


def _fixed_text(rule: Rule, request: ChatRequest) -> str | None:
    if rule.echo:
        return request.last_user_text
    if rule.text is not None:
        return rule.text
    if request.json_schema is not None:
        return orjson.dumps(instance_of(request.json_schema)).decode()
    return None


def _per_call(calls: tuple[ScriptedToolCall, ...]) -> tuple[int, ...]:
    total, after = 0, []
    for call in calls:
        total += max(1, len(_TOKEN.findall(call.arguments)))
        after.append(total)
    return tuple(after)


def _cut(text: str, limit: int | None, chunks: int | None) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    tokens = _TOKEN.findall(text)[:limit]
    return _spread(tokens, chunks)


@lru_cache(maxsize=256)
def _filler(count: int, chunks: int | None) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    return _spread([f"{_WORDS[i % len(_WORDS)]} " for i in range(count)], chunks)


def _spread(tokens: list[str], chunks: int | None) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    """Spread tokens over `chunks` events as evenly as whole tokens allow; never an empty event."""
    count = len(tokens) if chunks is None else min(chunks, len(tokens))
    bounds = [len(tokens) * i // count for i in range(count + 1)] if count else [0]
    pieces = tuple("".join(tokens[low:high]) for low, high in itertools.pairwise(bounds))
    return "".join(tokens), pieces, tuple(bounds[1:])
