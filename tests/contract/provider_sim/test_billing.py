"""Clients that leave, shutdown, and the admin surface."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from llmops_cli.provider_sim import ProviderSim, Rule
from tests.contract.provider_sim.raw_client import chat, exchange, post, wire

STREAM = "/v1/chat/completions"


async def leave_after(sim: ProviderSim, mark: bytes, **fields: object) -> None:
    """Read a stream until `mark`, then go without a word, and wait until the provider noticed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(wire("POST", STREAM, chat(stream=True, **fields), X_Request_Id="call-1"))
    await reader.readuntil(mark)
    writer.transport.abort()
    await sim.wait_until(lambda: len(sim.billing) == 1)


async def test_a_client_that_leaves_is_noticed_and_billed_what_was_generated(sim: ProviderSim) -> None:
    sim.script = [Rule(output_tokens=1000, token_interval_ms=20)]
    await leave_after(sim, b"provider ")
    [record] = sim.billing
    [seen] = sim.stats.cancelled
    assert (record.outcome, record.output_tokens) == ("cancelled", 1000)
    assert 3 <= record.billed_output_tokens < 1000
    assert record.billed_input_tokens == record.input_tokens == 5
    assert (seen.id, seen.client_request_id, seen.chunks_sent >= 3) == (record.id, "call-1", True)
    assert seen.noticed_after_s >= 0.04
    assert seen.noticed_s == pytest.approx(record.finished_s, abs=0.01)
    assert sim.stats.in_flight == 0


@pytest.mark.parametrize(("billing", "tokens"), [("full", (5, 1000)), ("none", (0, 0))])
async def test_a_provider_may_bill_everything_or_nothing_of_a_cancelled_call(
    sim: ProviderSim, billing: str, tokens: tuple[int, int]
) -> None:
    sim.script = {"rules": [{"output_tokens": 1000, "token_interval_ms": 20, "cancel_billing": billing}]}
    await leave_after(sim, b"provider ")
    assert (sim.billing[0].billed_input_tokens, sim.billing[0].billed_output_tokens) == tokens


async def test_a_client_that_leaves_a_unary_call_pays_for_the_tokens_due_by_then(sim: ProviderSim) -> None:
    sim.script = [Rule(output_tokens=1000, token_interval_ms=1000)]
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(wire("POST", STREAM, chat()))
    await sim.wait_until(lambda: sim.stats.in_flight == 1)
    writer.close()
    await sim.wait_until(lambda: len(sim.billing) == 1)
    assert (sim.billing[0].outcome, sim.billing[0].billed_output_tokens) == ("cancelled", 1)


async def test_shutdown_ends_calls_and_says_so() -> None:
    async with ProviderSim(script=[Rule(hang_before_headers=True)]) as sim:
        _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(wire("POST", STREAM, chat()))
        await sim.wait_until(lambda: sim.stats.in_flight == 1)
    assert [record.outcome for record in sim.billing] == ["stopped"]
    assert (sim.stats.in_flight, sim.stats.connections) == (0, 0)
    writer.close()


async def test_a_reader_that_stops_holds_the_stream_back(sim: ProviderSim) -> None:
    megabyte = "y" * (1 << 20)
    sim.script = [Rule(model="big", text=f"{megabyte} " * 32), Rule(text="small")]
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port, limit=1 << 14)
    writer.write(wire("POST", STREAM, chat("big", stream=True)))
    await reader.readuntil(b"assistant")
    for _ in range(32):
        await post(sim, chat())
    assert sim.stats.in_flight == 1
    received = 0
    while piece := await reader.read(1 << 20):
        received += len(piece)
    writer.close()
    assert received > 32 << 20
    assert [record.model for record in sim.billing] == ["m"] * 32 + ["big"]


async def test_the_admin_surface(sim: ProviderSim) -> None:
    script = orjson.dumps({"rules": [{"model": "m", "text": "scripted"}]})
    assert (await exchange(sim, wire("PUT", "/sim/script", script))).status == 204
    answer = await post(sim, chat(), Authorization="Bearer secret")
    assert answer.json()["choices"][0]["message"]["content"] == "scripted"
    billing = await exchange(sim, wire("GET", "/sim/billing"))
    [record] = [orjson.loads(line) for line in billing.body.splitlines()]
    assert (record["id"], record["key_hash"], record["outcome"]) == (answer.json()["id"], "2bb80d537b1d", "completed")
    assert b"secret" not in billing.body
    stats = (await exchange(sim, wire("GET", "/sim/stats"))).json()
    assert (stats["requests"], stats["in_flight"], stats["cancelled"]) == (1, 0, [])
    assert (await exchange(sim, wire("DELETE", "/sim/billing"))).status == 204
    assert (await exchange(sim, wire("GET", "/sim/billing"))).body == b""


async def test_a_wrong_script_is_refused_and_the_old_one_stays(sim: ProviderSim) -> None:
    sim.script = [Rule(text="old")]
    reply = await exchange(sim, wire("PUT", "/sim/script", b'{"rules":[{"modle":"x"}]}'))
    assert (reply.status, "modle" in reply.json()["error"]["message"]) == (400, True)
    assert sim.script.rules[0].text == "old"


async def test_other_paths_are_not_found(sim: ProviderSim) -> None:
    assert (await exchange(sim, wire("GET", "/v1/chat/completions"))).status == 404
    assert (await exchange(sim, wire("POST", "/v1/moderations", b"{}"))).status == 404
