"""The server's side: every call of a batch is a task of its own and goes through the chain like any other."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from llmops.mesh.v1 import mesh_pb2

from meshkit.calls import HandlerTable, ServerCall
from meshkit.errors import CallError, Failure, Overloaded, describe
from meshkit.methods import Method
from meshkit.transports.mux.limits import (
    FRAME_BYTES,
    MAX_BATCH_BYTES,
    MAX_HEADER_BYTES,
    MAX_IN_FLIGHT,
    MAX_ITEMS,
    MAX_METADATA_PAIRS,
    MAX_QUEUED_BYTES,
    MAX_REQUEST_BYTES,
    SERVICE,
)
from meshkit.transports.status import code_number, details_of

logger = logging.getLogger("meshkit.mux")

_DRAINING: bytes = mesh_pb2.ExchangeResponse(draining=True).SerializeToString()


class MeshServicer:
    """Answers Exchange for the handlers of a table. A stream over `max_age_s` is asked to make room for a fresh one."""

    def __init__(self, table: HandlerTable, max_message_bytes: int, max_age_s: float) -> None:
        self._table = table
        self._max_message_bytes = max_message_bytes
        self._opening: bytes = mesh_pb2.ExchangeResponse(
            max_batch_bytes=min(MAX_BATCH_BYTES, max_message_bytes), carries_messages=True
        ).SerializeToString()
        self._max_age_s = max_age_s
        self._sessions: set[_Session] = set()
        self._draining = False

    def add_to(self, server: Any) -> None:
        """Registers with a server of gRPC. Bytes on both sides: batches are joined before they are sent."""
        handler: Any = grpc.stream_stream_rpc_method_handler(self._exchange)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Exchange": handler}),))

    def drain(self) -> None:
        """Asks every client to begin no further calls on its stream. What arrives is answered still."""
        self._draining = True
        for session in self._sessions:
            session.drain()

    async def _exchange(self, _: Any, context: Any) -> None:
        """A coroutine and no generator: its end must not wait for a collector when the client is gone."""
        session = _Session(self._table, context, self._max_message_bytes - FRAME_BYTES)
        self._sessions.add(session)
        loop = asyncio.get_running_loop()
        # In an empty context, of which each call's task takes a copy: none finds a running call that is not its own.
        reader = loop.create_task(session.read(), context=contextvars.Context())
        aging = loop.call_later(0 if self._draining else self._max_age_s, session.drain)
        try:
            await context.write(self._opening)
            while await session.has_more():
                await context.write(session.take())
            if session.objection is not None:
                await context.abort(*session.objection)
        finally:
            aging.cancel()
            reader.cancel()
            session.cancel_all()
            await asyncio.gather(reader, *session.ending, return_exceptions=True)
            self._sessions.discard(session)


class _Session:
    """One stream."""

    def __init__(self, table: HandlerTable, context: Any, max_response_bytes: int) -> None:
        self._find, self._chain = table.find, table.chain
        self._context = context
        self._peer: str = context.peer()
        self._max_response_bytes = max_response_bytes
        self._running: dict[int, tuple[asyncio.Task[None], asyncio.TimerHandle | None]] = {}
        self._answers: list[bytes] = []
        self._unsent_bytes = 0
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._half_closed = False
        # Handlers of cancelled calls that clean up. Until they have, their ids are not free and they count.
        self.ending: dict[asyncio.Task[None], int] = {}
        self._ending_ids: set[int] = set()
        self.objection: tuple[grpc.StatusCode, str] | None = None

    async def read(self) -> None:
        """Begins what the client sends, until it sends no more."""
        try:
            while (raw := await self._context.read()) is not grpc.aio.EOF:
                if len(raw) > MAX_BATCH_BYTES or not self._receive(raw):
                    text = (
                        f"a batch has at most {MAX_BATCH_BYTES} bytes, {MAX_ITEMS} calls and {MAX_ITEMS} cancellations"
                    )
                    self.objection = (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
                    return
                # A client that does not read what it asked for is not heard further.
                while self._unsent_bytes > MAX_QUEUED_BYTES or len(self._answers) > MAX_IN_FLIGHT:
                    self._room.clear()
                    await self._room.wait()
        except DecodeError:
            self.objection = (grpc.StatusCode.INVALID_ARGUMENT, "the batch cannot be read")
        finally:
            self._half_closed = True
            self._something.set()

    async def has_more(self) -> bool:
        """Waits for something to send. False when everything is said."""
        while not self._answers:
            if self.objection is not None or (self._half_closed and not self._running):
                return False
            self._something.clear()
            await self._something.wait()
        return True

    def take(self) -> bytes:
        """What waits, up to the size of a batch; at least one answer, which no client finds too long."""
        room_bytes, count = min(MAX_BATCH_BYTES, self._max_response_bytes), 0
        for answer in self._answers:
            room_bytes -= len(answer)
            if room_bytes < 0 and count:
                break
            count += 1
        batch = b"".join(self._answers[:count])
        del self._answers[:count]
        self._unsent_bytes -= len(batch)
        self._room.set()
        return batch

    def drain(self) -> None:
        """Says so."""
        self._put(_DRAINING)

    def cancel_all(self) -> None:
        """The client is gone."""
        for call_id in list(self._running):
            self._cancel(call_id)

    def _put(self, answer: bytes) -> None:
        self._answers.append(answer)
        self._unsent_bytes += len(answer)
        if len(self._answers) == 1:
            self._something.set()

    def _receive(self, raw: bytes) -> bool:
        """Begins a batch. False when it holds too much: each item is work, whatever its size."""
        batch = mesh_pb2.ExchangeRequest.FromString(raw)
        if len(batch.calls) > MAX_ITEMS or len(batch.cancelled_ids) > MAX_ITEMS:
            return False
        if batch.max_response_bytes:
            self._max_response_bytes = min(self._max_response_bytes, batch.max_response_bytes)
        if batch.calls:
            loop = asyncio.get_running_loop()
            now_s = loop.time()
            for item in batch.calls:
                self._begin(loop, now_s, item)
        for call_id in batch.cancelled_ids:
            self._cancel(call_id)
        return True

    def _begin(self, loop: asyncio.AbstractEventLoop, now_s: float, item: mesh_pb2.Call) -> None:
        call_id, request = item.id, item.request
        found = self._find(item.method)
        if found is None or not _is_carried(found[0]):
            # gRPC's own words for what a server does not serve.
            self._put(_failed(call_id, Failure("UNIMPLEMENTED", "", "Method not found!")))
            return
        metadata = _metadata(item)
        excess = self._excess(call_id, request, metadata)
        if excess:
            self._put(_failed(call_id, describe(Overloaded(excess))))
            return
        method, handler = found
        deadline_s = now_s + item.timeout_us / 1e6 if item.timeout_us else None
        call = ServerCall(method, metadata, deadline_s, self._peer)
        answering = self._answer(call_id, method, handler, request, call)
        timer = None if deadline_s is None else loop.call_at(deadline_s, self._expire, call_id)
        self._running[call_id] = (loop.create_task(answering), timer)

    def _excess(self, call_id: int, request: bytes, metadata: dict[str, str]) -> str:
        if len(request) > MAX_REQUEST_BYTES:
            return f"a request in a batch has at most {MAX_REQUEST_BYTES} bytes"
        size_bytes = sum(len(name) + len(value) for name, value in metadata.items())
        if size_bytes > MAX_HEADER_BYTES or len(metadata) > MAX_METADATA_PAIRS + len(_OWN_FIELDS):
            return f"the metadata of a call has at most {MAX_HEADER_BYTES} bytes and {MAX_METADATA_PAIRS} pairs"
        if len(self._running) + len(self.ending) >= MAX_IN_FLIGHT:
            return f"a stream has at most {MAX_IN_FLIGHT} calls in flight"
        if call_id in self._running or call_id in self._ending_ids:
            return "the id of a call is used once on a stream"
        return ""

    async def _answer(self, call_id: int, method: Method, handler: Any, request: bytes, call: ServerCall) -> None:
        try:
            message = method.request_type.FromString(request)
            if method.server_streaming:
                answer = await self._messages(call_id, self._chain.stream(call, message, handler))
            else:
                response = await self._chain.unary(call, message, handler)
                answer = _said(call_id, response=self._fitting(response.SerializeToString()))
        except CallError as error:
            answer = _failed(call_id, error.failure)
        except Exception as error:  # noqa: BLE001 - as the chain would: INTERNAL with an id, its text in the log
            answer = _failed(call_id, describe(error))
        ended = self._running.pop(call_id, None)
        if ended is not None:
            # Else the client has left, or has heard of its deadline.
            if ended[1] is not None:
                ended[1].cancel()
            self._put(answer)

    async def _messages(self, call_id: int, messages: AsyncGenerator[Any, None]) -> bytes:
        """Says the few messages of a stream as they come. Returns its end."""
        async with aclosing(messages):
            async for message in messages:
                said = _said(call_id, message=self._fitting(message.SerializeToString()))
                if call_id in self._running:
                    self._put(said)
        return _said(call_id, ended=True)

    def _fitting(self, response: bytes) -> bytes:
        if len(response) > self._max_response_bytes:
            text = f"the response has {len(response)} bytes; the caller takes {self._max_response_bytes}"
            raise CallError(Failure("RESOURCE_EXHAUSTED", "", text))
        return response

    def _expire(self, call_id: int) -> None:
        if self._cancel(call_id):
            self._put(_failed(call_id, Failure("DEADLINE_EXCEEDED", "", "Deadline Exceeded")))

    def _cancel(self, call_id: int) -> bool:
        """Cancels a handler; it cleans up in its own time and is not heard any more."""
        found = self._running.pop(call_id, None)
        if found is None:
            return False
        task, timer = found
        if timer is not None:
            timer.cancel()
        task.cancel()
        self.ending[task] = call_id
        self._ending_ids.add(call_id)
        task.add_done_callback(self._ended)
        self._something.set()
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending_ids.discard(self.ending.pop(task))


def _is_carried(method: Method) -> bool:
    return not method.client_streaming and (method.few_messages or not method.server_streaming)


_OWN_FIELDS = ("authorization", "x-request-id", "traceparent")


def _metadata(item: mesh_pb2.Call) -> dict[str, str]:
    own = {
        "authorization": item.authorization,
        "x-request-id": item.request_id,
        "traceparent": item.traceparent,
    }
    return {**item.metadata, **own} if item.metadata else own


def _failed(call_id: int, failure: Failure) -> bytes:
    """An outcome. A failure without a reason is the transport's own and carries no details, as in gRPC."""
    details = details_of(failure) if failure.reason else b""
    told = mesh_pb2.Failure(code=code_number(failure), message=failure.message, details=details)
    return _said(call_id, failure=told)


def _said(call_id: int, **result: Any) -> bytes:
    outcome = mesh_pb2.Outcome(id=call_id, **result)
    return mesh_pb2.ExchangeResponse(outcomes=(outcome,)).SerializeToString()
