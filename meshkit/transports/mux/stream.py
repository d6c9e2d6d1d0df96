"""The client's side of one stream: calls go in batches, outcomes come in batches, and one end is for all."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from llmops.mesh.v1 import mesh_pb2

from meshkit.transports.mux.call import Carried
from meshkit.transports.mux.limits import (
    FRAME_BYTES,
    MAX_BATCH_BYTES,
    MAX_HEADER_BYTES,
    MAX_IN_FLIGHT,
    MAX_QUEUED_BYTES,
    MAX_REQUEST_BYTES,
)

logger = logging.getLogger("meshkit.mux")


class MuxStream:
    """A stream that is up, on a connection of its own. `run()` works it until it ends, and must be run.

    `leaving` is set when no further call should begin here: the peer drains, or the stream has ended.
    """

    def __init__(
        self,
        connection: grpc.aio.Channel,
        call: Any,
        max_message_bytes: int,
        opening: mesh_pb2.ExchangeResponse,
        ends_s: float,
    ) -> None:
        # Its deadline on the loop's clock, with which everything in it ends.
        self.ends_s = ends_s
        self._connection = connection
        self._call = call
        self._opening: bytes = mesh_pb2.ExchangeRequest(
            max_response_bytes=max_message_bytes - FRAME_BYTES
        ).SerializeToString()
        self._max_batch_bytes = min(MAX_BATCH_BYTES, max_message_bytes, opening.max_batch_bytes or MAX_BATCH_BYTES)
        # What is longer goes by an RPC of its own; whatever is not fits into a batch.
        self.max_request_bytes = min(MAX_REQUEST_BYTES, self._max_batch_bytes - MAX_HEADER_BYTES)
        # A peer of the release before knows unary calls only.
        self.carries_messages = opening.carries_messages
        self._calls: dict[int, Carried] = {}
        self._queue: deque[Carried] = deque()
        self._queued_bytes = 0
        self._cancelled: list[int] = []
        self._something = asyncio.Event()
        self._retired = False
        self._last_id = 0
        self.leaving = asyncio.Event()
        self.ended = False

    @property
    def takes_calls(self) -> bool:
        """Whether a further call has a place here, and need not wait for a peer that does not keep up."""
        return len(self._calls) < MAX_IN_FLIGHT and self._queued_bytes < MAX_QUEUED_BYTES and not self.leaving.is_set()

    def next_id(self) -> int:
        """An id for a call."""
        self._last_id += 1
        return self._last_id

    def send(self, call: Carried) -> None:
        """Takes a call with an id of this stream. It is written with whatever else waits by then."""
        self._calls[call.id] = call
        self._queued_bytes += len(call.framed)
        self._queue.append(call)
        if len(self._queue) == 1:
            self._something.set()

    def forget(self, call: Carried) -> None:
        """See Carrier."""
        if self._calls.pop(call.id, None) is None:
            return
        if call.written:
            self._cancelled.append(call.id)
            self._something.set()
        else:
            self._queue.remove(call)
            self._queued_bytes -= len(call.framed)
        self._end_if_idle()

    def retire(self) -> None:
        """Begins no further call; ends when those in flight are done."""
        self._retired = True
        self._end_if_idle()

    def break_off(self) -> None:
        """Ends now. Calls in flight are cancelled, here and at the peer, as when a channel of gRPC is closed."""
        for call in list(self._calls.values()):
            call.cancel()
        self._call.cancel()

    async def run(self) -> None:
        """Reads and writes until the stream has ended, then tells every call that is left."""
        writer = asyncio.get_running_loop().create_task(self._write())
        details = "the stream was cancelled"
        try:
            details = await self._read()
        finally:
            self.ended = True
            self.leaving.set()
            for call in list(self._calls.values()):
                call.lost(details)
            self._calls.clear()
            self._queue.clear()
            writer.cancel()
            self._call.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self._connection.close()

    async def _read(self) -> str:
        """Returns why the stream ended."""
        try:
            while (raw := await self._call.read()) is not grpc.aio.EOF:
                self._receive(raw)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        except DecodeError:
            logger.warning("a peer answered with what is not a batch")
            return "the answer cannot be read"
        return "the peer ended the stream"

    def _receive(self, raw: bytes) -> None:
        batch = mesh_pb2.ExchangeResponse.FromString(raw)
        look, take = self._calls.get, self._calls.pop
        for outcome in batch.outcomes:
            # A call that nobody waits for any more may have been answered while its cancellation travelled.
            call = look(outcome.id) if outcome.HasField("message") else take(outcome.id, None)
            if call is not None:
                call.settle(outcome)
        if batch.draining:
            self.leaving.set()
        self._end_if_idle()

    async def _write(self) -> None:
        """Writes what waits, all that waits, until there is nothing more to come."""
        try:
            await self._call.write(self._opening)
            while True:
                await self._something.wait()
                self._something.clear()
                # What is not taken from the queue once the stream has ended is known never to have been written.
                while not self._call.done() and (batch := self._take()):
                    await self._call.write(batch)
                if self._retired and not self._calls:
                    await self._call.done_writing()
                    return
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream has ended; the reader knows why.
            return

    def _take(self) -> bytes:
        parts: list[bytes] = []
        if self._cancelled:
            parts.append(mesh_pb2.ExchangeRequest(cancelled_ids=self._cancelled).SerializeToString())
            self._cancelled = []
        queue = self._queue
        room_bytes = self._max_batch_bytes - (len(parts[0]) if parts else 0)
        while queue and len(queue[0].framed) <= room_bytes:
            call = queue.popleft()
            size_bytes = len(call.framed)
            room_bytes -= size_bytes
            self._queued_bytes -= size_bytes
            call.written = True
            parts.append(call.framed)
        return b"".join(parts)

    def _end_if_idle(self) -> None:
        if self._retired and not self._calls:
            self._something.set()
