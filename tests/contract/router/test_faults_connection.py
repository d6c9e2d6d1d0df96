"""F12 and F38: providers that cannot be reached, or must not be. What the caller sees, what is billed, a control."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from pathlib import Path

import aiohttp.connector
import pytest
import trustme
from aiohttp.helpers import ceil_timeout
from llmops.router.v1 import router_pb2 as pb

from llmops_cli.provider_sim import ProviderSim, Rule
from meshkit.settings import Secret
from services.router.core.addresses import is_allowed
from services.router.provider_settings import Provider
from tests.contract.router.faults import Serve, asked, faulty, with_healthy
from tests.support.deployments import free_ports
from tests.support.router_service import CALLER, Tried, ask, billed, call

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
RETRIES = {"max_retries": 2}


def server_tls(folder: Path, flaw: str) -> ssl.SSLContext:
    """A server's certificate with one flaw, and the authority that the client trusts as ca.pem."""
    ours, foreign = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(folder / "ca.pem"))
    issuer = foreign if flaw == "unknown-authority" else ours
    names = ["provider.example"] if flaw == "wrong-host" else ["127.0.0.1"]
    certificate = issuer.issue_cert(*names, not_after=LONG_AGO if flaw == "expired" else None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("flaw", ["unknown-authority", "wrong-host", "expired", ""])
async def test_f12_a_bad_certificate_is_not_tried_again(
    serve: Serve, sim: ProviderSim, tmp_path: Path, flaw: str, *, streamed: bool
) -> None:
    """The last row is the control: with a good certificate the same provider answers."""
    async with ProviderSim(ssl_context=server_tls(tmp_path, flaw)) as secure:
        ca_file = {"ca_file": str(tmp_path / "ca.pem")}
        router = await serve(with_healthy(faulty(secure.base_url, "first", provider=ca_file, route=RETRIES), sim))
        seen = await ask(router, streamed=streamed)
        if not flaw:
            assert (asked(secure), asked(sim), seen.names()) == (["first"], [], [("first", "SUCCEEDED")])
            return
        assert seen.tries[0] == Tried("first", "NOT_CONNECTED", "certificate-invalid", purpose="FIRST")
        assert seen.names()[1:] == [("healthy", "SUCCEEDED")], "one try only"
        assert (asked(secure), seen.tokens()) == ([], billed(sim.billing))
        alone = await ask(router, "first", streamed=streamed)
        assert (alone.status, alone.reason, alone.tokens()) == ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", (0, 0))
        assert len(alone.tries) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_f12_a_refused_connection_is_tried_again_and_costs_nothing(
    serve: Serve, sim: ProviderSim, *, streamed: bool
) -> None:
    with free_ports(1) as (port,):
        pass
    router = await serve(with_healthy(faulty(f"http://127.0.0.1:{port}/v1", "first", route=RETRIES), sim))
    seen = await ask(router, streamed=streamed)
    assert seen.names() == [("first", "NOT_CONNECTED")] * 3 + [("healthy", "SUCCEEDED")]
    assert {tried.cause for tried in seen.tries[:3]} == {"connection-refused"}
    assert seen.tokens() == billed(sim.billing)
    control = await ask(await serve(faulty(sim.base_url, "first", route=RETRIES)), streamed=streamed)
    assert control.names() == [("first", "SUCCEEDED")]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("patient_s", [0.3, 0.0])
async def test_f12_a_provider_that_was_never_reached_costs_nothing(
    serve: Serve, sim: ProviderSim, monkeypatch: pytest.MonkeyPatch, patient_s: float, *, streamed: bool
) -> None:
    """Its connection hangs. Where the try's time was shorter than `connect_timeout_s` its input was paid for.

    The second row is the control: the connection has less time than the try, and its failure is the provider's. aiohttp
    rounds a long time up to whole seconds unless it is told not to; here 0.2 s are long instead of 5.
    """

    def soon_rounded(delay: float | None, ceil_threshold: float = 5) -> object:
        return ceil_timeout(delay, ceil_threshold / 25)

    monkeypatch.setattr(aiohttp.connector, "ceil_timeout", soon_rounded)

    async def shakes_no_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(shakes_no_hands, "127.0.0.1", 0)
    async with silent:
        url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1"
        hurry = {"timeout_s": patient_s or 9.0, "first_token_timeout_s": patient_s or 9.0}
        provider = {"api_key": Secret("k"), "connect_timeout_s": 5.0 if patient_s else 0.3}
        router = await serve(with_healthy(faulty(url, "first", provider=provider, model=hurry), sim))
        seen = await ask(router, streamed=streamed)
        alone = await ask(router, "first", streamed=streamed)
    outcome = "TIMED_OUT" if patient_s else "NOT_CONNECTED"
    assert seen.tries[0] == Tried("first", outcome, "connect-timeout", purpose="FIRST")
    assert (seen.names()[1:], seen.tokens()) == ([("healthy", "SUCCEEDED")], billed(sim.billing))
    assert (alone.reason, alone.tokens()) == ("UPSTREAM_UNAVAILABLE", (0, 0))


def inner_name() -> str:
    """A name that leads to a private address here."""
    name = socket.gethostname()
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except OSError:
        pytest.skip("this machine's own name does not resolve")
    if is_allowed(str(found[0][4][0]), private=False, loopback=False):
        pytest.skip("this machine's own name leads to a public address")
    return name


async def test_f38_a_name_that_does_not_resolve(serve: Serve, sim: ProviderSim) -> None:
    """RFC 6761: names under .invalid never do."""
    settings = faulty("https://provider.invalid/v1", "first", provider={"api_key": Secret("k")})
    router = await serve(with_healthy(settings, sim))
    seen = await ask(router)
    assert seen.tries[0] == Tried("first", "NOT_CONNECTED", "dns-failure", purpose="FIRST")
    assert (seen.names()[1:], seen.tokens()) == ([("healthy", "SUCCEEDED")], billed(sim.billing))
    alone = await ask(router, "first")
    assert (alone.reason, {tried.cause for tried in alone.tries}) == ("UPSTREAM_UNAVAILABLE", {"dns-failure"})


async def test_f38_an_address_spelled_in_no_usual_way_reaches_nobody_and_costs_nothing(
    serve: Serve, sim: ProviderSim
) -> None:
    """Short forms of 127.0.0.1 pass checks that compare text. The client refuses them: nothing was sent or billed."""
    settings = faulty(f"https://127.1:{sim.port}/v1", "first", provider={"api_key": Secret("k")}, route=RETRIES)
    seen = await ask(await serve(with_healthy(settings, sim)))
    assert seen.tries[0] == Tried("first", "NOT_CONNECTED", "address-invalid", purpose="FIRST")
    assert (seen.names()[1:], seen.tokens()) == ([("healthy", "SUCCEEDED")], billed(sim.billing))


@pytest.mark.parametrize("allowed", [False, True])
async def test_f38_a_name_that_leads_inside_reaches_nobody(serve: Serve, sim: ProviderSim, *, allowed: bool) -> None:
    """What a name means is looked at when the connection is made: rebinding has no moment in between.

    This machine's name is one like any other to the settings. The control is the same name where the operator has
    opened private networks.
    """
    async with ProviderSim(host="0.0.0.0") as inside:
        provider = Provider(
            base_url=f"{'http' if allowed else 'https'}://{inner_name()}:{inside.port}/v1",
            api_key=Secret("k"),
            allow_private_address=allowed,
        )
        settings = with_healthy(faulty(sim.base_url, "first", route=RETRIES), sim)
        settings.providers["vendor"] = provider
        seen = await ask(await serve(settings))
        assert inside.stats.connections_opened == int(allowed)
        if allowed:
            assert seen.names() == [("first", "SUCCEEDED")]
        else:
            assert seen.tries[0] == Tried("first", "NOT_CONNECTED", "address-refused", purpose="FIRST")
            assert seen.names()[1:] == [("healthy", "SUCCEEDED")]
        assert seen.tokens() == billed([*sim.billing, *inside.billing])


@pytest.mark.parametrize("streamed", [False, True])
async def test_our_own_connections_in_use_are_not_held_against_the_provider(
    serve: Serve, sim: ProviderSim, *, streamed: bool
) -> None:
    """More calls at once than `max_connections`: they took five of them for a provider that is down, and shut it."""
    sim.script = [Rule(model="first", first_token_ms=1500)]
    few = {"max_connections": 2, "connect_timeout_s": 0.2}
    settings = faulty(sim.base_url, "first", provider=few, route=RETRIES, limits={"breaker_min_calls": 1})
    router = await serve(with_healthy(settings, sim))
    within = [asyncio.ensure_future(ask(router, "first", streamed=streamed)) for _ in range(2)]
    await sim.wait_until(lambda: sim.stats.in_flight == 2)
    beyond = await asyncio.gather(*[ask(router, streamed=streamed) for _ in range(4)])
    for seen in beyond:
        assert seen.tries[0] == Tried("first", "NOT_CONNECTED", "connections-in-use", purpose="FIRST")
        assert seen.names()[1:] == [("healthy", "SUCCEEDED")], "one try only"
    hurried = await ask(router, "first", streamed=streamed, timeout_s=0.3)
    assert (hurried.reason, hurried.names()) == ("UPSTREAM_UNAVAILABLE", [("first", "NOT_CONNECTED")])
    everyone = [*await asyncio.gather(*within), *beyond, hurried, await ask(router, "first", streamed=streamed)]
    assert [seen.names() for seen in (*everyone[:2], everyone[-1])] == [[("first", "SUCCEEDED")]] * 3
    tokens = [seen.tokens() for seen in everyone]
    assert (sum(read for read, _ in tokens), sum(written for _, written in tokens)) == billed(sim.billing)


async def test_who_waits_for_one_of_our_connections_gets_the_next_that_is_free(serve: Serve, sim: ProviderSim) -> None:
    sim.script = [Rule(model="first", first_token_ms=200)]
    router = await serve(faulty(sim.base_url, "first", provider={"max_connections": 1}))
    seen = await asyncio.gather(*[ask(router, streamed=streamed) for streamed in (False, True, False)])
    assert [each.names() for each in seen] == [[("first", "SUCCEEDED")]] * 3
    assert sim.stats.max_in_flight == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_waits_for_one_of_our_connections_is_told_so(
    serve: Serve, sim: ProviderSim, *, streamed: bool
) -> None:
    """Whoever leaves then has cost nothing."""
    sim.script = [Rule(model="first", first_token_ms=300)]
    router = await serve(faulty(sim.base_url, "first", provider={"max_connections": 1}))
    within = asyncio.ensure_future(ask(router))
    await sim.wait_until(lambda: sim.stats.in_flight == 1)
    if streamed:
        steps = router.stub.CompleteStream(pb.CompleteStreamRequest(call=call()), metadata=CALLER, timeout=5)
    else:
        steps = router.stub.CompleteWithTries(pb.CompleteWithTriesRequest(call=call()), metadata=CALLER, timeout=5)
    causes = [attempt.cause async for step in steps if step.HasField("tries") for attempt in step.tries.attempts]
    assert causes == ["waits-for-connection", ""]
    assert (await within).names() == [("first", "SUCCEEDED")]
