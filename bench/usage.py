"""What processes used, from /proc: CPU of all their threads, and resident memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_KIB = 1024


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds since the start of each process, added up, and resident bytes now."""

    cpu_s: float
    rss_bytes: int

    def since(self, earlier: Usage) -> Usage:
        """CPU between the two samples; the memory of the later one."""
        return Usage(cpu_s=self.cpu_s - earlier.cpu_s, rss_bytes=self.rss_bytes)


def read(pids: Iterable[int]) -> Usage:
    """The processes and their children. A process that is gone counts as nothing: compare samples of living ones."""
    cpu_s, rss_bytes = 0.0, 0
    for pid in with_children(pids):
        try:
            cpu_s += cpu_seconds((_PROC / str(pid) / "stat").read_text())
            rss_bytes += resident_bytes((_PROC / str(pid) / "status").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Usage(cpu_s=cpu_s, rss_bytes=rss_bytes)


def read_groups(groups: Mapping[str, Iterable[int]]) -> dict[str, Usage]:
    """One sample per named group of processes."""
    return {name: read(pids) for name, pids in groups.items()}


def with_children(pids: Iterable[int]) -> list[int]:
    """The processes and all their descendants."""
    found, waiting = [], list(pids)
    while waiting:
        pid = waiting.pop()
        if pid in found:
            continue
        found.append(pid)
        try:
            for task in (_PROC / str(pid) / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def cpu_seconds(stat: str) -> float:
    """utime + stime of /proc/PID/stat (proc(5), fields 14 and 15): all threads, dead ones included.

    The command name may hold spaces and parentheses, so fields count from the last parenthesis.
    """
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(status: str) -> int:
    """VmRSS of /proc/PID/status; 0 for a process without memory (a zombie)."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * _KIB
    return 0
