"""`llmops chat`: a question to the OpenAI endpoint of a running mesh."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from llmops_cli import attempts
from llmops_cli.given_text import read_standard_input
from meshkit.money import format_usd
from meshkit.settings import SettingsError

EXIT_REQUEST_FAILED = 1
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the command line asks for."""

    text: str
    model: str
    prompt: str
    variables: tuple[str, ...]
    stream: bool
    as_json: bool

    def body(self) -> dict[str, Any]:
        """The request's JSON. Raises SettingsError for variables that cannot be read."""
        if self.stream and self.as_json:
            raise SettingsError("--json prints one whole response and --stream none; leave one of them out")
        text = read_standard_input() if self.text == "-" else self.text
        if not text and not self.prompt:
            raise SettingsError("say something: `llmops chat 'hello'`, or name a prompt with --prompt")
        body: dict[str, Any] = {"model": self.model or "default", "messages": [], "stream": self.stream}
        if text:
            body["messages"].append({"role": "user", "content": text})
        if self.prompt:
            body["llmops"] = {"prompt": self.prompt, "variables": dict(map(_variable, self.variables))}
        elif self.variables:
            raise SettingsError("--var fills a prompt; name it with --prompt")
        return body


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingsError(f"--var {text!r}: write name=value, or name=@file")
    if value.startswith("@"):
        try:
            return name, Path(value[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--var {name}: {value[1:]}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"--var {name}: {value[1:]}: not UTF-8 text") from None
    return name, value


def chat(url: str, key: str, request: ChatRequest) -> int:
    """Prints the answer, and below it, on standard error, what it took. Returns the exit code."""
    return asyncio.run(_chat(url.rstrip("/"), key, request))


async def _chat(url: str, key: str, request: ChatRequest) -> int:
    body = request.body()
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers={"authorization": f"Bearer {key}"}) as session,
            session.post(f"{url}/v1/chat/completions", json=body) as response,
        ):
            if response.status != 200:  # noqa: PLR2004
                return _failed(response.status, await response.read())
            if request.stream:
                return await _print_stream(response)
            print_answer(orjson.loads(await response.read()), as_json=request.as_json)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise SettingsError(f"--url {url}: write it like http://127.0.0.1:8080") from None
    except aiohttp.ClientConnectorError:
        sys.stderr.write(f"llmops: nothing answers at {url}; is `llmops up` running? --url names another edge\n")
        return EXIT_REQUEST_FAILED
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        sys.stderr.write(f"llmops: {url} broke off, or is no edge of a mesh ({type(error).__name__})\n")
        return EXIT_REQUEST_FAILED
    return 0


async def _print_stream(response: aiohttp.ClientResponse) -> int:
    report: dict[str, Any] = {}
    async for line in response.content:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        chunk = orjson.loads(line[6:])
        if "error" in chunk:
            sys.stdout.write("\n")
            return _failed(response.status, orjson.dumps(chunk))
        for choice in chunk.get("choices", ()):
            sys.stdout.write(choice.get("delta", {}).get("content") or "")
            sys.stdout.flush()
        report = chunk.get("llmops") or report
    sys.stdout.write("\n")
    if report:
        sys.stderr.write(summary(report) + "\n")
    return 0


def print_answer(answer: dict[str, Any], *, as_json: bool = False) -> None:
    """The text on standard output, the report on standard error; with `as_json` the whole object."""
    if as_json:
        sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    message = answer["choices"][0]["message"]
    sys.stdout.write((message.get("content") or orjson.dumps(message).decode()) + "\n")
    if answer.get("llmops"):
        sys.stderr.write(summary(answer["llmops"]) + "\n")


def summary(report: dict[str, Any]) -> str:
    """One line: model, cache, guard, cost, trace."""
    guard = report.get("guard") or {}
    verdict = (guard.get("input") or {}).get("decision") or "not asked"
    cache = (report.get("cache") or {}).get("status")
    return (
        f"[{report.get('model') or 'no model'} · cache {cache} · guard {verdict} · "
        f"{format_usd(int(report.get('cost_nano_usd') or 0))} · trace {report.get('trace_id')}]"
    )


def _failed(status: int, body: bytes) -> int:
    tries: list[str] = []
    try:
        answer = orjson.loads(body)
        error = answer["error"]
        text = f"{error.get('code') or status}: {error.get('message')}"
        tries = list(attempts.lines((answer.get("llmops") or {}).get("metadata") or {}))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        text = f"HTTP {status}, and no explanation; --url names the edge of a mesh"
    sys.stderr.write("\n".join((f"llmops: {text}", *tries)) + "\n")
    return EXIT_REQUEST_FAILED
