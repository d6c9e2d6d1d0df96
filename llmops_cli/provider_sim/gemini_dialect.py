"""Google's Gemini wire format (https://ai.google.dev/api/generate-content); model and method stand in the path."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import orjson

from llmops_cli.provider_sim.answer import Answer
from llmops_cli.provider_sim.dialects import EVENT_STREAM, sse_data
from llmops_cli.provider_sim.request import ChatRequest, ForcedTool, RequestError, estimate_tokens, unquoted

PATH: Final = re.compile(r"/v1(?:beta)?/models/([^/:]+(?:%3A[^/:]*)?):(generateContent|streamGenerateContent)")
_FINISH: Final = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class _Part(msgspec.Struct):
    text: str | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] = []
    role: str = "user"

    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts)


class _Declaration(msgspec.Struct, rename="camel"):
    name: str
    parameters_json_schema: Any = None


class _Tools(msgspec.Struct, rename="camel"):
    function_declarations: list[_Declaration] = []


class _Calling(msgspec.Struct, rename="camel"):
    mode: str = "AUTO"
    allowed_function_names: list[str] = []


class _ToolConfig(msgspec.Struct, rename="camel"):
    function_calling_config: _Calling | None = None


class _Config(msgspec.Struct, rename="camel"):
    max_output_tokens: int | None = None
    response_json_schema: Any = None


class _Request(msgspec.Struct, rename="camel"):
    contents: list[_Content]
    system_instruction: _Content | None = None
    tools: list[_Tools] = []
    tool_config: _ToolConfig | None = None
    generation_config: _Config | None = None


class GeminiDialect:
    """generateContent and streamGenerateContent; a stream has no end mark, so `omit_done` leaves out the finish."""

    name = "gemini"
    id_prefix = "resp-sim-"
    key_header = "x-goog-api-key"
    stream_type = EVENT_STREAM
    binary = False

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Request)

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request; RequestError 400 when it is none."""
        match = PATH.fullmatch(path)
        assert match is not None
        try:
            raw = self._decoder.decode(body)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(400, f"The request body is invalid: {error}") from error
        texts = [content.text() for content in raw.contents]
        if raw.system_instruction is not None:
            texts.append(raw.system_instruction.text())
        config = raw.generation_config or _Config()
        return ChatRequest(
            model=unquoted(match[1]),
            stream=match[2] == "streamGenerateContent",
            include_usage=True,
            input_tokens=estimate_tokens(texts),
            last_user_text=next((c.text() for c in reversed(raw.contents) if c.role == "user"), ""),
            max_tokens=config.max_output_tokens,
            forced_tool=_forced_tool(raw),
            json_schema=config.response_json_schema,
        )

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """One answer with everything."""
        parts = [_call(answer, i) for i in range(len(answer.tool_calls))] or [{"text": answer.text}]
        return orjson.dumps(_answer(answer_id, request, parts, answer.finish, answer if usage else None))

    def opening(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """Nothing: every event is an answer."""
        return []

    def content(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """One answer for each piece or call."""
        rows = [_call(answer, i) for i in range(len(answer.tool_calls))] or [{"text": piece} for piece in answer.pieces]
        return [sse_data(orjson.dumps(_answer(answer_id, request, [row], None, None))) for row in rows]

    def closing(
        self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool, done: bool
    ) -> list[bytes]:
        """The finish reason and the usage."""
        if not done:
            return []
        return [sse_data(orjson.dumps(_answer(answer_id, request, [], answer.finish, answer if usage else None)))]

    def error(self, status: int, message: str, request_id: str) -> bytes:
        """An error in Google's form."""
        return orjson.dumps(_error(status, message))

    def error_event(self, message: str) -> bytes:
        """A data event that carries an error."""
        return sse_data(orjson.dumps(_error(500, message)))


def _error(status: int, message: str) -> dict[str, object]:
    return {"error": {"code": status, "message": message, "status": _STATUS.get(status, "INTERNAL")}}


def _call(answer: Answer, index: int) -> dict[str, object]:
    call = answer.tool_calls[index]
    return {"functionCall": {"name": call.name, "args": orjson.loads(call.arguments)}}


def _answer(
    answer_id: str, request: ChatRequest, parts: list[dict[str, object]], finish: str | None, counted: Answer | None
) -> dict[str, object]:
    candidate: dict[str, object] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish is not None:
        candidate["finishReason"] = _FINISH[finish]
    row: dict[str, object] = {"candidates": [candidate], "modelVersion": request.model, "responseId": answer_id}
    if counted is not None:
        row["usageMetadata"] = {
            "promptTokenCount": counted.input_tokens,
            "candidatesTokenCount": counted.output_tokens - counted.reasoning_tokens,
            "thoughtsTokenCount": counted.reasoning_tokens,
            "cachedContentTokenCount": counted.cached_tokens,
            "totalTokenCount": counted.input_tokens + counted.output_tokens,
        }
    return row


def _forced_tool(raw: _Request) -> ForcedTool | None:
    config = raw.tool_config.function_calling_config if raw.tool_config is not None else None
    tools = [tool for group in raw.tools for tool in group.function_declarations]
    if not tools or config is None or config.mode != "ANY":
        return None
    allowed = config.allowed_function_names
    named = [tool for tool in tools if not allowed or tool.name in allowed]
    if not named:
        raise RequestError(400, f"the allowed functions {allowed} are not declared")
    return ForcedTool(named[0].name, named[0].parameters_json_schema)
