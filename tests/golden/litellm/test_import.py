"""LiteLLM configurations, the mesh.yaml that each becomes, and what is said about it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from llmops_cli.configuration import build_configuration, parse
from llmops_cli.configuration_import import EXIT_REFUSED, import_file
from llmops_cli.litellm_import import advice, import_litellm
from meshkit.settings import SettingsError

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_becomes_this_file_and_this_report(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mesh.yaml"
    assert import_file(HERE / f"{name}.yaml", out, skip_refused=True) == 0
    report = capsys.readouterr().err.replace(str(out), "mesh.yaml")
    found = f"{out.read_text(encoding='utf-8')}\n---\n{report}"
    path = HERE / "expected" / f"{name}.txt"
    if os.environ.get("LLMOPS_REGEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), f"{name} changed; look at it, then run with LLMOPS_REGEN=1"


def test_refusals_keep_the_file_from_being_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mesh.yaml"
    assert import_file(HERE / "refused.yaml", out, skip_refused=False) == EXIT_REFUSED
    assert not out.exists()
    assert "general_settings.master_key" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere/mesh.yaml", "", "n" * 300, "there.yaml", "there.yaml/mesh.yaml"])
def test_a_file_that_cannot_be_written_is_one_sentence(name: str, tmp_path: Path) -> None:
    there = tmp_path / "there.yaml"
    there.write_text("mine", encoding="utf-8")
    with pytest.raises(SettingsError, match="cannot be written|is there already"):
        import_file(HERE / "small.yaml", tmp_path / name, skip_refused=True)
    assert there.read_text(encoding="utf-8") == "mine"


def test_a_model_without_a_price_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    entries = (
        "{model_name: own, litellm_params: {model: openai/own, api_base: 'https://a.example/v1'}}",
        "{model_name: priced, litellm_params: {model: xai/p, input_cost_per_token: 1.0e-6, output_cost_per_token: 0}}",
        "{model_name: free, litellm_params: {model: ollama/f, input_cost_per_token: 0, output_cost_per_token: 0}}",
        "{model_name: known, litellm_params: {model: gpt-4o}}",
    )
    file.write_text(f"model_list: [{', '.join(entries)}]\n", encoding="utf-8")
    assert import_file(file, tmp_path / "mesh.yaml", skip_refused=False) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("unpriced")]
    assert [line.partition(":")[0] for line in told] == ["unpriced openai/own"]


TABLES = {
    "model_list[0].litellm_params": advice.MODEL,
    "router_settings": advice.ROUTER,
    "litellm_settings": advice.LITELLM,
    "general_settings": advice.GENERAL,
    "": advice.TOP,
}


@pytest.mark.parametrize("section", TABLES)
def test_every_advice_is_given(section: str) -> None:
    raw = parse((HERE / "refused.yaml").read_text(encoding="utf-8"), "refused.yaml")
    given = {refused.path: refused.advice for refused in import_litellm(raw).refused}
    for start, text in TABLES[section].items():
        prefix = f"{section}.{start}".lstrip(".")
        assert any(path.startswith(prefix) and said == text for path, said in given.items()), prefix


def test_weights_divide_calls_as_they_did_there() -> None:
    raw = parse((HERE / "groups.yaml").read_text(encoding="utf-8"), "groups.yaml")
    sections = import_litellm(raw).sections
    router = build_configuration("test", sections, {} | _environment(sections)).targets["router"]
    weights = {choice.model: choice.weight for choice in router.routes["chat"].choices()}
    own = [weights[name] for name in list(weights)[:3]]
    # 1 to 2.5, and nothing for the one that names no weight; who stands in is reached by fallback only.
    assert own == [2, 5, 0]
    assert set(list(weights.values())[3:]) == {0}


def _environment(sections: dict[str, object]) -> dict[str, str]:
    text = yaml.safe_dump(sections)
    return {part.split("}")[0]: "set-later" for part in text.split("${")[1:]}
