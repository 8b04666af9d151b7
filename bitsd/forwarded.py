"""What proxies in front say of a client: for the log and for limits.

Anybody can write these fields, so they are believed of addresses that the operator
named, and never make anybody a user (protocol-notes/proxies.md).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from multidict import MultiMapping

#: For a proxy that connects over a unix socket, which has no address.
UNIX = "unix"

# Fields by which one sees that a proxy is in between, whether it is trusted or not.
_SIGNS = ("Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP")

_FORWARDED_FOR = re.compile(
    r"""(?:^|[;,])\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]+)""", re.IGNORECASE
)
_FORWARDED_PROTO = re.compile(
    r'(?:^|[;,])\s*proto\s*=\s*"?(https?)"?\s*(?=[;,]|$)', re.IGNORECASE
)


class Origin(NamedTuple):
    """Where a request came from.

    Attributes:
        address: of the client, as the last trusted proxy says; "" if nobody knows.
        scheme: by which the client reached the proxy; None if that does not say.
    """

    address: str
    scheme: str | None


def proxied(headers: Mapping[str, str]) -> bool:
    """A proxy handed the request on, so others may share its connection."""
    return any(name in headers for name in _SIGNS)


def problem(entry: str) -> str | None:
    """What is wrong with an entry of `trusted_proxies`, if anything."""
    if entry == UNIX:
        return None
    try:
        ip_network(entry)
    except ValueError as error:
        return f'{error}; give an address, a network such as "10.0.0.0/8", or "{UNIX}"'
    return None


class Proxies:
    """Those that are believed.

    Args:
        trusted: addresses, networks and `UNIX`, without a `problem`.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._unix = UNIX in trusted
        self._networks = [ip_network(entry) for entry in trusted if entry != UNIX]
        # A method with a cache of its own would keep every object alive.
        self.trusts = lru_cache(maxsize=1024)(self._trusts)

    def _trusts(self, address: str) -> bool:
        if not address:
            return self._unix
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in network for network in self._networks)

    def origin(self, peer: str, headers: MultiMapping[str]) -> Origin:
        """Where a request came from that a trusted `peer` handed on.

        The last address that is not of a trusted proxy: all before it was written by
        somebody who is not.
        """
        address = peer
        for hop in reversed([*_hops(headers)]):
            if not hop:
                break
            address = hop
            if not self.trusts(hop):
                break
        return Origin(address, _scheme(headers))


def _hops(headers: MultiMapping[str]) -> Iterable[str]:
    """Addresses, the client's first; what is none ends in an empty one."""
    if lists := headers.getall("X-Forwarded-For", ()):
        return map(_address, ",".join(lists).split(","))
    elements = ",".join(headers.getall("Forwarded", ()))
    return map(_address, _FORWARDED_FOR.findall(elements))


def _address(written: str) -> str:
    """An address without its port, quotes and brackets; "unknown" and such are none."""
    written = written.strip().strip('"')
    if written.startswith("["):
        written = written[1:].partition("]")[0]
    elif written.count(":") == 1:
        written = written.partition(":")[0]
    try:
        return str(ip_address(written))
    except ValueError:
        return ""


def _scheme(headers: MultiMapping[str]) -> str | None:
    """What the last of the proxies wrote."""
    fields = headers.getall("X-Forwarded-Proto", ())
    written = [part.strip() for part in ",".join(fields).split(",")]
    if not fields:
        elements = ",".join(headers.getall("Forwarded", ()))
        written = _FORWARDED_PROTO.findall(elements)
    scheme = written[-1].lower() if written else ""
    return scheme if scheme in ("http", "https") else None
