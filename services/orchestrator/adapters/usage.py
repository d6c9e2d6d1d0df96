"""Token counts between the contract and the core."""

from __future__ import annotations

from llmops.common.v1 import usage_pb2

from services.orchestrator.core.model import Usage


def usage_from(message: usage_pb2.Usage) -> Usage:
    """From the contract."""
    return Usage(
        message.input_tokens,
        message.output_tokens,
        message.cached_input_tokens,
        message.cache_write_input_tokens,
        message.reasoning_tokens,
        message.estimated,
    )


def usage_to(usage: Usage) -> usage_pb2.Usage:
    """To the contract."""
    return usage_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_input_tokens=usage.cache_write_input_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
    )
