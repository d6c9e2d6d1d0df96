"""The router alone in a process, behind either transport, with what tests ask of it and what they see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc

from llmops_cli.provider_sim.billing import BillingRecord
from meshkit.errors import CallError
from meshkit.identity import key_digest
from meshkit.kit import Kit
from meshkit.runtime import AuthSettings, KeySettings, ProcessSettings, Runtime
from meshkit.settings import Secret
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings
from services.router.main import build
from services.router.settings import RouterSettings

SERVICE = "llmops.router.v1.RouterService"
PEPPER = "pepper-for-tests-only"
STRANGER = (("authorization", "Bearer caller-secret"),)
CALLER = (*STRANGER, ("x-llmops-mesh", "mesh-secret"))
KEYS = (KeySettings("caller", key_digest(PEPPER.encode(), "caller-secret"), "acme", ("caller",)),)


@dataclass
class RunningRouter:
    """A stub to it, and its metrics."""

    stub: Any
    runtime: Runtime

    def metric(self, line: str) -> float:
        """The value of one series, spelled as in the exposition; 0 when there is none."""
        for row in self.runtime.metrics.exposition().decode().splitlines():
            if row.startswith(line + " "):
                return float(row.rpartition(" ")[2])
        return 0.0


async def start_router(stack: AsyncExitStack, router: RouterSettings, transport: str) -> RunningRouter:
    """Runs until the stack ends; `transport` is "local" or "grpc"."""
    server_settings = ServerSettings(grpc_port=0, grace_s=0.2)
    auth = AuthSettings(pepper=Secret(PEPPER), mesh_key=Secret("mesh-secret"), keys=KEYS)
    process = ProcessSettings(server=server_settings, auth=auth)
    runtime = Runtime("router", process, frozenset({"router"}), None)
    kit = Kit(runtime, "router")
    stack.push_async_callback(runtime.close)
    stack.push_async_callback(kit.close)
    await stack.enter_async_context(build(router, kit))
    channel = runtime.channel("router")
    if transport == "grpc":
        server = GrpcServer(process.server, runtime.table)
        await server.start()
        stack.push_async_callback(server.drain)
        channel = open_channel(SERVICE, PeerSettings(address=f"127.0.0.1:{server.port}"))
        stack.push_async_callback(channel.close)
    return RunningRouter(router_pb2_grpc.RouterServiceStub(channel), runtime)


@dataclass(frozen=True)
class Tried:
    """One try as the caller was told of it, the same from an answer and from an error. Tokens are 0 without usage."""

    model: str
    outcome: str
    cause: str
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    purpose: str = ""


@dataclass
class Seen:
    """Everything that one caller saw. `events` are the kinds of the stream's events, deltas in a row count once."""

    text: str = ""
    reason: str = ""
    status: str = ""
    retry_after_s: float | None = None
    tries: list[Tried] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def names(self) -> list[tuple[str, str]]:
        """Model and outcome of each try."""
        return [(tried.model, tried.outcome) for tried in self.tries]

    def tokens(self) -> tuple[int, int]:
        """What is booked for the call: input and output tokens of all tries."""
        return sum(tried.input_tokens for tried in self.tries), sum(tried.output_tokens for tried in self.tries)


def call(model: str = "", text: str = "Tell me of the ferry.") -> pb.ModelCall:
    return pb.ModelCall(model=model, messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)])


async def ask(router: RunningRouter, model: str = "", *, streamed: bool = False, timeout_s: float = 20.0) -> Seen:
    """Asks once and tells what came."""
    seen = Seen()
    try:
        if streamed:
            request = pb.CompleteStreamRequest(call=call(model))
            async for event in router.stub.CompleteStream(request, metadata=CALLER, timeout=timeout_s):
                _note(seen, event)
        else:
            whole = pb.CompleteWithTriesRequest(call=call(model))
            async for step in router.stub.CompleteWithTries(whole, metadata=CALLER, timeout=timeout_s):
                _note(seen, step)
    except CallError as error:
        seen.reason, seen.status, seen.retry_after_s = error.reason, error.status, error.retry_after_s
        seen.tries = [_tried_json(row) for row in json.loads(error.metadata.get("attempts_json", "[]"))]
    return seen


def billed(records: Sequence[BillingRecord]) -> tuple[int, int]:
    """What the provider charges: input and output tokens of all calls."""
    return sum(r.billed_input_tokens for r in records), sum(r.billed_output_tokens for r in records)


def _note(seen: Seen, event: pb.CompleteStreamResponse | pb.CompleteWithTriesResponse) -> None:
    kind = event.WhichOneof("event")
    if kind is not None and seen.events[-1:] != [kind]:
        seen.events.append(kind)
    if isinstance(event, pb.CompleteStreamResponse) and kind == "delta":
        seen.text += event.delta.content
    elif kind is not None:
        seen.tries = [_tried(attempt) for attempt in getattr(event, kind).attempts]
    if isinstance(event, pb.CompleteWithTriesResponse):
        seen.text = event.answer.completion.content


def _tried(attempt: pb.Attempt) -> Tried:
    usage = attempt.usage
    return Tried(
        attempt.model_name,
        pb.AttemptOutcome.Name(attempt.outcome).removeprefix("ATTEMPT_OUTCOME_"),
        attempt.cause,
        usage.input_tokens,
        usage.output_tokens,
        usage.estimated,
        pb.AttemptPurpose.Name(attempt.purpose).removeprefix("ATTEMPT_PURPOSE_"),
    )


def _tried_json(row: dict[str, Any]) -> Tried:
    usage = row["usage"] or {}
    counts = usage.get("input_tokens", 0), usage.get("output_tokens", 0), usage.get("estimated", False)
    return Tried(row["model_name"], row["outcome"], row["cause"], *counts)
