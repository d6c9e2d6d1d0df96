"""Settings that cannot work are refused with a sentence."""

from __future__ import annotations

import pytest

from meshkit.settings import SettingsError, dump, load
from services.cache.settings import CacheSettings


def read(**raw: object) -> CacheSettings:
    return load(CacheSettings, raw, "cache", {})


def test_the_defaults_are_valid() -> None:
    settings = read()
    assert (settings.enabled, settings.semantic.threshold, settings.memory.invalidation_poll_s) == (True, 0.95, 1.0)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"ttl": {"volatile_s": 0}}, "volatile_s"),
        ({"ttl": {"stable_s": 2_592_001}}, "stable_s"),
        ({"memory": {"max_staleness_s": 1.9}}, "max_staleness_s must be at least twice"),
        ({"memory": {"invalidation_poll_s": 0.01}}, "invalidation_poll_s"),
        ({"memory": {"max_entries": 0}}, "max_entries"),
        ({"semantic": {"threshold": 0.4}}, "threshold"),
        ({"semantic": {"threshold": 1.1}}, "threshold"),
        ({"semantic": {"candidates": 0}}, "candidates"),
        ({"semantic": {"search_threads": 0}}, "search_threads"),
        ({"semantic": {"max_index_bytes": 1}}, "max_index_bytes"),
        ({"storage": {"sweep_batch": 0}}, "sweep_batch"),
        ({"storage": {"timeout_s": 0}}, "timeout_s"),
        ({"storage": {"removal_log_s": 19}}, "removal_log_s"),
        ({"work_threads": 0}, "work_threads"),
    ],
)
def test_what_cannot_work_is_refused(section: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read(**section)


def test_the_signature_key_is_not_shown() -> None:
    settings = read(semantic={"signature_key": "hush"})
    assert settings.semantic.signature_key.reveal() == "hush"
    assert "hush" not in repr(settings) + repr(dump(settings))
