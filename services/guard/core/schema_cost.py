"""How much work a JSON Schema may ask of a document: an upper bound, before anything is validated.

References make schemas that double at every level, so a kilobyte of schema can keep a validator busy for hours. The
bound counts evaluations: for each depth of the document, its nodes times the schemas that may look at one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from services.guard.core.errors import SchemaCostError

# Stands for "no bound"; sums and products stop here.
UNBOUNDED = 1 << 40
_IN_PLACE = ("not", "if", "then", "else", "$ref")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_BELOW = ("items", "additionalItems", "additionalProperties", "contains", "propertyNames", "unevaluatedItems",
          "unevaluatedProperties")  # fmt: skip
_FOREIGN = ("$dynamicRef", "$recursiveRef")


@dataclass(frozen=True, slots=True)
class SchemaLimits:
    """Beyond these an answer is not validated, and the policy's json_schema.on_error decides."""

    max_evaluations: int = 50_000
    max_depth: int = 64


@dataclass(slots=True)
class _Node:
    """Indices of the schemas that look at the same value, at each value below, and at one of the values below."""

    same: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    choices: list[list[int]] = field(default_factory=list)
    bounded: bool = True


class SchemaCost:
    """The bound of one schema. Immutable after construction, so threads may share it."""

    def __init__(self, schema: object) -> None:
        graph = _Graph(schema)
        self._nodes = graph.nodes
        self._order = _innermost_first(graph.nodes)

    def evaluations(self, document: object, limits: SchemaLimits) -> int:
        """An upper bound, at most UNBOUNDED. Raises SchemaCostError("depth") for a document that is too deep."""
        counts = _nodes_by_depth(document, limits.max_depth)
        total = 0
        below = [0] * len(self._nodes)
        for depth, count in enumerate(counts):
            below = self._level(below, first=depth == 0)
            total = min(UNBOUNDED, total + below[0] * count)
            if total > limits.max_evaluations:
                break
        return total

    def check(self, document: object, limits: SchemaLimits) -> None:
        """Raises SchemaCostError: "depth" or "cost"."""
        if self.evaluations(document, limits) > limits.max_evaluations:
            raise SchemaCostError("cost")

    def _level(self, below: Sequence[int], *, first: bool) -> list[int]:
        """Evaluations of a value one level deeper, by schema that its ancestor is given to."""
        level = [UNBOUNDED] * len(below)
        for index in self._order:
            node = self._nodes[index]
            if not node.bounded:
                continue
            inside = sum(level[child] for child in node.same)
            under = 0
            if not first:
                under = sum(below[child] for child in node.below)
                under += sum(max((below[child] for child in choice), default=0) for choice in node.choices)
            level[index] = min(UNBOUNDED, int(first) + inside + under)
        return level


def _nodes_by_depth(document: object, max_depth: int) -> list[int]:
    """Nodes at each depth."""
    counts: list[int] = []
    level: list[object] = [document]
    while level:
        if len(counts) > max_depth:
            raise SchemaCostError("depth")
        counts.append(len(level))
        deeper: list[object] = []
        for value in level:
            if isinstance(value, dict):
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
        level = deeper
    return counts


class _Graph:
    """Schemas that can be reached from the root, which is node 0."""

    def __init__(self, root: object) -> None:
        self.nodes: list[_Node] = []
        self._root = root
        self._known: dict[int, int] = {}
        self._waiting: list[tuple[int, Mapping[str, object]]] = []
        self._referring: list[_Node] = []
        self._embedded = False
        self._index(root)
        while self._waiting:
            index, schema = self._waiting.pop()
            self._connect(self.nodes[index], schema)
        if self._embedded:
            # An embedded $id gives references another base, so a pointer may mean another place.
            for node in self._referring:
                node.bounded = False

    def _index(self, schema: object) -> int:
        known = self._known.get(id(schema)) if isinstance(schema, dict) else None
        if known is not None:
            return known
        index = len(self.nodes)
        self.nodes.append(_Node())
        if isinstance(schema, dict):
            self._known[id(schema)] = index
            self._waiting.append((index, schema))
        return index

    def _connect(self, node: _Node, schema: Mapping[str, object]) -> None:
        if schema is not self._root and (isinstance(schema.get("$id"), str) or isinstance(schema.get("id"), str)):
            self._embedded = True
        if any(word in schema for word in _FOREIGN):
            node.bounded = False
        if "$ref" in schema:
            self._referring.append(node)
        for child in self._same(node, schema):
            node.same.append(self._index(child))
        for word in _BELOW:
            child = schema.get(word)
            if isinstance(child, list):
                node.choices.append([self._index(one) for one in child])
            elif child is not None:
                node.below.append(self._index(child))
        node.below.extend(self._index(child) for child in _values(schema.get("patternProperties")))
        for word in ("properties", "prefixItems"):
            node.choices.append([self._index(child) for child in _values(schema.get(word))])

    def _same(self, node: _Node, schema: Mapping[str, object]) -> Iterator[object]:
        for word in _IN_PLACE:
            if word == "$ref" and word in schema:
                target = self._resolve(schema[word])
                node.bounded = node.bounded and target is not None
                yield target
            elif word in schema:
                yield schema[word]
        for word in (*_IN_PLACE_LISTS, *_IN_PLACE_MAPS):
            yield from _values(schema.get(word))

    def _resolve(self, reference: object) -> object | None:
        """What a JSON pointer of this document (RFC 6901 in a URI fragment) points to; None for all else."""
        if reference == "#":
            return self._root
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        place: object = self._root
        for part in unquote(reference[2:]).split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict) and name in place:
                place = place[name]
            elif isinstance(place, list) and name.isascii() and name.isdigit() and int(name) < len(place):
                place = place[int(name)]
            else:
                return None
            if isinstance(place, dict) and isinstance(place.get("$id"), str):
                return None
        return place if isinstance(place, dict | bool) else None


def _values(group: object) -> list[object]:
    if isinstance(group, dict):
        return list(group.values())
    return list(group) if isinstance(group, list) else []


def _innermost_first(nodes: Sequence[_Node]) -> list[int]:
    """Nodes in an order in which those at the same value come first; those that lead into a cycle are left out."""
    users: list[list[int]] = [[] for _ in nodes]
    missing = [len(node.same) for node in nodes]
    for index, node in enumerate(nodes):
        for child in node.same:
            users[child].append(index)
    ready = [index for index, count in enumerate(missing) if count == 0]
    for index in ready:
        for user in users[index]:
            missing[user] -= 1
            if missing[user] == 0:
                ready.append(user)
    return ready
