"""The OpenAI Chat Completions wire format (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import orjson

from llmops_cli.provider_sim.answer import Answer
from llmops_cli.provider_sim.dialects import EVENT_STREAM, sse_data
from llmops_cli.provider_sim.request import (
    ChatRequest,
    ForcedTool,
    Message,
    RequestError,
    estimate_tokens,
    last_user_text,
    unquoted,
)

AZURE_PATH: Final = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_FINGERPRINT: Final = "fp_sim"
_ERROR_TYPES: Final = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_denied"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("requests", "rate_limit_exceeded"),
}


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Function(msgspec.Struct):
    name: str
    parameters: Any = None


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None


class _JsonSchema(msgspec.Struct):
    schema: Any = None


class _ResponseFormat(msgspec.Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _Request(msgspec.Struct):
    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: Any = None
    response_format: _ResponseFormat | None = None


class OpenAiDialect:
    """Chat Completions: unary, and streams with stream_options.include_usage."""

    name = "openai"
    id_prefix = "chatcmpl-sim-"
    key_header = "authorization"
    stream_type = EVENT_STREAM
    binary = False

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Request)

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is no chat request. Azure names the deployment in the path."""
        try:
            raw = self._decoder.decode(body)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(400, f"The request body is invalid: {error}") from error
        options = raw.stream_options
        return ChatRequest(
            model=unquoted(match[1]) if (match := AZURE_PATH.fullmatch(path)) else raw.model,
            stream=bool(raw.stream),
            include_usage=options is not None and options.include_usage,
            input_tokens=estimate_tokens([message.text() for message in raw.messages]),
            last_user_text=last_user_text(raw.messages),
            max_tokens=raw.max_tokens if raw.max_completion_tokens is None else raw.max_completion_tokens,
            forced_tool=_forced_tool(raw),
            json_schema=_schema(raw.response_format),
        )

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """A chat.completion object."""
        message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool_calls:
            message["content"] = None
            message["tool_calls"] = [
                {
                    "id": _call_id(answer_id, i),
                    "type": "function",
                    "function": {"name": c.name, "arguments": c.arguments},
                }
                for i, c in enumerate(answer.tool_calls)
            ]
        document: dict[str, object] = {
            "id": answer_id,
            "object": "chat.completion",
            "created": created_s,
            "model": request.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}],
            "system_fingerprint": _FINGERPRINT,
        }
        if usage:
            document["usage"] = _usage(answer)
        return orjson.dumps(document)

    def opening(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """The event that names the role."""
        content = None if answer.tool_calls else ""
        delta = orjson.dumps({"role": "assistant", "content": content, "refusal": None})
        return [_chunk(_frame(answer_id, created_s, request), delta, b"null")]

    def content(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """One event per piece: a text delta, or a whole tool call (name and arguments)."""
        frame = _frame(answer_id, created_s, request)
        if not answer.tool_calls:
            return [_chunk(frame, b'{"content":%b}' % orjson.dumps(piece), b"null") for piece in answer.pieces]
        deltas = [
            {
                "tool_calls": [
                    {
                        "index": i,
                        "id": _call_id(answer_id, i),
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    }
                ]
            }
            for i, call in enumerate(answer.tool_calls)
        ]
        return [_chunk(frame, orjson.dumps(delta), b"null") for delta in deltas]

    def closing(
        self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool, done: bool
    ) -> list[bytes]:
        """The finish reason, then usage when asked for, then [DONE]."""
        frame = _frame(answer_id, created_s, request)
        events = [_chunk(frame, b"{}", orjson.dumps(answer.finish))]
        if usage and request.include_usage:
            events.append(sse_data(b'%b"choices":[],"usage":%b}' % (frame, orjson.dumps(_usage(answer)))))
        if done:
            events.append(sse_data(b"[DONE]"))
        return events

    def error(self, status: int, message: str, request_id: str) -> bytes:
        """An error object; every 5xx is a server_error."""
        return orjson.dumps(openai_error(status, message))

    def error_event(self, message: str) -> bytes:
        """A data event that carries an error object."""
        return sse_data(orjson.dumps(openai_error(500, message)))


def openai_error(status: int, message: str) -> dict[str, object]:
    """An error object; every 5xx is a server_error."""
    kind, code = _ERROR_TYPES.get(status, ("server_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _frame(answer_id: str, created_s: int, request: ChatRequest) -> bytes:
    head = {"id": answer_id, "object": "chat.completion.chunk", "created": created_s, "model": request.model}
    return orjson.dumps({**head, "system_fingerprint": _FINGERPRINT})[:-1] + b","


def _chunk(frame: bytes, delta: bytes, finish: bytes) -> bytes:
    choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (delta, finish)
    return b'data: %b"choices":[%b]}\n\n' % (frame, choice)


def _usage(answer: Answer) -> dict[str, object]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }


def _call_id(answer_id: str, index: int) -> str:
    return f"call_{answer_id.removeprefix(OpenAiDialect.id_prefix)}_{index}"


def _forced_tool(raw: _Request) -> ForcedTool | None:
    functions = [tool.function for tool in raw.tools or () if tool.function is not None]
    choice = raw.tool_choice
    if not functions or choice is None or choice in ("auto", "none"):
        return None
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        functions = [function for function in functions if function.name == wanted]
        if not functions:
            raise RequestError(400, f"tool_choice names the tool {wanted!r}, which is not in tools")
    return ForcedTool(functions[0].name, functions[0].parameters)


def _schema(response_format: _ResponseFormat | None) -> object | None:
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_schema":
        return response_format.json_schema.schema if response_format.json_schema is not None else {}
    return {"type": "object", "properties": {"answer": {"type": "string"}}}
