"""Does a servicer answer everything that its contract promises, in the form that it promises?"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from tests.architecture.sizes import functions

HANDLER_LINES = 20


def servicers_in(module: ModuleType, base: type) -> list[type[Any]]:
    """The classes that a module itself defines on top of a generated servicer."""
    classes = [
        value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    return [found for found in classes if issubclass(found, base)]


def objections(servicer: type[Any], base: type, contract: ServiceDescriptor) -> Iterator[str]:
    """RPCs that are not overridden, or whose handler has the wrong form."""
    for method in contract.methods:
        where = f"{servicer.__name__}.{method.name}"
        handler = inspect.getattr_static(servicer, method.name, None)
        if handler is None or handler is inspect.getattr_static(base, method.name, None):
            yield f"{where} is not implemented"
        elif method.server_streaming and not inspect.isasyncgenfunction(handler):
            yield f"{where} answers with a stream and is not an async generator"
        elif not method.server_streaming and not inspect.iscoroutinefunction(handler):
            yield f"{where} is not a coroutine function"


def long_handlers(api: Path, contract: ServiceDescriptor) -> Iterator[str]:
    """Handlers that do more than translate."""
    names = {method.name for method in contract.methods}
    for name, function in functions(ast.parse(api.read_text(encoding="utf-8"))):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if function.name in names and lines >= HANDLER_LINES:
            yield f"{name} has {lines} lines; a handler only translates, in less than {HANDLER_LINES}"
