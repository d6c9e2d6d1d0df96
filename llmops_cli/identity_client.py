"""A running mesh's identity service, for the commands of people: one call, its answer or one sentence."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from llmops.common.v1 import options_pb2
from llmops.identity.v1 import identity_pb2_grpc

from llmops_cli.call import explain
from llmops_cli.channels import open_channel
from meshkit.identity import ROLES
from meshkit.settings import SettingsError, nearest

_TIMEOUT_S = 30.0
_PAGE_SIZE = 1000
_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class CallRefused(Exception):
    """The call failed, and its reason was written to standard error; the exit code is its only argument."""


class IdentityClient:
    """The service at an address, with somebody's key."""

    def __init__(self, address: str, key: str) -> None:
        """Connects with the first call."""
        self._address = address
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._channel = open_channel(address)
        self._stub = identity_pb2_grpc.IdentityServiceStub(self._channel)

    def call(self, rpc: str, request: Message) -> Any:
        """One answer. A request_id is added where the request has one. Raises CallRefused."""
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = uuid.uuid4().hex  # type: ignore[attr-defined]
        try:
            return getattr(self._stub, rpc)(request, metadata=self._metadata, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise SettingsError(
                    f"{self._address} does not run identity; --address names the process that does "
                    "(`make mesh`: 127.0.0.1:50065)"
                ) from None
            raise CallRefused(explain(error, self._address, rpc)) from None

    def pages(self, rpc: str, request: Message) -> Iterator[Any]:
        """Every answer of a list, page by page."""
        request.page_size = _PAGE_SIZE  # type: ignore[attr-defined]
        while True:
            answer = self.call(rpc, request)
            yield answer
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def roles_of(names: Sequence[str] | None) -> list[options_pb2.Role]:
    """Roles by name. Raises SettingsError with the nearest name."""
    for name in names or ():
        if name not in ROLES:
            known = ", ".join(sorted(ROLES))
            raise SettingsError(f"--role {name}: there is no such role{nearest(name, ROLES)}; roles are {known}")
    # The generated types of enums differ between releases of the generator.
    numbers: Any = [options_pb2.Role.Value(f"ROLE_{name.upper()}") for name in names or ()]
    return list(numbers)


def span(option: str, text: str) -> timedelta:
    """A time as people write it: 90s, 15m, 12h, 30d. Raises SettingsError."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f"{option} {text}: write a number and s, m, h or d, for example 12h or 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def ends_at(text: str) -> datetime:
    """The moment that lies so far ahead. Raises SettingsError."""
    return datetime.now(UTC) + span("--expires-in", text)


def show(messages: Sequence[Message], columns: Callable[[Any], Sequence[str]], *, as_json: bool) -> None:
    """A line per message: its columns aligned, or the whole of it as JSON."""
    if as_json:
        for message in messages:
            text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
            sys.stdout.write(text + "\n")
        return
    if not messages:
        sys.stderr.write("there is none yet\n")
        return
    rows = [[printable(cell) for cell in columns(message)] for message in messages]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def printable(text: str) -> str:
    """Text that others wrote, safe for a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text) or "-"


def moment(message: Any, field: str) -> str:
    """A moment of a message, or nothing."""
    if not message.HasField(field):
        return ""
    found: str = getattr(message, field).ToJsonString()
    return found


def role_names(numbers: Sequence[options_pb2.Role]) -> str:
    """Roles as people write them."""
    return ",".join(options_pb2.Role.Name(number).removeprefix("ROLE_").lower() for number in numbers)
