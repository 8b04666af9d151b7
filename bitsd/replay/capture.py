"""Capture files to the frames in them: pcap and pcapng, packed by gzip or not.

dpkt knows the blocks of the formats. Its own readers are not used: they take the
first interface of a pcapng file for all, and half a packet for a whole one.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import dpkt
from dpkt import pcap, pcapng

#: No frame and no block is longer; a length beyond it is nonsense. Wireshark's limit
#: for a packet is 256 KiB, and a pcapng block may carry options beside it.
MAXIMUM_BLOCK_BYTES = 16 * 1024 * 1024

_GZIP = b"\x1f\x8b"
_BLOCK_HEADER_BYTES = 8
_BLOCK_BYTES = 12  # type, length, and the length again
_SIMPLE_PACKET_HEADER_BYTES = 12


class NotACapture(ValueError):
    """The file cannot be a capture; says what it is taken for."""


class Damaged(Exception):
    """The file ends, or makes no sense, behind what has been read of it."""


class Frame(NamedTuple):
    """What was captured of one frame.

    Attributes:
        time: seconds since 1970.
        linktype: what the octets begin with, as in tcpdump.org/linktypes.html.
    """

    time: float
    linktype: int
    octets: bytes


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read, unpacked if it is packed."""
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast("BinaryIO", unpacked)


def frames(file: BinaryIO) -> Iterator[Frame]:
    """The frames of a capture, in the order of the file.

    Raises:
        NotACapture: before the first frame.
        Damaged: behind the last frame that can be read.
    """
    magic = _read(file, 4)
    number = int.from_bytes(magic, "big")
    if number in pcap.MAGIC_TO_PKT_HDR:
        yield from _pcap(file, magic)
    elif number == pcapng.PCAPNG_BT_SHB:
        yield from _pcapng(file, magic)
    else:
        raise NotACapture("not a pcap or pcapng file")


def _read(file: BinaryIO, size: int) -> bytes:
    """So many bytes, or what is left of the file."""
    try:
        return file.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Damaged("the gzip file ends too soon or is broken") from None


_LITTLE_ENDIAN = (pcap.PMUDPCT_MAGIC, pcap.PMUDPCT_MAGIC_NANO, pcap.PACPDOM_MAGIC)
_NANOSECONDS = (pcap.TCPDUMP_MAGIC_NANO, pcap.PMUDPCT_MAGIC_NANO)


def _pcap(file: BinaryIO, magic: bytes) -> Iterator[Frame]:
    number = int.from_bytes(magic, "big")
    header_type = pcap.LEFileHdr if number in _LITTLE_ENDIAN else pcap.FileHdr
    octets = magic + _read(file, header_type.__hdr_len__ - len(magic))
    if len(octets) < header_type.__hdr_len__:
        raise NotACapture("a pcap file that ends inside its header")
    linktype = header_type(octets).linktype & 0xFFFF  # above it: about checksums
    divisor = 1e9 if number in _NANOSECONDS else 1e6
    packet_type = pcap.MAGIC_TO_PKT_HDR[number]
    while octets := _read(file, packet_type.__hdr_len__):
        if len(octets) < packet_type.__hdr_len__:
            raise Damaged("the file ends inside the header of a packet")
        header = packet_type(octets)
        if header.caplen > MAXIMUM_BLOCK_BYTES:
            raise Damaged(f"a packet claims to have {header.caplen} bytes")
        data = _read(file, header.caplen)
        yield Frame(header.tv_sec + header.tv_usec / divisor, linktype, data)
        if len(data) < header.caplen:
            raise Damaged("the file ends inside a packet")


class _Interface(NamedTuple):
    linktype: int
    snaplen: int
    ticks_per_second: float
    offset: int

    def time(self, ticks: int) -> float:
        return self.offset + ticks / self.ticks_per_second


class _Block(NamedTuple):
    """A block of a pcapng file; `order` is that of its section, as in `struct`."""

    number: int
    order: str
    octets: bytes


def _pcapng(file: BinaryIO, magic: bytes) -> Iterator[Frame]:
    interfaces: list[_Interface] = []
    time = 0.0
    for block in _blocks(file, magic):
        try:
            match block.number:
                case pcapng.PCAPNG_BT_SHB:
                    interfaces = []
                case pcapng.PCAPNG_BT_IDB:
                    interfaces.append(_interface(block))
                case pcapng.PCAPNG_BT_EPB | pcapng.PCAPNG_BT_PB:
                    frame = _packet(block, interfaces)
                    time = frame.time
                    yield frame
                case pcapng.PCAPNG_BT_SPB:
                    yield _simple_packet(block, interfaces[0], time)
                case _:
                    pass  # statistics, names, keys
        except (dpkt.UnpackError, struct.error, ValueError, IndexError):
            raise Damaged(f"a block of type {block.number} makes no sense") from None


def _blocks(file: BinaryIO, start: bytes) -> Iterator[_Block]:
    order = "<"
    while octets := start + _read(file, _BLOCK_HEADER_BYTES - len(start)):
        start = b""
        if octets[:4] == pcapng.PCAPNG_BT_SHB.to_bytes(4, "big"):
            octets += _read(file, 4)
            order = ">" if octets[_BLOCK_HEADER_BYTES:] == b"\x1a\x2b\x3c\x4d" else "<"
        if len(octets) < _BLOCK_HEADER_BYTES:
            raise Damaged("the file ends inside the header of a block")
        number, length = struct.unpack(order + "II", octets[:_BLOCK_HEADER_BYTES])
        if not _BLOCK_BYTES <= length <= MAXIMUM_BLOCK_BYTES:
            raise Damaged(f"a block claims to have {length} bytes")
        octets += _read(file, length - len(octets))
        if len(octets) < length:
            raise Damaged("the file ends inside a block")
        yield _Block(number, order, octets)


def _interface(block: _Block) -> _Interface:
    little = block.order == "<"
    layout = (
        pcapng.InterfaceDescriptionBlockLE
        if little
        else (pcapng.InterfaceDescriptionBlock)
    )
    described = layout(block.octets)
    ticks, offset = 1e6, 0
    for option in described.opts:
        if option.code == pcapng.PCAPNG_OPT_IF_TSRESOL:
            (resolution,) = option.data
            ticks = (2.0 if resolution & 0x80 else 10.0) ** (resolution & 0x7F)
        elif option.code == pcapng.PCAPNG_OPT_IF_TSOFFSET:
            (offset,) = struct.unpack(block.order + "q", option.data)
    return _Interface(described.linktype, described.snaplen, ticks, offset)


def _packet(block: _Block, interfaces: list[_Interface]) -> Frame:
    little = block.order == "<"
    if block.number == pcapng.PCAPNG_BT_EPB:
        layout = pcapng.EnhancedPacketBlockLE if little else pcapng.EnhancedPacketBlock
    else:
        layout = pcapng.PacketBlockLE if little else pcapng.PacketBlock
    packet = layout(block.octets)
    interface = interfaces[packet.iface_id]
    time = interface.time(packet.ts_high << 32 | packet.ts_low)
    return Frame(time, interface.linktype, packet.pkt_data)


def _simple_packet(block: _Block, interface: _Interface, time: float) -> Frame:
    """A packet without a time of its own: that of the packet before it will do."""
    (length,) = struct.unpack(block.order + "I", block.octets[8:12])
    captured = min(length, interface.snaplen or length)
    start = _SIMPLE_PACKET_HEADER_BYTES
    return Frame(time, interface.linktype, block.octets[start : start + captured])
