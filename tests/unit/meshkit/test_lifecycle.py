"""Targets start in dependency order; unknown names and circles fail at start."""

from __future__ import annotations

import signal

import pytest

from llmops_cli.targets import TARGETS
from meshkit.lifecycle import StopSignals, Target, start_order
from meshkit.settings import SettingsError


def target(name: str, *depends_on: str) -> Target:
    return Target(name, "a:B", "a:b", depends_on)


def table(*targets: Target) -> dict[str, Target]:
    return {t.name: t for t in targets}


def test_dependencies_come_first() -> None:
    order = [t.name for t in start_order(TARGETS, frozenset(TARGETS))]
    for t in TARGETS.values():
        assert all(order.index(d) < order.index(t.name) for d in t.depends_on)
    assert sorted(order) == sorted(TARGETS)


def test_only_what_was_chosen_starts() -> None:
    assert [t.name for t in start_order(TARGETS, frozenset({"edge", "guard"}))] == ["guard", "edge"]


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="no target 'gaurd'.*did you mean 'guard'"):
        start_order(TARGETS, frozenset({"gaurd"}))


def test_circles_are_named() -> None:
    circular = table(target("a", "b"), target("b", "c"), target("c", "a"))
    with pytest.raises(SettingsError, match="a -> b -> c -> a"):
        start_order(circular, frozenset({"a"}))


def test_a_dependency_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="'a' depends on 'nope'"):
        start_order(table(target("a", "nope")), frozenset({"a"}))


def test_every_target_of_the_table_can_be_imported() -> None:
    for t in TARGETS.values():
        assert t.settings_type()
        assert callable(t.build())


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(SettingsError, match=r"target x needs the package no_such_package.*llmops-mesh\[x\]"):
        Target("x", "a:B", "no_such_package.main:build").build()


@pytest.mark.parametrize(
    ("second", "after_s", "at_once"),
    [
        (signal.SIGINT, 0.1, True),
        (signal.SIGTERM, 0.1, False),
        (signal.SIGTERM, 1.5, True),
    ],
)
def test_sigterm_right_behind_the_first_signal_is_the_same_wish(second: int, after_s: float, at_once: bool) -> None:  # noqa: FBT001
    now_s = 100.0
    signals = StopSignals(lambda: now_s)
    assert not signals.stopping
    signals.note(signal.SIGTERM)
    assert (signals.stopping, signals.at_once) == (True, False)
    now_s += after_s
    signals.note(second)
    assert signals.at_once == at_once
