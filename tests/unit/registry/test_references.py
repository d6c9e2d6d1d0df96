from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.core.errors import InvalidRequest
from services.registry.core.prompt import Version
from services.registry.core.references import ByDigest, Exactly, InEnvironment, NewestOf, parse_reference

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,63}", fullmatch=True)
NUMBERS = st.integers(0, 999_999)
REFERENCES = st.one_of(
    st.builds(InEnvironment, NAMES, NAMES),
    st.builds(NewestOf, NAMES, NUMBERS),
    st.builds(Exactly, NAMES, st.builds(Version, NUMBERS, NUMBERS)),
    st.builds(ByDigest, st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)),
)


@given(REFERENCES)
def test_every_reference_reads_back(reference: InEnvironment | NewestOf | Exactly | ByDigest) -> None:
    assert parse_reference(str(reference)) == reference


@given(NAMES)
def test_a_bare_name_means_production(name: str) -> None:
    assert parse_reference(name) == InEnvironment(name, "production")


@given(st.text(max_size=100) | st.from_regex(r"[a-z@/v.0-9:]{0,30}"))
def test_any_other_text_is_refused_and_never_misread(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidRequest:
        return
    assert str(reference) in (text, f"{text}@production")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Summarize",
        "summarize@",
        "@production",
        "summarize@production@x",
        "summarize/2",
        "summarize/v",
        "summarize/v01",
        "summarize/v1.0.0",
        "summarize/v1.",
        "summarize/v1000000",
        "summarize@production\n",
        "summarize/v１",
        "sha256:abc",
        "sha256:" + "A" * 64,
        "a" * 65,
        "a\x00",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidRequest, match="must read name@environment"):
        parse_reference(text)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_versions_are_ordered_as_numbers(a: int, b: int, c: int, d: int) -> None:
    assert (Version(a, b) < Version(c, d)) == ((a, b) < (c, d))
    assert Version.parse(f"{a}.{b}") == Version(a, b)


@pytest.mark.parametrize("text", ["1", "1.", ".1", "v1.0", "01.0", "1.00", "1.0.0", "-1.0", "1.1000000", "1.0\n", ""])
def test_a_version_has_one_spelling(text: str) -> None:
    assert Version.parse(text) is None
