"""No key of a LiteLLM configuration vanishes: taking it out changes the result or what is said about it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_cli.configuration import build_configuration
from llmops_cli.configuration_import import _stand_ins
from llmops_cli.litellm_import import advice, import_litellm

_JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_GROUPS = ("chat", "chat/1", "vectors", "a/b", "long")
_MODELS = (
    *("openai/x", "openai/y", "claude-z", "groq/g", "azure/d", "azure/o_series/d", "bedrock/m", "bedrock/us-west-2/m"),
    *("gemini/g", "hosted_vllm/v", "vertex_ai/v", "openai/*", "no-such/x", "openai/responses/r", "command-r"),
)
_NUMBERS = st.sampled_from([0, 1, 2, 3.5, 60, 1e-6, "7", "x", True, float("inf"), -1])
_TEXTS = st.sampled_from(["x", "https://a.example/v1", "none", ""])


def _texts(keys: tuple[str, ...]) -> dict[str, st.SearchStrategy[Any]]:
    """Texts, and a variable for each key: one variable cannot be an address here and a region there."""
    return {key: _TEXTS | st.just(f"os.environ/MY_{key.upper()}") for key in keys}


_ADVISED = sorted({*advice.MODEL, *advice.ROUTER, *advice.LITELLM, *advice.GENERAL, *advice.TOP})


def _some(known: dict[str, st.SearchStrategy[Any]], most: int = 6) -> st.SearchStrategy[dict[str, Any]]:
    """Known keys with fitting values or junk, keys with an advice, and keys that nobody knows."""
    pairs = [st.tuples(st.just(key), values | _JUNK) for key, values in known.items()]
    pairs += [st.tuples(st.sampled_from(_ADVISED), _JUNK), st.tuples(st.text(min_size=1, max_size=8), _JUNK)]
    return st.lists(st.one_of(pairs), max_size=most).map(dict)


_NAMED = st.sampled_from([*_GROUPS, "gpt", "nobody", "*"])
_LISTS = st.lists(st.dictionaries(_NAMED, st.lists(_NAMED, max_size=3) | _NAMED, max_size=2), max_size=3)
_PARAMS = {
    **dict.fromkeys(("timeout", "stream_timeout", "weight", "rpm", "tpm", "order"), _NUMBERS),
    **dict.fromkeys(("input_cost_per_token", "output_cost_per_token"), _NUMBERS),
    **_texts(("api_base", "base_url", "api_key", "api_version", "organization", "base_model")),
    **_texts(("aws_region_name", "aws_access_key_id", "aws_secret_access_key", "aws_session_token")),
    **_texts(("model_id", "aws_bedrock_runtime_endpoint", "custom_llm_provider")),
    **{key: st.dictionaries(_TEXTS, _TEXTS, max_size=2) for key in ("headers", "extra_headers")},
    "drop_params": st.booleans(),
    "additional_drop_params": st.lists(_TEXTS, max_size=2),
}
_INFO = {
    "mode": st.sampled_from(["chat", "embedding", "responses", "image_generation"]),
    **dict.fromkeys(("max_input_tokens", "max_output_tokens", "max_tokens", "input_cost_per_token"), _NUMBERS),
    **{key: st.booleans() for key in ("supports_vision", "supports_function_calling", "supports_response_schema")},
    **_texts(("id", "base_model")),
}
_ROUTER = {
    "routing_strategy": st.sampled_from(["simple-shuffle", "least-busy", "cost-based-routing", "usage-based-routing"]),
    "model_group_alias": st.dictionaries(
        st.sampled_from(["gpt", "chat/1", "other"]), _NAMED | st.fixed_dictionaries({"model": _NAMED, "hidden": _TEXTS})
    ),
    **dict.fromkeys(("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"), _LISTS),
    "default_fallbacks": st.lists(_NAMED, max_size=2),
    **dict.fromkeys(("num_retries", "timeout", "stream_timeout", "cooldown_time", "max_fallbacks"), _NUMBERS),
    "enable_pre_call_checks": st.booleans(),
}
_LITELLM = {
    **dict.fromkeys(("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"), _LISTS),
    "default_fallbacks": st.lists(_NAMED, max_size=2),
    **dict.fromkeys(("num_retries", "max_fallbacks", "request_timeout"), _NUMBERS),
    **{key: st.booleans() for key in ("drop_params", "cache", "telemetry", "json_logs", "set_verbose")},
}
_ENTRY = st.builds(
    lambda name, model, params, info, more: (
        more | {"model_name": name, "litellm_params": params | {"model": model}, "model_info": info}
    ),
    st.sampled_from(_GROUPS),
    st.sampled_from(_MODELS),
    _some(_PARAMS),
    _some(_INFO, 4),
    _some({}, 1),
)
CONFIGURATIONS = st.builds(
    lambda entries, router, litellm, general, more: (
        more
        | {
            "model_list": entries,
            "router_settings": router,
            "litellm_settings": litellm,
            "general_settings": general,
        }
    ),
    st.lists(_ENTRY, max_size=5),
    _some(_ROUTER),
    _some(_LITELLM),
    _some(_texts(("database_url",)), 3),
    _some({}, 2),
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands that says something: no None, no empty text, list or mapping."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    elif value is not None and value != "":
        yield path


def without(raw: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    made = copy.deepcopy(raw)
    node: Any = made
    for step in path[:-1]:
        node = node[step]
    # In a list, None: the paths of the others stay.
    if isinstance(node, list):
        node[path[-1]] = None
    else:
        del node[path[-1]]
    return made


def shown(path: tuple[Any, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


@given(raw=CONFIGURATIONS)
@settings(max_examples=100, deadline=None)
def test_no_key_vanishes_and_the_result_loads(raw: dict[str, Any]) -> None:
    imported = import_litellm(raw)
    text = yaml.safe_dump(imported.sections)
    if imported.sections:
        build_configuration("imported", imported.sections, _stand_ins(text))
    told = [*(refused.path for refused in imported.refused), *(note.partition(": ")[0] for note in imported.notes)]
    for path in leaves(raw):
        where = shown(path)
        if path[-1] == "mode" and raw["model_list"][path[1]]["model_info"]["mode"] == "chat":
            continue  # what it is without the key
        if any(where == said or where.startswith((f"{said}.", f"{said}[")) for said in told):
            continue
        assert import_litellm(without(raw, path)) != imported, f"{where} says something, and nobody noticed"


@given(raw=st.dictionaries(st.text(max_size=6) | st.sampled_from(["model_list", "router_settings"]), _JUNK))
@settings(max_examples=200, deadline=None)
def test_any_mapping_is_answered(raw: dict[str, Any]) -> None:
    imported = import_litellm(raw)
    assert imported.sections or imported.refused


def test_the_names_of_models_and_routes_never_meet() -> None:
    def entry(name: str, model: str) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": f"openai/{model}"}}

    # Each stands in for the next: all become routes, and their models are renamed before anybody names them.
    raw = {
        "model_list": [entry("a", "1"), entry("a/1", "2"), entry("a/1/1", "3")],
        "router_settings": {"fallbacks": [{"a": ["a/1"]}, {"a/1": ["a/1/1"]}, {"a/1/1": ["a"]}]},
    }
    sections: Any = import_litellm(raw).sections
    router = build_configuration("t", sections, {"OPENAI_API_KEY": "k"}).targets["router"]
    asked = {name: [router.models[c.model].model for c in route.choices()] for name, route in router.routes.items()}
    assert asked == {"a": ["1", "2", "3"], "a/1": ["2", "3", "1"], "a/1/1": ["3", "1", "2"]}


@pytest.mark.parametrize(("weights", "expected"), [((1, 2), (1, 2)), ((0.5, 0.25), (2, 1)), ((0, 0), (1, 1))])
def test_weights_keep_their_ratio(weights: tuple[float, float], expected: tuple[int, int]) -> None:
    entries = [{"model_name": "a", "litellm_params": {"model": "openai/x", "weight": weight}} for weight in weights]
    sections: Any = import_litellm({"model_list": entries}).sections
    found = tuple(candidate["weight"] for candidate in sections["router"]["routes"]["a"]["candidates"])
    assert found == expected
