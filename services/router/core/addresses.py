"""Which addresses a provider may live at. Checked on the address that a socket is about to connect to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_EMBEDDING = (
    # RFC 6052 and 8215: IPv4 addresses inside the NAT64 prefixes.
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/96"),
    # RFC 4291: IPv4-compatible addresses, long out of use.
    ipaddress.ip_network("::/96"),
)
# Where clouds answer their machines about themselves, keys included, outside the link-local ranges: Azure's wire server
# (a public address), Alibaba, Oracle, and the IPv6 addresses of AWS (metadata, DNS, time, container keys) and Google.
_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in ("168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128")
)
# "This network" and the block that was never given out; some systems route them to the machine itself.
_NEVER = (ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("240.0.0.0/4"))


def _inner(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address stands for: mapped, compatible, 6to4, Teredo or NAT64; else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _EMBEDDING) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_allowed(address: str, *, private: bool, loopback: bool) -> bool:
    """Whether a connection may be made.

    Public unicast addresses always; with `private` also private, shared and loopback ones; with `loopback` also
    loopback. Link-local addresses and the others at which clouds hand out keys, multicast, reserved and unspecified
    ones never.
    """
    try:
        parsed = _inner(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return False
    if any(parsed in network for network in (*_METADATA, *_NEVER)):
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
