"""The order of a stream's events, which every dialect demands alike."""

from __future__ import annotations

from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.core.errors import CallFailed


class StreamOrder:
    """`started`, then deltas and at most one `continued` among them, then `finished`."""

    def __init__(self) -> None:
        self._started = False
        self._finished = False

    def take(self, event: pb.CompleteStreamResponse) -> str:
        """The event's kind. Raises CallFailed for one that may not come now."""
        kind: str | None = event.WhichOneof("event")
        if kind is None or self._finished or (kind == "started") == self._started:
            raise CallFailed("INTERNAL", "INTERNAL", "The stream's events came in an order that the contract forbids.")
        self._started = True
        self._finished = kind == "finished"
        return kind

    def require_finished(self) -> None:
        """Raises CallFailed when the events ended before the last one."""
        if not self._finished:
            raise CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "The stream ended before the answer was complete.")
