"""Canaries, part of the section `router` of mesh.yaml: which models are asked pinned prompts, and what is an alarm."""

from __future__ import annotations

from dataclasses import dataclass

from services.router.core.canaries import MAX_OUTPUT_TOKENS, CanaryPlan, Prompt
from services.router.core.canary import MIN_ANSWERS, Rule

_MAX_PROMPTS = 64
_MAX_PROMPT_CHARS = 4000
# Open questions with many good answers: how a model chooses among them is what tells it from others.
PROMPTS = (
    "Write one sentence about a lighthouse in winter.",
    "Name three things that one might find in an old coat pocket, and say for each whose it was.",
    "Invent a village, and tell in two sentences what is sold on its market on Thursdays.",
    "Continue: The train stopped between two stations, and nobody in the carriage",
    "Explain in two sentences to a child why bread rises.",
    "Describe the colour green to somebody who has never seen it, in two sentences.",
    "Give a small shop that mends clocks a name, and one sentence for its window.",
    "Write two lines that rhyme about a cat that is late.",
)


@dataclass(frozen=True, slots=True)
class Canaries:
    """Without `models` nobody is asked, and without `orchestrator.canaries.api_key` nobody asks.

    Each of `prompts` (built-in ones when empty) is asked `answers_per_prompt` times every `interval_s`. A run alarms by
    itself when differences as great have a probability of `p_value` or less; `consecutive` such runs quarantine the
    model. `state_path` keeps what was learnt, as keyed hashes; empty keeps it in memory.
    """

    models: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    interval_s: float = 21_600.0
    answers_per_prompt: int = 6
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    p_value: float = 0.005
    consecutive: int = 2
    state_path: str = ""

    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        checks = (
            (len(set(self.models)) != len(self.models), "names a model twice; keep one"),
            (len(self.prompts) > _MAX_PROMPTS, f"may have {_MAX_PROMPTS} prompts at most"),
            (len(set(self.prompts)) != len(self.prompts), "has a prompt twice; keep one"),
            (
                any(not 0 < len(prompt) <= _MAX_PROMPT_CHARS for prompt in self.prompts),
                f"needs prompts of 1 to {_MAX_PROMPT_CHARS} characters",
            ),
            (self.interval_s < 1, "needs interval_s of 1 or more"),
            (
                not MIN_ANSWERS <= self.answers_per_prompt <= 64,  # noqa: PLR2004 - the contract's bound
                f"needs answers_per_prompt from {MIN_ANSWERS} to 64",
            ),
            (not 1 <= self.max_output_tokens <= 4096, "needs max_output_tokens from 1 to 4096"),  # noqa: PLR2004
            (not 0.0005 <= self.p_value < 1, "needs p_value from 0.0005 (what permutations can show) to below 1"),  # noqa: PLR2004
            (self.consecutive < 1, "needs consecutive of 1 or more"),
        )
        return next((sentence for wrong, sentence in checks if wrong), "")

    def plan(self) -> CanaryPlan:
        """As the core knows it."""
        return CanaryPlan(
            self.models,
            tuple(Prompt(text, self.max_output_tokens) for text in self.prompts or PROMPTS),
            self.interval_s,
            self.answers_per_prompt,
            self.max_output_tokens,
            Rule(self.p_value, self.consecutive),
        )
