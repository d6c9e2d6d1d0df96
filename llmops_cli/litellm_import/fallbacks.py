"""Who stands in for whom: LiteLLM's lists of fallbacks, followed as it follows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmops_cli.litellm_import.deployments import Group, Inventory
from llmops_cli.litellm_import.reading import Section
from services.router.route_settings import MAX_CANDIDATES

_FOR_ALL_CAUSES = "fallbacks"
# Here, and there.
_FOR_ONE_CAUSE = (
    ("context_fallbacks", "context_window_fallbacks"),
    ("content_policy_fallbacks", "content_policy_fallbacks"),
)
# LiteLLM's, where the file names none.
_MAX_FALLBACKS = 5
_UNKNOWN = "is no model_name of model_list that could be mapped"


@dataclass(frozen=True, slots=True)
class _List:
    """The names that stand in, and where they were written."""

    path: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Lists:
    """The lists for one cause: by name, and the one of those that have none of their own."""

    own: Mapping[str, _List]
    general: _List


class Fallbacks:
    """`names` are the groups by their names and aliases; LiteLLM looks for lists under the name that was called."""

    def __init__(self, names: Mapping[str, Group], inventory: Inventory, router: Section, litellm: Section) -> None:
        self._names, self._report = names, inventory.report
        self._router, self._litellm = router, litellm
        self._deep = self._max_fallbacks()
        self._lists = {key: self._read(key) for key in (_FOR_ALL_CAUSES, *(theirs for _, theirs in _FOR_ONE_CAUSE))}

    def of(self, name: str) -> dict[str, list[str]]:
        """Who is asked when `name` fails, by the field of a route; fields that would be empty are left out."""
        found = {"candidates": self._follow(name, _FOR_ALL_CAUSES)}
        for ours, theirs in _FOR_ONE_CAUSE:
            # Who stands in may fail for another cause, and then goes on with its general list.
            found[ours] = self._follow(name, theirs, _FOR_ALL_CAUSES)
            self._note_unfollowed(name, theirs, {*found["candidates"], *found[ours]}, found["candidates"])
        return {field: names for field, names in found.items() if names}

    def _follow(self, name: str, *keys: str) -> list[str]:
        """Depth first, each name once. What counts as depth grows along a list too, as it does there."""
        first = self._first(name, self._lists[keys[0]])
        found: dict[str, None] = {}

        def walk(names: Sequence[str], depth: int) -> None:
            if depth >= self._deep:
                return
            for other in names:
                # Whatever no route has room for need not be found.
                if other != name and other not in found and len(found) <= MAX_CANDIDATES:
                    found[other] = None
                    depth += 1
                    walk(self._own_names(other, keys) or first.names, depth)

        walk(first.names, 0)
        if first.names and not self._deep:
            self._report.note(first.path, "left out, max_fallbacks is 0")
        elif name in self._lists[keys[0]].own and any(self._own_names(other, keys) for other in first.names):
            self._report.note(first.path, f"with the lists of those who stand in, for {name}: {', '.join(found)}")
        return list(found)

    def _own_names(self, name: str, keys: Sequence[str]) -> Sequence[str]:
        return [other for key in keys for other in self._lists[key].own.get(name, _List()).names]

    def _first(self, name: str, lists: _Lists) -> _List:
        if name in lists.own:
            return lists.own[name]
        fit = self._names[name].fit
        return _List(lists.general.path, tuple(o for o in lists.general.names if self._names[o].fit == fit))

    def _note_unfollowed(self, name: str, key: str, reached: set[str], others: Sequence[str]) -> None:
        """A route has one list for a cause, whoever of its models fails with it."""
        for other in others:
            entry = self._lists[key].own.get(other, _List())
            if not reached.issuperset(set(entry.names) - {name}):
                self._report.note(
                    entry.path, f"not followed by calls of {name} that came to {other}; give {name} a list of its own"
                )

    def _max_fallbacks(self) -> int:
        found, path = self._router.first_number("max_fallbacks", self._litellm)
        if found is None:
            return _MAX_FALLBACKS
        self._report.note(path, f"lists of fallbacks are followed {found:g} deep, and no further")
        return min(int(found), MAX_CANDIDATES)

    def _entries(self, key: str) -> Iterator[tuple[str, object]]:
        """The router's, as a whole in front of litellm_settings'."""
        there = list(self._router.entries(key))
        yield from there
        for path, entry in self._litellm.entries(key):
            if there:
                self._report.note(path, f"left out, router_settings.{key} is there")
            else:
                yield path, entry

    def _read(self, key: str) -> _Lists:
        """`[{"a": ["b", "c"]}, …]`, `*` for those that have no list of their own: the last one, as there."""
        own: dict[str, _List] = {}
        general = _List()
        for path, name, others in self._steps(key):
            if name == "*":
                if general.path:
                    self._report.note(general.path, f"left out, {path} is behind it")
                general = self._general(path, others)
            elif name not in self._names:
                self._report.refuse(path, f"{name!r} {_UNKNOWN}")
            elif name in own:
                self._report.note(path, f"left out, {name} has a list already")
            else:
                own[name] = _List(path, tuple(self._fitting(path, name, others)))
        return _Lists(own, general)

    def _steps(self, key: str) -> Iterator[tuple[str, str, Sequence[object]]]:
        for path, entry in self._entries(key):
            if not isinstance(entry, Mapping):
                self._report.refuse(path, 'expected {"model": ["other", …]}')
                continue
            for name, others in entry.items():
                yield f"{path}.{name}", str(name), others if isinstance(others, list) else [others]
        if key == _FOR_ALL_CAUSES and (defaults := list(self._entries("default_fallbacks"))):
            path = defaults[0][0].removesuffix("[0]")
            yield path, "*", [raw for _, raw in defaults]

    def _general(self, path: str, others: Sequence[object]) -> _List:
        known = tuple(dict.fromkeys(name for raw in others if (name := self._known(path, raw)) is not None))
        self._report.note(path, f"{', '.join(known)}: for every model_name of their kind that has no list of its own")
        return _List(path, known)

    def _fitting(self, path: str, name: str, others: Sequence[object]) -> Iterator[str]:
        """Those that can stand in for `name`: of its kind, and with comparable vectors."""
        there = [self._names[name]]
        for raw in others:
            other = self._known(path, raw)
            if other is None:
                continue
            group = self._names[other]
            if group.fit != there[0].fit:
                why = f"{other} cannot stand in for {name}: another kind, or vectors of another space"
                self._report.refuse(path, why)
                continue
            if any(group is known for known in there):
                self._report.note(path, f"{other}: its models are tried once")
            there.append(group)
            yield other

    def _known(self, path: str, raw: object) -> str | None:
        if isinstance(raw, str) and raw in self._names:
            return raw
        self._report.refuse(path, f"{raw!r} {_UNKNOWN}")
        return None
