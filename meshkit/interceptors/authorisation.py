"""Who calls, and whether the contract lets this role call this RPC. Deny by default."""

from __future__ import annotations

from meshkit.calls import ServerCall, Step
from meshkit.errors import PermissionDenied
from meshkit.identity import Authenticator
from meshkit.interceptors.request_context import with_principal

_BEARER = "bearer "


class Authorisation(Step):
    """The roles that an RPC serves are data of the contract (`option (llmops.common.v1.rpc)`)."""

    name = "authorisation"

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def on_start(self, call: ServerCall) -> None:
        """Raises Unauthenticated or PermissionDenied; else the call has a principal."""
        credential = credential_of(call.metadata.get("authorization", ""))
        principal = self._authenticator.authenticate(credential)
        if principal.roles.isdisjoint(call.method.roles):
            roles = ", ".join(sorted(call.method.roles)) or "nobody"
            raise PermissionDenied(
                f"{call.method.path} serves {roles}; this key is {', '.join(sorted(principal.roles))}"
            )
        with_principal(call, principal, credential)


def credential_of(header: str) -> str:
    """The key in an authorization header; empty when there is none."""
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else ""
