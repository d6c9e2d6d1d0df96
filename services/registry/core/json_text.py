"""JSON text that people wrote: read strictly, within a depth."""

from __future__ import annotations

import json

MAX_DEPTH = 64


def parse_object(text: str) -> dict[str, object]:
    """Reads a JSON object.

    Raises:
        ValueError: not JSON, not an object, a duplicate key, NaN, or nested deeper than 64; the message says which.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"is nested deeper than {MAX_DEPTH}") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - one error type for callers
    _refuse_depth(value)
    return value


def compact(value: object) -> str:
    """Compact JSON in the order of the keys: models write an object's fields in the order of its schema."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def canonical(value: object) -> str:
    """Compact JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has an object with a duplicate key")
    return found


def _refuse_constant(_: str) -> object:
    raise ValueError("has NaN or Infinity, which JSON does not know")


def _refuse_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        children: list[object] = []
        for node in level:
            if isinstance(node, dict):
                children.extend(node.values())
            elif isinstance(node, list):
                children.extend(node)
        if not children:
            return
        level = children
    raise ValueError(f"is nested deeper than {MAX_DEPTH}")
