"""Amazon Bedrock's Converse wire format; streams are binary event frames. Signatures are not checked here."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import orjson

from llmops_cli.provider_sim.answer import Answer
from llmops_cli.provider_sim.event_frames import event_frame, exception_frame
from llmops_cli.provider_sim.request import ChatRequest, ForcedTool, RequestError, estimate_tokens, unquoted

PATH: Final = re.compile(r"/model/([^/]+)/(converse|converse-stream)")
_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class _Block(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: list[_Block]

    def text(self) -> str:
        return "".join(block.text or "" for block in self.content)


class _Schema(msgspec.Struct):
    json: Any = None


class _Spec(msgspec.Struct, rename="camel"):
    name: str
    input_schema: _Schema | None = None


class _Tool(msgspec.Struct, rename="camel"):
    tool_spec: _Spec


class _ToolConfig(msgspec.Struct, rename="camel"):
    tools: list[_Tool]
    tool_choice: dict[str, Any] | None = None


class _Config(msgspec.Struct, rename="camel"):
    max_tokens: int | None = None


class _Request(msgspec.Struct, rename="camel"):
    messages: list[_Message]
    system: list[_Block] = []
    inference_config: _Config | None = None
    tool_config: _ToolConfig | None = None


class BedrockDialect:
    """Converse and ConverseStream."""

    name = "bedrock"
    id_prefix = "bedrock-sim-"
    key_header = "authorization"
    stream_type = "application/vnd.amazon.eventstream"
    binary = True

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
        texts = [message.text() for message in raw.messages] + [block.text or "" for block in raw.system]
        return ChatRequest(
            model=unquoted(match[1]),
            stream=match[2] == "converse-stream",
            include_usage=True,
            input_tokens=estimate_tokens(texts),
            last_user_text=next((m.text() for m in reversed(raw.messages) if m.role == "user"), ""),
            max_tokens=raw.inference_config.max_tokens if raw.inference_config is not None else None,
            forced_tool=_forced_tool(raw.tool_config),
            json_schema=None,
        )

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """The message, why it ended, and the usage."""
        blocks: list[dict[str, object]] = [
            {"toolUse": {**use, "input": orjson.loads(call.arguments)}}
            for use, call in zip(_uses(answer_id, answer), answer.tool_calls, strict=True)
        ]
        document: dict[str, object] = {
            "output": {"message": {"role": "assistant", "content": blocks or [{"text": answer.text}]}},
            "stopReason": _STOP_REASONS[answer.finish],
        }
        if usage:
            document["usage"] = _usage(answer)
        return orjson.dumps(document)

    def opening(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """messageStart."""
        return [event_frame("messageStart", orjson.dumps({"role": "assistant"}))]

    def content(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """A contentBlockDelta for each piece; a call brings the start and stop of its own block."""
        if not answer.tool_calls:
            return [_delta(0, {"text": piece}) for piece in answer.pieces]
        return [
            event_frame("contentBlockStart", orjson.dumps({"contentBlockIndex": i, "start": {"toolUse": use}}))
            + _delta(i, {"toolUse": {"input": answer.tool_calls[i].arguments}})
            + event_frame("contentBlockStop", orjson.dumps({"contentBlockIndex": i}))
            for i, use in enumerate(_uses(answer_id, answer))
        ]

    def closing(
        self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool, done: bool
    ) -> list[bytes]:
        """messageStop, then metadata with the usage; without the end mark neither."""
        if not done:
            return []
        events = [event_frame("messageStop", orjson.dumps({"stopReason": _STOP_REASONS[answer.finish]}))]
        if usage:
            events.append(event_frame("metadata", orjson.dumps({"usage": _usage(answer)})))
        return events

    def error(self, status: int, message: str, request_id: str) -> bytes:
        """Prose; the exception's name would stand in a header, which a rule can set."""
        return orjson.dumps({"message": message})

    def error_event(self, message: str) -> bytes:
        """An exception inside a stream."""
        return exception_frame("internalServerException", orjson.dumps({"message": message}))


def _delta(index: int, delta: dict[str, object]) -> bytes:
    return event_frame("contentBlockDelta", orjson.dumps({"contentBlockIndex": index, "delta": delta}))


def _uses(answer_id: str, answer: Answer) -> list[dict[str, object]]:
    return [{"toolUseId": f"tooluse_{answer_id}_{i}", "name": call.name} for i, call in enumerate(answer.tool_calls)]


def _usage(answer: Answer) -> dict[str, object]:
    """Bedrock counts cached input beside inputTokens, not within."""
    return {
        "inputTokens": max(answer.input_tokens - answer.cached_tokens, 0),
        "cacheReadInputTokens": answer.cached_tokens,
        "outputTokens": answer.output_tokens,
        "totalTokens": answer.input_tokens + answer.output_tokens,
    }


def _forced_tool(config: _ToolConfig | None) -> ForcedTool | None:
    if config is None or config.tool_choice is None or "auto" in config.tool_choice:
        return None
    wanted = (config.tool_choice.get("tool") or {}).get("name")
    named = [tool.tool_spec for tool in config.tools if wanted in (None, tool.tool_spec.name)]
    if not named:
        raise RequestError(400, f"toolChoice names the tool {wanted!r}, which is not in tools")
    schema = named[0].input_schema
    return ForcedTool(named[0].name, schema.json if schema is not None else None)
