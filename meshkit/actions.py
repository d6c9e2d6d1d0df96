"""The audit log as every process sees it: actions of people who run the system, written down before they are done.

Where an identity service runs here or is a peer, it keeps the log, and what it cannot keep is refused. A mesh without
one has no audit log: actions are done, and a line of this process's own log says that they were not recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llmops.identity.v1 import identity_pb2, identity_pb2_grpc

from meshkit.context import CallContext, running
from meshkit.errors import CallError, Unavailable
from meshkit.identity import NOBODY, Principal

logger = logging.getLogger("meshkit.actions")

_TIMEOUT_S = 2.0
# What identity says about the action itself. Anything else is about this process, and no word about the action.
_ABOUT_THE_ACTION = frozenset({"ALREADY_EXISTS", "INVALID_ARGUMENT"})


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody asked for: the RPC, id and SHA-256 of the request, and values of fields that hold no content."""

    principal: Principal
    method: str
    request_id: str
    request_sha256: bytes
    fields: Mapping[str, str]


class ActionLog(Protocol):
    """Keeps actions."""

    async def record(self, action: Action, call: CallContext) -> None:
        """Returns when it is kept, once per request_id; `call` is its call. Raises MeshError: it must not be done."""
        ...


class IdentityLog:
    """The audit log of the identity service."""

    def __init__(self, channel: Callable[[], Any], mesh_key: str) -> None:
        """Opens nothing: `channel` is called for the first action."""
        self._channel = channel
        self._mesh_key = mesh_key
        self._stub: Any = None

    async def record(self, action: Action, call: CallContext) -> None:
        """See ActionLog."""
        who = action.principal
        request = identity_pb2.RecordActionRequest(
            request_id=action.request_id,
            organisation=who.organisation,
            user=who.user,
            key_id=who.key_id,
            method=action.method,
            request_sha256=action.request_sha256,
            fields=action.fields,
        )
        try:
            with running(self._as_mesh(call)):
                if self._stub is None:
                    self._stub = identity_pb2_grpc.IdentityServiceStub(self._channel())
                await self._stub.RecordAction(request)
        except (CallError, Unavailable) as error:
            if error.status in _ABOUT_THE_ACTION:
                raise
            raise _unrecorded(action, error) from None

    def _as_mesh(self, call: CallContext) -> CallContext:
        """The mesh's own credential, in the request and trace of the action's call."""
        deadline_s = asyncio.get_running_loop().time() + _TIMEOUT_S
        if call.deadline_s is not None:
            deadline_s = min(deadline_s, call.deadline_s)
        return CallContext(call.request_id, NOBODY, self._mesh_key, call.trace, deadline_s)


class NoLog:
    """A mesh without an identity service: nothing is recorded, and that is said."""

    async def record(self, action: Action, call: CallContext) -> None:
        """See ActionLog."""
        who = action.principal
        fields = {
            "method": action.method,
            "organisation": who.organisation,
            "key_id": who.key_id,
            "request_id": action.request_id,
            "request_sha256": action.request_sha256.hex(),
        }
        text = "admin action, in no audit log: this mesh has no identity service"
        logger.warning(text, extra={"fields": fields})


def _unrecorded(action: Action, error: CallError | Unavailable) -> Unavailable:
    fields = {"cause": error.status, "method": action.method}
    logger.warning("an action could not be recorded, so it was refused", extra={"fields": fields})
    return Unavailable(
        "this action must stand in the audit log first, and the identity service does not answer; nothing was done, "
        "send the same request again shortly",
        retry_after_s=1.0,
    )
