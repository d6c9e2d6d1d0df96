"""Settings of LiteLLM that hold for the whole proxy."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_cli.configuration import build_configuration
from llmops_cli.litellm_import import Imported, import_litellm


def imported(litellm: dict[str, object] | None = None, **sections: object) -> Imported:
    entry = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_key": "k"}}
    return import_litellm({"model_list": [entry], "litellm_settings": litellm} | sections)


@pytest.mark.parametrize(("said", "expected"), [({"cache": True}, True), ({"cache": False}, False), ({}, False)])
def test_the_cache_is_on_where_it_was_on(said: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    found = imported(said)
    assert build_configuration("imported", found.sections, {}).targets["cache"].enabled is expected
    assert any(note.startswith("litellm_settings.cache: ") for note in found.notes)


def test_a_cache_that_is_neither_on_nor_off_is_refused() -> None:
    assert [entry.path for entry in imported({"cache": "redis"}).refused] == ["litellm_settings.cache"]


def test_a_section_that_only_holds_anchors_is_left_out() -> None:
    found = imported(**{"x-defaults": {"api_key": "k"}})
    assert not found.refused
    assert any(note.startswith("x-defaults: left out") for note in found.notes)
