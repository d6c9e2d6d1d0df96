"""Templates through meshkit, the same code with which holders of a snapshot render."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from meshkit import templates
from services.registry.core.prompt import Prompt, Variable

# The catalog holds the text anyway; what is kept here are the parsed pieces.
_MAX_COMPILED = 256


class MeshTemplates:
    """See `core.ports.Templates`."""

    def __init__(self, max_result_bytes: int = templates.MAX_RESULT_BYTES) -> None:
        """`max_result_bytes` bounds a rendered prompt."""
        self._max_result_bytes = max_result_bytes

    def check(self, prompt: Prompt) -> list[tuple[str, str]]:
        """See Templates."""
        try:
            _compiled(prompt)
        except templates.InvalidTemplate as error:
            return error.field_violations
        return []

    def render(self, prompt: Prompt, values: Mapping[str, str]) -> list[str]:
        """See Templates. Raises templates.InvalidVariables."""
        return _compiled(prompt).render(values, max_result_bytes=self._max_result_bytes)


def _compiled(prompt: Prompt) -> templates.CompiledPrompt:
    return _compile(tuple(message.template for message in prompt.messages), prompt.variables)


@lru_cache(_MAX_COMPILED)
def _compile(texts: tuple[str, ...], variables: tuple[Variable, ...]) -> templates.CompiledPrompt:
    return templates.compile_prompt(
        texts,
        [
            templates.Variable(
                each.name, templates.VariableType(each.type), each.required, each.default, each.max_chars
            )
            for each in variables
        ],
    )
