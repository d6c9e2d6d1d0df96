"""Parameters that the contract does not name: which of them each dialect passes on. All others are refused.

A list of what is allowed, because a list of what is not goes stale with every release of a provider: who answers, what
it reads, what it keeps and what it costs is decided by fields that budgets, guards and the vendor register have seen.
So there is no place here for other texts, tools, models, tiers, regions, numbers of answers, kinds of media or storage.
Names are compared without case and underscores, as Google's APIs do, and sent in the dialect's own spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.router.adapters.dialects.base import json_object
from services.router.core.errors import InvalidRequest
from services.router.core.failure import token, unsupported

_FIELD = "call.parameters.extra_json"
_TEMPLATE = "chat_template_kwargs"
Extras = frozenset[str]
"""What one dialect passes on, in its own spelling."""


def _table(names: str) -> Extras:
    return frozenset(names.split())


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


_SAMPLING = "temperature top_p seed presence_penalty frequency_penalty"
# OpenAI's own, then those of vLLM, SGLang, llama.cpp, Ollama, Mistral and Groq.
OPENAI_CHAT = _table(
    f"{_SAMPLING} logit_bias verbosity prompt_cache_key safety_identifier user"
    " top_k top_a min_p typical_p tfs_z repetition_penalty repeat_penalty repeat_last_n length_penalty min_tokens"
    " stop_token_ids skip_special_tokens mirostat mirostat_tau mirostat_eta dynatemp_range dynatemp_exponent"
    " dry_multiplier dry_base dry_allowed_length xtc_probability xtc_threshold random_seed safe_prompt"
    " enable_thinking thinking thinking_budget chat_template_kwargs reasoning_format include_reasoning"
)
OPENAI_RESPONSES = _table("temperature top_p verbosity prompt_cache_key safety_identifier user truncation")
ANTHROPIC = _table("temperature top_p top_k thinking")
GEMINI = _table("temperature topP topK seed presencePenalty frequencyPenalty thinkingConfig safetySettings")
# Anthropic's and Amazon's models, in additionalModelRequestFields.
BEDROCK = _table("top_k thinking reasoning_config reasoningConfig")
# They become arguments of a function that takes addresses, keys and headers as well: sampling alone.
LITELLM = _table(f"{_SAMPLING} logit_bias top_k min_p repetition_penalty")
_ANYWHERE = frozenset(map(_plain, OPENAI_CHAT | OPENAI_RESPONSES | ANTHROPIC | GEMINI | BEDROCK))


def extra_parameters(extra_json: str, allowed: Extras) -> dict[str, Any]:
    """The parameters of `extra_json` in the dialect's spelling.

    Raises InvalidRequest for one that no dialect takes, ProviderError for one that only others take.
    """
    if not extra_json:
        return {}
    extra = json_object(extra_json, _FIELD)
    if refused := sorted(name for name in extra if _plain(name) not in _ANYWHERE):
        raise _not_passed_on(refused[:8])
    own = {_plain(name): name for name in allowed}
    for name in extra:
        if _plain(name) not in own:
            raise unsupported(f"parameter-{token(name)}")
    parameters = {own[_plain(name)]: value for name, value in extra.items()}
    _check_template(parameters.get(_TEMPLATE, {}))
    return parameters


def _not_passed_on(names: Sequence[str]) -> InvalidRequest:
    """Names each of them. A name that is none may be anything, also a piece of a prompt."""
    text = "is not passed on; the router's README lists what is"
    violations = [(f"{_FIELD}.{token(name)}" if token(name) else _FIELD, text) for name in names]
    error = InvalidRequest(*violations[0])
    error.field_violations = violations
    return error


def _check_template(switches: Any) -> None:
    """Switches of a chat template are fine; text would be a prompt that no guard has seen."""
    if not isinstance(switches, dict) or not all(isinstance(value, bool | int | float) for value in switches.values()):
        raise InvalidRequest(f"{_FIELD}.{_TEMPLATE}", "must hold true, false and numbers only")


def merge_extra(body: dict[str, Any], extra_json: str, allowed: Extras) -> None:
    """Adds the parameters of `extra_json`, which win over the contract's own. Raises as `extra_parameters` does."""
    body.update(extra_parameters(extra_json, allowed))
