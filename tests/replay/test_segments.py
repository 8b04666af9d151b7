"""Frames to segments."""

import struct

import pytest
from captured import ETHERNET, SERVER, Talk, frame, packet
from dpkt import ip, ip6, pcap, tcp

from bitsd.replay.capture import Frame
from bitsd.replay.segments import Endpoint, Segment, Unread, segment

HELLO = Talk().segment(0, tcp.TH_ACK, b"hello")
SIX = Talk(
    client=Endpoint(bytes(15) + b"\1", 50000), server=Endpoint(bytes(15) + b"\2", 80)
).segment(0, tcp.TH_ACK, b"hello")

IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"
MACS = bytes(12)


def seen(linktype: int, octets: bytes) -> Segment | Unread:
    return segment(Frame(HELLO.time, linktype, octets))


@pytest.mark.parametrize(
    ("linktype", "octets"),
    [
        (ETHERNET, frame(HELLO)),
        (ETHERNET, MACS + b"\x81\x00\x00\x07" + IPV4 + packet(HELLO)),
        (
            ETHERNET,
            MACS + b"\x88\xa8\x00\x07\x81\x00\x00\x08" + IPV4 + packet(HELLO),
        ),
        (ETHERNET, frame(HELLO) + bytes(6)),
        (pcap.DLT_LINUX_SLL, bytes(14) + IPV4 + packet(HELLO)),
        (pcap.DLT_LINUX_SLL2, IPV4 + bytes(18) + packet(HELLO)),
        (pcap.DLT_NULL, b"\2\0\0\0" + packet(HELLO)),
        (108, b"\0\0\0\2" + packet(HELLO)),
        (12, packet(HELLO)),
        (14, packet(HELLO)),
        (101, packet(HELLO)),
        (pcap.DLT_IPV4, packet(HELLO)),
    ],
    ids=[
        "plain",
        "vlan",
        "qinq",
        "padded",
        "sll",
        "sll2",
        "null",
        "loop",
        "raw12",
        "raw14",
        "raw101",
        "ipv4",
    ],
)
def test_every_kind_of_network_carries_the_same(linktype: int, octets: bytes):
    assert seen(linktype, octets) == HELLO


def test_version_6_is_read():
    assert seen(ETHERNET, frame(SIX)) == SIX
    assert seen(pcap.DLT_IPV6, packet(SIX)) == SIX


def extended(number: int, header: bytes) -> bytes:
    """`SIX` with an extension header."""
    octets = bytearray(packet(SIX))
    octets[4:6] = struct.pack(">H", len(octets) - 40 + len(header))
    octets[6] = number
    return bytes(octets[:40]) + header + bytes(octets[40:])


def test_extension_headers_are_passed_over():
    options = struct.pack(">BB6x", ip.IP_PROTO_TCP, 0)

    assert seen(101, extended(ip.IP_PROTO_DSTOPTS, options)) == SIX


def test_a_fragment_header_of_a_whole_packet_is_passed_over():
    assert seen(101, extended(ip.IP_PROTO_FRAGMENT, b"\6\0\0\0\0\0\0\1")) == SIX


@pytest.mark.parametrize("place", [b"\0\1", b"\0\x08"], ids=["first", "later"])
def test_fragments_of_version_6_are_told(place: bytes):
    header = b"\6\0" + place + b"\0\0\0\1"

    assert seen(101, extended(ip.IP_PROTO_FRAGMENT, header)) is Unread.FRAGMENT


@pytest.mark.parametrize("place", [b"\x20\0", b"\0\x01"], ids=["first", "later"])
def test_fragments_of_version_4_are_told(place: bytes):
    octets = packet(HELLO)

    assert seen(101, octets[:6] + place + octets[8:]) is Unread.FRAGMENT


def test_a_packet_without_a_length_ends_with_its_frame():
    octets = packet(HELLO)

    assert seen(101, octets[:2] + b"\0\0" + octets[4:]) == HELLO


def test_a_jumbogram_ends_with_its_frame():
    octets = packet(SIX)

    assert seen(101, octets[:4] + b"\0\0" + octets[6:]) == SIX


def test_a_segment_that_was_not_captured_whole_has_its_length():
    assert seen(101, packet(HELLO)[:-3]) == HELLO._replace(payload=b"he")


@pytest.mark.parametrize(
    ("linktype", "octets", "why"),
    [
        (105, b"wlan", Unread.LINKTYPE),
        (ETHERNET, MACS + b"\x08\x06" + bytes(28), Unread.OTHER),
        (ETHERNET, b"", Unread.OTHER),
        (101, bytes(ip.IP(p=ip.IP_PROTO_UDP, data=bytes(8))), Unread.OTHER),
        (101, bytes(ip6.IP6(nxt=ip.IP_PROTO_UDP, data=bytes(8))), Unread.OTHER),
        (101, bytes(ip6.IP6(nxt=59)), Unread.OTHER),
        (101, bytes(ip6.IP6(nxt=ip.IP_PROTO_ESP, data=bytes(16))), Unread.OTHER),
        (101, b"\x10" + bytes(40), Unread.OTHER),
        (101, packet(HELLO)[:30], Unread.BROKEN),
        (101, packet(HELLO)[:10], Unread.BROKEN),
        (101, b"\x41" + packet(HELLO)[1:], Unread.BROKEN),
        (101, packet(SIX)[:20], Unread.BROKEN),
    ],
)
def test_what_is_no_segment_is_told(linktype: int, octets: bytes, why: Unread):
    assert seen(linktype, octets) is why


def test_flags_have_names():
    flags = tcp.TH_SYN | tcp.TH_ACK | tcp.TH_FIN | tcp.TH_RST
    all_of_them = HELLO._replace(flags=flags)
    none = HELLO._replace(flags=0)

    assert all((all_of_them.syn, all_of_them.ack, all_of_them.fin, all_of_them.rst))
    assert not any((none.syn, none.ack, none.fin, none.rst))


def test_an_end_is_written_as_a_url_has_it():
    assert str(SERVER) == "192.0.2.2:80"
    assert str(SIX.source) == "[::1]:50000"
