from __future__ import annotations

from dataclasses import replace

import pytest

from meshkit.settings import SettingsError, load
from services.guard.adapters.memory import MemoryPatternEngine
from services.guard.core.active_policy import PolicyBook, activate
from services.guard.core.errors import InvalidPatternError, UnknownPolicyError
from services.guard.core.findings import Action, Finding, Group, Match
from services.guard.core.policy import AUDIT, DEFAULT, SHIPPED, STRICT, CustomPattern, Policy
from services.guard.settings import GuardSettings


def settings_of(policy: dict[str, object]) -> GuardSettings:
    return load(GuardSettings, {"policies": {"mine": policy}}, "guard", {})


def test_a_configured_policy_keeps_the_shipped_defaults_of_what_it_does_not_set() -> None:
    mine = settings_of({"pii": {"input": "block"}}).effective_policies()["mine"]
    assert mine == replace(DEFAULT, pii=replace(DEFAULT.pii, input="block"))
    assert set(settings_of({}).effective_policies()) == {"default", "strict", "audit", "mine"}


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"pii": {"input": "hide"}}, 'pii.input is "hide"; use one of'),
        ({"injection": {"patterns": "mask"}}, 'injection.patterns is "mask"'),
        ({"secrets": {"on_error": "flag"}}, 'secrets.on_error is "flag"'),
        ({"pii": {"kinds": ["EMAIL", "NAME"]}}, 'names "NAME"'),
        ({"stream_window_bytes": 255}, "at least 256"),
        ({"size": {"max_messages": 0}}, "size.max_messages"),
        ({"invisible": {"max_ratio": 0}}, "invisible.max_ratio"),
        ({"custom": [{"name": "A b", "pattern": "x"}]}, 'the name "A b"'),
        ({"custom": [{"name": "a", "pattern": ""}]}, "custom.a.pattern"),
        ({"custom": [{"name": "a", "pattern": "x", "kind": "low"}]}, 'custom.a.kind is "low"'),
        ({"classifiers": {"h": {"action": "mask"}}}, "classifiers.h.action"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_sentence(policy: dict[str, object], says: str) -> None:
    with pytest.raises((ValueError, SettingsError)) as refused:
        settings_of(policy).validate()
    assert says in str(refused.value)


def test_a_custom_pattern_that_does_not_compile_is_named() -> None:
    policy = replace(DEFAULT, custom=(CustomPattern("broken", "("),))
    with pytest.raises(InvalidPatternError, match=r"guard\.policies\.mine\.custom\.broken\.pattern"):
        PolicyBook({"mine": policy}, MemoryPatternEngine())


def test_shipped_policies_are_valid_and_different() -> None:
    assert [list(policy.problems()) for policy in SHIPPED.values()] == [[], [], []]
    assert len({policy.digest() for policy in SHIPPED.values()}) == 3


def test_the_digest_follows_every_setting() -> None:
    assert DEFAULT.digest() == Policy().digest()
    assert replace(DEFAULT, allow_values=("a",)).digest() != DEFAULT.digest()
    assert replace(DEFAULT, pii=replace(DEFAULT.pii, kinds=("EMAIL",))).digest() != DEFAULT.digest()


def test_an_unknown_policy_is_answered_with_the_known_ones() -> None:
    book = PolicyBook(SHIPPED, MemoryPatternEngine())
    assert book.named("").name == "default"
    with pytest.raises(UnknownPolicyError) as missing:
        book.named("nope")
    assert "audit, default, strict" in str(missing.value)
    assert missing.value.metadata == {"resource": "policy", "policy": "nope"}
    assert missing.value.status == "NOT_FOUND"


def test_what_each_shipped_policy_does() -> None:
    secret, pii = Match(Group.SECRET, "s", "S", 0, 1), Match(Group.PII, "p", "P", 0, 1)
    attack, hint = Match(Group.INJECTION, "i", "", 0, 1), Match(Group.INJECTION_HINT, "i", "", 0, 1)
    table = {
        name: [
            activate(name, policy, MemoryPatternEngine()).input_action(match) for match in (secret, pii, attack, hint)
        ]
        for name, policy in (("default", DEFAULT), ("strict", STRICT), ("audit", AUDIT))
    }
    assert table == {
        "default": [Action.MASK, Action.MASK, Action.BLOCK, Action.FLAG],
        "strict": [Action.BLOCK, Action.MASK, Action.BLOCK, Action.REVIEW],
        "audit": [Action.FLAG, Action.FLAG, Action.FLAG, Action.FLAG],
    }


def test_a_verdict_puts_the_hardest_first_and_keeps_64() -> None:
    active = activate("p", DEFAULT, MemoryPatternEngine())
    flags = [Finding(f"f{n}", "pii", Action.FLAG) for n in range(70)]
    verdict = active.verdict([*flags, Finding("b", "secret", Action.BLOCK)], ())
    assert verdict.decision is Action.BLOCK
    assert [finding.detector for finding in verdict.findings[:3]] == ["b", "f0", "f1"]
    assert len(verdict.findings) == 64
    assert active.verdict([], ()).decision is Action.ALLOW


@pytest.mark.parametrize(("on_error", "decision", "degraded"), [("block", 5, False), ("allow", 1, True)])
def test_a_failed_detector_blocks_or_degrades(on_error: str, decision: int, *, degraded: bool) -> None:
    policy = replace(DEFAULT, pii=replace(DEFAULT.pii, on_error=on_error))
    active = activate("p", policy, MemoryPatternEngine())
    verdict = active.verdict(active.failure_findings(["pii"]), ())
    assert (verdict.decision, verdict.degraded) == (decision, degraded)


def test_the_allow_list_takes_values_and_domains() -> None:
    active = activate("p", replace(DEFAULT, allow_values=("Help@Corp.test", "@open.test")), MemoryPatternEngine())
    for text, applies in [
        ("help@corp.TEST", False),
        ("any@open.test", False),
        ("x@corp.test", True),
        ("x@notopen.test", True),
    ]:
        assert active.applies(Match(Group.PII, "pii-email", "EMAIL", 0, len(text)), text) is applies
    off = activate("p", replace(DEFAULT, disabled_detectors=("pii-email",)), MemoryPatternEngine())
    assert not off.applies(Match(Group.PII, "pii-email", "EMAIL", 0, 1), "x")
