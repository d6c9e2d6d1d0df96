"""Every parameter of OpenAI's chat API: mapped, passed on to the provider, or refused with a reason.

Nothing is dropped silently. `null` always means absent. A parameter that stands in no table is passed on in
`extra_json`: the router knows which vendor extensions of an OpenAI-compatible server are harmless, and refuses others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# Read into the contract's own fields.
MAPPED = frozenset(
    {
        "frequency_penalty",
        "llmops",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "user",
    }
)

# Known to OpenAI, not named by the contract: sent to the provider unchanged.
PASSED = frozenset(
    {
        "logit_bias",
        "prompt_cache_key",
        "safety_identifier",
        "verbosity",
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a parameter is refused, and the values that ask for nothing and therefore pass."""

    message: str
    neutral: tuple[object, ...] = ()


REFUSED: Mapping[str, Refusal] = MappingProxyType(
    {
        "audio": Refusal("Audio answers are not supported."),
        "function_call": Refusal("function_call is the legacy form; use tool_choice.", ("none",)),
        "functions": Refusal("functions is the legacy form; use tools.", ([],)),
        "logprobs": Refusal("Log probabilities are not supported: a checked answer carries none.", (False,)),
        "modalities": Refusal('Only text answers are supported; leave modalities out or send ["text"].', (["text"],)),
        "moderation": Refusal("moderation is not supported: the guard checks every request and answer."),
        "n": Refusal("Only one choice per request is supported; send n=1 or leave it out.", (1,)),
        "prediction": Refusal("prediction is not supported: its text would reach the provider unchecked."),
        "prompt_cache_options": Refusal("How the provider caches prompts is the operator's choice.", ({},)),
        "prompt_cache_retention": Refusal(
            "How long the provider keeps prompts is agreed with it, not chosen by a call.", ("in_memory", "in-memory")
        ),
        "service_tier": Refusal(
            "Only the provider's standard tier is offered: budgets know no other price.", ("auto", "default")
        ),
        "store": Refusal("Nothing is stored at the provider; leave store out or send false.", (False,)),
        "top_logprobs": Refusal("Log probabilities are not supported: a checked answer carries none.", (0,)),
        "web_search_options": Refusal("web_search_options is not supported: its annotations could not be returned."),
    }
)

# Added to what a wrong value is told.
HINTS = (
    (re.compile(r"^messages\[\d+\]\.role$"), "Roles here are system, developer, user, assistant and tool."),
    (re.compile(r"\.content\[\d+\]\.type$"), "Parts here are text, image_url and refusal."),
    (re.compile(r"\.function_call$"), "It is the legacy form; send tool_calls."),
    (
        re.compile(r"\.(?:reasoning|reasoning_content|reasoning_details|thinking_blocks)$"),
        "What a model thought is not sent back; leave it out.",
    ),
    (
        re.compile(r"^tools\[\d+\]\.type$"),
        "Tools here are functions of the caller; built-in and custom tools are not run.",
    ),
    (re.compile(r"^tool_choice\.type$"), "Send auto, none, required, or a function by its name."),
    (re.compile(r"^response_format\.type$"), "Forms here are text, json_object and json_schema."),
    (re.compile(r"^stream_options\.include_obfuscation$"), "Chunks are not padded here; send false or leave it out."),
)

_RENAMED = (
    # The orchestrator's name for the request, and the router's.
    (re.compile(r"^(?:conversation|call)(?:\.|$)"), ""),
    (re.compile(r"^parameters\."), ""),
    (re.compile(r"^max_output_tokens$"), "max_completion_tokens"),
    (re.compile(r"^response_format\.(?:json_schema|schema_name|strict)$"), "response_format.json_schema"),
    # The guard's name for it.
    (re.compile(r"^json_schema$"), "response_format.json_schema"),
    (re.compile(r"^tool_choice\..*$"), "tool_choice"),
    (re.compile(r"^labels\.end_user$"), "user"),
    (re.compile(r"^labels\.tags"), "metadata"),
    (re.compile(r"^labels\.(feature|conversation_id|data_class)$"), r"llmops.\1"),
    (re.compile(r"^prompt\.reference$"), "llmops.prompt"),
    (re.compile(r"^prompt\.variables"), "llmops.variables"),
    (re.compile(r"^prompt$"), "llmops.prompt"),
    (re.compile(r"^(guard_policy|cache)\b"), r"llmops.\1"),
    (re.compile(r"^(messages\[\d+\])\.parts(\[\d+\])?(?:\.text)?"), r"\1.content\2"),
    (re.compile(r"\.image\.(url|detail)$"), r".image_url.\1"),
    (re.compile(r"(\.tool_calls\[\d+\])\.(name|arguments)(?:_json)?$"), r"\1.function.\2"),
    (re.compile(r"^(tools\[\d+\])\.(name|description|parameters|strict)(?:_json_schema)?$"), r"\1.function.\2"),
    # Last: what is passed on keeps the name that the caller gave it.
    (re.compile(r"^extra_json\."), ""),
)


def renamed(field_path: str, further: Sequence[tuple[re.Pattern[str], str]]) -> str:
    """The spelling of another dialect: that of chat completions, renamed."""
    name = param_of(field_path)
    for pattern, replacement in further:
        name = pattern.sub(replacement, name)
    return name


def param_of(field_path: str) -> str:
    """The OpenAI spelling of a field of the contract: "conversation.parameters.top_p" is "top_p"."""
    for pattern, replacement in _RENAMED:
        field_path = pattern.sub(replacement, field_path)
    return field_path
