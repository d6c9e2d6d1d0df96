"""Whether answers that satisfy a new output schema also satisfy the old one.

Readers of an answer were written against the old schema, so the new one may only narrow it. The check is structural
and cautious: what it does not understand counts as a break unless it is unchanged. A major version is always legal, so
caution costs a version number, and boldness would cost a reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from services.registry.core.json_text import canonical, parse_object

_ANNOTATIONS = frozenset(
    {"title", "description", "examples", "example", "default", "deprecated", "$comment", "readOnly", "writeOnly"}
)
_ALL_TYPES = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
# Keywords whose meaning depends on neighbours or on other parts of the document: a schema that has one must be equal.
_ENTANGLED = frozenset(
    {
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
        "patternProperties",
        "unevaluatedProperties",
        "unevaluatedItems",
        "prefixItems",
        "contains",
        "minContains",
        "maxContains",
        "if",
        "then",
        "else",
    }
)
_DEFINITIONS = ("$defs", "definitions")
# Below these stand names of the author's own, or plain values: a field called "title" is no annotation.
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "dependentSchemas", *_DEFINITIONS})
_LITERALS = frozenset({"enum", "const"})
_LOWER_BOUNDS = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_UPPER_BOUNDS = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_STRUCTURAL = frozenset({"type", "enum", "const", "properties", "additionalProperties", "items", "required"})

Schema = Mapping[str, object]


def schema_breaks(old_json: str, new_json: str) -> list[str]:
    """Why an answer that is valid under the new schema may be invalid under the old one; empty when it cannot be.

    Args:
        old_json: a JSON Schema object as text.
        new_json: the schema that follows it.

    Returns:
        Reasons with the place in the schema, such as "output.summary: its type was widened".
    """
    old, new = parse_object(old_json), parse_object(new_json)
    definitions = [
        "output: shared definitions changed"
        for key in _DEFINITIONS
        if key in old and _plain({key: old[key]}) != _plain({key: new.get(key)})
    ]
    trimmed_old, trimmed_new = ({k: v for k, v in side.items() if k not in _DEFINITIONS} for side in (old, new))
    return definitions + _breaks(trimmed_old, trimmed_new, "output")


def _breaks(old_value: object, new_value: object, place: str) -> list[str]:
    if _is_anything(old_value) or new_value is False or _plain(old_value) == _plain(new_value):
        return []
    if not isinstance(old_value, dict) or not isinstance(new_value, dict):
        return [f"{place}: the schema changed"]
    old, new = cast("Schema", old_value), cast("Schema", new_value)
    if _ENTANGLED & (old.keys() | new.keys()):
        return [f"{place}: the schema changed around a keyword that is not compared part by part"]
    found: list[str] = []
    for check in (_type_breaks, _value_breaks, _bound_breaks, _required_breaks, _property_breaks, _item_breaks):
        found.extend(check(old, new, place))
    for keyword in old.keys() - _STRUCTURAL - _ANNOTATIONS - _LOWER_BOUNDS - _UPPER_BOUNDS:
        if keyword not in new or _plain({keyword: old[keyword]}) != _plain({keyword: new[keyword]}):
            found.append(f"{place}: {keyword} changed")  # noqa: PERF401 - the loop reads better
    return sorted(found)


def _type_breaks(old: Schema, new: Schema, place: str) -> list[str]:
    return [f"{place}: its type was widened"] if "type" in old and not _types(new) <= _types(old) else []


def _types(schema: Schema) -> frozenset[str]:
    stated = schema.get("type", [])
    names = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    types = {name for name in names if isinstance(name, str)} or _ALL_TYPES
    return frozenset(types | {"integer"} if "number" in types else types)


def _value_breaks(old: Schema, new: Schema, place: str) -> list[str]:
    allowed, possible = _values(old), _values(new)
    if allowed is None or (possible is not None and possible <= allowed):
        return []
    return [f"{place}: it may have values that it could not have before"]


def _values(schema: Schema) -> frozenset[str] | None:
    """The listed values as canonical JSON; None when any value goes."""
    if "const" in schema:
        return frozenset({canonical(schema["const"])})
    listed = schema.get("enum")
    return frozenset(canonical(value) for value in listed) if isinstance(listed, list) else None


def _bound_breaks(old: Schema, new: Schema, place: str) -> list[str]:
    return [
        *_loosened(old, new, place, _LOWER_BOUNDS, lambda before, now: now >= before),
        *_loosened(old, new, place, _UPPER_BOUNDS, lambda before, now: now <= before),
    ]


def _loosened(
    old: Schema, new: Schema, place: str, keywords: frozenset[str], holds: Callable[[float, float], bool]
) -> list[str]:
    found = []
    for keyword in sorted(keywords & old.keys()):
        before, now = old[keyword], new.get(keyword)
        comparable = isinstance(before, int | float) and isinstance(now, int | float)
        if not comparable or not holds(cast("float", before), cast("float", now)):
            found.append(f"{place}: {keyword} was loosened")
    return found


def _required_breaks(old: Schema, new: Schema, place: str) -> list[str]:
    before, now = _names(old.get("required")), _names(new.get("required"))
    return [f"{place}.{name}: it is no longer always there" for name in sorted(before - now)]


def _names(value: object) -> frozenset[str]:
    return frozenset(name for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()


def _property_breaks(old: Schema, new: Schema, place: str) -> list[str]:
    old_known, new_known = _properties(old), _properties(new)
    new_rest = new.get("additionalProperties", True)
    old_rest = old.get("additionalProperties", True)
    found: list[str] = []
    for name, before in old_known.items():
        now = new_known.get(name, new_rest)
        if name not in new_known and now is not False and not _is_anything(before):
            found.append(f"{place}.{name}: it was removed")
        else:
            found.extend(_breaks(before, now, f"{place}.{name}"))
    for name, now in new_known.items():
        if name not in old_known and old_rest is False and now is not False:
            found.append(f"{place}.{name}: it was added to an object that allowed no other fields")
        elif name not in old_known:
            found.extend(_breaks(old_rest, now, f"{place}.{name}"))
    if old_rest is False and new_rest is not False:
        found.append(f"{place}: it may have fields that it could not have before")
    else:
        found.extend(_breaks(old_rest, new_rest, f"{place}.*"))
    return found


def _properties(schema: Schema) -> dict[str, object]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _item_breaks(old: Schema, new: Schema, place: str) -> list[str]:
    return _breaks(old.get("items", True), new.get("items", True), f"{place}[]")


def _is_anything(schema: object) -> bool:
    return schema is True or (isinstance(schema, dict) and not schema.keys() - _ANNOTATIONS)


def _plain(value: object) -> str:
    """A schema without its annotations, as text that is equal when the schemas are."""
    return canonical(_without_annotations(value))


def _without_annotations(value: object) -> object:
    if isinstance(value, list):
        return [_without_annotations(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _member(key, item) for key, item in value.items() if key not in _ANNOTATIONS}


def _member(key: str, value: object) -> object:
    if key in _LITERALS:
        return value
    if key in _NAMED_SCHEMAS and isinstance(value, dict):
        return {name: _without_annotations(schema) for name, schema in value.items()}
    return _without_annotations(value)
