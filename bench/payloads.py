"""The requests of a run: one kind of prompt, the same every time or never twice."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

_WORDS: Final = (
    "incident report engineer database deploy rollback latency cache budget invoice customer refund shipping warehouse "
    "contract renewal payroll holiday server cluster network firewall password login session browser mobile tablet "
    "printer meeting agenda minutes quarter revenue forecast pipeline supplier factory sensor battery engine turbine "
    "harbour airport railway bridge tunnel river mountain forest garden kitchen recipe flour butter sugar vanilla "
    "violin concert museum painting sculpture novel poem chapter teacher student lesson homework exam diploma"
)
# Between the nouns, so that the text is recognised as English: the semantic cache serves no unknown language.
_JOINTS: Final = ("the", "of", "and", "to", "in", "is", "for", "with", "on", "that", "from", "at")
_DISTINCT_PROMPTS: Final = 2048
_SERIAL_DIGITS: Final = 9
_SERIALS_PER_SEED: Final = 1_000_000
_SERIAL_MARK: Final = "000000000"


class PromptPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask: `words` of user text; `repeat` says whether every request is the same."""

    model: str
    words: int
    system: str = ""
    stream: bool = False
    variety: Literal["same", "distinct"] = "distinct"


def requests(plan: PromptPlan, host: str, path: str, api_key: str, seed: int) -> Iterator[bytes]:
    """Whole HTTP requests, endless. Distinct ones differ in their words and carry a serial number.

    All requests of a plan have nearly the same size. The seed keeps rounds of a run from repeating each other.
    """
    rng = random.Random(0 if plan.variety == "same" else seed)
    vocabulary = _WORDS.split()
    count = 1 if plan.variety == "same" else _DISTINCT_PROMPTS
    templates = []
    for _ in range(count):
        nouns = rng.choices(vocabulary, k=plan.words)
        nouns[::2] = rng.choices(_JOINTS, k=len(nouns[::2]))
        text = " ".join(nouns)
        templates.append(_request(plan, text, host, path, api_key).split(_SERIAL_MARK.encode()))
    if plan.variety == "same":
        yield from itertools.repeat(_SERIAL_MARK.encode().join(templates[0]))
    for serial, (before, after) in enumerate(itertools.cycle(templates), seed * _SERIALS_PER_SEED):
        yield b"%b%0*d%b" % (before, _SERIAL_DIGITS, serial % 10**_SERIAL_DIGITS, after)


def _request(plan: PromptPlan, text: str, host: str, path: str, api_key: str) -> bytes:
    messages = [{"role": "system", "content": plan.system}] if plan.system else []
    messages.append({"role": "user", "content": f"{text} {_SERIAL_MARK}"})
    body: dict[str, object] = {"model": plan.model, "messages": messages, "temperature": 0.2, "max_tokens": 256}
    if plan.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    encoded = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {api_key}\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\n\r\n"
    )
    return head.encode() + encoded
