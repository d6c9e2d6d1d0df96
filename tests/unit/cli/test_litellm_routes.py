"""Who is asked after whom: as LiteLLM 1.110 asked them, each list seen at a server where every model fails."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_cli.configuration import build_configuration
from llmops_cli.litellm_import import Imported, import_litellm

CHAIN = [{here: [there]} for here, there in zip("abcdefgh", "bcdefghi", strict=True)]
TREE = [{"a": ["b", "c"]}, {"b": ["d"]}, {"c": ["e"]}]
DEEP_TREE = [*TREE, {"d": ["f"]}]


def entry(name: str, model: str = "", **params: object) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": f"openai/{model or name}", "api_key": "k"} | params}


def imported(entries: list[dict[str, Any]] | None = None, litellm: object = None, **router: object) -> Imported:
    entries = entries or [entry(name) for name in "abcdefghi"]
    return import_litellm({"model_list": entries, "router_settings": router, "litellm_settings": litellm})


def asked(found: Imported, name: str, key: str = "candidates") -> str:
    """The names of the models of a route, in order; of one that is no route its own."""
    assert not found.refused
    settings = build_configuration("imported", found.sections, {}).targets["router"]
    route = settings.routes.get(name)
    if route is None:
        return settings.models[name].model if key == "candidates" else ""
    names = [choice.model for choice in route.choices()] if key == "candidates" else getattr(route, key)
    return "".join(settings.models[model].model for model in names)


@pytest.mark.parametrize(
    ("router", "name", "expected"),
    [
        ({"fallbacks": CHAIN}, "a", "abcdef"),
        ({"fallbacks": CHAIN, "max_fallbacks": 1}, "a", "ab"),
        ({"fallbacks": CHAIN, "max_fallbacks": 2}, "a", "abc"),
        ({"fallbacks": CHAIN, "max_fallbacks": 0}, "a", "a"),
        ({"fallbacks": [{"a": list("bcdefghi")}]}, "a", "abcdefghi"),
        ({"fallbacks": [{"a": ["b", "c", "d"]}], "max_fallbacks": 1}, "a", "abcd"),
        ({"fallbacks": TREE}, "a", "abdce"),
        ({"fallbacks": TREE, "max_fallbacks": 1}, "a", "abc"),
        ({"fallbacks": [*TREE, {"e": ["f"]}], "max_fallbacks": 3}, "a", "abdc"),
        ({"fallbacks": DEEP_TREE, "max_fallbacks": 3}, "a", "abdfce"),
        ({"fallbacks": DEEP_TREE, "max_fallbacks": 4}, "a", "abdfc"),
        ({"fallbacks": DEEP_TREE, "max_fallbacks": 5}, "a", "abdfce"),
        ({"fallbacks": [{"a": ["b"]}, {"b": ["a", "c"]}]}, "a", "abc"),
        ({"fallbacks": [{"a": ["b"]}, {"a": ["c"]}]}, "a", "ab"),
        ({"fallbacks": [{"a": ["a", "b"]}]}, "a", "ab"),
        ({"fallbacks": [{"a": ["b"]}], "default_fallbacks": ["c"]}, "a", "ab"),
        ({"fallbacks": [{"c": ["d"]}], "default_fallbacks": ["c"]}, "a", "acd"),
        ({"default_fallbacks": ["c", "d"]}, "c", "cd"),
        ({"fallbacks": [{"*": ["c"]}], "default_fallbacks": ["d"]}, "e", "ed"),
        ({"fallbacks": [{"*": ["c"]}, {"*": ["d"]}]}, "e", "ed"),
        ({"fallbacks": [{"*": ["c", "d"]}, {"c": ["f"]}], "max_fallbacks": 2}, "e", "ecfd"),
        ({"fallbacks": [{"*": ["b"]}, {"a": ["c"]}]}, "a", "ac"),
        ({"fallbacks": [{"a": ["b"]}], "model_group_alias": {"z": "a"}}, "z", "a"),
        ({"fallbacks": [{"z": ["b"]}, {"a": ["c"]}], "model_group_alias": {"z": "a"}}, "z", "ab"),
        ({"fallbacks": [{"a": ["z"]}, {"z": ["c"]}, {"b": ["d"]}], "model_group_alias": {"z": "b"}}, "a", "abc"),
        ({"default_fallbacks": ["c"], "model_group_alias": {"z": "a"}}, "z", "ac"),
    ],
)
def test_fallbacks_are_followed_as_there(router: dict[str, object], name: str, expected: str) -> None:
    assert asked(imported(**router), name) == expected


def test_the_lists_of_the_router_stand_in_front_of_all_others() -> None:
    found = imported(litellm={"fallbacks": [{"b": ["c"]}], "max_fallbacks": 1}, fallbacks=[{"a": ["b"]}])
    assert (asked(found, "a"), asked(found, "b")) == ("ab", "b")
    assert asked(imported(litellm={"fallbacks": CHAIN, "max_fallbacks": 1}), "a") == "ab"


@pytest.mark.parametrize("key", ["context_window_fallbacks", "content_policy_fallbacks"])
def test_lists_for_a_cause_are_followed_by_lists_for_it_and_then_by_the_general_ones(key: str) -> None:
    ours = key.replace("_window", "")
    found = imported(**{key: [{"a": ["b"]}, {"b": ["c"]}]}, fallbacks=[{"a": ["d"]}, {"b": ["e"]}])
    assert (asked(found, "a"), asked(found, "a", ours)) == ("ad", "bce")
    found = imported(**{key: [{"*": ["b"]}, {"a": ["c"]}]})
    assert (asked(found, "a", ours), asked(found, "d", ours)) == ("c", "b")


def test_what_a_route_cannot_say_is_remarked_on() -> None:
    """`a` fails, `b` finds the conversation too long: there `b`'s own list comes next, here `a` has none for that."""
    router: dict[str, Any] = {"fallbacks": [{"a": ["b"]}], "context_window_fallbacks": [{"b": ["c"]}]}
    notes = imported(**router).notes
    path = "router_settings.context_window_fallbacks[0].b"
    assert f"{path}: not followed by calls of a that came to b; give a a list of its own" in notes
    router["context_window_fallbacks"] += [{"a": ["c"]}]
    assert not any("not followed" in note for note in imported(**router).notes)


@pytest.mark.parametrize(
    ("router", "expected"),
    [
        ({"fallbacks": [{"a": ["b"]}], "num_retries": 2, "max_fallbacks": 1}, 8),
        ({"fallbacks": [{"a": list("bcde")}], "num_retries": 2}, 15),
        ({"fallbacks": [{"a": list("bcde")}]}, 10),
    ],
)
def test_a_route_is_tried_to_its_end(router: dict[str, object], expected: int) -> None:
    """As many tries as are allowed anyway, or more where a route is longer."""
    settings = build_configuration("imported", imported(**router).sections, {}).targets["router"]
    assert settings.limits.max_attempts == expected


STRATEGIES = {"cost-based-routing": "cheapest", "latency-based-routing": "fastest", "least-busy": "least-busy"}


def weighed(found: Imported, name: str) -> tuple[str, list[int]]:
    """The strategy of a route, and the weights of its models."""
    assert not found.refused
    route = build_configuration("imported", found.sections, {}).targets["router"].routes[name]
    return route.strategy, [choice.weight for choice in route.choices()]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_stands_in_takes_no_part_in_a_strategy(strategy: str) -> None:
    entries = [entry("a", "1", weight=3), entry("a", "2", weight=7), entry("b", "3")]
    found = imported(entries, routing_strategy=strategy, fallbacks=[{"a": ["b"]}])
    assert (asked(found, "a"), weighed(found, "a")) == ("123", (STRATEGIES[strategy], [1, 1, 0]))
    assert weighed(imported(entries, routing_strategy=strategy), "a") == (STRATEGIES[strategy], [1, 1])
    assert asked(imported(entries, routing_strategy=strategy, fallbacks=[{"b": ["a"]}]), "b") == "312"


@pytest.mark.parametrize("strategy", ["simple-shuffle", *STRATEGIES])
def test_the_strategy_is_for_the_first_order_and_the_others_stand_behind(strategy: str) -> None:
    """The second of an order was asked only when the first had failed, whatever its weight and the strategy."""
    orders = {"1": 2, "2": 1, "3": 1, "4": None, "5": 2}
    entries = [entry("a", name, order=order, weight=int(name)) for name, order in orders.items()]
    found = imported([*entries, entry("b", "6")], routing_strategy=strategy, fallbacks=[{"a": ["b"]}])
    first = [2, 3] if strategy == "simple-shuffle" else [1, 1]
    assert (asked(found, "a"), weighed(found, "a")) == (
        "231546",
        (STRATEGIES.get(strategy, "weighted"), [*first, 0, 0, 0, 0]),
    )
    assert "order of a: behind the first, those of one order are tried as the file has them" in found.notes
    taken = [note.partition("]")[0][-1] for note in found.notes if "taken as the weight" in note]
    assert taken == (["1", "2"] if strategy == "simple-shuffle" else [])
    alone = imported([entry("a", "1", order=2, weight=5), entry("a", "2", order=1, weight=5)])
    assert weighed(alone, "a") == ("ordered", [1, 1])


def test_a_key_in_the_environment_changes_no_route() -> None:
    """Vendors whose keys are there join the default route, in front: calls of `a` would go to one that nobody named."""
    sections = imported(fallbacks=[{"a": ["b"]}]).sections
    environ = {"GEMINI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    settings = build_configuration("imported", sections, environ).targets["router"]
    assert [choice.model for choice in settings.routes["a"].choices()] == ["a/1", "b"]
    assert settings.default_route == "a/1"
