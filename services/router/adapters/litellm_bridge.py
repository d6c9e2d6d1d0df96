"""The long tail: whatever the package `litellm` knows and no dialect here speaks. Optional, extra `litellm`.

The package builds the requests, so what this project promises of its own connections does not hold here: addresses are
not checked, sizes are not bounded, and its redirects are its own. It is given the key and base URL of the
configuration, and told to retry nothing, to log no content, and to fetch no price table from the network. What callers
pass on becomes arguments of a function that takes addresses, keys and headers too: only names of sampling get there.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from services.router.adapters.dialects.base import require_said, with_content
from services.router.adapters.dialects.extras import LITELLM
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_chat_request import Ways
from services.router.core.failure import (
    ErrorBody,
    Failure,
    FailureKind,
    ProviderError,
    error_answer,
    unsupported,
)
from services.router.core.ports import Chunk, EmbedderAnswer, EmbedderRequest, ProviderAnswer, ProviderRequest
from services.router.core.sse import ServerSentEvent
from services.router.core.tokens import estimate_usage

# Its names for what has no status of its own, as codes that are read like a provider's.
_CODES = {
    "ContextWindowExceededError": "context_length_exceeded",
    "ContentPolicyViolationError": "content_policy_violation",
    "RateLimitError": "rate_limit_exceeded",
    "AuthenticationError": "authentication_error",
    "NotFoundError": "model_not_found",
}
# Its exceptions are subclasses of those of the package openai.
_ITS_PACKAGES = frozenset({"litellm", "openai"})
_log = logging.getLogger(__name__)


class LitellmMissing(ValueError):
    """The package is not installed."""

    def __init__(self) -> None:
        super().__init__("dialect litellm needs the package; install it with: pip install 'llmops-mesh[litellm]'")


async def load_litellm() -> Any:
    """The package, imported off the event loop: it takes seconds. Raises LitellmMissing."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        litellm: Any = await asyncio.to_thread(importlib.import_module, "litellm")
    except ModuleNotFoundError as error:
        if error.name != "litellm":
            raise
        raise LitellmMissing from None
    litellm.telemetry = False
    litellm.turn_off_message_logging = True
    litellm.suppress_debug_info = True
    logging.getLogger("LiteLLM").setLevel(logging.WARNING)
    return litellm


class LitellmProvider:
    """A provider behind the package. A model's name is the package's own, `mistral/mistral-large-latest`."""

    def __init__(self, litellm: Any, api_key: str, base_url: str) -> None:
        self._litellm = litellm
        self._fixed: dict[str, Any] = {"num_retries": 0, "max_retries": 0}
        self._fixed |= {name: value for name, value in (("api_key", api_key), ("api_base", base_url)) if value}
        # The package takes and gives OpenAI's shapes.
        self._shape = OpenAiChat(Ways("max_tokens"), extras=LITELLM)

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """One answer; cancelling ends the package's call."""
        answer = await self._call(request, stream=False)
        return with_content(self._shape.decode(_as_json(answer, request)))

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        """One chunk for each of the package's; closing the generator closes its stream."""
        pieces = await self._call(request, stream=True)
        decoder, begun = self._shape.stream_decoder(), False
        try:
            while True:
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                except Exception as error:  # noqa: BLE001 - whatever the package raises is the provider's failure
                    raise _failure(error, request) from None
                chunk = decoder.feed([ServerSentEvent("", _as_json(piece, request))])
                if chunk is not None:
                    begun = begun or chunk.delta is not None
                    yield chunk
            last = decoder.end()
            if last is not None:
                if last.delta is None and not begun:
                    require_said(last.finish_reason, last.usage)
                yield last
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    async def embed(self, request: EmbedderRequest) -> EmbedderAnswer:
        """Not through the package: its vectors would have no space of their own."""
        raise unsupported("embeddings")

    async def _call(self, request: ProviderRequest, *, stream: bool) -> Any:
        arguments = msgspec.json.decode(self._shape.encode(request, stream=stream))
        try:
            return await self._litellm.acompletion(**arguments, **self._fixed)
        except Exception as error:  # noqa: BLE001 - whatever the package raises is the provider's failure
            raise _failure(error, request) from None


def _as_json(answer: Any, request: ProviderRequest) -> bytes:
    """One of the package's objects in OpenAI's shape."""
    try:
        return bytes(answer.model_dump_json().encode())
    except Exception as error:  # noqa: BLE001 - whatever it read into its objects came from the provider
        raise _failure(error, request) from None


def _failure(error: Exception, request: ProviderRequest) -> ProviderError:
    """Its text may quote the request and is matched, then dropped.

    What is none of the package's exceptions is a mistake of the package or of this bridge, and says nothing about the
    model's health: another candidate is asked. The provider may have answered before, so the call counts as billed.
    """
    name = type(error).__name__
    if type(error).__module__.partition(".")[0] not in _ITS_PACKAGES:
        _log.error("litellm raised %s, which is none of its errors", name)
        usage = estimate_usage(request.call, ())
        return ProviderError(Failure(FailureKind.UNSUPPORTED, "litellm-unexpected-error", usage=usage))
    if name == "Timeout":
        return ProviderError(Failure(FailureKind.TIMED_OUT, "litellm-timeout"))
    if name == "APIConnectionError":
        return ProviderError(Failure(FailureKind.BROKEN, "litellm-connection"))
    status = getattr(error, "status_code", None)
    body = ErrorBody(_CODES.get(name, ""), "", str(error))
    return ProviderError(error_answer(status if isinstance(status, int) else 0, body))
