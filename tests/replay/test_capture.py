"""Files to frames."""

import gzip
import io
import struct
from pathlib import Path

import pytest
from captured import (
    ETHERNET,
    RAW,
    block,
    enhanced,
    interface,
    pcap_of,
    pcapng_of,
    section,
)
from dpkt import pcap

from bitsd.replay.capture import Damaged, Frame, NotACapture, frames, opened

TWO = [(1_700_000_000.25, b"first"), (1_700_000_001.5, b"the second")]
SEEN = [(time, ETHERNET, octets) for time, octets in TWO]


def read(octets: bytes) -> list[Frame]:
    return list(frames(io.BytesIO(octets)))


def reading(octets: bytes) -> tuple[list[Frame], str]:
    """The frames before the damage, and what is said of it."""
    found: list[Frame] = []
    with pytest.raises(Damaged) as damage:
        found.extend(frames(io.BytesIO(octets)))
    return found, str(damage.value)


def big_endian(magic: int = pcap.TCPDUMP_MAGIC, unit: int = 1_000_000) -> bytes:
    octets = struct.pack(">IHHIIII", magic, 2, 4, 0, 0, 65535, ETHERNET)
    for time, data in TWO:
        whole = int(time)
        parts = (whole, int((time - whole) * unit), len(data), len(data))
        octets += struct.pack(">IIII", *parts) + data
    return octets


@pytest.mark.parametrize(
    "octets",
    [
        pcap_of(TWO),
        pcap_of(TWO, nano=True),
        big_endian(),
        big_endian(pcap.TCPDUMP_MAGIC_NANO, 10**9),
        pcapng_of(TWO),
        section(">")
        + interface(ETHERNET, order=">")
        + enhanced(0, 1_700_000_000_250_000, TWO[0][1], ">")
        + enhanced(0, 1_700_000_001_500_000, TWO[1][1], ">"),
    ],
    ids=["pcap", "nanoseconds", "big-endian", "big-nano", "pcapng", "big-pcapng"],
)
def test_every_form_shows_the_same_frames(octets: bytes):
    assert read(octets) == SEEN


def test_flags_beside_the_linktype_are_not_of_it():
    octets = bytearray(pcap_of(TWO))
    octets[20:24] = struct.pack("<I", 0xF400_0000 | ETHERNET)

    assert read(bytes(octets)) == SEEN


def test_every_interface_has_its_linktype_resolution_and_offset():
    nanoseconds = struct.pack("<HHB3x", 9, 1, 9)
    later = struct.pack("<HH4sHHq", 2, 4, b"eth0", 14, 8, 100)
    halves = struct.pack("<HHB3x", 9, 1, 0x81)
    octets = (
        section()
        + interface(ETHERNET, nanoseconds + later)
        + interface(RAW, halves)
        + enhanced(0, 5_500_000_000, b"one")
        + enhanced(1, 5, b"two")
    )

    assert read(octets) == [(105.5, ETHERNET, b"one"), (2.5, RAW, b"two")]


def test_a_new_section_has_its_own_byte_order_and_interfaces():
    octets = (
        section()
        + interface(ETHERNET)
        + enhanced(0, 1_000_000, b"one")
        + section(">")
        + interface(RAW, order=">")
        + enhanced(0, 2_000_000, b"two", ">")
    )

    assert read(octets) == [(1.0, ETHERNET, b"one"), (2.0, RAW, b"two")]


def test_other_blocks_are_passed_over():
    octets = section() + interface(RAW) + block(5, bytes(12)) + enhanced(0, 0, b"x")

    assert read(octets) == [(0.0, RAW, b"x")]


@pytest.mark.parametrize("order", ["<", ">"])
def test_packet_blocks_of_the_older_kind_are_read(order: str):
    head = struct.pack(order + "HHIIII", 0, 0, 0, 3_000_000, 4, 4)
    octets = section(order) + interface(RAW, order=order)

    assert read(octets + block(2, head + b"data", order)) == [(3.0, RAW, b"data")]


def test_a_simple_packet_has_the_time_of_the_one_before():
    simple = block(3, struct.pack("<I", 3) + b"abc")
    octets = section() + interface(RAW) + enhanced(0, 4_000_000, b"x") + simple

    assert read(octets) == [(4.0, RAW, b"x"), (4.0, RAW, b"abc")]


@pytest.mark.parametrize(
    "octets", [b"", b"\xa1", b"GET / HTTP/1.1\r\n", pcap_of([])[:20]], ids=repr
)
def test_something_else_is_no_capture(octets: bytes):
    with pytest.raises(NotACapture):
        read(octets)


@pytest.mark.parametrize(
    ("octets", "count", "told"),
    [
        (pcap_of(TWO)[:-3], 2, "inside a packet"),
        (pcap_of(TWO)[: 24 + 16 + 5 + 7], 1, "inside the header of a packet"),
        (pcap_of([]) + struct.pack("<IIII", 0, 0, 2**31, 0), 0, "claims to have"),
        (pcapng_of(TWO)[:-3], 1, "inside a block"),
        (pcapng_of([]) + b"\6\0\0", 0, "inside the header of a block"),
        (section()[:10], 0, "inside a block"),
        (pcapng_of([]) + struct.pack("<II", 6, 4), 0, "claims to have"),
        (section() + enhanced(0, 0, b"no interface"), 0, "makes no sense"),
        (section() + block(3, b"\0\0\0\1"), 0, "makes no sense"),
        (section() + interface(1, struct.pack("<HH", 9, 0)), 0, "makes no sense"),
        (section() + interface(1, struct.pack("<HHH2x", 1, 2, 0xFFFF)), 0, "no sense"),
        (section() + interface(1) + block(6, b""), 0, "makes no sense"),
    ],
)
def test_what_can_be_read_of_a_damaged_file_is_read(
    octets: bytes, count: int, told: str
):
    found, damage = reading(octets)

    assert (len(found), told in damage) == (count, True), damage


def test_a_packed_file_is_unpacked(tmp_path: Path):
    path = tmp_path / "x.pcap"
    path.write_bytes(gzip.compress(pcap_of(TWO)))

    with opened(path) as file:
        assert list(frames(file)) == SEEN


@pytest.mark.parametrize("cut", [10, 60, -1])
def test_a_packed_file_that_is_cut_off_is_damaged(tmp_path: Path, cut: int):
    path = tmp_path / "x.pcap.gz"
    octets = gzip.compress(pcap_of([(1.0, bytes(range(256)))] * 300))
    path.write_bytes(octets[:cut])

    with opened(path) as file, pytest.raises(Damaged, match="gzip"):
        list(frames(file))


def test_a_packed_file_that_is_changed_is_damaged(tmp_path: Path):
    path = tmp_path / "x.pcap.gz"
    octets = bytearray(gzip.compress(pcap_of(TWO)))
    octets[30] ^= 0xFF
    path.write_bytes(octets)

    with opened(path) as file, pytest.raises(Damaged):
        list(frames(file))
