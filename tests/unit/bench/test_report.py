"""The report says what was measured, and what is wrong with it."""

from __future__ import annotations

import re

import msgspec
import pytest

from bench.campaign import Target
from bench.machine import Machine
from bench.report import markdown
from bench.results import ClosedRound, Measurement, OpenRound, Results, Start, added
from bench.scenarios import SCENARIOS, named
from bench.statistics import summarise
from bench.tally import Counts


def counts(scheduled: int = 100, dropped: int = 0, late: int = 0, failed: int = 0) -> Counts:
    sent = scheduled - dropped
    return Counts(
        scheduled=scheduled,
        sent=sent,
        dropped=dropped,
        late=late,
        answered=sent - failed,
        failed=failed,
        unfinished=0,
    )


def opened(latency_s: float, told: Counts | None = None, cache: str = "miss") -> OpenRound:
    summary = summarise([latency_s])
    return OpenRound(
        counts=told or counts(),
        latency=summary,
        first_event=summary,
        lateness=summary,
        failures={},
        cache={cache: 100},
        cpu_s=0.5,
        rss_bytes=100 << 20,
        others_busy=0.4,
    )


def closed(cpu_s: float) -> ClosedRound:
    return ClosedRound(counts=counts(1000), elapsed_s=2.0, failures={}, cache={"miss": 1000}, cpu_s=cpu_s)


def measurement(target: str, rounds: list[OpenRound], **fields: object) -> Measurement:
    base = {"scenario": "plain", "target": target, "expected_cache": "", "open_rounds": rounds}
    return Measurement(**(base | fields))  # type: ignore[arg-type]


def results(*measurements: Measurement) -> Results:
    machine = Machine(
        date="2026-11-23 00:00 UTC",
        cpu="A CPU",
        cores=2,
        memory_gib=24.0,
        kernel="6.1",
        python="CPython 3.11",
        revision="abc",
        packages={"aiohttp": "3.14"},
        load_before=0.1,
        task_us=3.0,
    )
    start = Start(layout="one process", first_s=2.0, second_s=1.25, idle_rss_bytes=90 << 20)
    return Results(
        machine=machine,
        rounds=3,
        open_s=6.0,
        closed_s=4.0,
        starts=[start],
        measurements=list(measurements),
        skipped={"full-32": "no exported models"},
    )


def test_added_latency_compares_rounds_that_ran_side_by_side() -> None:
    base = measurement("provider", [opened(0.001), opened(0.005), opened(0.002)])
    ours = measurement("mesh", [opened(0.002), opened(0.0065), opened(0.0025)])
    assert added(ours, base, "latency", "p50_s") == pytest.approx(0.001)


def test_cpu_per_request_is_cpu_over_good_answers() -> None:
    assert closed(0.2).cpu_us == pytest.approx(200)
    assert closed(0.2).per_second == 500


def test_the_table_shows_the_numbers() -> None:
    base = measurement("provider", [opened(0.001)] * 3)
    ours = measurement("mesh", [opened(0.002)] * 3, closed_rounds=[closed(0.2)] * 3, expected_cache="miss")
    text = markdown(results(base, ours))
    row = next(line for line in text.splitlines() if line.startswith("| plain | mesh |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "plain",
        "mesh",
        "150/s",
        "1.00 ms / 1.00 ms",
        "2.00 ms / 2.00 ms / 2.00 ms",
        "200 µs",
        "5,000",
        "500",
        "100 MiB",
        "0.00%",
    ]
    assert "| one process | 2.00 s | 1.25 s | 90 MiB |" in text
    assert "`full-32` was not measured: no exported models." in text


def test_every_table_has_as_many_cells_as_columns() -> None:
    ours = measurement("mesh", [opened(0.002)])
    text = markdown(results(measurement("provider", [opened(0.001)]), ours))
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (opened(0.001, counts(dropped=1)), "1.0% of the scheduled requests"),
        (opened(0.001, counts(late=6)), "6% of the requests left more than a millisecond late"),
        (msgspec.structs.replace(opened(0.001), missing_connections=3), "3 connections were closed by the target"),
        (msgspec.structs.replace(opened(0.001), others_busy=0.8), "provider and PostgreSQL used 80% of a core"),
        (opened(0.001, cache="exact"), "only 0% of the answers say x-cache: miss"),
    ],
)
def test_numbers_that_do_not_mean_what_they_say_carry_a_warning(broken: OpenRound, said: str) -> None:
    [warning] = measurement("mesh", [broken], expected_cache="miss").warnings()
    assert said in warning
    assert measurement("mesh", [opened(0.001)], expected_cache="miss").warnings() == []


def test_scenarios_are_chosen_by_name() -> None:
    assert [one.name for one in named(["stream", "plain"])] == ["plain", "stream"]
    assert named([]) == SCENARIOS
    with pytest.raises(ValueError, match="there are plain"):
        named(["plane"])


def test_a_peer_is_a_name_and_a_url() -> None:
    peer = Target.parse_peer("other=http://127.0.0.1:4000/v1#123")
    assert peer == Target("other", "127.0.0.1", 4000, "/v1/chat/completions", (123,))


@pytest.mark.parametrize("text", ["other", "=http://h/v1", "other=https://h/v1", "mesh=http://h/v1"])
def test_a_peer_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"peer|written"):
        Target.parse_peer(text)
