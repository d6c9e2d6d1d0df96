"""Which addresses a provider may live at. Checked on the address that a socket is about to connect to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_EMBEDDING = (
    # RFC 6052: IPv4 addresses behind the well-known NAT64 prefix.
    ipaddress.ip_network("64:ff9b::/96"),
    # RFC 2765: IPv4-translated ones.
    ipaddress.ip_network("::ffff:0:0:0/96"),
    # RFC 4291: IPv4-compatible ones, long out of use.
    ipaddress.ip_network("::/96"),
)
# RFC 8215: NAT64 prefixes of one's own, of a length that nobody else knows.
_OWN_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
# Where unicast addresses have been given out (RFC 4291), beside this machine: global, unique local, site-local.
_UNICAST = tuple(ipaddress.ip_network(network) for network in ("2000::/3", "fc00::/7", "fec0::/10", "::1/128"))
# Where clouds answer their machines about themselves, keys included, outside the link-local ranges: Azure's wire server
# (a public address), Alibaba, Oracle, and the IPv6 addresses of AWS (metadata, DNS, time, container keys) and Google.
_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in ("168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128")
)
# "This network" and the block that was never given out; some systems route them to the machine itself.
_NOWHERE = ipaddress.ip_network("0.0.0.0/8")
_NEVER = (_NOWHERE, ipaddress.ip_network("240.0.0.0/4"))


def _meant(address: IpAddress) -> tuple[IpAddress, ...]:
    """The IPv4 addresses that an IPv6 address may stand for: mapped, translated, compatible, 6to4, Teredo or NAT64.

    Else itself.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return (address.teredo[1],)
    if any(address in network for network in _EMBEDDING) and int(address) > 1:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return _behind_own_nat64(address) if address in _OWN_NAT64 else (address,)


def _behind_own_nat64(address: ipaddress.IPv6Address) -> tuple[IpAddress, ...]:
    """Read with prefixes of 48, 56, 64 and 96 bits (RFC 6052, section 2.2), which leave out the octet after bit 64.

    A reading within 0.0.0.0/8 is of a wrong length: nobody is there.
    """
    octets = address.packed
    after_prefixes = (octets[6:8] + octets[9:11], octets[7:8] + octets[9:12], octets[9:13], octets[12:16])
    readings = tuple(ipaddress.IPv4Address(four) for four in after_prefixes)
    return tuple(reading for reading in readings if reading not in _NOWHERE) or readings


def is_allowed(address: str, *, private: bool, loopback: bool) -> bool:
    """Whether a connection may be made.

    Public unicast addresses always; with `private` also private, shared and loopback ones; with `loopback` also
    loopback. Link-local addresses and the others at which clouds hand out keys, multicast, reserved and unspecified
    ones never.
    """
    try:
        meant = _meant(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    return all(_may_be_reached(one, private=private, loopback=loopback) for one in meant)


def _may_be_reached(address: IpAddress, *, private: bool, loopback: bool) -> bool:
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if any(address in network for network in (*_METADATA, *_NEVER)):
        return False
    if isinstance(address, ipaddress.IPv6Address) and not any(address in network for network in _UNICAST):
        return False
    if address.is_loopback:
        return private or loopback
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return private or (address.is_global and not is_site_local)


def is_numeric_host(host: str) -> bool:
    """Whether a host is an address, written out."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback_host(url: str) -> bool:
    """Whether a URL names this machine: `localhost` or a loopback address, written out."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
