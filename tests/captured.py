"""Captures that tests make up: conversations, segments, and files of them."""

import gzip
import io
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dpkt import ethernet, ip, ip6, pcap, pcapng, tcp

from bitsd.replay.segments import Endpoint, Segment

CLIENT = Endpoint(b"\xc0\x00\x02\x01", 50000)
SERVER = Endpoint(b"\xc0\x00\x02\x02", 80)
START = 1_700_000_000.0

ETHERNET, RAW = pcap.DLT_EN10MB, 101


def packet(segment: Segment) -> bytes:
    """The IP packet that carries a segment."""
    header = tcp.TCP(
        sport=segment.source.port,
        dport=segment.destination.port,
        seq=segment.sequence % 2**32,
        ack=segment.acknowledged % 2**32,
        flags=segment.flags,
        data=segment.payload,
    )
    ends = {"src": segment.source.address, "dst": segment.destination.address}
    if len(segment.source.address) == 4:
        return bytes(ip.IP(p=ip.IP_PROTO_TCP, data=header, **ends))
    length = len(header)
    return bytes(ip6.IP6(nxt=ip.IP_PROTO_TCP, plen=length, data=header, **ends))


def frame(segment: Segment) -> bytes:
    """The Ethernet frame that carries a segment."""
    six = len(segment.source.address) == 16
    kind = ethernet.ETH_TYPE_IP6 if six else ethernet.ETH_TYPE_IP
    mac = {"src": b"\x02\0\0\0\0\1", "dst": b"\x02\0\0\0\0\2"}
    return bytes(ethernet.Ethernet(type=kind, data=packet(segment), **mac))


def pcap_of(
    frames: Iterable[tuple[float, bytes]], linktype: int = ETHERNET, **how: bool
) -> bytes:
    """A pcap file."""
    file = io.BytesIO()
    writer = pcap.Writer(file, linktype=linktype, **how)
    for time, octets in frames:
        writer.writepkt(octets, time)
    return file.getvalue()


def pcapng_of(frames: Iterable[tuple[float, bytes]], linktype: int = ETHERNET) -> bytes:
    """A pcapng file."""
    file = io.BytesIO()
    writer = pcapng.Writer(file, linktype=linktype)
    for time, octets in frames:
        writer.writepkt(octets, time)
    return file.getvalue()


def block(number: int, body: bytes, order: str = "<") -> bytes:
    """A block of a pcapng file."""
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return (
        struct.pack(order + "II", number, length)
        + body
        + struct.pack(order + "I", length)
    )


def section(order: str = "<") -> bytes:
    """The block that begins a section."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(linktype: int, options: bytes = b"", order: str = "<") -> bytes:
    """The block that describes an interface."""
    return block(1, struct.pack(order + "HHI", linktype, 0, 0) + options, order)


def enhanced(number: int, ticks: int, octets: bytes, order: str = "<") -> bytes:
    """A packet of an interface."""
    layout = order + "IIIII"
    length = len(octets)
    head = struct.pack(layout, number, ticks >> 32, ticks & 0xFFFFFFFF, length, length)
    return block(6, head + octets, order)


@dataclass
class Talk:
    """A connection, as the segments that a capture on the way shows.

    Attributes:
        sent: bytes that each end has sent, SYN and FIN among them.
    """

    client: Endpoint = CLIENT
    server: Endpoint = SERVER
    time: float = START
    first: tuple[int, int] = (1000, 2000)
    segments: list[Segment] = field(default_factory=list)
    sent: list[int] = field(default_factory=lambda: [0, 0])

    def segment(
        self, side: int, flags: int, payload: bytes = b"", length: int | None = None
    ) -> Segment:
        """The next segment of an end, which is not added yet."""
        ends = (self.client, self.server)
        other = 1 - side
        return Segment(
            self.time,
            ends[side],
            ends[other],
            (self.first[side] + self.sent[side]) % 2**32,
            (self.first[other] + self.sent[other]) % 2**32,
            flags,
            payload,
            len(payload) if length is None else length,
        )

    def add(self, side: int, flags: int, payload: bytes = b"") -> "Talk":
        """The next segment of an end; 0 is the client."""
        segment = self.segment(side, flags, payload)
        self.segments.append(segment)
        self.sent[side] += len(payload) + segment.syn + segment.fin
        self.time += 0.001
        return self

    def open(self) -> "Talk":
        """Three segments without bytes."""
        self.add(0, tcp.TH_SYN).add(1, tcp.TH_SYN | tcp.TH_ACK)
        return self.add(0, tcp.TH_ACK)

    def ask(self, *payloads: bytes) -> "Talk":
        """The client says something, in so many segments."""
        for payload in payloads:
            self.add(0, tcp.TH_ACK, payload)
        return self

    def answer(self, *payloads: bytes) -> "Talk":
        """The server says something."""
        for payload in payloads:
            self.add(1, tcp.TH_ACK, payload)
        return self

    def lose(self, side: int, length: int) -> "Talk":
        """An end sends bytes that the capture misses."""
        self.sent[side] += length
        return self

    def close(self, first: int = 0) -> "Talk":
        """FIN of both ends."""
        self.add(first, tcp.TH_FIN | tcp.TH_ACK)
        return self.add(1 - first, tcp.TH_FIN | tcp.TH_ACK).add(first, tcp.TH_ACK)

    def reset(self, side: int = 0) -> "Talk":
        """RST of one end."""
        return self.add(side, tcp.TH_RST | tcp.TH_ACK)


def write(path: Path, *talks: Talk, into: Callable[..., bytes] = pcap_of) -> Path:
    """A file that shows connections, in the order of time."""
    segments = [segment for talk in talks for segment in talk.segments]
    segments.sort(key=lambda segment: segment.time)
    octets = into((segment.time, frame(segment)) for segment in segments)
    packed = path.suffix == ".gz"
    path.write_bytes(gzip.compress(octets) if packed else octets)
    return path


def head(first: str, *fields: str) -> bytes:
    """A head of HTTP/1.1."""
    return "\r\n".join((first, *fields, "", "")).encode("latin-1")


def request(
    method: str, target: str, *fields: str, body: bytes = b"", host: str = "h"
) -> bytes:
    """A request with a Host."""
    first = f"{method} {target} HTTP/1.1"
    return head(first, *fields, *([f"Host: {host}"] if host else [])) + body


def answer(status: int, *fields: str, body: bytes = b"") -> bytes:
    """An answer."""
    return head(f"HTTP/1.1 {status} Whatever", *fields) + body


ID = "{0B5E6F14-77C2-4D0A-9C51-2F6B9A1D8E30}"
PROTOCOL = "{7df0354d-249b-430f-820d-3d2a9bef4931}"


def bits(kind: str, *fields: str, body: bytes = b"", target: str = "/in/a") -> bytes:
    """A packet of the upload protocol."""
    length = f"Content-Length: {len(body)}"
    kinds = f"BITS-Packet-Type: {kind}"
    return request("BITS_POST", target, kinds, *fields, length, body=body)


def create(*, target: str = "/in/a") -> bytes:
    """Create-Session."""
    return bits(
        "Create-Session", f"BITS-Supported-Protocols: {PROTOCOL}", target=target
    )


def fragment(first: int, body: bytes, total: int, named: str = ID) -> bytes:
    """Fragment."""
    span = f"Content-Range: bytes {first}-{first + len(body) - 1}/{total}"
    return bits("Fragment", f"BITS-Session-Id: {named}", span, body=body)


def control(kind: str, named: str = ID) -> bytes:
    """Close-Session or Cancel-Session."""
    return bits(kind, f"BITS-Session-Id: {named}")


def ack(status: int = 200, *fields: str) -> bytes:
    """An Ack."""
    return answer(status, "BITS-Packet-Type: Ack", *fields, "Content-Length: 0")


def created(named: str = ID) -> bytes:
    """The Ack of a Create-Session."""
    return ack(200, f"BITS-Protocol: {PROTOCOL}", f"BITS-Session-Id: {named}")


def received(offset: int, status: int = 200) -> bytes:
    """The Ack of a Fragment."""
    return ack(status, f"BITS-Received-Content-Range: {offset}")
