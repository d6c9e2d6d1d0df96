"""What providers count: which of their numbers are taken, and which are none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.core.chat import Usage

OPENAI = OpenAiChat()


def openai_usage(**counts: Any) -> Usage | None:
    choice = {"message": {"content": "Yes."}, "finish_reason": "stop"}
    return OPENAI.decode(json.dumps({"choices": [choice], "usage": counts}).encode()).usage


@pytest.mark.parametrize(("total", "output"), [(115, 105), (16, 6), (15, 5), (14, 5), (0, 5), (-1, 5)])
def test_what_a_total_has_beside_the_prompt_is_output(total: int, output: int) -> None:
    assert openai_usage(prompt_tokens=10, completion_tokens=5, total_tokens=total) == Usage(10, output)


@pytest.mark.parametrize("total", [None, "115", 115.5, [115], {}, 10**19, 10**12])
def test_a_total_that_is_none_says_nothing(total: object) -> None:
    assert openai_usage(prompt_tokens=10, completion_tokens=5, total_tokens=total) == Usage(10, 5)
    assert openai_usage(prompt_tokens=10, completion_tokens=5) == Usage(10, 5)


def test_a_count_of_nothing_beside_an_answer_is_none() -> None:
    assert openai_usage(prompt_tokens=0, completion_tokens=0, total_tokens=0) is None
    assert openai_usage(prompt_tokens=10, completion_tokens=0) is None
