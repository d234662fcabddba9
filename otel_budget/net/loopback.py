"""Whether only this machine is reached at an address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def numeric_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a host is, without its zone; None for a name.

    An IPv4 address inside an IPv6 one (``::ffff:127.0.0.1``) is the IPv4 address.
    """
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_loopback(host: str) -> bool:
    """Tell whether a host, without brackets, is ``localhost`` or a loopback address.

    Other names are not looked up: False, wherever they lead.
    """
    found = numeric_address(host)
    return host.lower() == "localhost" if found is None else found.is_loopback
