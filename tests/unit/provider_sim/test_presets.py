"""Rules spelled as model names and headers."""

from __future__ import annotations

import pytest

from llmops_cli.provider_sim import Rule, ScriptError
from llmops_cli.provider_sim.presets import DIRECTIVES, from_header, from_model


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        ("sim-500", Rule(status=500)),
        ("sim-429-retry-7", Rule(status=429, headers={"Retry-After": "7"})),
        ("sim-latency-250", Rule(latency_ms=250.0)),
        ("sim-tokens-100+interval-10+cut-after-3", Rule(output_tokens=100, token_interval_ms=10.0, cut_after_chunks=3)),
        ("sim-reset", Rule(cut_before_headers=True, cut_with="reset")),
        ("sim-echo", Rule(echo=True)),
    ],
)
def test_a_model_name_spells_a_rule(model: str, rule: Rule) -> None:
    assert from_model(model) == rule


@pytest.mark.parametrize("model", ["gpt-4o", "sim", "sim-", "sim-nonsense", "sim-500+nonsense", "sim-5000"])
def test_other_names_spell_nothing(model: str) -> None:
    assert from_model(model) is None


def test_every_directive_that_the_error_message_offers_works() -> None:
    for directive in DIRECTIVES:
        spelled = directive.replace("STATUS", "503").replace("SECONDS", "1").replace("MS", "1").replace("-N", "-1")
        rule = from_model(f"sim-{spelled}")
        assert rule is not None, directive
        assert rule != Rule(), directive


def test_a_header_is_a_rule_as_json_or_directives() -> None:
    assert from_header('{"status": 503}') == Rule(status=503)
    assert from_header("hang-after-2+one-byte") == Rule(hang_after_chunks=2, one_byte_packets=True)


@pytest.mark.parametrize("value", ['{"stat": 1}', "{", "nonsense"])
def test_a_wrong_header_is_refused(value: str) -> None:
    with pytest.raises(ScriptError, match="x-sim-script"):
        from_header(value)
