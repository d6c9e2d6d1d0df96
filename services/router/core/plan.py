"""Which candidates of a route can serve a request, in which order, and with how much time each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.router.core.catalogue import ModelSpec, RouteSpec
from services.router.core.chat import ImagePart, ModelCall
from services.router.core.deployments import Shut
from services.router.core.ports import ALLOW_ALL, Gate, Load


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model. `input_tokens` 0 means not known."""

    tools: bool = False
    images: bool = False
    structured_output: bool = False
    input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that would not be tried, and why (kebab-case)."""

    spec: ModelSpec
    reason: str
    shut: Shut | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Who would be tried, in order, and who would not.

    The three lists are asked before the other candidates after their own cause. `gate` is asked again before each try.
    """

    route: RouteSpec
    candidates: tuple[ModelSpec, ...]
    rejected: tuple[Rejected, ...]
    context_fallbacks: tuple[ModelSpec, ...] = ()
    content_policy_fallbacks: tuple[ModelSpec, ...] = ()
    rate_limit_fallbacks: tuple[ModelSpec, ...] = ()
    gate: Gate = ALLOW_ALL


def needs_of(call: ModelCall) -> Needs:
    """What a call asks for. The size of its text is left to the provider: only it counts tokens exactly."""
    return Needs(
        tools=bool(call.tools),
        images=any(isinstance(part, ImagePart) for message in call.messages for part in message.parts),
        structured_output=call.parameters.response_format.structured,
    )


def _unfit(spec: ModelSpec, needs: Needs) -> str:
    """Why a model cannot serve these needs at all; empty when it can."""
    checks = (
        (not spec.has_credential, "provider-without-key"),
        (needs.tools and not spec.supports_tools, "no-tools"),
        (needs.images and not spec.supports_images, "no-images"),
        (needs.structured_output and not spec.supports_structured_output, "no-structured-output"),
        (0 < spec.context_tokens < needs.input_tokens, "context-too-small"),
    )
    return next((reason for fails, reason in checks if fails), "")


def make_plan(route: RouteSpec, needs: Needs, load: Load, now_s: float) -> Plan:
    """Keeps the route's order. Cooling candidates stand aside while others are left.

    When everyone able is cooling, those that merely failed are tried after all: refusing would turn one bad minute of
    a provider into an outage. Those that the provider itself limits stay out until their time has come, and so do
    those whose breaker is open.
    """
    able: list[ModelSpec] = []
    rejected: list[Rejected] = []
    for spec in route.candidates:
        reason = _unfit(spec, needs)
        shut = None if reason else load.shut(spec.name, now_s)
        if shut is not None:
            rejected.append(Rejected(spec, shut.reason, shut))
        elif reason:
            rejected.append(Rejected(spec, reason))
        else:
            able.append(spec)
    if not able:
        able = [entry.spec for entry in rejected if entry.shut is not None and entry.shut.last_resort]
        rejected = [entry for entry in rejected if entry.shut is None or not entry.shut.last_resort]

    def fit(specs: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
        return tuple(spec for spec in specs if not _unfit(spec, needs))

    return Plan(
        route,
        tuple(able),
        tuple(rejected),
        fit(route.context_fallbacks),
        fit(route.content_policy_fallbacks),
        fit(route.rate_limit_fallbacks),
    )


def step_timeout_s(limit_s: float, later_limits_s: Sequence[float], remaining_s: float) -> float:
    """Time for one step: its own limit, or what is left when every later candidate keeps its fair share.

    The fair share of each of the `n` candidates left is `remaining_s / n`; what a later one could not use anyway
    (its own limit is shorter) goes to this step.
    """
    fair_share_s = remaining_s / (len(later_limits_s) + 1)
    reserved_s = sum(min(later_s, fair_share_s) for later_s in later_limits_s)
    return max(0.0, min(limit_s, remaining_s - reserved_s))
