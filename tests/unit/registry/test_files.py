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
        ("", "the file must be a mapping of keys to values"),
        ("- a", "the file must be a mapping of keys to values"),
        ("1: a", "the file has a key that is not text; put it in quotes"),
        ("template: x\ntempreature: 1", "tempreature is not a known key; did you mean temperature?"),
        ("template: x\nzzz: 1", "zzz is not a known key; it can be description, author, date, model, template, variables, output_schema, guard_policy, temperature, max_tokens, parameters"),
        ("template: x\nname: y", "name is not a key of this file: the folder says it; remove the line"),
        ("template: x\nversion: '1.0'", "version is not a key of this file: the file name says it; remove the line"),
        ("description: x", "template must be text, or a list of 1 to 64 entries with role and content"),
        ("template: ''", "template must be text that is not empty"),
        ("template: []", "template must be text, or a list of 1 to 64 entries with role and content"),
        ("template: [{role: user}]", "template[0].content must be text that is not empty"),
        ("template: [{content: x}]", "template[0].role is missing; it can be system, developer, user, assistant, tool"),
        ("template: [{role: sytem, content: x}]", "template[0].role has a value that is not known; did you mean system?"),
        ("template: [{role: user, contents: x}]", "template[0].contents is not a known key; did you mean content?"),
        ("template: '{{a}}'", "template uses a, which is not declared"),
        ("template: [{role: user, content: '{{'}]", "template[0].content line 1, column 1: '{{' opens a hole and must read {{name}}; for literal braces write '{{{{'"),
        ("template: x\nvariables: {a: {}}", "variables.a fills no hole; use a or remove it"),
        ("template: '{{a}}'\nvariables: [a]", "variables must be a mapping of keys to values"),
        ("template: '{{a}}'\nvariables: {a: {type: text}}", "variables.a.type has a value that is not known; it can be string, integer, number, boolean"),
        ("template: '{{a}}'\nvariables: {a: {default: 5}}", "variables.a.default must be of type string, in quotes and not empty"),
        ("template: '{{a}}'\nvariables: {a: {default: ''}}", "variables.a.default must be of type string, in quotes and not empty"),
        ("template: '{{a}}'\nvariables: {a: {type: integer, default: '5'}}", "variables.a.default must be of type integer, without quotes"),
        ("template: '{{a}}'\nvariables: {a: {type: integer, default: true}}", "variables.a.default must be of type integer, without quotes"),
        ("template: '{{a}}'\nvariables: {a: {required: false}}", "variables.a.default must be set, or the variable marked as required"),
        ("template: '{{a}}'\nvariables: {a: {required: true, default: x}}", "variables.a.default would never be used: the variable is required"),
        ("template: '{{a}}'\nvariables: {a: {max_chars: 0}}", "variables.a.max_chars must be a whole number from 1 to 4194304"),
        ("template: x\ntemperature: 3", "temperature must be a number from 0 to 2"),
        ("template: x\ntemperature: .nan", "temperature must be a number from 0 to 2"),
        ("template: x\nmax_tokens: 0", "max_tokens must be a whole number from 1 to 10000000"),
        ("template: x\nmax_tokens: true", "max_tokens must be a whole number from 1 to 10000000"),
        ("template: x\nmodel: 4", "model must be text; put it in quotes"),
        ("template: x\ndate: tomorrow", "date must read 2026-11-23"),
        ("template: x\ndate: 2026-13-01", "has a date that does not exist; put it in quotes or correct it"),
        ("template: x\nparameters: {temperature: 1}", "parameters.temperature belongs at the top of the file, as temperature"),
        ("template: x\nparameters: {stop: end}", "parameters.stop must be a list of at most 16 texts"),
        ("template: x\nparameters: {stop: ['']}", "parameters.stop must hold texts of 1 to 1024 characters"),
        ("template: x\nparameters: {response_format: json}", "parameters.response_format has a value that is not known; it can be text, json_object"),
        ("template: x\nparameters: {tool_choice: some}", "parameters.tool_choice must be auto, none, required, or a mapping with the key tool"),
        ("template: x\nparameters: {extra: {1: x}}", "parameters.extra has a key that is not text; put it in quotes"),
        ("template: x\noutput_schema: text", "output_schema must be a mapping"),
        ("template: x\noutput_schema: {default: 2026-01-01}", "output_schema has a value that JSON does not know; put dates in quotes"),
        ("template: x\ntemplate: y", "has a key twice; remove one of them at line 2, column 1"),
        ("template: &a x\nmodel: *a", "aliases are not supported; write the value out at line 2, column 8"),
        ("template: !!python/object/apply:os.system [x]", "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system' at line 1, column 11"),
        ("template: " + "[" * 70 + "]" * 70, "is nested deeper than 64 at line 1, column 74"),
        ("template: [", "expected the node content, but found '<stream end>' at line 1, column 12"),
        ("template: x\x07", "has a character that YAML does not allow, at position 11"),
    ],
)  # fmt: skip
def test_every_mistake_names_the_key_and_what_to_do(text: str, problem: str) -> None:
    assert problem_in(text) == problem


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("summarize/v1.yaml", "has no place here"),
        ("summarize/v01.0.yaml", "has no place here"),
        ("summarize/v1.0.yml", "has no place here"),
        ("summarize/1.0.yaml", "has no place here"),
        ("summarize.yaml", "has no place here"),
        ("eval_suite.yaml", "has no place here"),
        ("Summarize/v1.0.yaml", "the folder names the prompt"),
    ],
)
def test_a_file_in_the_wrong_place_is_not_ignored(file: str, problem: str) -> None:
    assert problem_in(MINIMAL, file).startswith(problem)


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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prompts: {summarize: {prodction: v1.0}}", "prompts.summarize.prodction is not an environment of this registry; did you mean production?"),
        ("prompts: {Summarize: {production: v1.0}}", "prompts.Summarize must be lower-case letters, digits and hyphens"),
        ("prompts: {summarize: {production: 1.0}}", "prompts.summarize.production must be a version such as v1.0"),
        ("prompts: {summarize: {production: v1}}", "prompts.summarize.production must be a version such as v1.0"),
        ("prompts: {summarize: {production: {}}}", "prompts.summarize.production.active must be a version such as v1.0"),
        ("prompts: {summarize: {production: {active: v1.0, cannary: {}}}}", "prompts.summarize.production.cannary is not a known key; did you mean canary?"),
        ("prompts: {summarize: {production: {active: v1.0, canary: {version: v1.1}}}}", "prompts.summarize.production.canary.percent is missing"),
        ("prompts: {summarize: {production: {active: v1.0, canary: {version: v1.1, percent: 101}}}}", "prompts.summarize.production.canary.percent must be a number from 0 to 100"),
        ("prompts: {summarize: {production: {active: v1.0, canary: {version: v1.1, percent: 0.001}}}}", "prompts.summarize.production.canary.percent must have at most two decimals"),
        ("prompts: {summarize: {production: {active: v1.0, ab_test: {}}}}", "prompts.summarize.production.ab_test stands alone: name the active version as one of its arms"),
        ("prompts: {summarize: {production: {ab_test: {a: {version: v1.0, percent: 100}}}}}", "prompts.summarize.production.ab_test must have 2 to 16 arms, each with version and percent"),
        ("prompts: {summarize: {production: {ab_test: {a: {version: v1.0, percent: 50}, b: {version: v1.1, percent: 49}}}}}", "prompts.summarize.production.ab_test has arms of 99 percent together; make it 100"),
        ("prompt: {}\nprompts: {}", "prompt is not a known key; did you mean prompts?"),
    ],
)  # fmt: skip
def test_mistakes_in_the_registry_file(text: str, problem: str) -> None:
    assert problem_in(text, "registry.yaml") == problem


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
