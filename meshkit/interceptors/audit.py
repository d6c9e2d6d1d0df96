"""Writes what an audited RPC is asked to do, and by whom, into the audit log, before its handler runs."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Iterable
from typing import Any

from google.protobuf.message import Message

from meshkit.actions import Action, ActionLog
from meshkit.calls import ServerCall, Step


class Audit(Step):
    """What cannot be recorded is not done. Which RPCs, and which of their fields, is data of the contract."""

    name = "audit"

    def __init__(self, actions: ActionLog) -> None:
        self._actions = actions

    def on_accepted(self, call: ServerCall, message: Message) -> Awaitable[None]:
        """Raises Unavailable when the log does not answer, and what it objects to."""
        context, method = call.context, call.method
        assert context is not None
        action = Action(
            context.principal,
            method.path.lstrip("/"),
            message.request_id,  # type: ignore[attr-defined] # protos/lint.py: every audited request has one
            hashlib.sha256(message.SerializeToString(deterministic=True)).digest(),
            values_of(message, method.audited_fields),
        )
        return self._actions.record(action, context)


def values_of(message: Message, paths: Iterable[str]) -> dict[str, str]:
    """Fields of a message as text, by their paths. What is not set, or an empty text or list, is left out."""
    found = {path: _text(message, path) for path in paths}
    return {path: text for path, text in found.items() if text}


def _text(message: Any, path: str) -> str:
    *outer, name = path.split(".")
    for part in outer:
        message = getattr(message, part)
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not message.HasField(name):
        return ""
    value = getattr(message, name)
    # Descriptors of protobuf 6 and 7 do not say alike whether a field is a list.
    values = [value] if isinstance(value, str | int | float) else value
    return ",".join(_scalar(field, each) for each in values)


def _scalar(field: Any, value: Any) -> str:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else str(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
