"""Every parameter of Anthropic's messages API: mapped, passed on to the provider, ignored, or refused with a reason.

What asks for another answer than this server gives is refused; what only hints at speed, price or caching is ignored. A
parameter in no table is refused as well: passed on, it could mean something else in the provider's dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from services.edge.core.parameters import Refusal, renamed

MAPPED = frozenset(
    {
        "llmops",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)
# Sent to the provider unchanged: the contract has no name for it, and those who have it mean the same by it.
PASSED = frozenset({"top_k"})
# `cache_control` asks the provider to remember, on blocks and tools as well; the mesh's own cache is in `llmops`.
IGNORED = frozenset({"cache_control", "diagnostics"})

REFUSED: Mapping[str, Refusal] = MappingProxyType(
    {
        "container": Refusal("Containers are not supported: what runs in them reaches no guard."),
        "context_management": Refusal("context_management is not supported: the conversation is sent as it is."),
        "fallbacks": Refusal("fallbacks are the operator's: name a route as model.", ([],)),
        "inference_geo": Refusal("inference_geo is not supported: regions are the operator's vendor register."),
        "mcp_servers": Refusal("MCP servers are not supported: what they return reaches no guard.", ([],)),
        "output_format": Refusal("output_format is the older form; use output_config.format."),
        "service_tier": Refusal(
            "Only the provider's standard tier is offered: budgets know no other price.", ("auto", "standard_only")
        ),
        "speed": Refusal("Only the standard speed is offered: budgets know no other price.", ("standard",)),
        "thinking": Refusal(
            "Thinking blocks cannot be returned; leave thinking out, and send output_config.effort instead.",
            ({"type": "disabled"},),
        ),
        "user_profile_id": Refusal("user_profile_id is not supported; metadata.user_id names the end user."),
        "workspace_id": Refusal("workspace_id is not supported: the key decides whose request this is."),
    }
)
# Added to what a wrong value is told.
HINTS = (
    (re.compile(r"content\[\d+\]\.type$"), "Blocks here are text, image, tool_use and tool_result."),
    (re.compile(r"^system\[\d+\]\.type$"), "Blocks of system are text."),
    (re.compile(r"^tools\[\d+\]\.type$"), "Tools here are the caller's own; server tools are not run."),
    (re.compile(r"^messages\[\d+\]\.role$"), "Roles here are user, assistant and system."),
    (re.compile(r"\.citations$"), "Citations of earlier answers are not sent back; leave them out."),
    (re.compile(r"\.input_examples$"), "Examples of inputs belong to the description or the schema."),
    (re.compile(r"^output_config\.task_budget$"), "Budgets of tokens are max_tokens, and the ledger's."),
    (re.compile(r"\.source\.type$"), "Images come as base64 or as an https url."),
)
BY_REASON: Mapping[str, str] = MappingProxyType({})

_RENAMED = (
    (re.compile(r"^max_completion_tokens$"), "max_tokens"),
    (re.compile(r"^stop\b"), "stop_sequences"),
    (re.compile(r"^response_format\b.*$"), "output_config.format"),
    (re.compile(r"^reasoning_effort$"), "output_config.effort"),
    (re.compile(r"^parallel_tool_calls$"), "tool_choice"),
    (re.compile(r"^extra_json$"), "top_k"),
    (re.compile(r"^user$"), "metadata.user_id"),
    # Results of tools are messages of their own inside, and the system text is one: positions do not agree.
    (re.compile(r"^messages\[\d+\].*$"), "messages"),
    (re.compile(r"^(tools\[\d+\])\.function\.parameters$"), r"\1.input_schema"),
    (re.compile(r"^(tools\[\d+\])\.function\."), r"\1."),
)


def param_of(field_path: str) -> str:
    """Anthropic's spelling of a field of the contract."""
    return renamed(field_path, _RENAMED)
