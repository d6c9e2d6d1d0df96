"""The strategies: in which order the models that may answer are tried, and why each stands where it stands. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple

from services.router.core.catalogue import ModelSpec, RouteSpec
from services.router.core.facts import Facts
from services.router.core.ports import Load, PriceList
from services.router.core.prices import ASSUMED_INPUT_TOKENS, ASSUMED_OUTPUT_TOKENS
from services.router.core.speed import Speed

# What a model's last try told of its speed, or did not, counts for so long: one that fails at once would be in front of
# every call if its next chance came sooner.
EXPLORE_EVERY_S = 60.0
# So many of the calls measure again what was measured: where calls are few, most of them still go to the fastest.
EXPLORE_SHARE = 0.05
# More would not fit beside the half in a float, and the greatest draw would be 1.
_DRAWS = 2**52
_SCORE = itemgetter(0)


class Ranked(NamedTuple):
    """A model in its place; `words`, with `values` in them, say what put it there.

    A call is planned twice, and nobody reads the second plan: the words are put together when somebody asks.
    """

    spec: ModelSpec
    words: str
    values: tuple[object, ...] = ()

    @property
    def reason(self) -> str:
        """One sentence."""
        return self.words.format(*self.values)


class Situation(NamedTuple):
    """All that an order may depend on."""

    route: RouteSpec
    facts: Facts
    load: Load
    prices: PriceList
    now_s: float


Strategy = Callable[[Sequence[ModelSpec], Situation], list[Ranked]]


def draw(key: str, name: str) -> float:
    """A number in (0, 1) that is the same wherever the same two texts meet."""
    return _drawn(_begun(key), name)


def _begun(key: str) -> blake2b:
    """What the draws of one key have in common, digested once."""
    return blake2b(f"{key}\0".encode("utf-8", "replace"), digest_size=8)


def _drawn(begun: blake2b, name: str) -> float:
    hashed = begun.copy()
    hashed.update(name.encode("utf-8", "replace"))
    return ((int.from_bytes(hashed.digest(), "big") >> 12) + 0.5) / _DRAWS


def by_lot(key: str, specs: Sequence[ModelSpec], weights: Mapping[str, int]) -> list[ModelSpec]:
    """Weighted rendezvous: each is first for its share of the keys, and who leaves moves only its own keys.

    The score -weight / ln(draw) follows C. Schindelhauer and G. Schomaker, "Weighted Distributed Hash Tables", 2005.
    Weights of zero come last, in the order given.
    """
    begun, log = _begun(key), math.log
    weighed = [(weights.get(spec.name, 1), spec) for spec in specs]
    scored = [(-weight / log(_drawn(begun, spec.name)) if weight else 0.0, spec) for weight, spec in weighed]
    scored.sort(key=_SCORE, reverse=True)
    return [spec for _, spec in scored]


def rank(able: Sequence[ModelSpec], of: Situation) -> tuple[Ranked, ...]:
    """The order of those who may answer: by the route's strategy, and in front the one that affinity keeps.

    Candidates of weight 0 come behind all others, as listed, whatever the strategy: they are for fallback.
    """
    if not able:
        return ()
    ranked = _by_strategy(able, of)
    key = _affinity_key(of.route, of.facts)
    if not key:
        return tuple(ranked)
    kept = by_lot(key, able, of.route.weights)[0]
    first = Ranked(kept, "affinity: this {} stays with this model as long as it can answer", (of.route.affinity,))
    return (first, *[entry for entry in ranked if entry.spec is not kept])


def _by_strategy(able: Sequence[ModelSpec], of: Situation) -> list[Ranked]:
    strategy, weights = _STRATEGIES[of.route.strategy], of.route.weights
    if 0 not in weights.values():  # nearly every route
        return strategy(able, of)
    ranked = strategy([spec for spec in able if weights.get(spec.name, 1)], of)
    words = "weight 0: only as a fallback; {} of {} in the route's list"
    places, count = _places(of.route), len(of.route.candidates)
    behind = [spec for spec in able if not weights.get(spec.name, 1)]
    return [*ranked, *[Ranked(spec, words, (places[spec.name], count)) for spec in behind]]


def _places(route: RouteSpec) -> dict[str, int]:
    return {spec.name: place for place, spec in enumerate(route.candidates, start=1)}


def _affinity_key(route: RouteSpec, facts: Facts) -> str:
    """Whom a model is kept for; empty for nobody. Two organisations' conversations of one name are two."""
    origin = facts.origin
    who = {"conversation": origin.conversation, "user": origin.user}.get(route.affinity, "")
    return f"{origin.organisation}\0{who}" if who else ""


def _ordered(able: Sequence[ModelSpec], of: Situation) -> list[Ranked]:
    places = _places(of.route)
    count = len(places)
    return [Ranked(spec, "ordered: {} of {} in the route's list", (places[spec.name], count)) for spec in able]


def _weighted(able: Sequence[ModelSpec], of: Situation) -> list[Ranked]:
    weights = of.route.weights
    total = sum([weights.get(spec.name, 1) for spec in able])
    words = "weighted: weight {} of {}, drawn by the id of the request"
    drawn = by_lot(of.facts.origin.request_id, able, weights)
    return [Ranked(spec, words, (weights.get(spec.name, 1), total)) for spec in drawn]


def _cheapest(able: Sequence[ModelSpec], of: Situation) -> list[Ranked]:
    read = of.facts.needs.input_tokens or ASSUMED_INPUT_TOKENS
    wanted = of.facts.needs.output_tokens or ASSUMED_OUTPUT_TOKENS
    words = "cheapest: about {} nano-USD for {} input and {} output tokens, at {} and {} per million"
    rows: list[tuple[float, Ranked]] = []
    for spec in able:
        price = of.prices.price(spec)
        if price is None:
            rows.append((math.inf, Ranked(spec, "cheapest: its price is not known, so it comes last")))
            continue
        written = min(wanted, spec.max_output_tokens) if spec.max_output_tokens else wanted
        cost = price.cost_nano_usd(read, written)
        per_million = (price.input_nano_usd_per_million_tokens, price.output_nano_usd_per_million_tokens)
        rows.append((cost, Ranked(spec, words, (cost, read, written, *per_million))))
    return _sorted(rows)


def _fastest(able: Sequence[ModelSpec], of: Situation) -> list[Ranked]:
    """A model that was never measured goes first for one call at a time, so that it gets its chance and no more.

    Tries that ended without an answer took the chance, and the next one comes after `EXPLORE_EVERY_S`. So does one for
    a model that was measured: a slow answer would otherwise be the last that is known of it. Those that wait longest
    come first then, for calls that the id of the request draws.
    """
    explores = draw(of.facts.origin.request_id, "explore") < EXPLORE_SHARE
    return _sorted([_by_speed(spec, of, explores=explores) for spec in able])


def _by_speed(spec: ModelSpec, of: Situation, *, explores: bool) -> tuple[float, Ranked]:
    speed, what = _speed(spec, of)
    idle_s = math.inf if speed.tried_s is None else of.now_s - speed.tried_s
    chance = not speed.under_way and idle_s >= EXPLORE_EVERY_S
    if speed.average_s is not None:
        if chance and explores:
            words = "fastest: not measured for {:.1f} s, so this call measures it again"
            return -idle_s, Ranked(spec, words, (idle_s,))
        return speed.average_s, Ranked(spec, "fastest: {} after {:.3f} s on average", (what, speed.average_s))
    if chance:
        return -math.inf, Ranked(spec, "fastest: not measured yet, so this call measures it")
    if speed.under_way:
        return math.inf, Ranked(spec, "fastest: not measured yet, and a call that measures it is under way")
    return math.inf, Ranked(spec, "fastest: not measured yet, and the try {:.1f} s ago gave no answer", (idle_s,))


def _speed(spec: ModelSpec, of: Situation) -> tuple[Speed, str]:
    """Of calls that ask as this one does, and what comes then.

    Before anybody knows how it will ask: of streams, and where there were none, of whole answers.
    """
    streamed = of.facts.streamed
    if streamed is not False:
        speed = of.load.speed(spec.name, streamed=True)
        if streamed or speed.average_s is not None:
            return speed, "the first token comes"
    return of.load.speed(spec.name, streamed=False), "the whole answer comes"


def _least_busy(able: Sequence[ModelSpec], of: Situation) -> list[Ranked]:
    """Among equals the id of the request decides, else an idle mesh would know the first one only."""
    drawn = by_lot(of.facts.origin.request_id, able, of.route.weights)
    counts = [(of.load.calls_under_way(spec.name), spec) for spec in drawn]
    return _sorted([(count, Ranked(spec, "least busy: {} calls under way", (count,))) for count, spec in counts])


def _complexity(able: Sequence[ModelSpec], of: Situation) -> list[Ranked]:
    """The route's list goes from cheap to dear."""
    judged, band = of.facts.complexity, of.facts.band()
    numbers: tuple[object, ...] = ()
    if judged is None:
        words = "complexity: not judged, so as complex"
    else:
        words = "complexity: {}, {:.2f} +- {:.2f} that the cheap end suffices"
        numbers = (band, judged.p_weak_suffices, judged.uncertainty)
    words += "; {} of {} from cheap to dear"
    places = _places(of.route)
    count = len(places)
    order = able if band == "simple" else list(reversed(able))
    return [Ranked(spec, words, (*numbers, places[spec.name], count)) for spec in order]


def _sorted(rows: Sequence[tuple[float, Ranked]]) -> list[Ranked]:
    """Ascending; equals keep their order."""
    return [entry for _, entry in sorted(rows, key=_SCORE)]


_STRATEGIES: Mapping[str, Strategy] = {
    "ordered": _ordered,
    "weighted": _weighted,
    "cheapest": _cheapest,
    "fastest": _fastest,
    "least-busy": _least_busy,
    "complexity": _complexity,
}
