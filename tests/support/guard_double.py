"""A guard servicer whose behaviour a test scripts through the policy name: the transports' sparring partner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from llmops.common.v1 import chat_pb2
from llmops.guard.v1 import guard_pb2 as pb
from llmops.guard.v1 import guard_pb2_grpc

from meshkit.context import current, remaining_s


class PolicyUnknown(Exception):
    status = "NOT_FOUND"
    reason = "NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("there is no such policy; policies are default")
        self.metadata = {"policy": "nope"}
        self.quota_violations = [("organisation:acme", "spent")]
        self.retry_after_s = 1.5


class Limited(Exception):
    """A rate limit; `retry_after_s` None means that waiting does not help."""

    status = "RESOURCE_EXHAUSTED"
    reason = "RATE_LIMITED"

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__("slower")
        self.quota_violations = [("key:1", "60 requests per minute")]
        self.retry_after_s = retry_after_s


class Away(Exception):
    status = "UNAVAILABLE"
    reason = "SERVICE_UNAVAILABLE"


class GuardDouble(guard_pb2_grpc.GuardServiceServicer):
    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.seen: list[object] = []

    async def CheckInput(self, request: pb.CheckInputRequest, context: object) -> pb.CheckInputResponse:
        call = current()
        self.seen.append(call)
        if request.policy == "unknown":
            raise PolicyUnknown
        if request.policy.startswith("limited"):
            raise Limited(float(request.policy[7:]) if request.policy[7:] else None)
        if request.policy == "crash":
            raise RuntimeError("secret detail")
        if request.policy == "dependency-cancelled":
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting.cancel()
            await waiting
        if request.policy == "hang":
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if request.policy == "away" and len(self.seen) == 1:
            raise Away
        request.policy = "changed by the callee"
        response = pb.CheckInputResponse(language=call.principal.organisation)
        response.estimated_input_tokens = int(remaining_s(0) * 1000)
        return response

    async def CheckOutputStream(
        self, request_iterator: AsyncIterator[pb.CheckOutputStreamRequest], context: object
    ) -> AsyncIterator[pb.CheckOutputStreamResponse]:
        self.seen.append(current())
        self.started.set()
        try:
            async for request in request_iterator:
                if request.WhichOneof("event") == "finish":
                    yield pb.CheckOutputStreamResponse(verdict=pb.StreamVerdict())
                elif request.delta.content == "crash":
                    raise RuntimeError("secret detail")
                elif request.delta.content == "away":
                    raise Away
                elif request.delta.content == "unknown":
                    raise PolicyUnknown
                elif request.delta.content == "hang":
                    await asyncio.Event().wait()
                else:
                    text = request.delta.content.upper()
                    yield pb.CheckOutputStreamResponse(release=chat_pb2.CompletionDelta(content=text))
        finally:
            self.cancelled.set()
