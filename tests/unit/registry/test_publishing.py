from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.core.catalog import Catalog
from services.registry.core.errors import InvalidPrompt, RegistryError, VersionExists, VersionTooLow
from services.registry.core.ports import Change
from services.registry.core.prompt import Pointer, Variable, Version, whole
from services.registry.core.publishing import Plan, plan_publish
from tests.support.registry_world import LIMITS, NOW, a_prompt, checked, published

EMPTY = Catalog().with_change(Change(0))
V1 = published(a_prompt(), "1.0")
ONE = EMPTY.with_change(Change(1, (V1,), (Pointer("summarize", "production", whole(Version(1, 0))),)))
MINOR = a_prompt("Please summarise {{document}}")
MAJOR = a_prompt("{{document}} {{tone}}", variables=(Variable("document"), Variable("tone")))


def plan(catalog: Catalog, prompt: object, version: str = "", *environments: str) -> Plan:
    return plan_publish(catalog, checked(prompt), Version.parse(version), environments, NOW, LIMITS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "asked", "got"),
    [
        (MINOR, "", "1.1"),
        (MINOR, "1.1", "1.1"),
        (MINOR, "1.7", "1.7"),
        (MINOR, "2.0", "2.0"),
        (MAJOR, "", "2.0"),
        (MAJOR, "2.0", "2.0"),
        (MAJOR, "2.5", "2.5"),
        (a_prompt(), "1.1", "1.1"),
        (a_prompt(name="other"), "", "1.0"),
        (a_prompt(name="other"), "0.3", "0.3"),
    ],
)
def test_legal_versions(prompt: object, asked: str, got: str) -> None:
    result = plan(ONE, prompt, asked)
    assert (str(result.published.version), result.created) == (got, True)
    assert result.change == Change(2, (result.published,))


@pytest.mark.parametrize(
    ("prompt", "asked", "smallest", "why"),
    [
        (MINOR, "0.9", "1.1", "versions only grow"),
        (MAJOR, "1.1", "2.0", "variable tone was added without a default, which breaks callers"),
        (MAJOR, "0.1", "2.0", "publish it as 2.0 or higher"),
    ],
)
def test_versions_below_the_smallest_legal_one_are_refused(prompt: object, asked: str, smallest: str, why: str) -> None:
    with pytest.raises(VersionTooLow, match=why) as caught:
        plan(ONE, prompt, asked)
    assert caught.value.metadata == {"prompt": "summarize", "smallest_version": smallest}


def test_published_content_never_changes() -> None:
    with pytest.raises(VersionExists, match="summarize/v1.0 is published with other content"):
        plan(ONE, MINOR, "1.0")


@pytest.mark.parametrize("asked", ["1.0", ""])
def test_equal_content_is_accepted_again_and_changes_nothing(asked: str) -> None:
    result = plan(ONE, a_prompt(author="somebody else"), asked)
    assert result == Plan(Change(1), V1, created=False)


def test_an_empty_version_publishes_older_content_anew_when_it_is_not_the_newest() -> None:
    two = ONE.with_change(plan(ONE, MINOR).change)
    assert str(plan(two, a_prompt()).published.version) == "1.2"


def test_activation_moves_all_traffic_and_remembers_what_the_file_said() -> None:
    arms = whole(Version(1, 0))
    catalog = ONE.with_change(Change(2, (), (Pointer("summarize", "staging", (), arms),)))
    result = plan(catalog, MINOR, "", "production", "staging", "production")
    assert result.change.pointers == (
        Pointer("summarize", "production", whole(Version(1, 1))),
        Pointer("summarize", "staging", whole(Version(1, 1)), arms),
    )


def test_activating_what_is_active_changes_nothing() -> None:
    assert plan(ONE, a_prompt(), "1.0", "production").change.empty


def test_a_long_list_of_reasons_is_cut() -> None:
    variables = tuple(Variable(f"v{n}") for n in range(9))
    prompt = a_prompt(
        "{{document}}" + "".join(f"{{{{v{n}}}}}" for n in range(9)), variables=(Variable("document"), *variables)
    )
    with pytest.raises(VersionTooLow, match="v2 was added without a default and 6 more, which breaks"):
        plan(ONE, prompt, "1.1")


@pytest.mark.parametrize(
    ("limits", "prompt", "problem"),
    [
        (replace(LIMITS, max_prompts=1), a_prompt(name="other"), "more than the 1 prompts"),
        (replace(LIMITS, max_versions_per_prompt=1), MINOR, "has 1 versions, the most"),
        (replace(LIMITS, max_total_bytes=V1.size_bytes + 10), MINOR, "all versions together may take"),
    ],
)
def test_a_full_registry_says_so(limits: object, prompt: object, problem: str) -> None:
    with pytest.raises(InvalidPrompt, match=problem):
        plan_publish(ONE, checked(prompt), None, (), NOW, limits)  # type: ignore[arg-type]


def test_used_up_numbers_are_refused_in_words() -> None:
    last = EMPTY.with_change(Change(1, (published(a_prompt(), "999999.999999"),)))
    with pytest.raises(VersionTooLow, match="publish it under another name"):
        plan(last, MINOR)


TEXTS = st.sampled_from(["{{document}} a", "{{document}} b", "{{document}} {{tone}}"])
ASKED = st.sampled_from(["", "1.0", "1.1", "1.2", "2.0", "2.1", "3.0"])


@given(st.lists(st.tuples(TEXTS, ASKED), max_size=12))
def test_any_sequence_keeps_versions_immutable_and_growing(requests: list[tuple[str, str]]) -> None:
    catalog = EMPTY
    for text, asked in requests:
        variables = (Variable("document"), *((Variable("tone"),) if "tone" in text else ()))
        before = catalog.versions.get("summarize", ())
        try:
            result = plan(catalog, a_prompt(text, variables=variables), asked)
        except RegistryError:
            continue
        catalog = catalog.with_change(result.change)
        after = catalog.versions["summarize"]
        assert after[: len(before)] == before
        assert [each.version for each in after] == sorted({each.version for each in after})
        assert result.published.prompt.messages[0].template == text
        assert asked in ("", str(result.published.version))
        assert catalog.size_bytes == sum(each.size_bytes for each in after)
