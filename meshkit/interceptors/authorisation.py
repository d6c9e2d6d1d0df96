"""Who calls, and whether the contract lets this role call this RPC. Deny by default."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Mapping

from meshkit.calls import ServerCall, Step
from meshkit.errors import PermissionDenied
from meshkit.identity import Authenticator, Principal
from meshkit.transports.outgoing import MESH_HEADER

_BEARER = "bearer "


class Authorisation(Step):
    """The roles that an RPC serves are data of the contract (`option (llmops.common.v1.rpc)`)."""

    name = "authorisation"

    def __init__(self, authenticator: Authenticator, mesh_key: str) -> None:
        self._authenticator = authenticator
        self._mesh_key = mesh_key.encode()

    def on_start(self, call: ServerCall) -> Awaitable[None] | None:
        """Raises Unauthenticated or PermissionDenied; else the call has a principal. Waits for a key not yet known.

        A call made on behalf of a call in this process keeps its principal: it was identified at the door. Its role
        is checked for each RPC all the same.
        """
        context, caller = call.context, call.caller
        assert context is not None
        if call.method.shows_mesh_key:
            context.within_mesh = caller is not None or self._is_shown(call)
            if not context.within_mesh and (call.method.within_mesh or call.metadata.get(MESH_HEADER)):
                raise _outside(call)
        if caller is not None and caller.principal.roles:
            _identified(call, caller.principal, caller.credential, self._authenticator)
        else:
            credential = caller.credential if caller is not None else credential_of(call.metadata)
            who = self._authenticator
            answer = who.settle(credential) if call.method.settles else who.authenticate(credential)
            if not isinstance(answer, Principal):
                return _wait(call, credential, answer, who)
            _identified(call, answer, credential, who)
        return None

    def _is_shown(self, call: ServerCall) -> bool:
        """Whether the mesh's own key came along; without one nobody is of the mesh."""
        shown = call.metadata.get(MESH_HEADER, "").encode()
        return bool(self._mesh_key) and hmac.compare_digest(shown, self._mesh_key)


def _outside(call: ServerCall) -> PermissionDenied:
    path = call.method.path
    if call.method.within_mesh:
        return PermissionDenied(
            f"{path} serves processes of the mesh, which account for what it spends; "
            "call llmops.orchestrator.v1.OrchestratorService"
        )
    # A process whose key differs would take what it is given as one from outside for what the mesh gave it.
    return PermissionDenied(
        f"{path} was shown another key in {MESH_HEADER}: processes of a mesh share LLMOPS_MESH_KEY, others show none"
    )


async def _wait(call: ServerCall, credential: str, answer: Awaitable[Principal], who: Authenticator) -> None:
    _identified(call, await answer, credential, who)


def _identified(call: ServerCall, principal: Principal, credential: str, who: Authenticator) -> None:
    assert call.context is not None
    call.context.principal, call.context.credential = principal, credential
    _require_role(call, principal)
    if call.method.ends_with_credential:
        call.outlast = who.outlast(credential)


def _require_role(call: ServerCall, principal: Principal) -> None:
    if principal.roles.isdisjoint(call.method.roles):
        serves = ", ".join(sorted(call.method.roles)) or "nobody"
        holds = ", ".join(sorted(principal.roles))
        raise PermissionDenied(f"{call.method.path} serves {serves}; this key is {holds}")


def credential_of(metadata: Mapping[str, str]) -> str:
    """The key in an authorization header; empty when there is none."""
    header = metadata.get("authorization", "")
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else ""
