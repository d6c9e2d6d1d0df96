from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.core.catalog import Catalog
from services.registry.core.errors import InvalidRequest
from services.registry.core.paging import page_of
from services.registry.core.ports import Change
from services.registry.core.prompt import PublishedPrompt
from tests.support.registry_world import a_prompt, published

VERSIONS = [
    published(a_prompt(name=name), f"{major}.{minor}") for name in "abc" for major in (1, 2) for minor in (0, 9, 10)
]
CATALOG = Catalog().with_change(Change(1, tuple(VERSIONS)))
SIZE = VERSIONS[0].size_bytes


def pages(name: str, size: int, max_bytes: int) -> list[list[str]]:
    found, token = [], ""
    while True:
        page = page_of(CATALOG.newest_first(name), name, size, token, max_bytes)
        found.append([each.label for each in page.prompts])
        token = page.next_token
        if not token:
            return found


def order(each: PublishedPrompt) -> tuple[str, int, int]:
    return each.name, -each.version.major, -each.version.minor


@given(st.sampled_from(["", "a", "b", "absent"]), st.integers(0, 2_000), st.integers(1, 40 * SIZE))
def test_pages_join_to_the_whole_list_in_order(name: str, size: int, max_bytes: int) -> None:
    found = pages(name, size, max_bytes)
    wanted = sorted((each for each in VERSIONS if name in ("", each.name)), key=order)
    assert [label for page in found for label in page] == [each.label for each in wanted]
    for page in found:
        assert len(page) <= (size or 100)
        assert len(page) == 1 or len(page) * SIZE <= max_bytes
    assert all(found) or found == [[]]


def test_a_version_published_between_two_pages_disturbs_neither() -> None:
    first = page_of(CATALOG.newest_first("b"), "b", 2, "", 10**6)
    grown = CATALOG.with_change(Change(2, (published(a_prompt(name="b"), "3.0"),)))
    second = page_of(grown.newest_first("b"), "b", 10, first.next_token, 10**6)
    assert [each.label for each in (*first.prompts, *second.prompts)] == [
        "b/v2.10",
        "b/v2.9",
        "b/v2.0",
        "b/v1.10",
        "b/v1.9",
        "b/v1.0",
    ]


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "AAAA",
        *(
            base64.urlsafe_b64encode(text.encode()).decode()
            for text in (
                "[]",
                "1",
                '["","a"]',
                '["","a","1"]',
                '["b","b","1.0"]',
                '["",3,"1.0"]',
                '["","a",7]',
                "[" * 5_000,
            )
        ),
    ],
)
def test_tokens_of_others_are_refused(token: str) -> None:
    with pytest.raises(InvalidRequest, match="page_token is not from the last answer"):
        page_of(CATALOG.newest_first(""), "", 10, token, 10**6)
