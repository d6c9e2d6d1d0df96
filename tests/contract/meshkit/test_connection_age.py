"""What runs on a connection that has come to its age."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from llmops.guard.v1 import guard_pb2 as pb
from llmops.guard.v1 import guard_pb2_grpc

from tests.contract.meshkit.mux_peers import channel_to, guard_of, peer
from tests.contract.meshkit.test_transports import AUTHORISED, deltas


class Patient(guard_pb2_grpc.GuardServiceServicer):
    """A stream that goes on for a second and a half."""

    async def CheckOutputStream(self, requests: object, context: object) -> AsyncIterator[pb.CheckOutputStreamResponse]:
        for _ in range(6):
            yield pb.CheckOutputStreamResponse()
            await asyncio.sleep(0.25)


async def test_an_answer_may_take_longer_than_its_connection_lives() -> None:
    """It had the grace of a shutdown, 10 s: an answer of a minute was cut, and paid for, one time in six."""
    settings = {"max_connection_age_s": 0.3, "grace_s": 0.1}
    async with peer(Patient(), settings=settings) as there, channel_to(there) as channel:
        answers = [each async for each in guard_of(channel).CheckOutputStream(deltas("a"), metadata=AUTHORISED)]
        assert len(answers) == 6
