"""Routes, registers, loads and calls of every kind, for the property tests of planning."""

from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import strategies as st

from services.router.adapters.memory import ManualLoad
from services.router.core.catalogue import Condition, HedgeRule, ModelSpec, RouteSpec, ShadowRule
from services.router.core.chat import Message, ModelCall, ToolDefinition
from services.router.core.facts import Judged, Origin
from services.router.core.ports import Question, Shut
from services.router.core.speed import Speed
from services.router.core.vendors import Requirement, Terms, VendorRegister

NAMES = tuple("abcdefgh")
PROVIDERS = ("north", "south", "east", "unlisted")
CLASSES = ("public", "personal", "health")
ORGANISATIONS = ("acme", "zenith")
LANGUAGES = ("de", "en", "fr")
STRATEGIES = ("ordered", "weighted", "cheapest", "fastest", "least-busy", "complexity")
TODAY = dt.date(2026, 11, 29)


def subsets(names: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(names), max_size=len(names))


days = st.dates(TODAY - dt.timedelta(days=3), TODAY + dt.timedelta(days=3))
terms = st.builds(
    Terms,
    dpa=st.booleans(),
    regions=subsets(("eu", "us")),
    retention_days=st.sampled_from((-1, 0, 30)),
    trains=st.booleans(),
    expires=st.none() | days,
)
requirements = st.fixed_dictionaries(
    {
        name: st.builds(
            Requirement,
            st.just(name),
            dpa=st.booleans(),
            regions=subsets(("eu", "us")),
            max_retention_days=st.sampled_from((-1, 0, 30)),
            no_training=st.booleans(),
        )
        for name in CLASSES
    }
)


class Day:
    """A calendar that is turned by hand."""

    def __init__(self) -> None:
        self.day = TODAY

    def now(self) -> dt.datetime:
        return dt.datetime.combine(self.day, dt.time(12), dt.UTC)


@st.composite
def registers(draw: st.DrawFn) -> tuple[VendorRegister, Day]:
    calendar = Day()
    listed = draw(st.fixed_dictionaries(dict.fromkeys(PROVIDERS[:3], terms)))
    owners = draw(st.dictionaries(st.sampled_from(ORGANISATIONS), st.sampled_from(CLASSES)))
    default = draw(st.sampled_from(("", *CLASSES)))
    return VendorRegister(listed, draw(requirements), owners, default, calendar.now), calendar


specs = st.tuples(
    *(
        st.builds(
            ModelSpec,
            st.just(name),
            st.sampled_from(PROVIDERS),
            st.just(f"model-{name}"),
            supports_tools=st.booleans(),
            supports_images=st.just(True),
            has_credential=st.sampled_from((True, True, True, False)),
            context_tokens=st.sampled_from((0, 0, 20, 90, 360)),
        )
        for name in NAMES
    )
)
conditions = st.builds(
    Condition,
    organisations=st.just(frozenset()) | subsets(ORGANISATIONS),
    languages=subsets(LANGUAGES),
    data_classes=st.just(frozenset()) | subsets(CLASSES),
    bands=subsets(("simple", "complex")),
    min_input_tokens=st.sampled_from((0, 50, 400)),
    max_input_tokens=st.sampled_from((0, 400, 2000)),
    tools=st.sampled_from((None, None, True, False)),
)


@st.composite
def routes(draw: st.DrawFn) -> RouteSpec:
    made = draw(specs)
    candidates = made[: draw(st.integers(1, len(made)))]
    ladder = st.lists(st.sampled_from(made), max_size=3, unique=True).map(tuple)
    conditioned = draw(st.sets(st.sampled_from([spec.name for spec in candidates])))
    return RouteSpec(
        "r",
        candidates,
        1,
        strategy=draw(st.sampled_from(STRATEGIES)),
        affinity=draw(st.sampled_from(("none", "conversation", "user"))),
        weights=draw(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5))),
        conditions={name: draw(conditions) for name in sorted(conditioned)},
        context_fallbacks=draw(ladder),
        content_policy_fallbacks=draw(ladder),
        rate_limit_fallbacks=draw(ladder),
        hedge=draw(st.none() | st.just(HedgeRule(0.95, 2.0, 0.05))),
        shadow=draw(st.none() | st.builds(ShadowRule, st.sampled_from(made), st.sampled_from((0.5, 1.0)))),
    )


@st.composite
def conditioned_routes(draw: st.DrawFn) -> RouteSpec:
    """Few models, all of them able, and hardly one without a condition: what is learned late decides."""
    windows = st.sampled_from((0, 20, 90, 360))
    made = tuple(ModelSpec(name, "unlisted", name, context_tokens=draw(windows)) for name in NAMES[:4])
    late = st.builds(
        Condition,
        languages=st.sampled_from((frozenset(), frozenset({"de"}), frozenset({"en", "fr"}))),
        bands=st.sampled_from((frozenset(), frozenset({"simple"}), frozenset({"complex"}))),
        min_input_tokens=st.sampled_from((0, 0, 400)),
        max_input_tokens=st.sampled_from((0, 0, 400)),
    )
    return RouteSpec(
        "r",
        made[: draw(st.integers(1, 3))],
        1,
        strategy=draw(st.sampled_from(STRATEGIES)),
        conditions={name: draw(late) for name in NAMES[:3]},
        rate_limit_fallbacks=made[draw(st.integers(1, 4)) :],
    )


@st.composite
def loads(draw: st.DrawFn) -> ManualLoad:
    """Any history of failures ends in some of the models being shut, and others slow or busy."""
    load = ManualLoad()
    load.under_way = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)))
    speeds = st.builds(Speed, st.none() | st.floats(0.01, 9), st.none() | st.floats(-99, 10), st.integers(0, 9))
    load.streams = draw(st.dictionaries(st.sampled_from(NAMES), speeds))
    load.whole_answers = draw(st.dictionaries(st.sampled_from(NAMES), speeds))
    cooling = st.builds(Shut, st.just("cooling-down"), st.just(50.0) | st.none(), last_resort=st.booleans())
    shut = cooling | st.just(Shut("cooling-down", 50.0, rate_limited=True))
    load.shut_by = draw(st.dictionaries(st.sampled_from(NAMES), shut))
    return load


origins = st.builds(
    Origin,
    organisation=st.sampled_from((*ORGANISATIONS, "nobody")),
    conversation=st.sampled_from(("", "c1", "c2")),
    user=st.sampled_from(("", "ada")),
    data_class=st.sampled_from(("", *CLASSES)),
    language=st.sampled_from(("", "und", *LANGUAGES)),
    embedding=st.sampled_from((None, np.ones(2, np.float32))),
    request_id=st.integers(0, 10**6).map(str),
)


@st.composite
def calls(draw: st.DrawFn) -> ModelCall:
    text = "word " * draw(st.sampled_from((1, 20, 100, 200, 300, 900)))
    tools = draw(st.sampled_from(((), (ToolDefinition("t"),))))
    return ModelCall("r", (Message("user", text),), tools, origin=draw(origins))


class Verdicts:
    """A scorer that says what it was told; `textless` is for questions whose text nobody has yet."""

    def __init__(self, judged: Judged, textless: Judged | None = None) -> None:
        self.judged = judged
        self.textless = textless or judged
        self.asked: list[Question] = []

    def judge(self, question: Question, quality: float, threshold: float) -> Judged:
        self.asked.append(question)
        return self.judged if question.text else self.textless
