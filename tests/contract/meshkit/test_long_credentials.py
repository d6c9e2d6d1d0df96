"""Tokens of people in many groups: as long as identity takes them, they arrive on every transport, every time."""

from __future__ import annotations

import pytest

from tests.contract.meshkit.test_transports import LONGEST, check, deltas, opened


@pytest.mark.parametrize("transport", ["local", "grpc", "mux"])
async def test_the_longest_credential_arrives_every_time(transport: str) -> None:
    # gRPC lets some calls with more than 8 KiB of metadata pass, and refuses others.
    metadata = (("authorization", f"Bearer {LONGEST}"), ("idempotency-key", "k" * 255))
    async with opened(transport) as bench:
        for _ in range(20):
            assert (await bench.stub.CheckInput(check(), metadata=metadata)).language == "acme"
            assert [_ async for _ in bench.stub.CheckOutputStream(deltas("a"), metadata=metadata)]
