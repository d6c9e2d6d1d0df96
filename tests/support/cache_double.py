"""A cache servicer that only remembers what it was asked to drop: an admin action without anything behind it."""

from __future__ import annotations

from llmops.cache.v1 import cache_pb2 as pb
from llmops.cache.v1 import cache_pb2_grpc


class CacheDouble(cache_pb2_grpc.CacheServiceServicer):
    """Done is what reached the handler."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def Invalidate(self, request: pb.InvalidateRequest, context: object) -> pb.InvalidateResponse:
        self.done.append(request.request_id)
        return pb.InvalidateResponse(entry_count=1)

    async def GetStats(self, request: pb.GetStatsRequest, context: object) -> pb.GetStatsResponse:
        return pb.GetStatsResponse()

    async def Lookup(self, request: pb.LookupRequest, context: object) -> pb.LookupResponse:
        raise NotImplementedError

    async def Store(self, request: pb.StoreRequest, context: object) -> pb.StoreResponse:
        raise NotImplementedError

    async def ReportBadHit(self, request: pb.ReportBadHitRequest, context: object) -> pb.ReportBadHitResponse:
        self.done.append(request.request_id)
        return pb.ReportBadHitResponse()
