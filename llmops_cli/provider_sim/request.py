"""What the simulator reads of a request, whichever dialect it came in."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import msgspec

_CHARACTERS_PER_TOKEN: Final = 4  # the usual rule of thumb for English text
_TOKENS_PER_MESSAGE: Final = 3
_MAX_SCHEMA_DEPTH: Final = 16
_MAX_ITEMS: Final = 100
_MAX_STRING: Final = 10_000


class RequestError(Exception):
    """A request the provider refuses; `status` is the HTTP status, the text is the message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Part(msgspec.Struct):
    """One part of a message; parts without text count no tokens."""

    type: str = "text"
    text: str | None = None


class Message(msgspec.Struct):
    """One message of a request in either dialect."""

    role: str
    content: str | list[Part] | None = None

    def text(self) -> str:
        """The text of all parts, in order."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.content or ())


class ForcedTool(msgspec.Struct, frozen=True):
    """The tool a request makes the model call, and the JSON schema of its arguments."""

    name: str
    schema: object


class WantedVectors(msgspec.Struct, frozen=True, kw_only=True):
    """The texts of an embeddings request; `dimensions` is None where the request names no length."""

    texts: tuple[str, ...]
    dimensions: int | None
    as_base64: bool = False


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The dialect-free part of a request; `json_schema` is the schema the answer's text must satisfy.

    `vectors` is set where vectors are asked for: then nothing is said, and the fields of a conversation are empty.
    """

    model: str
    stream: bool
    include_usage: bool
    input_tokens: int
    last_user_text: str
    max_tokens: int | None
    forced_tool: ForcedTool | None
    json_schema: object | None
    vectors: WantedVectors | None = None


def unquoted(segment: str) -> str:
    """The name that a percent-encoded path segment stands for."""
    return unquote(segment)


def estimate_tokens(texts: list[str]) -> int:
    """Tokens of the messages with these texts: four characters a token and three tokens a message."""
    characters = sum(map(len, texts))
    return -(-characters // _CHARACTERS_PER_TOKEN) + _TOKENS_PER_MESSAGE * len(texts)


def estimate_embedded_tokens(texts: tuple[str, ...]) -> int:
    """Tokens of texts to embed: four characters a token, each text by itself, and nothing around it."""
    return sum(-(-len(text) // _CHARACTERS_PER_TOKEN) for text in texts)


def last_user_text(messages: list[Message]) -> str:
    """The text of the last message with the role user, empty when there is none."""
    return next((message.text() for message in reversed(messages) if message.role == "user"), "")


def instance_of(schema: object, depth: int = 0) -> Any:
    """The smallest JSON value of the common schema keywords: type, enum, const, properties, required, items."""
    if not isinstance(schema, dict) or depth > _MAX_SCHEMA_DEPTH:
        return None
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices:
        return choices[0]
    kind = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    match kind:
        case "object":
            properties = schema.get("properties") or {}
            names = schema.get("required", list(properties))
            return {name: instance_of(properties.get(name), depth + 1) for name in names}
        case "array":
            count = min(max(int(schema.get("minItems", 0)), 0), _MAX_ITEMS)
            return [instance_of(schema.get("items"), depth + 1) for _ in range(count)]
        case _:
            return _scalar(kind, schema)


def _scalar(kind: object, schema: dict[str, Any]) -> Any:
    if kind == "string":
        return "text".ljust(min(int(schema.get("minLength", 0)), _MAX_STRING), "t")
    if kind in {"integer", "number"}:
        return schema.get("minimum", 1)
    return True if kind == "boolean" else None
