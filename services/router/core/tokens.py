"""Token counts where nobody else counted. Every one is marked as estimated and reconciled by the ledger.

Of an answer that came whole: four characters a token, rounded up, OpenAI's published rule of thumb for English text. Of
a try whose end nobody saw: three UTF-8 bytes a token, which rather counts too many, as the orchestrator does for calls
that were left; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.router.core.chat import ImagePart, ModelCall, Usage

CHARACTERS_PER_TOKEN = 4
_BYTES_PER_TOKEN = 3
_TOKENS_PER_REQUEST = 16
# Roles and separators: what OpenAI's cookbook counts for a message beside its text.
TOKENS_PER_MESSAGE = 4
# A 1024 x 1024 image costs 765 tokens in OpenAI's first published scheme and about 1,400 with Anthropic's.
TOKENS_PER_IMAGE = 1000


def tokens_of_characters(characters: int) -> int:
    """ceil(characters / 4)."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def input_texts(call: ModelCall) -> Iterator[str]:
    """Every text of a call that a model reads."""
    for message in call.messages:
        yield message.text()
        for tool_call in message.tool_calls:
            yield tool_call.name
            yield tool_call.arguments_json
    for tool in call.tools:
        yield tool.name
        yield tool.description
        yield tool.parameters_json_schema
    yield call.parameters.response_format.json_schema


def overhead_tokens(call: ModelCall) -> int:
    """What messages and images add to the count of the texts."""
    return len(call.messages) * TOKENS_PER_MESSAGE + _image_tokens(call)


def _image_tokens(call: ModelCall) -> int:
    return TOKENS_PER_IMAGE * sum(isinstance(part, ImagePart) for message in call.messages for part in message.parts)


def tokens_of_texts(texts: Iterable[str]) -> int:
    """ceil(UTF-8 bytes / 3) of all texts together."""
    read = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    return -(-read // _BYTES_PER_TOKEN)


def size_tokens(call: ModelCall) -> int:
    """The size of a call for conditions on it: every text, three UTF-8 bytes a token, rounded up.

    Whoever asks for a plan beforehand counts like this: the orchestrator holds money by the same ratio.
    """
    return tokens_of_texts(input_texts(call))


def estimate_usage(call: ModelCall, output_texts: Iterable[str]) -> Usage:
    """Of a try whose end nobody saw: its input, and the output that came."""
    read = tokens_of_texts(input_texts(call)) + _TOKENS_PER_REQUEST + _image_tokens(call)
    return Usage(read, tokens_of_texts(output_texts), estimated=True)
