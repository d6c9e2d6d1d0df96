"""The `llmops` command as people run it: a process with an environment of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COMMAND = (sys.executable, "-m", "llmops_cli")
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


def _with_paths(environ: Mapping[str, str]) -> dict[str, str]:
    return {**environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}


async def run(environ: Mapping[str, str], folder: Path, *arguments: str, given: bytes = b"") -> Ran:
    """Runs a command to its end; `given` is what it finds on standard input."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = await asyncio.create_subprocess_exec(*_COMMAND, *arguments, env=_with_paths(environ), cwd=folder, **pipes)
    async with asyncio.timeout(_TIMEOUT_S):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


class Up:
    """`llmops up`, running. What it writes to standard error is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    @classmethod
    async def start(cls, environ: Mapping[str, str], folder: Path, *options: str, says: str = "ready after") -> Up:
        """Starts it and waits until it says that it is ready."""
        process = await asyncio.create_subprocess_exec(
            *_COMMAND, "up", *options, env=_with_paths(environ), cwd=folder, stderr=subprocess.PIPE
        )
        up = cls(process)
        async with asyncio.timeout(_TIMEOUT_S):
            await up._read_until(says)
        return up

    @property
    def pid(self) -> int:
        """Of the process itself, not of those it starts."""
        return self._process.pid

    async def _read_until(self, text: str) -> None:
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode():
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError("it ended: " + "".join(self.lines))

    async def said(self, text: str) -> None:
        """Waits for a line with this text."""
        async with asyncio.timeout(_TIMEOUT_S):
            await self._read_until(text)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """Its exit code."""
        assert self._process.stderr is not None
        async with asyncio.timeout(_TIMEOUT_S):
            self.lines += (await self._process.stderr.read()).decode().splitlines(keepends=True)
            return await self._process.wait()

    async def kill(self) -> None:
        """Whatever happened, it does not outlive its test."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
