"""Octets on a socket of a real server, and what may come of them.

Seeded: the same number makes the same octets, and a failure shows it.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from strict_http import Ending, Request, read
from wire_client import PATIENCE, PROTOCOL

#: The files that requests ask for; the last one by smuggled requests alone.
FILES = ("a.dat", "b.dat", "c.dat", "smuggled.dat")

_READ = 65_536
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_PLAIN = re.compile(rb"/in/([a-z]+\.dat)")


def put_files(folder: Path) -> None:
    """Each holds its own name, so that an answer shows which request it is for."""
    for name in FILES:
        (folder / name).write_text(name)


@dataclass(frozen=True)
class Reply:
    """An answer, as far as it tells which request it is for."""

    status: int
    fields: bytes
    body: bytes

    @property
    def is_ack(self) -> bool:
        """It answers a packet, or what could not be read."""
        return b"\r\nbits-packet-type: ack\r\n" in self.fields.lower()


def replies(octets: bytes, requests: Sequence[Request]) -> tuple[list[Reply], bytes]:
    """The answers in there, and what is left behind the last whole one."""
    found: list[Reply] = []
    while True:
        head, empty, rest = octets.partition(b"\r\n\r\n")
        status = _STATUS.match(head)
        if not empty or status is None:
            return found, octets
        fields = head + b"\r\n"
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", fields)
        size = int(length[1]) if length else 0
        number = int(status[1])
        asked = requests[len(found)].method if len(found) < len(requests) else b""
        if asked == b"HEAD" or number == 304:
            size = 0
        if len(rest) < size:
            return found, octets
        octets = rest[size:]
        if number != 100:
            found.append(Reply(number, fields, rest[:size]))


async def converse(url: str, segments: Sequence[bytes]) -> tuple[bytes, bool]:
    """Send these; all that comes back, and whether the server hung up by itself.

    The client hangs up once it has an answer to every whole request.
    """
    loop = asyncio.get_running_loop()
    requests, ending = read(b"".join(segments))
    expected = sum(request.whole for request in requests)
    parts = urlsplit(url)
    with socket.socket() as ours:
        ours.settimeout(0)
        await loop.sock_connect(ours, (parts.hostname, parts.port))
        answer, open_ = b"", True
        try:
            for segment in segments:
                await loop.sock_sendall(ours, segment)
                await asyncio.sleep(0)
        except OSError:
            pass  # it hung up already, and what it said can still be read
        waits = ending in (Ending.REFUSED, Ending.CLOSED)
        async with asyncio.timeout(PATIENCE):
            while waits or len(replies(answer, requests)[0]) < expected:
                octets = await _received(ours)
                if not octets:
                    open_ = False
                    break
                answer += octets
            if open_:
                ours.shutdown(socket.SHUT_WR)
                while octets := await _received(ours):
                    answer += octets
    return answer, not open_


async def check(url: str, segments: Sequence[bytes], what: object) -> None:
    """Have this conversation; `what` it is shows where it goes wrong."""
    octets = b"".join(segments)
    try:
        answer, hung_up = await converse(url, segments)
    except TimeoutError:
        raise AssertionError(f"{what}: no end of {segments!r}") from None
    found = problem(octets, answer, hung_up=hung_up)
    assert not found, f"{what}: {found}\n{segments!r}\n{answer!r}"


async def _received(ours: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(ours, _READ)
    except ConnectionError:
        return b""


def problem(octets: bytes, answer: bytes, *, hung_up: bool) -> str:
    """What is wrong with an answer to these octets; empty if nothing is.

    Either every request gets its own answer, or it and all that follow get one
    refusal, and no more is said on that connection.
    """
    requests, ending = read(octets)
    found, rest = replies(answer, requests)
    whole = sum(request.whole for request in requests)
    refused = bool(found) and found[-1].status == 400 and b": close" in found[-1].fields
    served = found[:-1] if refused else found
    mismatches = [
        f"{reason}: {request} {reply}"
        for request, reply in zip(requests, served, strict=False)
        if (reason := _mismatch(request, reply))
    ]
    counts = f"{len(served)} answers to {len(requests)} requests, {whole} of them whole"
    wrong = {
        f"half an answer: {rest!r}": bool(rest),
        "; ".join(mismatches): bool(mismatches),
        counts: not (refused or whole <= len(served)) or len(served) > len(requests),
        "the connection lives on": ending is Ending.REFUSED and not hung_up,
        "no refusal": ending is Ending.REFUSED and not requests and not refused,
    }
    return "; ".join(text for text, holds in wrong.items() if holds)


def _mismatch(request: Request, reply: Reply) -> str:
    name = _PLAIN.fullmatch(request.target)
    if request.method == b"GET" and name and name[1].decode() in FILES:
        if (reply.status, reply.body) != (200, name[1]):
            return "not its file"
    elif request.method == b"BITS_POST":
        if not reply.is_ack:
            return "not an Ack"
    elif request.method in (b"GET", b"HEAD"):
        if reply.is_ack and reply.status != 400:
            return "an Ack"
    elif reply.status not in (400, 405):
        return "a method that there is not"
    return ""


# What is sent.

LENGTHS = (
    *("0", "5", "05", "+5", "-5", "0x5", "5, 5", "5,6", "5 5", "", "5\t", "5;", "1e1"),
    *(
        "\u0665",
        "9" * 30,
        "9" * 5000,
        "18446744073709551621",
        "4294967301",
        "5.0",
        "5_0",
    ),
)
CODINGS = (
    *("chunked", "Chunked", " chunked", "\tchunked", "chunked ", "xchunked", "chunke"),
    *("chunked, identity", "identity, chunked", "identity", "gzip, chunked", "", ","),
    *("chunked, chunked", "chunked;q=1", '"chunked"', "\x0bchunked", "chunked,", "x"),
)
SMUGGLED = b"GET /in/smuggled.dat HTTP/1.1\r\nHost: test\r\n\r\n"
_BODIES = (
    *(b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", SMUGGLED),
    *(
        b"0\r\n\r\n" + SMUGGLED,
        b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\nhello\n0\n\n",
    ),
    *(b"5 \r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n"),
    *(b"5;\nx\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"0\r\n\rX\r\n"),
    b"ffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"2f\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
)
_METHODS = (
    *("GET", "HEAD", "BITS_POST") * 5,
    *("POST", "OPTIONS", "get", "bits_post", "CONNECT"),
)
_TARGETS = (
    *[f"/in/{name}" for name in FILES[:-1]] * 5,
    *("/in/new.dat", "http://test/in/a.dat", "*", "test:80", "/in/a.dat?x#y", "//x"),
    *("/in/%2e%2e/x", "http:/in/a.dat", "", "/in/a b"),
)
_VERSIONS = ("HTTP/1.1",) * 40 + (
    *(
        "HTTP/1.0",
        "HTTP/0.9",
        "HTTP/2.0",
        "HTTP/1.2",
        "http/1.1",
        "HTTP/1.1 ",
        "HTTP/11",
    ),
    *("HTTP/1.10", "", "HTTP/01.1", "HTTP/1,1"),
)
_PACKET = (f"BITS-Packet-Type: Create-Session\r\nBITS-Supported-Protocols: {PROTOCOL}",)
_FIELDS = (
    *("Host: test", "Host : test", "Host: other", " Host: folded", "\tfolded: x"),
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade"),
    *("Upgrade: websocket", "Expect: 100-continue", "X: a\x00b", "X: a\rb", "X: a\nb"),
    *("no colon", ": no name", "X\x00: y", "Content-Length", "X: " + "y" * 70_000),
    *("Transfer-Encoding : chunked", "Transfer_Encoding: chunked", "TE: trailers"),
    *("Content-Length : 5", "Content-Length: 5\r\n 6", "Content-Encoding: gzip"),
    *("X-Content-Length: 7", "Sec-WebSocket-Key1: x", "BITS-Packet-Type: Ping"),
)
_EDGES = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b" ",
        b"\t",
        b":",
        b"\r\n\r\n",
        b"\n\n",
        b"0",
        b"\xff",
    ),
    *(b"\r\n ", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", SMUGGLED),
)


def made(seed: int) -> list[bytes]:
    """The segments of that number."""
    random = Random(seed)
    octets = b"".join(_request(random) for _ in range(random.randint(1, 4)))
    for _ in range(random.choice((0, 0, 1, 3))):
        octets = _mutated(random, octets)
    cuts = sorted(
        random.randrange(len(octets) + 1) for _ in range(random.choice((0, 0, 3)))
    )
    edges = [0, *cuts, len(octets)]
    return [octets[a:b] for a, b in pairwise(edges) if a < b]


def _request(random: Random) -> bytes:
    plain = random.random() < 0.7
    method = random.choice(_METHODS[:3] if plain else _METHODS)
    target = random.choice(_TARGETS[:3] if plain else _TARGETS)
    version = "HTTP/1.1" if plain else random.choice(_VERSIONS)
    fields = ["Host: test"]
    body = b""
    if method.upper() == "BITS_POST":
        fields += [*_PACKET, "Content-Length: 0"]
    if not plain:
        fields += random.sample(_FIELDS, random.choice((0, 0, 1, 2)))
        body = random.choice(_BODIES)
        size = random.choice((str(len(body)), str(len(body)), random.choice(LENGTHS)))
        lengths = [f"Content-Length: {size}"] * random.choice((0, 1, 1, 2))
        coding = f"Transfer-Encoding: {random.choice((CODINGS[0], *CODINGS))}"
        fields += random.choice((lengths, lengths, [coding], [*lengths, coding], []))
        random.shuffle(fields)
        if random.random() < 0.5:  # with what it says, whatever else is odd
            fields = [f"Content-Length: {len(body)}", "Host: test"]
    head = "\r\n".join((f"{method} {target} {version}", *fields))
    return head.encode() + b"\r\n\r\n" + body


def _mutated(random: Random, octets: bytes) -> bytes:
    at = random.randrange(len(octets) + 1)
    match random.randrange(4):
        case 0:
            return octets[:at] + random.choice(_EDGES) + octets[at:]
        case 1:
            return octets[:at] + octets[at + random.choice((1, 2, 10)) :]
        case 2:
            return octets[:at] + random.randbytes(1) + octets[at + 1 :]
        case _:
            line_end = octets.find(b"\r\n", at)
            bare = random.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n"))
            return (
                octets
                if line_end < 0
                else octets[:line_end] + bare + octets[line_end + 2 :]
            )
