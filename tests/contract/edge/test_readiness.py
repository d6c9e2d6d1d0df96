"""Readiness over HTTP costs what one look costs, whoever asks, and how often."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.contract.edge.harness import Edge


async def test_readiness_is_looked_at_once_for_all_who_ask(edge: Edge, http: aiohttp.ClientSession) -> None:
    # It needs no key, and each look asks every database of the process.
    looks: list[str] = []

    async def look() -> None:
        looks.append("looked")
        await asyncio.sleep(0.05)

    async def asked() -> int:
        async with http.get(edge.url + "/readyz") as answer:
            return answer.status

    edge.kit.ready_check("database", look)
    assert await asyncio.gather(*(asked() for _ in range(20))) == [200] * 20
    assert looks == ["looked"]
    await asyncio.sleep(0.3)
    assert await asked() == 200
    assert len(looks) == 2
