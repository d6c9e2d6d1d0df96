"""The Anthropic Messages wire format (https://docs.anthropic.com/en/api/messages-streaming)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson

from llmops_cli.provider_sim.answer import Answer
from llmops_cli.provider_sim.dialects import EVENT_STREAM, sse_event
from llmops_cli.provider_sim.request import (
    ChatRequest,
    ForcedTool,
    Message,
    Part,
    RequestError,
    estimate_tokens,
    last_user_text,
)

_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class _Tool(msgspec.Struct):
    name: str
    input_schema: Any = None


class _ToolChoice(msgspec.Struct):
    type: str = "auto"
    name: str | None = None


class _Request(msgspec.Struct):
    model: str
    max_tokens: int
    messages: list[Message]
    system: str | list[Part] | None = None
    stream: bool = False
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None


class AnthropicDialect:
    """Messages: unary, and streams from message_start to message_stop."""

    name = "anthropic"
    id_prefix = "msg_sim_"
    key_header = "x-api-key"
    stream_type = EVENT_STREAM
    binary = False

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Request)

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is no Messages request."""
        try:
            raw = self._decoder.decode(body)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(400, f"The request body is invalid: {error}") from error
        texts = [message.text() for message in raw.messages]
        if raw.system is not None:
            texts.append(Message("system", raw.system).text())
        return ChatRequest(
            model=raw.model,
            stream=raw.stream,
            include_usage=True,
            input_tokens=estimate_tokens(texts),
            last_user_text=last_user_text(raw.messages),
            max_tokens=raw.max_tokens,
            forced_tool=_forced_tool(raw),
            json_schema=None,
        )

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """A message object."""
        document: dict[str, object] = {
            **_message(answer_id, request),
            "content": _blocks(answer_id, answer),
            "stop_reason": _STOP_REASONS[answer.finish],
        }
        if usage:
            document["usage"] = _usage(answer, answer.output_tokens)
        return orjson.dumps(document)

    def opening(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """message_start with the input usage, the first text block, and a ping."""
        start = {**_message(answer_id, request), "content": [], "stop_reason": None, "usage": _usage(answer, 1)}
        events = [_event("message_start", message=start)]
        if not answer.tool_calls:
            events.append(_event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        return [*events, _event("ping")]

    def content(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """One content_block_delta per piece; a tool call brings the start and stop of its own block."""
        if not answer.tool_calls:
            return [
                _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
                for piece in answer.pieces
            ]
        return [
            b"".join(
                (
                    _event("content_block_start", index=i, content_block={**block, "input": {}}),
                    _event("content_block_delta", index=i, delta=_input_delta(answer.tool_calls[i].arguments)),
                    _event("content_block_stop", index=i),
                )
            )
            for i, block in enumerate(_blocks(answer_id, answer))
        ]

    def closing(
        self,
        answer_id: str,
        created_s: int,
        request: ChatRequest,
        answer: Answer,
        *,
        usage: bool,
        done: bool,
    ) -> list[bytes]:
        """content_block_stop, message_delta with the output usage, message_stop."""
        delta = {"stop_reason": _STOP_REASONS[answer.finish], "stop_sequence": None}
        events = [] if answer.tool_calls else [_event("content_block_stop", index=0)]
        if usage:
            events.append(_event("message_delta", delta=delta, usage={"output_tokens": answer.output_tokens}))
        else:
            events.append(_event("message_delta", delta=delta))
        if done:
            events.append(_event("message_stop"))
        return events

    def error(self, status: int, message: str, request_id: str) -> bytes:
        """An error object; every other 5xx is an api_error."""
        return orjson.dumps({**_error(status, message), "request_id": request_id})

    def error_event(self, message: str) -> bytes:
        """An error event."""
        return sse_event("error", orjson.dumps(_error(529, message)))


def _error(status: int, message: str) -> dict[str, object]:
    return {"type": "error", "error": {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}}


def _event(kind: str, **fields: object) -> bytes:
    return sse_event(kind, orjson.dumps({"type": kind, **fields}))


def _message(answer_id: str, request: ChatRequest) -> dict[str, object]:
    head = {"id": answer_id, "type": "message", "role": "assistant", "model": request.model}
    return {**head, "stop_sequence": None}


def _blocks(answer_id: str, answer: Answer) -> list[dict[str, object]]:
    if not answer.tool_calls:
        return [{"type": "text", "text": answer.text}]
    suffix = answer_id.removeprefix(AnthropicDialect.id_prefix)
    return [
        {"type": "tool_use", "id": f"toolu_{suffix}_{i}", "name": call.name, "input": orjson.loads(call.arguments)}
        for i, call in enumerate(answer.tool_calls)
    ]


def _input_delta(arguments: str) -> dict[str, object]:
    return {"type": "input_json_delta", "partial_json": arguments}


def _usage(answer: Answer, output_tokens: int) -> dict[str, object]:
    """Anthropic counts cached input beside input_tokens, not within."""
    return {
        "input_tokens": max(answer.input_tokens - answer.cached_tokens, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cached_tokens,
        "output_tokens": output_tokens,
    }


def _forced_tool(raw: _Request) -> ForcedTool | None:
    choice = raw.tool_choice
    if not raw.tools or choice is None or choice.type in {"auto", "none"}:
        return None
    tools = raw.tools if choice.type == "any" else [tool for tool in raw.tools if tool.name == choice.name]
    if not tools:
        raise RequestError(400, f"tool_choice names the tool {choice.name!r}, which is not in tools")
    return ForcedTool(tools[0].name, tools[0].input_schema)
