"""Metrics over HTTP: for nobody by default, and what they count where the operator wants them there."""

from __future__ import annotations

import aiohttp

from services.edge.settings import EdgeSettings
from tests.contract.edge.harness import AUTHORISED, Edge, running_edge
from tests.contract.edge.test_http import CHAT, HELLO


async def test_metrics_are_not_for_callers_unless_the_operator_says_so(edge: Edge, http: aiohttp.ClientSession) -> None:
    # They need no key, and count what everybody uses, by models that a key may not even name.
    for path in ("/metrics", "/metrics/"):
        async with http.get(edge.url + path, headers=AUTHORISED) as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["code"] == "not_found"
    async with http.get(edge.url + "/") as answer:
        assert "metrics" not in await answer.text()


async def test_metrics_count_answers_by_route_and_status(http: aiohttp.ClientSession) -> None:
    async with running_edge(EdgeSettings(port=0, metrics=True)) as edge:
        await (await http.post(edge.url + CHAT, json=HELLO, headers=AUTHORISED)).read()
        await (await http.post(edge.url + CHAT, json=HELLO)).read()
        await (await http.get(edge.url + "/etc/passwd")).read()
        async with http.get(edge.url + "/metrics") as answer:
            text = await answer.text()
    for line in (
        'llmops_edge_requests_total{route="/v1/chat/completions",status="200"} 1.0',
        'llmops_edge_requests_total{route="/v1/chat/completions",status="401"} 1.0',
        'llmops_edge_requests_total{route="unknown",status="404"} 1.0',
        "llmops_edge_requests_in_flight 0.0",
    ):
        assert line in text
