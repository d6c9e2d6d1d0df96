"""Every parameter of OpenAI's embeddings API is mapped; others are refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from services.edge.core.parameters import Refusal, renamed

MAPPED = frozenset({"dimensions", "encoding_format", "input", "llmops", "model", "user"})
PASSED: frozenset[str] = frozenset()
REFUSED: Mapping[str, Refusal] = MappingProxyType({})
BY_REASON: Mapping[str, str] = MappingProxyType({"CONTEXT_TOO_LONG": "input", "GUARD_BLOCKED": "input"})

_RENAMED = ((re.compile(r"^texts\b"), "input"), (re.compile(r"^purpose$"), "llmops.purpose"))


def param_of(field_path: str) -> str:
    """OpenAI's spelling of a field of the contract."""
    return renamed(field_path, _RENAMED)
