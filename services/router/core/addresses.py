"""Which addresses a provider may live at. Checked on the address that a socket is about to connect to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# RFC 6052: IPv4 addresses inside the well-known NAT64 prefix.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _inner(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address stands for: mapped, 6to4, Teredo or NAT64; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_allowed(address: str, *, private: bool, loopback: bool) -> bool:
    """Whether a connection may be made.

    Public unicast addresses always; with `private` also private, shared and loopback ones; with `loopback` also
    loopback. Link-local addresses (cloud metadata services live there), multicast and unspecified ones never.
    """
    try:
        parsed = _inner(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return False
    if parsed.is_loopback:
        return private or loopback
    return parsed.is_global or private


def is_loopback_host(url: str) -> bool:
    """Whether a URL names this machine: `localhost` or a loopback address, written out."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
