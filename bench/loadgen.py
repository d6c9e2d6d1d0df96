"""The load generator's own process: a job as JSON on standard input, its outcome as JSON on standard output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Literal

import msgspec
import uvloop

from bench.load import ClosedLoop, Connections, Endpoint, OpenLoop
from bench.payloads import PromptPlan, requests
from bench.schedule import Spacing, arrivals
from bench.tally import Counts, Tally
from bench.usage import Usage, read_groups


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `rate_per_s` is for the open loop; `watch` names the processes whose CPU the run is charged to."""

    mode: Literal["open", "closed"]
    host: str
    port: int
    path: str
    api_key: str
    prompts: PromptPlan
    duration_s: float
    warm_up_s: float
    connections: int
    seed: int
    rate_per_s: float = 0.0
    spacing: Spacing = "poisson"
    settle_s: float = 10.0
    cores: tuple[int, ...] = ()
    watch: dict[str, tuple[int, ...]] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What happened between the end of the warm-up and the last answer. Samples are microseconds."""

    counts: Counts
    elapsed_s: float
    latency_us: list[int]
    first_event_us: list[int]
    lateness_us: list[int]
    failures: dict[str, int]
    cache: dict[str, int]
    usage: dict[str, Usage]
    events: int = 0
    missing_connections: int = 0


async def run(job: Job) -> Outcome:
    """Warm up, then measure. OSError when the target does not accept connections."""
    warm_up, measured = Tally(), Tally()
    endpoint = Endpoint(job.host, job.port, job.prompts.stream)
    connections = Connections(endpoint, job.connections, warm_up)
    stream = requests(job.prompts, f"{job.host}:{job.port}", job.path, job.api_key, job.seed)
    await connections.open()
    try:
        if job.warm_up_s:
            await _load(job, connections, stream, job.warm_up_s)
        connections.tally = measured
        before, start_s = read_groups(job.watch), time.monotonic()
        await _load(job, connections, stream, job.duration_s)
        elapsed_s, after = time.monotonic() - start_s, read_groups(job.watch)
    finally:
        connections.close()
    return Outcome(
        counts=measured.counts(),
        elapsed_s=elapsed_s,
        latency_us=measured.latency.microseconds(),
        first_event_us=measured.first_event.microseconds(),
        lateness_us=measured.lateness.microseconds(),
        failures=dict(measured.failures),
        cache=dict(measured.cache),
        events=measured.events,
        missing_connections=connections.missing,
        usage={name: after[name].since(before[name]) for name in job.watch},
    )


async def _load(job: Job, connections: Connections, stream: Iterator[bytes], duration_s: float) -> None:
    """One phase; every answer belongs to the phase that sent the request."""
    if job.mode == "open":
        schedule = arrivals(job.rate_per_s, duration_s, job.seed, job.spacing)
        await OpenLoop(connections, stream, schedule).run()
    else:
        await ClosedLoop(connections, stream, time.monotonic).run(duration_s)
    await connections.settle(job.settle_s)


def main() -> None:
    """Pin, run, print."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    if job.cores:
        os.sched_setaffinity(0, job.cores)
    outcome = uvloop.run(run(job))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
