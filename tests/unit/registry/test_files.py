from __future__ import annotations

import textwrap

import pytest

from services.registry.adapters.files import parse_document
from services.registry.adapters.templates import MeshTemplates
from services.registry.core.catalog import Catalog
from services.registry.core.directory import plan_directory, read_directory
from services.registry.core.document import Document
from services.registry.core.errors import InvalidFiles
from services.registry.core.ports import Change
from services.registry.core.prompt import Arm, Pointer, Prompt, Role, Variable, VariableType, Version, whole
from tests.support.registry_world import LIMITS, NOW

FILE = "summarize/v1.0.yaml"
MISFIT = "value that does not fit its type; put it in quotes or correct it"
NO_DATE = "date that does not exist; put it in quotes or correct it"
MINIMAL = "template: Summarise {{document}}\nvariables:\n  document:\n"


def documents(**files: str) -> list[Document]:
    """Keyword names spell paths: `summarize__v1_0` is summarize/v1.0.yaml."""
    return [parse_document(name, textwrap.dedent(text)) for name, text in files.items()]


def problems_of(files: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidFiles) as caught:
        read_directory(documents(**files), ("production", "staging"), MeshTemplates(), LIMITS)
    return caught.value.problems


def problem_in(text: str, file: str = FILE) -> str:
    (problem,) = problems_of({file: text})
    assert problem.startswith(f"{file}: ")
    return problem.removeprefix(f"{file}: ")


def prompt_in(text: str) -> Prompt:
    return read_directory(documents(**{FILE: text}), (), MeshTemplates(), LIMITS).versions[0].checked.prompt


def arms_in(text: str) -> tuple[Arm, ...]:
    text = textwrap.indent(textwrap.dedent(text), "    ")
    directory = read_directory(
        documents(**{"registry.yaml": f"prompts:\n  summarize:\n{text}"}), ("production",), MeshTemplates(), LIMITS
    )
    (entry,) = directory.entries
    return entry.arms


def test_text_is_one_message_of_the_user() -> None:
    prompt = prompt_in(MINIMAL)
    assert prompt.name == "summarize"
    assert [(message.role, message.template) for message in prompt.messages] == [(Role.USER, "Summarise {{document}}")]
    assert prompt.variables == (Variable("document"),)


def test_defaults_keep_their_type_as_text() -> None:
    prompt = prompt_in(
        """
        template: "{{a}}{{b}}{{c}}{{d}}"
        variables:
          a: {type: integer, default: 5}
          b: {type: number, default: 0.5}
          c: {type: boolean, default: false}
          d: {default: "5", max_chars: 9, description: digits}
        """
    )
    assert prompt.variables == (
        Variable("a", VariableType.INTEGER, required=False, default="5"),
        Variable("b", VariableType.NUMBER, required=False, default="0.5"),
        Variable("c", VariableType.BOOLEAN, required=False, default="false"),
        Variable("d", required=False, default="5", max_chars=9, description="digits"),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("template: " + "[" * 70 + "]" * 70, "is nested deeper than 64 at line 1, column 74"),
        ("template: x\x07", "has a character that YAML does not allow, at position 11"),
        ("template: !!bool maybe", f"has a {MISFIT} at line 1, column 11"),
        ("template: !!timestamp soon", f"has a {NO_DATE} at line 1, column 11"),
        ("template: !!int ''", f"has a {MISFIT} at line 1, column 11"),
        ("seed: " + "9" * 5_000, f"has a {MISFIT} at line 1, column 7"),
        ("date: 2026-13-45", f"has a {NO_DATE} at line 1, column 7"),
        ("? [a]\n: b", "found unhashable key at line 1, column 3"),
        (
            "template: '{{x}}'\nvariables: {x: {type: number, default: .inf}}",
            "variables.x.default must be a finite number",
        ),
        ('template: x\ndescription: "\\ud800"', "description is not valid Unicode"),
    ],
)
def test_yaml_that_is_no_configuration_is_refused(text: str, problem: str) -> None:
    """tests/golden/registry/mistakes.txt has the mistakes that people make."""
    assert problem_in(text) == problem


def test_evaluation_files_are_left_alone_even_when_they_are_broken() -> None:
    found = read_directory(
        documents(**{FILE: MINIMAL, "summarize/eval_suite.yaml": "a: b: c"}), (), MeshTemplates(), LIMITS
    )
    assert [each.file for each in found.versions] == [FILE]


def test_every_wrong_file_is_listed() -> None:
    assert problems_of({"a/v1.0.yaml": "x", "b/v1.0.yaml": MINIMAL, "registry.yaml": "{}"}) == [
        "a/v1.0.yaml: the file must be a mapping of keys to values",
        "registry.yaml: prompts is missing; it maps each prompt to its environments",
    ]


@pytest.mark.parametrize(
    ("text", "arms"),
    [
        ("production: v1.0", whole(Version(1, 0))),
        ("production: {active: v1.0}", whole(Version(1, 0))),
        (
            "production: {active: v1.0, canary: {version: v2.0, percent: 12.5}}",
            (Arm("active", Version(1, 0), 8_750), Arm("canary", Version(2, 0), 1_250)),
        ),
        (
            "production: {active: v1.0, canary: {version: v2.0, percent: 0}}",
            (Arm("active", Version(1, 0), 10_000), Arm("canary", Version(2, 0), 0)),
        ),
        (
            "production: {ab_test: {a: {version: v1.0, percent: 33.33}, b: {version: v1.1, percent: 66.67}}}",
            (Arm("a", Version(1, 0), 3_333), Arm("b", Version(1, 1), 6_667)),
        ),
    ],
)
def test_settings_of_an_environment_become_arms(text: str, arms: tuple[Arm, ...]) -> None:
    assert arms_in(text) == arms


EMPTY = Catalog().with_change(Change(0))


def change_of(catalog: Catalog, **files: str) -> Change:
    directory = read_directory(documents(**files), ("production", "staging"), MeshTemplates(), LIMITS)
    return plan_directory(catalog, directory, NOW, LIMITS)


def test_a_directory_is_one_change_and_none_the_second_time() -> None:
    files = {
        "summarize/v1.10.yaml": MINIMAL.replace("Summarise", "Sum up"),
        "summarize/v1.2.yaml": MINIMAL,
        "registry.yaml": "prompts: {summarize: {production: v1.2}}",
    }
    change = change_of(EMPTY, **files)
    assert (change.revision, [each.label for each in change.versions]) == (1, ["summarize/v1.2", "summarize/v1.10"])
    assert change_of(EMPTY.with_change(change), **files) == Change(1)


def test_a_rollback_through_the_api_survives_until_the_file_changes() -> None:
    files = {FILE: MINIMAL, "summarize/v1.1.yaml": MINIMAL, "registry.yaml": "prompts: {summarize: {production: v1.1}}"}
    catalog = EMPTY.with_change(change_of(EMPTY, **files))
    pointer = catalog.pointers["summarize", "production"]
    rolled_back = Pointer("summarize", "production", whole(Version(1, 0)), pointer.file_arms)
    catalog = catalog.with_change(Change(2, (), (rolled_back,)))
    assert change_of(catalog, **files).empty
    files["registry.yaml"] = "prompts: {summarize: {production: {active: v1.1, canary: {version: v1.0, percent: 1}}}}"
    (moved,) = change_of(catalog, **files).pointers
    assert moved.arms == moved.file_arms == (Arm("active", Version(1, 1), 9_900), Arm("canary", Version(1, 0), 100))


def test_conflicts_with_what_is_published_name_their_file() -> None:
    catalog = EMPTY.with_change(change_of(EMPTY, **{"summarize/v2.0.yaml": MINIMAL}))
    with pytest.raises(InvalidFiles) as caught:
        change_of(
            catalog,
            **{
                "summarize/v1.5.yaml": MINIMAL,
                "summarize/v2.0.yaml": MINIMAL.replace("Summarise", "Sum up"),
                "registry.yaml": "prompts: {summarize: {staging: v9.0}}",
            },
        )
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "summarize/v1.5.yaml: summarize 1.5 is too low after 2.0: versions only grow",
        "summarize/v2.0.yaml: summarize/v2.0 is published with other content, and published content never changes",
        "registry.yaml: prompts.summarize.staging names summarize v9.0, which is not published",
    ]
