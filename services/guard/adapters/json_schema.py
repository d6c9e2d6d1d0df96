"""Output schemas on jsonschema-rs. References to other documents are refused, never fetched."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import Any

import orjson

from services.guard.core.errors import InvalidRequestError
from services.guard.core.findings import SchemaViolation
from services.guard.core.ports import CompiledSchema
from services.guard.core.schema_cost import SchemaCost, SchemaLimits

# Patterns of a schema come from callers: look-around is allowed, endless backtracking is not.
_BACKTRACK_LIMIT = 100_000
_PATTERN_BYTES = 1 << 20


class JsonSchemaCompiler:
    """The port SchemaCompiler, with a bounded cache of compiled schemas. Safe to use from several threads."""

    def __init__(self, max_schemas: int, max_cached_chars: int, limits: SchemaLimits | None = None) -> None:
        self._max_schemas = max_schemas
        self._max_chars = max_cached_chars
        self._limits = limits or SchemaLimits()
        self._cache: OrderedDict[str, CompiledSchema] = OrderedDict()
        self._chars = 0
        self._lock = threading.Lock()

    def compile(self, json_schema: str) -> CompiledSchema:
        """See SchemaCompiler."""
        with self._lock:
            known = self._cache.get(json_schema)
            if known is not None:
                self._cache.move_to_end(json_schema)
                return known
        compiled = _compile(json_schema, self._limits)
        with self._lock:
            self._keep(json_schema, compiled)
        return compiled

    def _keep(self, json_schema: str, compiled: CompiledSchema) -> None:
        if len(json_schema) > self._max_chars or json_schema in self._cache:
            return
        self._cache[json_schema] = compiled
        self._chars += len(json_schema)
        while len(self._cache) > self._max_schemas or self._chars > self._max_chars:
            oldest, _ = self._cache.popitem(last=False)
            self._chars -= len(oldest)


def _compile(json_schema: str, limits: SchemaLimits) -> CompiledSchema:
    try:
        import jsonschema_rs  # noqa: PLC0415 - optional: only answers with a schema need it
    except ModuleNotFoundError as error:
        raise InvalidRequestError(
            "json_schema", "this guard has no schema validator; install the extra `guard`"
        ) from error
    try:
        schema = orjson.loads(json_schema)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError("json_schema", f"is not JSON (line {error.lineno}, column {error.colno})") from error
    if not isinstance(schema, dict | bool):
        raise InvalidRequestError("json_schema", "must be a JSON object")
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT, size_limit=_PATTERN_BYTES)
    try:
        validator = jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=options)
    except jsonschema_rs.ReferencingError as error:
        raise InvalidRequestError(
            "json_schema", "refers to another document; only references inside it work"
        ) from error
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise InvalidRequestError("json_schema", "is not a valid JSON Schema, or refers to another document") from error
    return _JsonSchema(validator, SchemaCost(schema), limits)


def _refuse(uri: str) -> Any:
    raise ValueError(f"references are not fetched: {uri}")


class _JsonSchema:
    def __init__(self, validator: Any, cost: SchemaCost, limits: SchemaLimits) -> None:
        self._validator = validator
        self._cost = cost
        self._limits = limits

    def violations(self, text: str, limit: int) -> tuple[SchemaViolation, ...]:
        """See CompiledSchema."""
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return (SchemaViolation("", "json"),)
        self._cost.check(document, self._limits)
        errors = itertools.islice(self._validator.iter_errors(document), limit)
        return tuple(SchemaViolation(_pointer(error.instance_path), _rule(error)) for error in errors)

    def evaluations(self, text: str) -> int:
        """See CompiledSchema."""
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return 0
        return self._cost.evaluations(document, self._limits)


def _pointer(path: list[str | int]) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _rule(error: Any) -> str:
    return str(error.kind.name)
