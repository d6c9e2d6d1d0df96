"""Requests are whole, of one size, and repeat only when asked to."""

from __future__ import annotations

import itertools
import json

from bench.payloads import PromptPlan, requests


def bodies(plan: PromptPlan, seed: int, count: int) -> list[dict]:
    found = []
    for request in itertools.islice(requests(plan, "h:1", "/v1/chat/completions", "key", seed), count):
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        found.append(json.loads(body))
    return found


def users(found: list[dict]) -> list[str]:
    return [body["messages"][-1]["content"] for body in found]


def test_distinct_prompts_never_repeat_even_across_rounds() -> None:
    plan = PromptPlan(model="m", words=20)
    first, second = users(bodies(plan, 1, 5000)), users(bodies(plan, 2, 5000))
    assert len({*first, *second}) == 10_000


def test_the_same_prompt_repeats_across_rounds() -> None:
    plan = PromptPlan(model="m", words=20, variety="same")
    assert len({*users(bodies(plan, 1, 50)), *users(bodies(plan, 2, 50))}) == 1


def test_a_prompt_has_its_words_and_a_serial() -> None:
    [text] = users(bodies(PromptPlan(model="m", words=22), 1, 1))
    assert len(text.split()) == 23


def test_streams_ask_for_usage_and_a_system_prompt_comes_first() -> None:
    [body] = bodies(PromptPlan(model="m", words=3, system="Be brief.", stream=True), 1, 1)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
