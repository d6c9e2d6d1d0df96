"""`llmops up --demo`: one real request, twice, so that a newcomer sees what the system does."""

from __future__ import annotations

import asyncio
import shlex
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from llmops_cli.chat import summary
from llmops_cli.development import DevelopmentKey
from meshkit.lifecycle import RunningProcess

PROMPT = "summarize@production"
_WIDTH = 100
_TIMEOUT_S = 120
_PAUSE_S = 1.0


def shipped_prompts() -> Path:
    """The example prompts: in a checkout beside this package, in an installation inside it."""
    installed = Path(__file__).parent / "prompts"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "prompts"


def run_when_ready(key: DevelopmentKey) -> Callable[[RunningProcess], Awaitable[None]]:
    """What the launcher runs once the process answers."""

    async def run(running: RunningProcess) -> None:
        host, port = running.addresses["http"]
        url = f"http://{host}:{port}"
        document = (shipped_prompts() / "samples" / "contract.txt").read_text(encoding="utf-8")
        _say(f"\nSummarising the sample contract ({len(document.split())} words) with {PROMPT}:\n")
        first = await _ask(url, key.key, document)
        _show(first)
        # An answer is stored after it was sent.
        await asyncio.sleep(_PAUSE_S)
        again = await _ask(url, key.key, document)
        _say("The same again:")
        _say(f"  {summary(again['llmops'])}\n")
        file = key.file.relative_to(Path.cwd()) if key.file.is_relative_to(Path.cwd()) else key.file
        shown = shlex.quote(str(file))
        _say(f"Serving. Try:\n  curl {url}/v1/chat/completions -H 'authorization: Bearer '$(cat {shown}) \\")
        _say("""    -d '{"model": "default", "messages": [{"role": "user", "content": "What is a mesh?"}]}'""")
        _say("Ctrl-C ends it.")

    return run


async def _ask(url: str, key: str, document: str) -> dict[str, Any]:
    body = {
        "model": "default",
        "messages": [],
        "llmops": {"prompt": PROMPT, "variables": {"document": document}},
    }
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, headers={"authorization": f"Bearer {key}"}) as session,
        session.post(f"{url}/v1/chat/completions", json=body) as response,
    ):
        answer: dict[str, Any] = orjson.loads(await response.read())
        if "error" in answer:
            raise RuntimeError(f"the sample request failed: {answer['error'].get('message')}")
        return answer


def _show(answer: dict[str, Any]) -> None:
    for paragraph in str(answer["choices"][0]["message"]["content"]).splitlines():
        _say(textwrap.fill(paragraph, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    citations = answer["llmops"].get("citations") or []
    if citations:
        _say("\n  Citations (characters of the rendered prompt):")
        for citation in citations:
            quote = textwrap.shorten(str(citation.get("quote", "")), _WIDTH - 30)
            _say(f"  [{citation.get('index')}] {citation.get('start_char')}-{citation.get('end_char')}: {quote}")
    _say(f"\n  {summary(answer['llmops'])}\n")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
