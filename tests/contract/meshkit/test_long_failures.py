"""Failures of calls that were tried many times: what was tried arrives with them on every transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from llmops.router.v1 import router_pb2 as pb

from meshkit.errors import CallError
from services.router.core.attempts import Attempt, attempts_json
from services.router.core.chat import Usage
from services.router.core.errors import UpstreamUnavailable
from services.router.core.failure import Outcome
from services.router.settings import MAX_ATTEMPTS
from tests.contract.meshkit.test_few_messages import AUTHORISED, Double, asking, opened

SLOW = Attempt(
    "a-large-model-of-ours",
    "a-provider-of-ours",
    "a-large-model-2026-11-29",
    Outcome.TIMED_OUT,
    0,
    30.0,
    Usage(123_456, estimated=True),
    "first-token-timeout",
)
TRIES = attempts_json([SLOW] * MAX_ATTEMPTS)


class InVain(Double):
    """Tried as often as it may."""

    async def CompleteStream(
        self, request: pb.CompleteStreamRequest, context: object
    ) -> AsyncIterator[pb.CompleteStreamResponse]:
        if request.call.messages:
            raise UpstreamUnavailable("No model of this route could answer.", metadata={"attempts_json": TRIES})
        yield pb.CompleteStreamResponse()


@pytest.mark.parametrize("transport", ["local", "grpc", "mux"])
async def test_every_try_of_a_call_in_vain_arrives_with_its_failure(transport: str) -> None:
    """The caller heard of an overload instead, and of no try: those that may be billed were not booked."""
    request = pb.CompleteStreamRequest(request_id="r", call=asking("go").call)
    async with opened(transport, InVain) as bench:  # type: ignore[type-abstract]
        with pytest.raises(CallError) as caught:
            async with aclosing(bench.stub.CompleteStream(request, metadata=AUTHORISED)) as stream:
                await anext(stream)
    assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
    assert caught.value.metadata["attempts_json"] == TRIES
