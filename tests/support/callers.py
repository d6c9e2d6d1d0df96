"""Callers of a mesh: the generated stubs over gRPC, and plain HTTP. They remember every request they made."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc.aio
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.orchestrator.v1 import orchestrator_pb2_grpc

from meshkit.errors import Failure
from meshkit.transports.status import decode
from tests.support.deployments import Deployment
from tests.support.mesh_settings import ACME, Caller
from tests.support.outcomes import Outcome

TIMEOUT_S = 20.0


def plain(message: Message) -> dict[str, Any]:
    """A message as plain data; int64 stays a number."""
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return {name: int(value) if name.endswith(_INT64) else value for name, value in _numbers(found).items()}


_INT64 = ("_nano_usd", "_tokens")


def _numbers(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _numbers(entry, key) for key, entry in value.items()}
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    return int(value) if name.endswith(_INT64) else value


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """What the status of a failed call says."""
    return decode(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()), "the call")


def user(text: str) -> list[chat_pb2.ChatMessage]:
    """A conversation of one message."""
    return [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)]


async def prompts_arrived(callers: MeshCallers) -> None:
    """Waits until a request passes every service: processes that start together need not be there for each other."""
    asked = pb.Conversation(prompt=pb.PromptInput(reference="greeting"))
    async with asyncio.timeout(TIMEOUT_S):
        while (await callers.complete(asked)).reason != "PROMPT_VARIABLES":
            await asyncio.sleep(0.05)
        # The edge looks for the orchestrator by itself, and may have looked too early.
        by_prompt = {"llmops": {"prompt": "greeting"}}
        while (await callers.tried("alpha/words", "", **by_prompt)).reason != "PROMPT_VARIABLES":
            await asyncio.sleep(0.05)
        # Each service is looked for when it is first needed, and an absent cache is only marked.
        for number in range(10**6):
            probe = pb.Conversation(messages=user(f"Is everybody there? {number}"), model="alpha/words")
            outcome = await callers.complete(probe)
            if not (outcome.error or outcome.report.get("degraded")):
                return
            await asyncio.sleep(0.05)


class MeshCallers:
    """Sends requests in the name of a caller; `sent` lists them all, with whose they were."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.sent: list[tuple[Caller, str]] = []
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels.values():
            await channel.close()
        await self.http.close()

    def channel(self, service: str) -> grpc.aio.Channel:
        """A plain gRPC channel, as any client of the contract opens it."""
        address = self.deployment.grpc[service]
        if address not in self._channels:
            options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)]
            self._channels[address] = grpc.aio.insecure_channel(address, options=options)
        return self._channels[address]

    @property
    def orchestrator(self) -> Any:
        """The generated stub."""
        return orchestrator_pb2_grpc.OrchestratorServiceStub(self.channel("orchestrator"))

    def metadata(self, caller: Caller, **more: str) -> tuple[tuple[str, str], ...]:
        """Call metadata with the caller's key."""
        return (("authorization", f"Bearer {caller.key}"), *((k.replace("_", "-"), v) for k, v in more.items()))

    def new_request(self, caller: Caller) -> str:
        """An id that is remembered."""
        request_id = f"it-{uuid.uuid4().hex}"
        self.sent.append((caller, request_id))
        return request_id

    # gRPC

    async def complete(
        self, conversation: pb.Conversation, caller: Caller = ACME, timeout_s: float = TIMEOUT_S, **metadata: str
    ) -> Outcome:
        """Complete, whatever comes of it."""
        request = pb.CompleteRequest(request_id=self.new_request(caller), conversation=conversation)
        outcome = Outcome(request.request_id)
        try:
            response = await self.orchestrator.Complete(
                request, timeout=timeout_s, metadata=self.metadata(caller, **metadata)
            )
        except grpc.aio.AioRpcError as error:
            outcome.error = failure_of(error)
            return outcome
        outcome.body = plain(response.completion)
        outcome.text = response.completion.content
        outcome.report = plain(response.report)
        return outcome

    async def complete_stream(
        self, conversation: pb.Conversation, caller: Caller = ACME, timeout_s: float = TIMEOUT_S
    ) -> Outcome:
        """CompleteStream to its end, pieces joined."""
        request = pb.CompleteStreamRequest(request_id=self.new_request(caller), conversation=conversation)
        outcome = Outcome(request.request_id)
        calls: dict[int, dict[str, Any]] = {}
        stream = self.orchestrator.CompleteStream(request, timeout=timeout_s, metadata=self.metadata(caller))
        try:
            async for event in stream:
                kind = event.WhichOneof("event")
                if kind == "started":
                    outcome.started = plain(event.started)
                elif kind == "delta":
                    outcome.text += event.delta.content
                    for fragment in event.delta.tool_calls:
                        _join_call(calls, fragment.index, fragment.id, fragment.name, fragment.arguments_json)
                elif kind == "finished":
                    outcome.finish = chat_pb2.FinishReason.Name(event.finished.finish_reason)
                    outcome.report = plain(event.finished.report)
                    outcome.done = True
        except grpc.aio.AioRpcError as error:
            outcome.error = failure_of(error)
        finally:
            stream.cancel()
        outcome.tool_calls = [calls[index] for index in sorted(calls)]
        return outcome

    async def explain(self, request_id: str, caller: Caller = ACME) -> pb.ExplainResponse | Failure:
        """What the orchestrator remembers."""
        try:
            response: pb.ExplainResponse = await self.orchestrator.Explain(
                pb.ExplainRequest(request_id=request_id), timeout=TIMEOUT_S, metadata=self.metadata(caller)
            )
        except grpc.aio.AioRpcError as error:
            return failure_of(error)
        return response

    # HTTP

    @asynccontextmanager
    async def post(
        self, body: Mapping[str, Any], caller: Caller = ACME, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[str, aiohttp.ClientResponse]]:
        """POST /v1/chat/completions; yields the request id and the response."""
        request_id = self.new_request(caller)
        sent = {"authorization": f"Bearer {caller.key}", "x-request-id": request_id, **(headers or {})}
        url = f"{self.deployment.http_url}/v1/chat/completions"
        async with self.http.post(url, data=json.dumps(body).encode(), headers=sent) as response:
            yield request_id, response

    async def chat(
        self,
        model: str,
        text: str,
        caller: Caller = ACME,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Outcome:
        """A unary chat completion."""
        request = {"model": model, "messages": [{"role": "user", "content": text}] if text else [], **body}
        async with self.post(request, caller, headers) as (request_id, response):
            content = json.loads(await response.read())
            outcome = Outcome(request_id, body=content, headers=_lower(response.headers), http_status=response.status)
        if response.status == 200:
            outcome.report = content["llmops"]
            outcome.text = content["choices"][0]["message"]["content"] or ""
        else:
            outcome.error = _http_failure(content)
        return outcome

    async def tried(self, model: str, text: str, caller: Caller = ACME, **body: Any) -> Outcome:
        """As `chat`; a connection that fails is an outcome as well, of reason CONNECTION."""
        try:
            return await self.chat(model, text, caller, **body)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            failure = Failure("UNAVAILABLE", "CONNECTION", type(error).__name__)
            return Outcome(self.sent[-1][1], error=failure)

    async def chat_stream(
        self,
        model: str,
        text: str,
        caller: Caller = ACME,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Outcome:
        """A streamed chat completion to its end, chunks joined."""
        request = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **body}
        async with self.post(request, caller, headers) as (request_id, response):
            outcome = Outcome(request_id, headers=_lower(response.headers), http_status=response.status)
            if response.status != 200:
                outcome.body = json.loads(await response.read())
                outcome.error = _http_failure(outcome.body)
                return outcome
            calls: dict[int, dict[str, Any]] = {}
            async for line in response.content:
                _read_line(outcome, calls, line)
        outcome.tool_calls = [calls[index] for index in sorted(calls)]
        return outcome


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _http_failure(content: Mapping[str, Any]) -> Failure:
    told = content["llmops"]
    return Failure(
        told["status"],
        told["reason"],
        content["error"]["message"],
        metadata=told["metadata"],
        retry_after_s=told["retry_after_s"],
    )


def _read_line(outcome: Outcome, calls: dict[int, dict[str, Any]], line: bytes) -> None:
    if not line.startswith(b"data: "):
        return
    if line.startswith(b"data: [DONE]"):
        outcome.done = True
        return
    chunk = json.loads(line[6:])
    if "error" in chunk:
        outcome.error = _http_failure(chunk)
        return
    outcome.report = chunk.get("llmops") or outcome.report
    for choice in chunk["choices"]:
        outcome.text += choice["delta"].get("content") or ""
        outcome.finish = choice["finish_reason"] or outcome.finish
        for call in choice["delta"].get("tool_calls") or ():
            function = call["function"]
            _join_call(calls, call["index"], call.get("id", ""), function.get("name", ""), function["arguments"])


def _join_call(calls: dict[int, dict[str, Any]], index: int, call_id: str, name: str, arguments: str) -> None:
    call = calls.setdefault(index, {"name": "", "arguments": "", "has_id": False})
    call["name"] += name
    call["arguments"] += arguments
    call["has_id"] = call["has_id"] or bool(call_id)
