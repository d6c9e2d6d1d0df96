"""A cheap model first: when its answer is good enough, and who is asked when it is not. Pure.

An answer is trusted when the guard allows it and rates it, by confidence or else by grounding, at the plan's minimum or
above. An answer that nobody rated is not trusted. Where the guard has no model that rates answers, every call would be
paid for twice and trusted never: there the cheap model is left out, and one call a minute finds out whether that is
still so.
"""

from __future__ import annotations

import math
from dataclasses import replace

from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import CheckedOutput, Plan

# How long a rating shows that the guard rates, and how often one call tries whether it does.
PROBE_S = 60.0
# The first model may take this part of the time, so that some is left for the others.
_FIRST_SHARE = 0.5
_OTHERS_MAY = frozenset({"CONTEXT_TOO_LONG", "UNSUPPORTED"})


def first_and_others(plan: Plan) -> tuple[Plan, Plan]:
    """The plan in two: its first candidate, and the rest."""
    first = replace(plan, candidates=plan.candidates[:1], model_names=plan.model_names[:1], time_share=_FIRST_SHARE)
    return first, replace(plan, candidates=plan.candidates[1:], model_names=plan.model_names[1:])


def is_trusted(output: CheckedOutput, min_confidence: float) -> bool:
    """Whether the first model's answer is the caller's."""
    rating = rating_of(output)
    return not output.blocked and rating is not None and rating >= min_confidence


def rating_of(output: CheckedOutput) -> float | None:
    """What the guard thinks of an answer: its confidence, or else how well it is grounded."""
    return output.confidence if output.confidence is not None else output.grounding_score


def others_may_answer(error: ModelFailed) -> bool:
    """Whether a failure of the first model alone leaves the others to be asked, as it would without a cascade.

    Not when the router was lost, nor when the request itself has no time left.
    """
    if error.reason in ("SERVICE_UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return error.status == "DEADLINE_EXCEEDED" and error.nobody_answered
    return error.reason.startswith("UPSTREAM_") or error.reason in _OTHERS_MAY


class Raters:
    """Under which guard policies answers are rated, as this process saw it. Policies are few: configured names."""

    def __init__(self) -> None:
        self._rated_s: dict[str, float] = {}
        self._tried_s: dict[str, float] = {}

    def may_try(self, policy: str, now_s: float) -> bool:
        """Whether the first model is worth asking: a rating was seen lately, or it is time to look for one."""
        if now_s - self._rated_s.get(policy, -math.inf) < PROBE_S:
            return True
        if now_s - self._tried_s.get(policy, -math.inf) < PROBE_S:
            return False
        self._tried_s[policy] = now_s
        return True

    def note(self, policy: str, output: CheckedOutput, now_s: float) -> None:
        """An answer was checked."""
        if rating_of(output) is not None:
            self._rated_s[policy] = now_s
