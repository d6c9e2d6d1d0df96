"""Which models can serve a call, in which order, why, and with how much time each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.router.core.catalogue import Condition, ModelSpec, RouteSpec
from services.router.core.conditions import HOLDS, Finding, check, least_tokens, most_tokens
from services.router.core.deployments import Shut
from services.router.core.errors import RouterError, Unsupported
from services.router.core.facts import Facts, Needs
from services.router.core.ports import Load, PriceList
from services.router.core.ranking import Ranked, Situation, draw, rank
from services.router.core.vendors import Gate

_TOO_SMALL = "context-too-small"
# Three bytes a token is what money is held by; scripts of three bytes a letter come to ten, which may well fit. Only a
# conversation of so many times the window is not sent there: servers exist that cut what does not fit, and say nothing.
WINDOW_MARGIN = 4
# Before the call only: a final count that does not fit is a refusal. What nobody counted is taken to fit.
_MAY_NOT_FIT = Finding(None, _TOO_SMALL, "for shorter conversations, perhaps")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A model that would not be tried, why (kebab-case), and one sentence with the numbers, where there are any.

    `retry_after_s` is how long it stays shut; None when nobody knows, or when it is not shut.
    """

    spec: ModelSpec
    reason: str
    shut: Shut | None = None
    detail: str = ""
    retry_after_s: float | None = None


class Plan(NamedTuple):
    """Who would be tried, in order, and who would not.

    Every list has passed `gate`; whoever tries a model later asks it again, because an agreement may end in between.
    `shadow_refused` says why a copy that was drawn is not made.
    """

    route: RouteSpec
    ranked: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]
    gate: Gate
    context_fallbacks: tuple[ModelSpec, ...] = ()
    content_policy_fallbacks: tuple[ModelSpec, ...] = ()
    rate_limit_fallbacks: tuple[ModelSpec, ...] = ()
    shadow: ModelSpec | None = None
    shadow_refused: Rejected | None = None

    @property
    def candidates(self) -> tuple[ModelSpec, ...]:
        """Who would be tried, the first one first."""
        return tuple([entry.spec for entry in self.ranked])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each candidate stands where it stands, a sentence each."""
        return tuple([entry.reason for entry in self.ranked])

    def for_a_cause(self) -> tuple[tuple[ModelSpec, str], ...]:
        """Those who are tried after one cause only, each once, with the first cause that names it."""
        lists = (
            (self.context_fallbacks, "only when a conversation is too long for the window"),
            (self.content_policy_fallbacks, "only when an answer is refused for its content"),
            (self.rate_limit_fallbacks, "only when a provider limits us"),
        )
        found = {spec.name: (spec, why) for specs, why in reversed(lists) for spec in specs}
        for spec in self.candidates:
            found.pop(spec.name, None)
        return tuple(found[spec.name] for spec in self.route.everyone() if spec.name in found)

    def max_billed_calls(self) -> int:
        """For how many billed calls money is held: the answer's, a hedge's, and what a cascade or continuation adds.

        Each takes a second model to call. Tries that failed but may be billed are not among them: that would take
        `max_attempts` times the money. They are booked by estimate, beyond the hold.
        """
        route = self.route
        if len(self.candidates) + len(self.for_a_cause()) < 2:  # noqa: PLR2004
            return 1
        # A cascade is for whole answers and a continuation for streams: never both.
        again = route.cascade_min_confidence is not None or route.continue_on_another
        return 1 + (route.hedge is not None) + again

    def cascade_min_confidence(self) -> float | None:
        """Below which confidence the first candidate's answer is dropped; None without a cascade or a second one."""
        return self.route.cascade_min_confidence if len(self.candidates) > 1 else None


def make_plan(
    route: RouteSpec,
    facts: Facts,
    gate: Gate,
    load: Load,
    now_s: float,
    *,
    prices: PriceList,
    whole: RouteSpec | None = None,
) -> Plan:
    """Filters first, ranks afterwards. Candidates that are shut stand aside while others are left.

    When everyone able is shut, those that merely failed are tried after all: refusing would turn one bad minute of a
    provider into an outage. Those that the provider itself limits stay out until their time has come.

    Before the call itself (`facts.final` is false) the plan names everyone whom the same call may reach once all of it
    is known. At the call, candidates whose condition cannot be established stand aside like those that are shut.

    `whole` is the route before it was narrowed to the models that were planned: of candidates that nobody planned it
    tells what kept them out.
    """
    look = _Look(route, facts, gate, load, now_s)
    standings = {spec.name: look.at(spec, route.conditions.get(spec.name)) for spec in route.everyone()}
    context, content, limits = (
        tuple([spec for spec in specs if standings[spec.name].stands_by])
        for specs in (route.context_fallbacks, route.content_policy_fallbacks, route.rate_limit_fallbacks)
    )
    by_route = [standings[spec.name] for spec in route.candidates]
    first, last = _chosen(by_route, final=facts.final)
    situation = Situation(route, facts, load, prices, now_s)
    ranked = rank(first, situation)
    if not first:
        known = by_route if whole is None else look.candidates(whole)
        ranked = _at_once(known, context, limits, last, is_narrowed=not by_route)
    named = {entry.spec.name for entry in ranked}
    after_all = [entry for entry in rank(last, situation) if entry.spec.name not in named]
    ranked += tuple(_although_shut(standings[entry.spec.name]) for entry in after_all)
    tried = {spec.name for spec in (*[entry.spec for entry in ranked], *context, *content, *limits)}
    rejected = tuple([standing.rejected() for name, standing in standings.items() if name not in tried])
    return Plan(route, ranked, rejected, gate, context, content, limits, *_shadow(look))


def refused(spec: ModelSpec, facts: Facts, gate: Gate) -> Rejected | None:
    """Why a model may not serve a call, whatever the route and its health: it cannot, or its provider may not see this.

    Windows are left to the provider unless they are far too small: only it counts tokens exactly.
    """
    reason = _unfit(spec, facts.needs)
    if reason:
        return Rejected(spec, reason)
    if 0 < spec.context_tokens * WINDOW_MARGIN < least_tokens(facts):
        about = facts.needs.input_tokens
        detail = f"The window holds {spec.context_tokens} tokens, the conversation has about {about}."
        return Rejected(spec, _TOO_SMALL, None, detail)
    refusal = gate.refusal(spec)
    return None if refusal is None else Rejected(spec, refusal.reason, None, refusal.detail)


def nobody_may(plan: Plan) -> RouterError | None:
    """The error of a plan whose models are all kept out by the vendor register or by conditions; None of any other."""
    if plan.candidates or not plan.rejected or any(entry.shut is not None for entry in plan.rejected):
        return None
    kept_out = [entry for entry in plan.rejected if entry.reason.startswith(("vendor-", "other-", "only-"))]
    if not kept_out:
        return None
    by_register = any(entry.reason.startswith("vendor-") for entry in kept_out)
    names = ", ".join(f"{entry.spec.name}: {entry.reason}" for entry in kept_out)
    who = "`router.vendors` and `router.data_classes`" if by_register else "`when` of the route's candidates"
    return Unsupported(
        f"No model of this route may take this call ({names}); name another route, or an operator must check {who}.",
        metadata={"feature": "vendor-register" if by_register else "conditions", "attempts_json": "[]"},
    )


def _unfit(spec: ModelSpec, needs: Needs) -> str:
    """Why a model cannot serve these needs at all; empty when it can."""
    if not spec.has_credential:
        return "provider-without-key"
    if needs.tools and not spec.supports_tools:
        return "no-tools"
    if needs.images and not spec.supports_images:
        return "no-images"
    return "no-structured-output" if needs.structured_output and not spec.supports_structured_output else ""


class _Standing(NamedTuple):
    """How a model stands: out (`no`), or open (`finding`), or shut, or nothing of this."""

    spec: ModelSpec
    no: Rejected | None = None
    finding: Finding = HOLDS
    shut: Shut | None = None
    now_s: float = 0.0

    @property
    def stands_by(self) -> bool:
        """Whether it could be called at once, by all that is known."""
        return self.no is None and self.shut is None and self.finding.holds is not False

    @property
    def too_long(self) -> bool:
        """Whether the window alone keeps it out."""
        return self.no is not None and self.no.reason == _TOO_SMALL

    @property
    def limited(self) -> bool:
        """Whether it would be called, were it not that its provider limits us."""
        may = self.no is None and self.finding.holds is not False
        return may and self.shut is not None and self.shut.rate_limited

    def rejected(self) -> Rejected:
        """Why it would not be tried, of one that would not."""
        if self.no is not None:
            return self.no
        if self.shut is None or self.finding.holds is False:
            return Rejected(self.spec, self.finding.reason, None, f"It is {self.finding.detail}.")
        if self.shut.until_s is None:
            return Rejected(self.spec, self.shut.reason, self.shut)
        wait_s = max(0.0, self.shut.until_s - self.now_s)
        return Rejected(self.spec, self.shut.reason, self.shut, f"It is left alone for another {wait_s:.1f} s.", wait_s)


class _Look:
    """How models stand for one call."""

    def __init__(self, route: RouteSpec, facts: Facts, gate: Gate, load: Load, now_s: float) -> None:
        self.route = route
        self.facts = facts
        self._gate = gate
        self._load = load
        self._now_s = now_s
        # What nobody counted is taken to fit.
        self._most_tokens = most_tokens(facts) if facts.needs.input_tokens > 0 else 0

    def candidates(self, route: RouteSpec) -> list[_Standing]:
        """Those of a route, which may be another one than is planned."""
        return [self.at(spec, route.conditions.get(spec.name)) for spec in route.candidates]

    def at(self, spec: ModelSpec, condition: Condition | None) -> _Standing:
        """One model; a copy for a shadow goes by no condition."""
        no = refused(spec, self.facts, self._gate)
        if no is not None:
            return _Standing(spec, no)
        finding = HOLDS if condition is None else check(condition, self.facts, self._gate.classes)
        if finding.holds and 0 < spec.context_tokens * WINDOW_MARGIN < self._most_tokens:
            finding = _MAY_NOT_FIT
        return _Standing(spec, None, finding, self._load.shut(spec.name, self._now_s), self._now_s)


def _chosen(standing: Sequence[_Standing], *, final: bool) -> tuple[list[ModelSpec], list[ModelSpec]]:
    """Who is tried, and who after all although he is shut; both in the order given.

    Before the call: if every open condition turned out not to hold, those that are shut would be reached.
    """
    able = [entry for entry in standing if entry.stands_by]
    certain = [entry for entry in able if entry.finding.holds]
    first = (certain or able) if final else able
    last: list[_Standing] = []
    if not (first if final else certain):
        last = [s for s in standing if s.shut is not None and s.shut.last_resort and s.finding.holds is not False]
        if final:
            last = [entry for entry in last if entry.finding.holds] or last
    return [entry.spec for entry in first], [entry.spec for entry in last]


def _at_once(
    candidates: Sequence[_Standing],
    context: tuple[ModelSpec, ...],
    limits: tuple[ModelSpec, ...],
    last: Sequence[ModelSpec],
    *,
    is_narrowed: bool,
) -> tuple[Ranked, ...]:
    """Those named for a cause that is known beforehand: no candidate that keeps out for it would be asked to say so.

    `last`: who may be tried after all. `is_narrowed`: none of the candidates was planned. Should the cause be over by
    now, those that money is held for are asked all the same, unless no candidate turned out to be for this call.
    """
    too_long = not last and any(standing.too_long for standing in candidates)
    limited = any(standing.limited for standing in candidates)
    by_length = [(spec, "the conversation is too long for the candidates") for spec in context]
    by_limit = [(spec, "the providers of the candidates limit us") for spec in limits]
    named = (by_length if too_long else []) + (by_limit if limited else [])
    if is_narrowed and not named and any(s.no is None and s.finding.holds is not False for s in candidates):
        named = by_limit or by_length
    ranked = {spec.name: Ranked(spec, words) for spec, words in reversed(named)}
    return tuple(reversed(ranked.values()))


def _shadow(look: _Look) -> tuple[ModelSpec | None, Rejected | None]:
    """Whether this call is copied: drawn by its id, and then only if the copy may be sent and the model is well."""
    rule = look.route.shadow
    if rule is None or draw(look.facts.origin.request_id, "shadow") >= rule.sample:
        return None, None
    standing = look.at(rule.spec, None)
    return (rule.spec, None) if standing.stands_by else (None, standing.rejected())


def _although_shut(standing: _Standing) -> Ranked:
    words = "tried after all although it is {}, when nobody else is left"
    return Ranked(standing.spec, words, (standing.rejected().reason,))


def step_timeout_s(limit_s: float, later_limits_s: Sequence[float], remaining_s: float) -> float:
    """Time for one step: its own limit, or what is left when every later candidate keeps its fair share.

    The fair share of each of the `n` candidates left is `remaining_s / n`; what a later one could not use anyway
    (its own limit is shorter) goes to this step.
    """
    fair_share_s = remaining_s / (len(later_limits_s) + 1)
    reserved_s = sum(min(later_s, fair_share_s) for later_s in later_limits_s)
    return max(0.0, min(limit_s, remaining_s - reserved_s))
