"""Every parameter of OpenAI's responses API: mapped, passed on to the provider, ignored, or refused with a reason.

The API is served without its memory: nothing is stored, so whatever refers to something stored is refused. A parameter
in no table is refused as well: passed on, it could mean something else in the provider's dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from services.edge.core.parameters import Refusal, renamed

MAPPED = frozenset(
    {
        "input",
        "instructions",
        "llmops",
        "max_output_tokens",
        "metadata",
        "model",
        "parallel_tool_calls",
        "reasoning",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "user",
    }
)
# Sent to the provider unchanged, as from chat completions.
PASSED = frozenset({"prompt_cache_key", "safety_identifier"})
IGNORED: frozenset[str] = frozenset()

_STORED = "is not supported: nothing is stored here, so send the whole input."
REFUSED: Mapping[str, Refusal] = MappingProxyType(
    {
        "access_programs": Refusal("access_programs is not supported."),
        "background": Refusal("background is not supported: an answer ends with its connection.", (False,)),
        "background_options": Refusal("background_options is not supported."),
        "context_management": Refusal("context_management is not supported: the input is sent as it is.", ([],)),
        "conversation": Refusal(f"conversation {_STORED}"),
        "image": Refusal("Images are not made here."),
        # No reasoning item is ever returned, so there is none to encrypt.
        "include": Refusal(
            "include is not supported: answers hold all there is.", ([], ["reasoning.encrypted_content"])
        ),
        "max_tool_calls": Refusal("max_tool_calls counts built-in tools, which are not run here."),
        "moderation": Refusal("moderation is not supported: the guard checks every request and answer."),
        "previous_response_id": Refusal(f"previous_response_id {_STORED}"),
        "prompt": Refusal("prompt names a prompt stored at OpenAI; the mesh's own are named by llmops.prompt."),
        "prompt_cache_options": Refusal("How the provider caches prompts is the operator's choice.", ({},)),
        "prompt_cache_retention": Refusal(
            "How long the provider keeps prompts is agreed with it, not chosen by a call.", ("in_memory", "in-memory")
        ),
        "service_tier": Refusal(
            "Only the provider's standard tier is offered: budgets know no other price.", ("auto", "default")
        ),
        "store": Refusal("store is not supported: nothing is stored here; send false or leave it out.", (False,)),
        "top_logprobs": Refusal("Log probabilities are not supported: a checked answer carries none.", (0,)),
        "truncation": Refusal("Input is never truncated here; send disabled or leave it out.", ("disabled",)),
    }
)
HINTS = (
    (re.compile(r"^input\[\d+\]\.type$"), "Items here are message, function_call and function_call_output."),
    (re.compile(r"(content|output)\[\d+\]\.type$"), "Parts here are input_text, input_image, output_text and refusal."),
    (re.compile(r"\.file_id$"), "Files are not stored here; send image_url."),
    (re.compile(r"^reasoning\.(?:generate_)?summary$"), "What a model thought is not returned; leave it out."),
    (re.compile(r"^tool_choice\.type$"), "Send auto, none, required, or a function by its name."),
    (re.compile(r"^stream_options\.include_obfuscation$"), "Chunks are not padded here; send false or leave it out."),
    (re.compile(r"^tools\[\d+\]\.type$"), "Tools here are functions of the caller; built-in tools are not run."),
)
BY_REASON: Mapping[str, str] = MappingProxyType({"CONTEXT_TOO_LONG": "input", "GUARD_BLOCKED": "input"})

_RENAMED = (
    (re.compile(r"^max_completion_tokens$"), "max_output_tokens"),
    (re.compile(r"^response_format\b.*$"), "text.format"),
    (re.compile(r"^reasoning_effort$"), "reasoning.effort"),
    (re.compile(r"^verbosity$"), "text.verbosity"),
    # Calls of one turn share a message inside, and the instructions are one: positions do not agree.
    (re.compile(r"^messages\b.*$"), "input"),
    (re.compile(r"^(tools\[\d+\])\.function\."), r"\1."),
)


def param_of(field_path: str) -> str:
    """The spelling of the responses API of a field of the contract."""
    return renamed(field_path, _RENAMED)
