"""Each port of the guard: the real adapter and its memory twin give the same answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from meshkit.encoder import QueuedEncoder
from meshkit.encoder_memory import HashingTextModel
from meshkit.executors import Executor
from services.guard.adapters.json_schema import JsonSchemaCompiler
from services.guard.adapters.memory import InlineExecutor, MemoryEncoder, MemoryPatternEngine, MemorySchemaCompiler
from services.guard.adapters.re2 import Re2Engine
from services.guard.core.errors import InvalidPatternError, InvalidRequestError, SchemaCostError
from services.guard.core.ports import CpuExecutor, Encoder, PatternEngine, SchemaCompiler

SCHEMA = """{
  "type": "object",
  "required": ["name", "tags"],
  "additionalProperties": false,
  "properties": {
    "name": {"type": "string"},
    "a/b~c": {"type": "integer"},
    "mood": {"enum": ["good", "bad"]},
    "tags": {"type": "array", "items": {"type": "string"}}
  }
}"""


@pytest.fixture(params=[MemoryPatternEngine, Re2Engine])
def patterns(request: pytest.FixtureRequest) -> PatternEngine:
    return request.param()  # type: ignore[no-any-return]


@pytest.fixture(params=[MemorySchemaCompiler, lambda: JsonSchemaCompiler(4, 10_000)])
def schemas(request: pytest.FixtureRequest) -> SchemaCompiler:
    return request.param()  # type: ignore[no-any-return]


def test_patterns_give_code_points_and_no_empty_matches(patterns: PatternEngine) -> None:
    text = "é Falcon-7 漢 falcon-12"
    assert list(patterns.compile(r"(?i)falcon-\d+").spans(text, 0)) == [(2, 10), (13, 22)]
    assert list(patterns.compile("x*").spans("axxb", 0)) == [(1, 3)]


def test_what_stands_before_the_start_is_context(patterns: PatternEngine) -> None:
    assert list(patterns.compile(r"\bab").spans("xab ab", 1)) == [(4, 6)]
    assert list(patterns.compile("^a").spans("ba", 1)) == []
    assert list(patterns.compile("a").spans("éaéa", 2)) == [(3, 4)]


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "[z-a]"])
def test_invalid_patterns_are_refused(patterns: PatternEngine, pattern: str) -> None:
    with pytest.raises(InvalidPatternError):
        patterns.compile(pattern)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ('{"name":"a","tags":["x"],"a/b~c":1,"mood":"good"}', []),
        ('{"tags":[]}', [("", "required")]),
        ('{"name":1,"tags":[]}', [("/name", "type")]),
        ('{"name":"a","tags":["x",2,null]}', [("/tags/1", "type"), ("/tags/2", "type")]),
        ('{"name":"a","tags":[],"a/b~c":"x"}', [("/a~1b~0c", "type")]),
        ('{"name":"a","tags":[],"a/b~c":true}', [("/a~1b~0c", "type")]),
        ('{"name":"a","tags":[],"mood":"odd"}', [("/mood", "enum")]),
        ('{"name":"a","tags":[],"extra":1}', [("", "additionalProperties")]),
        ("[]", [("", "type")]),
        ("", [("", "json")]),
        ('{"name":NaN}', [("", "json")]),
        ('```json\n{"name":"a"}\n```', [("", "json")]),
        ("[" * 100_000, [("", "json")]),
    ],
)
def test_schemas_say_where_and_which_rule(schemas: SchemaCompiler, text: str, broken: list[tuple[str, str]]) -> None:
    found = schemas.compile(SCHEMA).violations(text, 16)
    assert sorted((one.pointer, one.rule) for one in found) == sorted(broken)


def test_violations_stop_at_the_limit(schemas: SchemaCompiler) -> None:
    compiled = schemas.compile('{"type":"array","items":{"type":"string"}}')
    assert len(compiled.violations(str(list(range(50))), 16)) == 16


@pytest.mark.parametrize(
    "schema", ["", "{", "[]", '"x"', '{"type":"nope"}', '{"$ref":"https://schemas.invalid/a.json"}']
)
def test_unusable_schemas_are_an_error_of_the_request(schemas: SchemaCompiler, schema: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        schemas.compile(schema)
    assert refused.value.field_violations[0][0] == "json_schema"


def test_a_reference_to_another_document_is_never_fetched() -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(InvalidRequestError):
            JsonSchemaCompiler(4, 1000).compile(f'{{"$ref":"http://127.0.0.1:{server.server_port}/s.json"}}')
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == []


def test_references_inside_a_schema_work() -> None:
    schema = '{"$defs":{"n":{"type":"integer"}},"type":"array","items":{"$ref":"#/$defs/n"}}'
    assert JsonSchemaCompiler(4, 1000).compile(schema).violations("[1]", 16) == ()
    assert [one.pointer for one in JsonSchemaCompiler(4, 1000).compile(schema).violations('["x"]', 16)] == ["/0"]


def test_compiled_schemas_are_kept_within_bounds() -> None:
    compiler = JsonSchemaCompiler(2, 100)
    first = compiler.compile('{"type":"object"}')
    assert compiler.compile('{"type":"object"}') is first
    compiler.compile('{"type":"array"}')
    compiler.compile('{"type":"string"}')
    assert compiler.compile('{"type":"object"}') is not first
    long = '{"type":"object","description":"' + "x" * 100 + '"}'
    assert compiler.compile(long) is not compiler.compile(long)


def test_schemas_compile_on_several_threads() -> None:
    compiler = JsonSchemaCompiler(3, 10_000)
    texts = [f'{{"type":"array","maxItems":{number % 7}}}' for number in range(200)]
    with ThreadPoolExecutor(4) as pool:
        compiled = list(pool.map(compiler.compile, texts))
    assert all(schema.violations("[1,2,3,4,5,6,7]", 1) for schema in compiled)


def test_a_pattern_that_backtracks_is_cut_short() -> None:
    compiled = JsonSchemaCompiler(4, 1000).compile('{"type":"string","pattern":"^(a|aa)+(?!b)c$"}')
    assert compiled.violations('"' + "a" * 60 + '"', 1) != ()


@pytest.fixture(params=[InlineExecutor, lambda: Executor("guard-test", 1, 4)])
def executor(request: pytest.FixtureRequest) -> CpuExecutor:
    return request.param()  # type: ignore[no-any-return]


async def test_executors_return_results_and_raise_errors(executor: CpuExecutor) -> None:
    assert await executor.run(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await executor.run(divmod, 7, 0)


@pytest.fixture(params=[MemoryEncoder, lambda: QueuedEncoder(HashingTextModel())])
def new_encoder(request: pytest.FixtureRequest) -> Callable[[], Encoder]:
    return request.param  # type: ignore[no-any-return]


async def test_encoders_give_unit_vectors_in_order(new_encoder: Callable[[], Encoder]) -> None:
    encoder = new_encoder()
    first, second, again = await encoder.encode_many(["one text", "another", "one text"])
    alone = await encoder.encode("one text")
    for encoded in (first, second, again, alone):
        assert encoded.vector.dtype == np.float32
        assert float(np.linalg.norm(encoded.vector)) == pytest.approx(1.0, abs=1e-5)
    assert (first.vector == again.vector).all()
    assert (first.vector == alone.vector).all()
    assert not (first.vector == second.vector).all()
    assert not first.truncated
    assert (await encoder.encode("word " * 1000)).truncated
    assert encoder.count_tokens("one two three") == 3
    assert encoder.model


def test_what_would_take_too_long_is_not_validated(schemas: SchemaCompiler) -> None:
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(22)}
    schema = {"$defs": {**doubling, "d22": {"type": "integer"}}, "$ref": "#/$defs/d0"}
    with pytest.raises(SchemaCostError) as costly:
        schemas.compile(json.dumps(schema)).violations("1", 16)
    with pytest.raises(SchemaCostError) as deep:
        schemas.compile('{"type":"array"}').violations("[" * 66 + "]" * 66, 16)
    assert (costly.value.rule, deep.value.rule) == ("cost", "depth")
    assert schemas.compile('{"type":"array","items":{"type":"integer"}}').evaluations("[1,2]") == 3
