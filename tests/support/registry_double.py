"""A registry servicer of which only the watch does anything: one message, then silence until it is ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from llmops.registry.v1 import registry_pb2 as pb
from llmops.registry.v1 import registry_pb2_grpc


class RegistryDouble(registry_pb2_grpc.RegistryServiceServicer):
    """Counts the watches that are open."""

    def __init__(self) -> None:
        self.watchers = 0

    async def Watch(self, request: pb.WatchRequest, context: object) -> AsyncIterator[pb.WatchResponse]:
        self.watchers += 1
        try:
            yield pb.WatchResponse(revision=1)
            await asyncio.Event().wait()
        finally:
            self.watchers -= 1

    async def PublishPrompt(self, request: pb.PublishPromptRequest, context: object) -> pb.PublishPromptResponse:
        raise NotImplementedError

    async def GetPrompt(self, request: pb.GetPromptRequest, context: object) -> pb.GetPromptResponse:
        raise NotImplementedError

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: object) -> pb.ListPromptsResponse:
        raise NotImplementedError

    async def Resolve(self, request: pb.ResolveRequest, context: object) -> pb.ResolveResponse:
        raise NotImplementedError
