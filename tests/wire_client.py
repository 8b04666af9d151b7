"""A BITS client that does exactly as told, right or wrong, over a bare socket.

It writes the bytes it is given and reads what comes back. Nothing is repaired,
retried or hidden, so a test decides about every byte, pause, cut and reset.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PROTOCOL = "{7df0354d-249b-430f-820d-3d2a9bef4931}"

#: A session id that no server ever gave out.
NOBODY = "{DEADBEEF-0000-4000-8000-000000000001}"

#: No answer on loopback takes as long as this, in seconds.
PATIENCE = 10.0

Field = tuple[str, str]


@dataclass(frozen=True)
class Answer:
    """A response as it came; names of fields keep the case of the wire."""

    version: str
    status: int
    fields: Sequence[Field]
    body: bytes

    def get(self, name: str) -> str | None:
        """The value of the only field of that name; two of them are a failure."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def bits(self) -> dict[str, str]:
        """The fields of the protocol by lower-case name, the packet type left out."""
        found = {name.lower(): value for name, value in self.fields}
        return {
            name: value
            for name, value in found.items()
            if name.startswith("bits-") and name != "bits-packet-type"
        }

    @property
    def error(self) -> tuple[str | None, str | None, str | None]:
        """BITS-Error, BITS-Error-Code and BITS-Error-Context."""
        return (
            self.get("BITS-Error"),
            self.get("BITS-Error-Code"),
            self.get("BITS-Error-Context"),
        )

    @property
    def received(self) -> int | None:
        """BITS-Received-Content-Range: the next offset wanted."""
        value = self.get("BITS-Received-Content-Range")
        return None if value is None else int(value)


def request(
    method: str, target: str, *fields: Field, body: bytes = b"", host: str = "test"
) -> bytes:
    """A request with these fields and no others but Host."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in (*fields, ("Host", host))]
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + body


def packet(target: str, packet_type: str, *fields: Field, body: bytes = b"") -> bytes:
    """A packet in the order of fields that BITS 6.7 was captured with."""
    return request(
        "BITS_POST",
        target,
        ("Accept", "*/*"),
        ("BITS-Packet-Type", packet_type),
        *fields,
        ("User-Agent", "Microsoft BITS/7.8"),
        ("Content-Length", str(len(body))),
        ("Connection", "Keep-Alive"),
        body=body,
    )


def create(target: str, protocols: str = PROTOCOL) -> bytes:
    """Create-Session."""
    return packet(target, "Create-Session", ("BITS-Supported-Protocols", protocols))


def ping(target: str) -> bytes:
    """Ping, which has no session."""
    return packet(target, "Ping")


def fragment(target: str, named: str, first: int, body: bytes, total: int) -> bytes:
    """Fragment: `body` as the bytes from `first` on of an entity of `total`."""
    span = f"bytes {first}-{first + len(body) - 1}/{total}"
    return ranged(target, named, span, body)


def ranged(target: str, named: str, content_range: str, body: bytes) -> bytes:
    """Fragment with a Content-Range that need not fit its body."""
    name = target.rpartition("/")[2]
    return packet(
        target,
        "Fragment",
        ("BITS-Session-Id", named),
        ("Content-Name", name),
        ("Content-Range", content_range),
        body=body,
    )


def close(target: str, named: str) -> bytes:
    """Close-Session."""
    return packet(target, "Close-Session", ("BITS-Session-Id", named))


def cancel(target: str, named: str) -> bytes:
    """Cancel-Session."""
    return packet(target, "Cancel-Session", ("BITS-Session-Id", named))


def fetch(target: str, *fields: Field, method: str = "GET") -> bytes:
    """A download of BITS 7.8."""
    return request(method, target, ("Accept-Encoding", "identity"), *fields)


@dataclass
class Line:
    """One TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def dial(cls, url: str) -> "Line":
        """Connect to the server at `url`."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def send(self, octets: bytes) -> None:
        """Write these bytes and no more."""
        self.writer.write(octets)
        await self.writer.drain()

    async def drip(self, octets: bytes, pause: float) -> None:
        """Write byte by byte with a pause in seconds, until the server hangs up."""
        try:
            for octet in octets:
                await self.send(bytes((octet,)))
                await asyncio.sleep(pause)
        except OSError:
            return

    async def receive(self, *, head: bool = False) -> Answer:
        """The next response, interim ones too; `head` for one without its body."""
        async with asyncio.timeout(PATIENCE):
            version, status, fields = await self._head()
            length = _length(fields)
            bodiless = head or status in (100, 204, 304)
            body = b"" if bodiless else await self.reader.readexactly(length)
        return Answer(version, status, fields, body)

    async def _head(self) -> tuple[str, int, list[Field]]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = text[:-4].split("\r\n")
        version, status, *_reason = status_line.split(" ", 2)
        fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        return version, int(status), [(name, value) for name, value in fields]

    async def ask(self, octets: bytes, *, head: bool = False) -> Answer:
        """Write a request and read its response."""
        await self.send(octets)
        return await self.receive(head=head)

    async def create(self, target: str) -> str:
        """Create a session that is expected to work; its id."""
        answer = await self.ask(create(target))
        assert answer.status == 200, answer
        named = answer.get("BITS-Session-Id")
        assert named is not None
        return named

    async def upload(self, target: str, *bodies: bytes) -> str:
        """A session with these fragments taken, and its entity thereby complete."""
        named = await self.create(target)
        total, first = sum(map(len, bodies)), 0
        for body in bodies:
            answer = await self.ask(fragment(target, named, first, body, total))
            first += len(body)
            assert (answer.status, answer.received) == (200, first), answer
        return named

    async def ended(self) -> bytes:
        """What still comes until the server hangs up, by FIN or RST."""
        rest = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while octets := await self.reader.read(65536):
                    rest += octets
            except ConnectionError:
                return rest
        return rest

    def finish(self) -> None:
        """Send FIN; what the server still says can be read."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Send RST, as a dying process or an impatient firewall does."""
        connection = self.writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def hang_up(self) -> None:
        """Close, whatever the state of the connection."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


def _length(fields: Sequence[Field]) -> int:
    lengths = [value for name, value in fields if name.lower() == "content-length"]
    assert len(lengths) <= 1, fields
    return int(lengths[0]) if lengths else 0


@dataclass
class Lines:
    """The connections of a test, which are closed at its end."""

    opened: list[Line] = field(default_factory=list)

    async def dial(self, url: str) -> Line:
        """One more connection."""
        line = await Line.dial(url)
        self.opened.append(line)
        return line

    async def hang_up(self) -> None:
        """Close them all."""
        for line in self.opened:
            await line.hang_up()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something outside this process to come true; its not coming fails."""
    async with asyncio.timeout(PATIENCE):
        # What is waited for happens on disk and cannot set an event of ours.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
