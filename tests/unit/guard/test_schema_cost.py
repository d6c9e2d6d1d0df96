"""The bound on validating: schemas that explode are not run, honest ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

import pytest
from llmops.common.v1 import chat_pb2 as chat
from llmops.common.v1 import verdict_pb2

from services.guard.adapters.memory import MemoryObserver, MemoryPatternEngine, MemorySchemaCompiler
from services.guard.core.active_policy import PolicyBook
from services.guard.core.conversation import AnswerDelta
from services.guard.core.errors import SchemaCostError
from services.guard.core.guard import Guard, GuardLimits
from services.guard.core.policy import DEFAULT, SHIPPED, JsonSchemaRules
from services.guard.core.schema_cost import UNBOUNDED, SchemaCost, SchemaLimits
from tests.unit.guard.bench import Bench

P = ParamSpec("P")
T = TypeVar("T")
LIMITS = SchemaLimits()
TWICE = {"oneOf": [{"$ref": "#"}, {"$ref": "#"}]}


def doubling(levels: int) -> dict[str, Any]:
    defs: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**defs, f"d{levels}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


def nested(levels: int) -> Any:
    document: Any = "x"
    for _ in range(levels):
        document = [document]
    return document


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        (doubling(22), 1),
        ({"items": TWICE}, nested(30)),
        ({"$ref": "#"}, 1),
        ({"allOf": [{"anyOf": [{"$ref": "#"}]}]}, 1),
        ({"$dynamicRef": "#node"}, 1),
        ({"$ref": "#anchor"}, 1),
        ({"$ref": "other.json"}, 1),
    ],
)
def test_a_schema_that_explodes_is_not_run(schema: object, document: object) -> None:
    with pytest.raises(SchemaCostError) as refused:
        SchemaCost(schema).check(document, LIMITS)
    assert refused.value.rule == "cost"


def test_the_bound_counts_each_schema_that_sees_a_value() -> None:
    # The root once, and `items` for each of its two values.
    assert SchemaCost({"items": {"type": "string"}}).evaluations(["a", "b"], LIMITS) == 3
    assert SchemaCost(doubling(2)).evaluations(1, LIMITS) == 1 + (1 + 2 * (1 + 1 + 2 * 2))
    assert SchemaCost({"$ref": "#"}).evaluations(1, LIMITS) == UNBOUNDED


def test_a_document_too_deep_is_not_read_on() -> None:
    SchemaCost({}).check(nested(64), LIMITS)
    with pytest.raises(SchemaCostError) as refused:
        SchemaCost({}).check(nested(65), LIMITS)
    assert refused.value.rule == "depth"


def tree(nodes: int) -> dict[str, Any]:
    made: list[dict[str, Any]] = [{"name": "n", "children": []} for _ in range(nodes)]
    for index in range(1, nodes):
        made[(index - 1) // 2]["children"].append(made[index])
    return made[0]


def wide(levels: int) -> tuple[Any, Any]:
    schema: Any = {"type": "string"}
    document: Any = "x"
    for _ in range(levels):
        schema = {"properties": {**{f"p{n}": {"type": "integer"} for n in range(59)}, "deeper": schema}}
        document = {**{f"p{n}": n for n in range(59)}, "deeper": document}
    return schema, document


TREE = {"properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}}}
ROWS = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}, "c": {}}}}
AST = {
    "$defs": {
        "node": {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in ("literal", "negation", "call")]},
        "literal": {"properties": {"value": {"type": "number"}}, "required": ["value"]},
        "negation": {"properties": {"of": {"$ref": "#/$defs/node"}}, "required": ["of"]},
        "call": {"properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
    "$ref": "#/$defs/node",
}


def syntax(depth: int) -> dict[str, Any]:
    return {"value": 1} if depth == 0 else {"of": syntax(depth - 1)}


@pytest.mark.parametrize(
    ("schema", "document"),
    [(TREE, tree(500)), wide(6), (ROWS, [{"a": n, "b": "x", "c": None} for n in range(2000)]), (AST, syntax(10))],
)
def test_honest_schemas_pass(schema: object, document: object) -> None:
    SchemaCost(schema).check(document, LIMITS)


@pytest.mark.parametrize(("on_error", "blocked"), [("block", True), ("allow", False)])
async def test_on_error_decides_when_validating_did_not_run(*, on_error: str, blocked: bool) -> None:
    bench = Bench(replace(DEFAULT, json_schema=JsonSchemaRules(on_error=on_error)))
    answered = await bench.answer(chat.Completion(content="1"), json_schema=json.dumps(doubling(22)))
    assert (answered.verdict.decision == verdict_pb2.GUARD_DECISION_BLOCK) is blocked
    assert answered.verdict.degraded is not blocked
    assert [(one.detector, one.category) for one in answered.verdict.findings] == [("json-schema", "error")]
    assert [(one.pointer, one.rule) for one in answered.schema_violations] == [("", "cost")]
    assert bench.observer.failures == [("json-schema", "SchemaCostError")]


class Counting:
    """An executor that counts what it ran."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        self.runs += 1
        return function(*arguments, **options)


@pytest.mark.parametrize(
    ("document", "away"), [([1, 2], 0), (list(range(600)), 1), (["x" * 5000], 1)], ids=["small", "costly", "long"]
)
async def test_only_small_validation_stays_on_the_event_loop(document: object, away: int) -> None:
    executor = Counting()
    book = PolicyBook({**SHIPPED}, MemoryPatternEngine())
    guard = Guard(book, MemorySchemaCompiler(), executor, MemoryObserver(), GuardLimits())
    for stream in (False, True):
        executor.runs = 0
        check = await guard.open_output("", (), (), '{"type":"array","items":{}}')
        answer = AnswerDelta(json.dumps(document))
        if stream:
            await guard.feed(check, answer)
            await guard.finish(check)
        else:
            await guard.check_whole(check, answer)
        assert executor.runs == away
