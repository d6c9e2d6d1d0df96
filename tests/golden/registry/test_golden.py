"""What the registry reads and sends, word for word. LLMOPS_REGEN=1 writes the files anew; look at the difference."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import json_format

from services.registry.adapters.files import parse_document, read_documents
from services.registry.adapters.templates import MeshTemplates
from services.registry.api import snapshot_to_proto
from services.registry.core.catalog import Catalog
from services.registry.core.directory import plan_directory, read_directory
from services.registry.core.errors import InvalidFiles
from services.registry.core.ports import Change
from services.registry.main import rules_of
from services.registry.settings import RegistrySettings
from tests.support.registry_world import NOW

HERE = Path(__file__).parent
PROMPTS = HERE.parent.parent.parent / "prompts"
MISTAKES = HERE / "mistakes.txt"
RULES = rules_of(RegistrySettings())
TEMPLATES = MeshTemplates()


def same_as_golden(name: str, actual: str) -> None:
    path = HERE / name
    if os.environ.get("LLMOPS_REGEN") == "1":
        path.write_text(actual, encoding="utf-8")
    assert actual == path.read_text(encoding="utf-8"), f"{name} changed; look at it, then run with LLMOPS_REGEN=1"


def catalog_of(directory: Path) -> Catalog:
    documents = read_documents(directory, max_file_bytes=1_048_576, max_files=100)
    read = read_directory(documents, RULES.environments, TEMPLATES, RULES.limits)
    empty = Catalog().with_change(Change(0))
    return empty.with_change(plan_directory(empty, read, NOW, RULES.limits))


@pytest.mark.parametrize("name", ["shipped", "full"])
def test_a_directory_becomes_this_snapshot(name: str) -> None:
    snapshot = snapshot_to_proto(catalog_of(PROMPTS if name == "shipped" else HERE / name))
    text = json.dumps(json_format.MessageToDict(snapshot), indent=2, ensure_ascii=False)
    same_as_golden(f"{name}.json", text + "\n")


@pytest.mark.parametrize("label", ["answer/v1.1", "summarize/v1.0", "summarize/v2.0"])
def test_shipped_prompts_render_to_this_text(label: str) -> None:
    prompt = next(each.prompt for each in catalog_of(PROMPTS).newest_first("") if each.label == label)
    values = {variable.name: f"<the {variable.name}>" for variable in prompt.variables if variable.required}
    texts = TEMPLATES.render(prompt, values)
    parts = [f"[{message.role}]\n{text}" for message, text in zip(prompt.messages, texts, strict=True)]
    same_as_golden(f"{label.replace('/', '-')}.txt", "\n".join(parts))


@dataclass(frozen=True)
class Mistake:
    file: str
    content: str
    answer: str


def mistakes() -> Iterator[Mistake]:
    """Blocks of the form: "### file", its content, "=> answer"."""
    for block in MISTAKES.read_text(encoding="utf-8").split("\n### ")[1:]:
        file, _, rest = block.partition("\n")
        content, _, answer = f"\n{rest}".rpartition("\n=>")
        yield Mistake(file, content.removeprefix("\n"), answer.strip())


def answer_to(mistake: Mistake) -> str:
    document = parse_document(mistake.file, mistake.content)
    with pytest.raises(InvalidFiles) as caught:
        read_directory([document], RULES.environments, TEMPLATES, RULES.limits)
    (problem,) = caught.value.problems
    return problem.removeprefix(f"{mistake.file}: ")


def test_every_mistake_is_answered_with_the_key_and_what_to_do() -> None:
    found = list(mistakes())
    assert len(found) > 50
    head = MISTAKES.read_text(encoding="utf-8").partition("\n")[0]
    blocks = [f"\n### {each.file}\n{each.content}\n=> {answer_to(each)}".replace("\n\n=>", "\n=>") for each in found]
    same_as_golden("mistakes.txt", "\n".join([head, *blocks]) + "\n")
