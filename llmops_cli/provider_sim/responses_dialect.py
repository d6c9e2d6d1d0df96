"""The OpenAI Responses wire format (https://platform.openai.com/docs/api-reference/responses)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson

from llmops_cli.provider_sim.answer import Answer
from llmops_cli.provider_sim.dialects import EVENT_STREAM, sse_event
from llmops_cli.provider_sim.openai_dialect import openai_error
from llmops_cli.provider_sim.request import ChatRequest, ForcedTool, Part, RequestError, estimate_tokens

_STATUS: Final = {"stop": "completed", "tool_calls": "completed", "length": "incomplete"}


class _Item(msgspec.Struct):
    role: str = ""
    content: str | list[Part] | None = None
    output: str | list[Part] | None = None

    def text(self) -> str:
        content = self.content if self.content is not None else self.output
        return content if isinstance(content, str) else "".join(part.text or "" for part in content or ())


class _Tool(msgspec.Struct):
    name: str
    parameters: Any = None


class _Format(msgspec.Struct):
    type: str = "text"
    schema: Any = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Request(msgspec.Struct):
    model: str
    input: str | list[_Item]
    stream: bool = False
    max_output_tokens: int | None = None
    tools: list[_Tool] = []
    tool_choice: Any = None
    text: _Text | None = None


class ResponsesDialect:
    """Responses: unary, and streams of typed events from response.created to response.completed."""

    name = "responses"
    id_prefix = "resp_sim_"
    key_header = "authorization"
    stream_type = EVENT_STREAM
    binary = False

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Request)

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is none."""
        try:
            raw = self._decoder.decode(body)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(400, f"The request body is invalid: {error}") from error
        items = [_Item("user", raw.input)] if isinstance(raw.input, str) else raw.input
        form = raw.text.format if raw.text is not None else None
        return ChatRequest(
            model=raw.model,
            stream=raw.stream,
            include_usage=True,
            input_tokens=estimate_tokens([item.text() for item in items]),
            last_user_text=next((item.text() for item in reversed(items) if item.role == "user"), ""),
            max_tokens=raw.max_output_tokens,
            forced_tool=_forced_tool(raw),
            json_schema=None if form is None or form.type != "json_schema" else form.schema,
        )

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """A response object."""
        return orjson.dumps(_response(answer_id, created_s, request, answer, usage=usage))

    def opening(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """response.created, and the message that the text belongs to."""
        head = {"id": answer_id, "object": "response", "created_at": created_s, "model": request.model}
        events = [_event("response.created", response={**head, "status": "in_progress", "output": []})]
        if not answer.tool_calls:
            item = {"type": "message", "id": "msg_0", "role": "assistant", "content": []}
            events.append(_event("response.output_item.added", output_index=0, item=item))
        return events

    def content(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """A text delta for each piece; a call brings its item, its arguments, and its end."""
        if not answer.tool_calls:
            return [_event("response.output_text.delta", output_index=0, delta=piece) for piece in answer.pieces]
        return [
            b"".join(
                (
                    _event("response.output_item.added", output_index=i, item={**item, "arguments": ""}),
                    _event("response.function_call_arguments.delta", output_index=i, delta=item["arguments"]),
                    _event("response.output_item.done", output_index=i, item=item),
                )
            )
            for i, item in enumerate(_items(answer_id, answer))
        ]

    def closing(
        self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool, done: bool
    ) -> list[bytes]:
        """The whole response once more."""
        if not done:
            return []
        response = _response(answer_id, created_s, request, answer, usage=usage)
        return [_event(f"response.{response['status']}", response=response)]

    def error(self, status: int, message: str, request_id: str) -> bytes:
        """An error object, as for chat completions."""
        return orjson.dumps(openai_error(status, message))

    def error_event(self, message: str) -> bytes:
        """An error event."""
        return _event("error", code="server_error", message=message, param=None)


def _event(kind: str, **fields: object) -> bytes:
    return sse_event(kind, orjson.dumps({"type": kind, **fields}))


def _items(answer_id: str, answer: Answer) -> list[dict[str, object]]:
    suffix = answer_id.removeprefix(ResponsesDialect.id_prefix)
    return [
        {"type": "function_call", "call_id": f"call_{suffix}_{i}", "name": call.name, "arguments": call.arguments}
        for i, call in enumerate(answer.tool_calls)
    ]


def _response(
    answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool
) -> dict[str, object]:
    text = {"type": "output_text", "text": answer.text, "annotations": []}
    message = {"type": "message", "id": "msg_0", "role": "assistant", "content": [text]}
    response: dict[str, object] = {
        "id": answer_id,
        "object": "response",
        "created_at": created_s,
        "status": _STATUS[answer.finish],
        "incomplete_details": {"reason": "max_output_tokens"} if answer.finish == "length" else None,
        "error": None,
        "model": request.model,
        "output": _items(answer_id, answer) or [message],
    }
    if usage:
        response["usage"] = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": answer.cached_tokens},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return response


def _forced_tool(raw: _Request) -> ForcedTool | None:
    choice = raw.tool_choice
    if not raw.tools or choice is None or choice in ("auto", "none"):
        return None
    named = [tool for tool in raw.tools if not isinstance(choice, dict) or tool.name == choice.get("name")]
    if not named:
        raise RequestError(400, "tool_choice names a tool that is not in tools")
    return ForcedTool(named[0].name, named[0].parameters)
