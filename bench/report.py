"""The report: tables for people, the same numbers as JSON for programs."""

from __future__ import annotations

from typing import Final

from bench.campaign import DIRECT
from bench.results import Measurement, OpenRound, Results, added, over_rounds
from bench.scenarios import SCENARIOS, Scenario

_MIB: Final = 1 << 20
_NONE: Final = "–"


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [
        "# Performance",
        "Written by `python -m bench --report`. Do not edit: run it again.",
        _conditions(results),
        _METHOD.format(rounds=results.rounds, open_s=results.open_s, closed_s=results.closed_s),
        "## Start",
        _starts(results),
        "## Requests",
        _requests(results),
    ]
    streams = _streams(results)
    if streams:
        parts += ["## Streams", streams]
    notes = _notes(results)
    if notes:
        parts += ["## What to keep in mind", notes]
    return "\n\n".join(parts) + "\n"


_METHOD: Final = """## Method

The system has one core to itself; load generator, provider simulator and PostgreSQL share the others. Every target of a
scenario gets the same schedule, in turn: {rounds} rounds of {open_s:g} s after a warm-up, and then {closed_s:g} s at
saturation. Requests arrive at random times (Poisson) at the stated rate and never wait for answers. Latency counts from
the scheduled time, so neither a slow system nor a slow generator can hide it. Arrivals that find no free connection are
counted as dropped. *Added* is the target's percentile minus that of the provider called directly in the same round;
figures are medians of the rounds. *CPU* is user and system time of all processes of the target at saturation,
PostgreSQL not included, divided by the good answers; *requests/s per core* is its inverse."""


def _conditions(results: Results) -> str:
    machine = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return "\n".join(
        (
            "| condition | value |",
            "|---|---|",
            f"| date | {machine.date} |",
            f"| revision | {machine.revision} |",
            f"| machine | {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, Linux {machine.kernel} |",
            f"| load before the run | {machine.load_before} |",
            f"| yardstick: an asyncio task, made and awaited | {machine.task_us} µs of CPU |",
            f"| versions | {machine.python}, {packages} |",
        )
    )


def _starts(results: Results) -> str:
    rows = [
        f"| {start.layout} | {start.first_s:.2f} s | {start.second_s:.2f} s | {start.idle_rss_bytes / _MIB:.0f} MiB |"
        for start in results.starts
    ]
    head = ["| layout | ready, empty database | ready, next start | resident, idle |", "|---|---|---|---|"]
    return "\n".join(head + (rows or [f"| nothing started | {_NONE} | {_NONE} | {_NONE} |"]))


def _requests(results: Results) -> str:
    columns = (
        "scenario",
        "target",
        "rate",
        "p50 / p99 added",
        "p50 / p99 / max",
        "CPU per request",
        "requests/s per core",
        "answered/s at saturation",
        "resident",
        "lost",
    )
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    rows = []
    for scenario, measurement, baseline in _pairs(results):
        opened, closed = measurement.open_rounds, measurement.closed_rounds
        cpu_us = over_rounds([one.cpu_us for one in closed])
        cells = (
            scenario.name,
            measurement.target,
            f"{scenario.rate_per_s:g}/s",
            _NONE if measurement is baseline else _added(measurement, baseline, "latency"),
            " / ".join(_ms(over_rounds([getattr(one.latency, name) for one in opened])) for name in _PERCENTILES),
            _NONE if cpu_us is None else f"{cpu_us:.0f} µs",
            _NONE if not cpu_us else f"{1e6 / cpu_us:,.0f}",
            f"{over_rounds([one.per_second for one in closed]):,.0f}" if closed else _NONE,
            _mib(over_rounds([one.rss_bytes for one in opened])),
            f"{max((one.counts.lost_share for one in opened), default=0.0):.2%}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(head + rows)


def _streams(results: Results) -> str:
    columns = (
        "scenario",
        "target",
        "first event: p50 / p99 added",
        "p50 / p99",
        "events per answer",
        "CPU per chunk of the provider",
    )
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    rows = []
    for scenario, measurement, baseline in _pairs(results):
        if not scenario.chunks:
            continue
        opened = measurement.open_rounds
        cpu_us = over_rounds([one.cpu_us for one in measurement.closed_rounds])
        cells = (
            scenario.name,
            measurement.target,
            _NONE if measurement is baseline else _added(measurement, baseline, "first_event"),
            " / ".join(
                _ms(over_rounds([getattr(one.first_event, name) for one in opened])) for name in _PERCENTILES[:2]
            ),
            _per_answer(opened),
            _NONE if cpu_us is None else f"{cpu_us / scenario.chunks:.1f} µs",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(head + rows) if rows else ""


def _notes(results: Results) -> str:
    notes = [f"* `{name}` was not measured: {reason}." for name, reason in results.skipped.items()]
    for measurement in results.measurements:
        notes += [
            f"* `{measurement.scenario}` on {measurement.target}: {warning}." for warning in measurement.warnings()
        ]
    if results.machine.cores == 2:
        notes.append(_SHARED_CORE)
    measured = {measurement.scenario for measurement in results.measurements} | set(results.skipped)
    shown = [scenario for scenario in SCENARIOS if scenario.name in measured]
    notes += [f"* `{scenario.name}`: {scenario.what}; {scenario.layout.name}." for scenario in shown]
    return "\n".join(notes)


_SHARED_CORE: Final = (
    "* With two cores, generator, provider and PostgreSQL share one: tails hold their contention, for every target."
)
_PERCENTILES: Final = ("p50_s", "p99_s", "max_s")


def _pairs(results: Results) -> list[tuple[Scenario, Measurement, Measurement]]:
    """Scenario, measurement and the provider's measurement of the same scenario, in the order of the scenarios."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    baselines = {one.scenario: one for one in results.measurements if one.target == DIRECT}
    return [(known[one.scenario], one, baselines[one.scenario]) for one in results.measurements]


def _added(measurement: Measurement, baseline: Measurement, what: str) -> str:
    return " / ".join(_ms(added(measurement, baseline, what, name)) for name in _PERCENTILES[:2])


def _per_answer(rounds: list[OpenRound]) -> str:
    answered = sum(one.counts.answered for one in rounds)
    return f"{sum(one.events for one in rounds) / answered:.0f}" if answered else _NONE


def _ms(value_s: float | None) -> str:
    return _NONE if value_s is None else f"{value_s * 1000:.2f} ms"


def _mib(value: float | None) -> str:
    return _NONE if value is None else f"{value / _MIB:.0f} MiB"
