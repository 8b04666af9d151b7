"""Frames to the TCP segments in them: link layers, IPv4, IPv6 and TCP."""

from collections.abc import Callable, Mapping
from enum import Enum
from ipaddress import ip_address
from typing import NamedTuple

import dpkt
from dpkt import ip, ip6, pcap, tcp

from .capture import Frame


class Unread(Enum):
    """Why a frame is no segment; the value is for people."""

    OTHER = "not TCP over IP"
    FRAGMENT = "fragments of IP packets, which are not put together"
    LINKTYPE = "of a kind of network that is not known here"
    BROKEN = "with headers that are cut off or make no sense"


class Endpoint(NamedTuple):
    """Where a segment comes from or goes to; `address` is packed."""

    address: bytes
    port: int

    def __str__(self) -> str:
        address = str(ip_address(self.address))
        return (
            f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        )


class Segment(NamedTuple):
    """What TCP needs to know of a segment, RFC 9293 3.1.

    Attributes:
        length: bytes of payload that were sent; fewer may have been captured.
    """

    time: float
    source: Endpoint
    destination: Endpoint
    sequence: int
    acknowledged: int
    flags: int
    payload: bytes
    length: int

    @property
    def syn(self) -> bool:
        """The first segment of a direction."""
        return bool(self.flags & tcp.TH_SYN)

    @property
    def ack(self) -> bool:
        """`acknowledged` is valid."""
        return bool(self.flags & tcp.TH_ACK)

    @property
    def fin(self) -> bool:
        """No more bytes follow in this direction."""
        return bool(self.flags & tcp.TH_FIN)

    @property
    def rst(self) -> bool:
        """The connection is broken off."""
        return bool(self.flags & tcp.TH_RST)


_VLAN = (b"\x81\x00", b"\x88\xa8", b"\x91\x00", b"\x92\x00")
_IP = (b"\x08\x00", b"\x86\xdd")


def _ethernet(octets: bytes) -> bytes:
    start = 12
    while octets[start : start + 2] in _VLAN:
        start += 4
    return _typed(octets, start, start + 2)


def _typed(octets: bytes, at: int, start: int) -> bytes:
    """The packet at `start`, if the type of it at `at` is IP."""
    return octets[start:] if octets[at : at + 2] in _IP else b""


# How to get from a frame to an IP packet; empty if there is none. Of raw packets and
# those of a loopback interface the version is all that is looked at.
_PACKETS: Mapping[int, Callable[[bytes], bytes]] = {
    pcap.DLT_EN10MB: _ethernet,
    pcap.DLT_LINUX_SLL: lambda octets: _typed(octets, 14, 16),
    pcap.DLT_LINUX_SLL2: lambda octets: _typed(octets, 0, 20),
    pcap.DLT_NULL: lambda octets: octets[4:],
    108: lambda octets: octets[4:],  # LOOP, whose DLT differs between systems
    12: lambda octets: octets,  # RAW has three numbers
    14: lambda octets: octets,
    101: lambda octets: octets,
    pcap.DLT_IPV4: lambda octets: octets,
    pcap.DLT_IPV6: lambda octets: octets,
}


def segment(frame: Frame) -> Segment | Unread:
    """The segment of a frame, or why there is none."""
    packet = _PACKETS.get(frame.linktype)
    if packet is None:
        return Unread.LINKTYPE
    octets = packet(frame.octets)
    if not octets:
        return Unread.OTHER
    try:
        read = _VERSIONS.get(octets[0] >> 4)
        return Unread.OTHER if read is None else read(frame.time, octets)
    except (dpkt.UnpackError, IndexError):
        return Unread.BROKEN


def _version4(time: float, octets: bytes) -> Segment | Unread:
    packet = ip.IP(octets)
    if packet.p != ip.IP_PROTO_TCP:
        return Unread.OTHER
    if packet.mf or packet.offset:
        return Unread.FRAGMENT
    # No length: the network card was to cut the packet into pieces.
    length = packet.len - packet.hl * 4 if packet.len else None
    return _segment(time, packet, length)


def _version6(time: float, octets: bytes) -> Segment | Unread:
    packet = ip6.IP6(octets)
    piece = packet.extension_hdrs.get(ip.IP_PROTO_FRAGMENT)
    if piece is not None and (piece.frag_off or piece.m_flag):
        return Unread.FRAGMENT
    if getattr(packet, "p", None) != ip.IP_PROTO_TCP:
        return Unread.OTHER
    extensions = sum(header.length for header in packet.all_extension_headers)
    return _segment(time, packet, packet.plen - extensions if packet.plen else None)


_VERSIONS: Mapping[int, Callable[[float, bytes], Segment | Unread]] = {
    4: _version4,
    6: _version6,
}


def _segment(
    time: float, packet: ip.IP | ip6.IP6, length: int | None
) -> Segment | Unread:
    """The segment in a packet that has `length` bytes of TCP."""
    header = packet.data
    if not isinstance(header, tcp.TCP):
        return Unread.BROKEN
    payload = bytes(header.data)
    return Segment(
        time,
        Endpoint(packet.src, header.sport),
        Endpoint(packet.dst, header.dport),
        header.seq,
        header.ack,
        header.flags,
        payload,
        len(payload) if length is None else max(length - header.off * 4, 0),
    )
