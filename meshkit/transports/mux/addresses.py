"""Which replicas stand behind a peer's address."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

_DNS = "dns:"


@dataclass(frozen=True, slots=True)
class Replicas:
    """Targets of gRPC that are replicas of one peer: given ones, or those that a name stands for."""

    targets: frozenset[str] = frozenset()
    host: str = ""
    port: int = 0

    async def resolve(self) -> frozenset[str]:
        """The targets at this moment. Raises OSError when the name cannot be looked up."""
        if not self.host:
            return self.targets
        found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return frozenset(_target(str(address[0]), self.port) for *_, address in found)


def replicas_of(address: str) -> Replicas | None:
    """Reads `host:port`, `dns:///host:port`, `ipv4:…`, `ipv6:…` and `unix:…`; None for what only gRPC understands."""
    scheme, _, rest = address.partition(":")
    if scheme in {"ipv4", "ipv6"}:
        return Replicas(frozenset(f"{scheme}:{one}" for one in rest.split(",") if one))
    if scheme == "unix":
        return Replicas(frozenset({address}))
    name = address
    if address.startswith(_DNS):
        # A name server of its own choice ("dns://server/name") is left to gRPC.
        name = address.removeprefix(_DNS).removeprefix("///")
    if "/" in name:
        return None
    host, _, port = name.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal():
        return None
    return Replicas(frozenset({_target(host, int(port))})) if _is_literal(host) else Replicas(host=host, port=int(port))


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _target(host: str, port: int) -> str:
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
