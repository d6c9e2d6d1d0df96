"""What is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.config import SHORT_MODEL, STREAM_CHUNKS, STREAM_MODEL, Layout
from bench.payloads import PromptPlan

ONE: Final = Layout("one process", split=False, models=False)
ONE_WITH_MODELS: Final = Layout("one process, encoder on", split=False, models=True)
SPLIT: Final = Layout("one process per service", split=True, models=False)
_SYSTEM_PROMPT: Final = "You are a careful assistant. Answer briefly, cite the document, and say when you do not know."


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the report: a request, a layout, a rate that every target gets, and the connections at saturation.

    `cache` is what `x-cache` must say of at least 95 % of our answers, or the row measured something else. `chunks` is
    how many a stream has when it leaves the provider.
    """

    name: str
    what: str
    layout: Layout
    prompts: PromptPlan
    rate_per_s: float
    saturation_connections: int
    cache: str
    chunks: int = 0


_LONG: Final = PromptPlan(model=SHORT_MODEL, words=120, system=_SYSTEM_PROMPT)
_SAME: Final = PromptPlan(model=SHORT_MODEL, words=120, system=_SYSTEM_PROMPT, variety="same")
# 22 common words and a nine-digit number are 32 tokens of the encoder's vocabulary, its two marks included.
_TOKENS_32: Final = PromptPlan(model=SHORT_MODEL, words=22)
_STREAM: Final = PromptPlan(model=STREAM_MODEL, words=120, system=_SYSTEM_PROMPT, stream=True)

SCENARIOS: Final = (
    Scenario("plain", "guard without models, budget, key and trace on, provider call", ONE, _LONG, 150, 16, "miss"),
    Scenario("exact-hit", "the same request again, served from the exact cache", ONE, _SAME, 300, 16, "exact"),
    Scenario(
        "stream",
        f"{STREAM_CHUNKS} chunks, 5 ms apart",
        ONE,
        _STREAM,
        20,
        32,
        "miss",
        chunks=STREAM_CHUNKS,
    ),
    Scenario(
        "full-32", "encoder, guard heads and semantic cache on 32 tokens", ONE_WITH_MODELS, _TOKENS_32, 30, 8, "miss"
    ),
    Scenario(
        "plain-split",
        "plain; edge, orchestrator and router in one process, each leaf in its own",
        SPLIT,
        _LONG,
        40,
        16,
        "miss",
    ),
)


def named(names: list[str]) -> tuple[Scenario, ...]:
    """The scenarios with these names, all for an empty list; ValueError names the known ones."""
    known = [scenario.name for scenario in SCENARIOS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown scenario {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(scenario for scenario in SCENARIOS if not names or scenario.name in names)
