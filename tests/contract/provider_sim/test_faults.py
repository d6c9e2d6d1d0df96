"""Every fault is seen on the wire by a client that reads raw bytes."""

from __future__ import annotations

import asyncio
import gzip

import orjson
import pytest

from llmops_cli.provider_sim import ProviderSim, Rule, SimSettings
from tests.contract.provider_sim.raw_client import chat, parse, post, wire


async def test_a_delay_holds_the_headers_back(sim: ProviderSim) -> None:
    started = asyncio.get_running_loop().time()
    reply = await post(sim, chat("sim-latency-60"))
    assert reply.status == 200
    assert asyncio.get_running_loop().time() - started >= 0.06


async def test_a_stream_keeps_its_rhythm(sim: ProviderSim) -> None:
    started = asyncio.get_running_loop().time()
    reply = await post(sim, chat("sim-first-30+interval-10+tokens-4", stream=True))
    assert len(reply.deltas()) == 4
    assert asyncio.get_running_loop().time() - started >= 0.06


async def test_a_unary_answer_waits_for_its_last_token(sim: ProviderSim) -> None:
    started = asyncio.get_running_loop().time()
    await post(sim, chat("sim-first-30+interval-10+tokens-4"))
    assert asyncio.get_running_loop().time() - started >= 0.06


@pytest.mark.parametrize("stream", [False, True])
async def test_a_status_with_headers(sim: ProviderSim, *, stream: bool) -> None:
    sim.script = [Rule(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, error_message="slow down")]
    reply = await post(sim, chat(stream=stream))
    assert (reply.status, reply.headers["retry-after"]) == (429, "Wed, 21 Oct 2015 07:28:00 GMT")
    assert reply.json()["error"]["message"] == "slow down"
    assert [record.outcome for record in sim.billing] == ["refused"]


async def test_chunks_spread_the_tokens(sim: ProviderSim) -> None:
    reply = await post(sim, chat("sim-tokens-100+chunks-7", stream=True))
    assert len(reply.deltas()) == 7
    assert len("".join(reply.deltas()).split()) == 100


@pytest.mark.parametrize(("directive", "error"), [("cut", None), ("reset", ConnectionResetError)])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_that_ends_before_the_headers(
    sim: ProviderSim, directive: str, error: type[OSError] | None, *, stream: bool
) -> None:
    reply = await post(sim, chat(f"sim-{directive}", stream=stream))
    assert (reply.status, reply.error) == (0, error)
    assert [record.outcome for record in sim.billing] == ["cut"]


@pytest.mark.parametrize(("directive", "error"), [("cut-after-3", None), ("reset-after-3", ConnectionResetError)])
async def test_a_stream_that_is_cut_after_three_chunks(
    sim: ProviderSim, directive: str, error: type[OSError] | None
) -> None:
    reply = await post(sim, chat(f"sim-{directive}+interval-5", stream=True))
    assert (len(reply.deltas()), reply.complete, reply.error) == (3, False, error)
    [record] = sim.billing
    assert (record.outcome, record.output_tokens, record.billed_output_tokens) == ("cut", 16, 3)


async def test_a_unary_answer_that_is_cut_in_the_middle(sim: ProviderSim) -> None:
    reply = await post(sim, chat("sim-cut-after-0"))
    assert reply.status == 200
    assert 0 < len(reply.raw_body) < int(reply.headers["content-length"])


async def test_a_cut_after_more_chunks_than_there_are_takes_effect_before_the_end(sim: ProviderSim) -> None:
    reply = await post(sim, chat("sim-tokens-2+cut-after-99", stream=True))
    assert (len(reply.deltas()), reply.complete) == (2, False)


async def read_until(sim: ProviderSim, data: bytes, mark: bytes) -> tuple[bytes, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(data)
    return (await reader.readuntil(mark) if mark else b""), writer


async def test_a_hang_before_the_headers_lasts_until_the_client_leaves(sim: ProviderSim) -> None:
    received, writer = await read_until(sim, wire("POST", "/v1/chat/completions", chat("sim-hang")), b"")
    await sim.wait_until(lambda: sim.stats.in_flight == 1)
    assert (received, sim.billing) == (b"", [])
    writer.close()
    await sim.wait_until(lambda: len(sim.billing) == 1)
    assert (sim.billing[0].outcome, sim.billing[0].billed_output_tokens) == ("cancelled", 0)


async def test_a_hang_in_a_stream_stops_generation_and_billing(sim: ProviderSim) -> None:
    data = wire("POST", "/v1/chat/completions", chat("sim-hang-after-2", stream=True))
    received, writer = await read_until(sim, data, b"simulated ")
    assert len(parse(received + b'"').headers) > 0
    writer.close()
    await sim.wait_until(lambda: len(sim.billing) == 1)
    assert (sim.billing[0].outcome, sim.billing[0].billed_output_tokens) == ("cancelled", 2)


async def test_a_hang_ends_at_the_limit() -> None:
    async with ProviderSim(settings=SimSettings(max_hang_s=0.01)) as sim:
        reply = await post(sim, chat("sim-hang"))
        assert (reply.status, [record.outcome for record in sim.billing]) == (0, ["cut"])


@pytest.mark.parametrize("directive", ["malformed", "bad-utf8"])
async def test_broken_json(sim: ProviderSim, directive: str) -> None:
    unary = await post(sim, chat(f"sim-{directive}"))
    assert unary.complete
    with pytest.raises(orjson.JSONDecodeError):
        unary.json()
    stream = await post(sim, chat(f"sim-{directive}", stream=True))
    assert (stream.complete, stream.data()[-1]) == (True, b"[DONE]")
    broken = 0
    for line in stream.data()[:-1]:
        try:
            orjson.loads(line)
        except orjson.JSONDecodeError:
            broken += 1
    assert broken == 1


async def test_a_missing_done(sim: ProviderSim) -> None:
    reply = await post(sim, chat("sim-no-done", stream=True))
    assert reply.complete
    assert b"[DONE]" not in reply.body
    assert len(reply.deltas()) == 16


async def test_missing_usage(sim: ProviderSim) -> None:
    assert "usage" not in (await post(sim, chat("sim-no-usage"))).json()
    stream = await post(sim, chat("sim-no-usage", stream=True, stream_options={"include_usage": True}))
    assert b'"usage"' not in stream.body
    assert [record.billed_output_tokens for record in sim.billing] == [16, 16]


async def test_an_error_under_status_200(sim: ProviderSim) -> None:
    unary = await post(sim, chat("sim-error-after-0"))
    assert (unary.status, unary.json()["error"]["type"]) == (200, "server_error")
    stream = await post(sim, chat("sim-error-after-2", stream=True))
    assert orjson.loads(stream.data()[-1])["error"]["type"] == "server_error"
    assert len(stream.deltas()) == 2
    assert [record.outcome for record in sim.billing] == ["failed", "failed"]
    assert sim.billing[1].billed_output_tokens == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrong_content_type(sim: ProviderSim, *, stream: bool) -> None:
    reply = await post(sim, chat("sim-wrong-type", stream=stream))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_crlf_lines_and_comments(sim: ProviderSim) -> None:
    reply = await post(sim, chat("sim-crlf+comments+tokens-2", stream=True))
    assert b"\n" not in reply.body.replace(b"\r\n", b"")
    assert reply.body.startswith(b": ")
    assert len(reply.deltas()) == 2


async def test_one_byte_packets(sim: ProviderSim) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(wire("POST", "/v1/chat/completions", chat("sim-one-byte+tokens-1", stream=True)))
    pieces = []
    while piece := await reader.read(65536):
        pieces.append(piece)
    writer.close()
    # The reader is on the same loop and may find a few bytes together, but never a whole event.
    assert max(map(len, pieces)) < 16
    assert parse(b"".join(pieces)).deltas() == ["The "]


async def test_a_huge_line(sim: ProviderSim) -> None:
    sim.script = [Rule(huge_line_bytes=300_000)]
    stream = await post(sim, chat(stream=True))
    assert max(map(len, stream.data())) == 300_000
    assert len((await post(sim, chat())).json()["padding"]) == 300_000


@pytest.mark.parametrize("stream", [False, True])
async def test_a_gzip_bomb(sim: ProviderSim, *, stream: bool) -> None:
    sim.script = [Rule(gzip_bomb_bytes=3_000_000)]
    reply = await post(sim, chat(stream=stream))
    assert reply.headers["content-encoding"] == "gzip"
    assert len(reply.body) < 10_000
    assert len(gzip.decompress(reply.body)) > 3_000_000


async def test_a_header_chooses_the_fault_without_a_script(sim: ProviderSim) -> None:
    assert (await post(sim, chat(), x_sim_script="503-retry-2")).headers["retry-after"] == "2"
    assert (await post(sim, chat(), x_sim_script='{"text":"hi"}')).json()["choices"][0]["message"]["content"] == "hi"
    assert (await post(sim, chat(), x_sim_script="nonsense")).status == 400


async def test_the_header_beats_the_model_name_and_the_model_name_beats_the_script(sim: ProviderSim) -> None:
    sim.script = [Rule(status=503)]
    assert (await post(sim, chat("sim-500"))).status == 500
    assert (await post(sim, chat("sim-500"), x_sim_script="429")).status == 429
    assert (await post(sim, chat())).status == 503
