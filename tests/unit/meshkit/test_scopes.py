"""What scopes allow: each kind by itself, and together."""

from __future__ import annotations

import pytest

from meshkit.identity import Scopes

MODELS = Scopes(models=frozenset({"a", "b"}))
ROUTES = Scopes(routes=frozenset({"cheap"}))
BOTH = Scopes(models=frozenset({"a", "b"}), routes=frozenset({"cheap"}))


@pytest.mark.parametrize(
    ("scopes", "name", "candidates", "is_model", "allowed"),
    [
        (Scopes(), "anything", ("x",), False, True),
        (MODELS, "a", ("a",), True, True),
        (MODELS, "c", ("c",), True, False),
        (MODELS, "cheap", ("a", "b"), False, True),
        (MODELS, "cheap", ("a", "c"), False, False),
        (ROUTES, "cheap", ("c",), False, True),
        (ROUTES, "dear", ("c",), False, False),
        # Routes without models: no model is named directly.
        (ROUTES, "c", ("c",), True, False),
        (BOTH, "cheap", ("a",), False, True),
        (BOTH, "cheap", ("c",), False, False),
        (BOTH, "a", ("a",), True, True),
        (BOTH, "dear", ("a",), False, False),
    ],
)
def test_routes_and_models(
    scopes: Scopes,
    name: str,
    candidates: tuple[str, ...],
    is_model: bool,  # noqa: FBT001
    allowed: bool,  # noqa: FBT001
) -> None:
    assert scopes.allow_route(name, candidates, is_model=is_model) is allowed


@pytest.mark.parametrize(
    ("reference", "allowed"),
    [
        ("sum@staging", True),
        ("sum@production", False),
        ("sum", False),
        ("sum/v1", False),
        ("sum/v1.0", False),
        ("sha256:00", False),
    ],
)
def test_prompts_of_an_environment(reference: str, allowed: bool) -> None:  # noqa: FBT001
    assert Scopes(environments=frozenset({"staging"})).allow_prompt(reference, "production") is allowed
    assert Scopes().allow_prompt(reference, "production")


def test_the_default_environment_may_be_the_one() -> None:
    assert Scopes(environments=frozenset({"production"})).allow_prompt("sum", "production")
