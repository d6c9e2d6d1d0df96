"""Every mistake in a configuration is a sentence with the key's path and what to do."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Literal

import pytest
import yaml

from meshkit.settings import Secret, SettingsError, dump, load, overlay


@dataclass(frozen=True)
class Inner:
    size: int = 1
    ratio: float = 0.5

    def validate(self) -> None:
        if self.size < 1:
            raise ValueError("size must be at least 1")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = field(default_factory=dict)
    key: Secret = Secret()
    mode: Literal["fast", "safe"] = "safe"
    limit: int | None = None
    on: bool = False


def test_a_full_configuration() -> None:
    raw = {
        "name": "${WHO}-1",
        "inner": {"size": 2, "ratio": 1},
        "many": [{"size": 3}],
        "by_name": {"a": {"size": 4}},
        "key": "${KEY}",
        "mode": "fast",
        "limit": None,
        "on": True,
    }
    built = load(Outer, raw, "x", {"WHO": "ada", "KEY": "s3cret"})
    assert built == Outer("ada-1", Inner(2, 1.0), (Inner(3),), {"a": Inner(4)}, Secret("s3cret"), "fast", None, on=True)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"nmae": "a"}, "x.nmae: unknown key (did you mean 'name'?); known keys: by_name, inner"),
        ({}, "x: missing name"),
        ({"name": ["a"]}, "x.name: expected text, found a list"),
        ({"name": "a", "inner": {"size": "2"}}, "x.inner.size: expected a whole number, found text"),
        ({"name": "a", "inner": {"size": True}}, "x.inner.size: expected a whole number, found bool True"),
        ({"name": "a", "inner": {"size": 0}}, "x.inner: size must be at least 1"),
        ({"name": "a", "many": {}}, "x.many: expected a list, found a mapping"),
        ({"name": "a", "many": [{"sise": 1}]}, "x.many[0].sise: unknown key (did you mean 'size'?)"),
        ({"name": "a", "by_name": []}, "x.by_name: expected a mapping, found a list"),
        ({"name": "a", "mode": "fats"}, "x.mode: 'fats' is not one of fast, safe (did you mean 'fast'?)"),
        ({"name": "a", "key": "${NOPE}"}, "x.key: the environment has no NOPE"),
        ({"name": "a", "on": "yes"}, "x.on: expected true or false, found text"),
        (yaml.safe_load("name: 2027-03-31 12:00:00"), "x.name: expected text, found a time"),
        (yaml.safe_load("{name: a, limit: 2027-03-31}"), "x.limit: expected a whole number, found a date"),
        ({"name": "a", "inner": {"ratio": float("nan")}}, "x.inner.ratio: expected a finite number"),
        ({"name": "a", "inner": {"ratio": float("-inf")}}, "x.inner.ratio: expected a finite number"),
        ({"name": "a", "inner": {"ratio": 10**400}}, "x.inner.ratio: expected a finite number"),
    ],
)
def test_mistakes(raw: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Outer, raw, "x", {})
    assert message in str(caught.value)


def test_a_day_needs_no_quotes() -> None:
    """YAML reads it as a date; whoever sets one meant the text."""
    for text in ("2027-03-31", "'2027-03-31'"):
        assert load(Outer, yaml.safe_load(f"name: {text}"), "x", {}).name == "2027-03-31"
    assert load(Outer, overlay({}, {"LLMOPS__NAME": "2027-03-31"}), "x", {}).name == "2027-03-31"


def test_the_environment_overlays_the_file() -> None:
    raw = {"ledger": {"enabled": True, "other": 1}}
    merged = overlay(raw, {"LLMOPS__LEDGER__ENABLED": "false", "LLMOPS__NEW__KEY": "[1, 2]", "PATH": "/bin"})
    assert merged == {"ledger": {"enabled": False, "other": 1}, "new": {"key": [1, 2]}}
    assert raw == {"ledger": {"enabled": True, "other": 1}}


def test_an_overlay_through_a_scalar_is_refused() -> None:
    with pytest.raises(SettingsError, match="ledger is not a section"):
        overlay({"ledger": 1}, {"LLMOPS__LEDGER__X": "1"})


def test_a_secret_is_never_shown() -> None:
    secret = Secret("s3cret")
    for text in (str(secret), repr(secret), f"{secret}", f"{secret:>20}", f"{Outer('a', key=secret)}"):
        assert "s3cret" not in text
    assert "s3cret" not in str(dump(Outer("a", key=secret)))
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == "s3cret"
