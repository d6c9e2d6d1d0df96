"""What plans are made from: the register, prices and the judge of complexity, gathered once."""

from __future__ import annotations

from services.router.core.catalogue import ModelSpec, RouteSpec
from services.router.core.chat import ImagePart, ModelCall
from services.router.core.errors import InvalidRequest
from services.router.core.facts import Facts, Judged, Needs, Origin
from services.router.core.plan import Plan, make_plan
from services.router.core.ports import ComplexityScorer, Load, PriceList, Question
from services.router.core.prices import ModelPrice
from services.router.core.tokens import size_tokens
from services.router.core.vendors import Gate, VendorRegister

# Policies under data classes are remembered: routes and classes are few and configured, never a caller's words.
_Policies = dict[tuple[str, tuple[str, ...]], str]


class NoPrices:
    """Knows no price."""

    def price(self, spec: ModelSpec) -> ModelPrice | None:
        """See PriceList."""
        return None


class Planner:
    """Plans before a call, from what is known then, and at the call itself. Without a scorer every call is complex."""

    def __init__(
        self,
        register: VendorRegister | None = None,
        prices: PriceList | None = None,
        scorer: ComplexityScorer | None = None,
    ) -> None:
        self._register = register or VendorRegister()
        self._prices = prices or NoPrices()
        self._scorer = scorer
        self._policies: _Policies = {}
        self._later: Planner | None = None

    def before(self, route: RouteSpec, origin: Origin, needs: Needs, load: Load, now_s: float) -> Plan:
        """The superset: everyone whom this call may reach. Raises InvalidRequest for an unknown class of data."""
        judged = None
        if origin.embedding is not None:
            judged = self._judged(route, ModelCall(route.name, (), origin=origin))
        gate = self._register.gate(origin.organisation, origin.data_class, "labels.data_class")
        return make_plan(route, Facts(origin, needs, judged), gate, load, now_s, prices=self._prices)

    def at(
        self,
        route: RouteSpec,
        call: ModelCall,
        load: Load,
        now_s: float,
        *,
        streamed: bool,
        whole: RouteSpec | None = None,
    ) -> Plan:
        """Who is tried now; `whole` as in make_plan. Raises InvalidRequest for an unknown class of data."""
        gate = self._register.gate(call.origin.organisation, call.origin.data_class)
        facts = Facts(call.origin, needs_of(call), self._judged(route, call), final=True, streamed=streamed)
        return make_plan(route, facts, gate, load, now_s, prices=self._prices, whole=whole)

    def follow(self, later: Planner) -> None:
        """A new configuration serves. Calls planned here go on, to nobody whom its register keeps out."""
        self._later = later

    def revoked(self, spec: ModelSpec, origin: Origin) -> str:
        """Why a model may be asked no more by a call that was planned here (kebab-case); empty when it may.

        What a later register allows beyond this one counts for calls that are planned by it.
        """
        return "" if self._later is None else self._later.forbids(spec, origin)

    def forbids(self, spec: ModelSpec, origin: Origin) -> str:
        """Why the register that counts now keeps a model from the data of a call; empty when it does not."""
        if self._later is not None:
            return self._later.forbids(spec, origin)
        try:
            found = self._register.gate(origin.organisation, origin.data_class).refusal(spec)
        except InvalidRequest:  # the class of this data is no more, and with it what it asked
            return "vendor-unknown-class"
        return "" if found is None else found.reason

    def policy(self, route: RouteSpec, plain: str, gate: Gate) -> str:
        """The route's policy for the data of a call; `plain` where no class asks anything."""
        if not gate.classes:
            return plain
        key = (route.name, gate.classes)
        if key not in self._policies:
            self._policies[key] = route.policy(gate.agreements(route.everyone()))
        return self._policies[key]

    def _judged(self, route: RouteSpec, call: ModelCall) -> Judged | None:
        if self._scorer is None or not route.judges_complexity():
            return None
        origin = call.origin
        question = Question(_question_text(call), origin.language, origin.encoder, origin.embedding)
        return self._scorer.judge(question, route.complexity_quality, route.complexity_threshold)


def needs_of(call: ModelCall) -> Needs:
    """What a call asks for."""
    return Needs(
        tools=bool(call.tools),
        images=any(isinstance(part, ImagePart) for message in call.messages for part in message.parts),
        structured_output=call.parameters.response_format.structured,
        input_tokens=size_tokens(call),
        output_tokens=call.parameters.max_output_tokens or 0,
    )


def _question_text(call: ModelCall) -> str:
    """The last user message: what the guard's embedding stands for."""
    return next((message.text() for message in reversed(call.messages) if message.role == "user"), "")
