"""A server that answers as it is told, and notes what it was asked."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Field = tuple[str, str]


@dataclass(frozen=True)
class Asked:
    """A request as it came.

    Attributes:
        connection: number of the connection, from 1 on.
        version: of HTTP.
    """

    connection: int
    method: str
    target: str
    version: str
    fields: list[Field]
    body: bytes

    def get(self, name: str) -> str | None:
        """The value of a field, if it has it."""
        for key, value in self.fields:
            if key.lower() == name.lower():
                return value
        return None

    @property
    def packet(self) -> str | None:
        """What kind of a packet it is."""
        return self.get("BITS-Packet-Type")

    @property
    def span(self) -> str | None:
        """What a fragment says that it carries."""
        return self.get("Content-Range")


def answer(status: int, *fields: Field, body: bytes = b"") -> bytes:
    """An answer with these fields and its length."""
    lines = [f"HTTP/1.1 {status} Said"]
    lines += [f"{name}: {value}" for name, value in fields]
    if not any(name.lower() == "content-length" for name, _value in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def ack(status: int = 200, *fields: Field) -> bytes:
    """An answer to a packet."""
    return answer(status, ("BITS-Packet-Type", "Ack"), *fields)


#: A connection that ends without a word.
HANG_UP = b""

#: A connection that stays without a word.
SILENCE = None

Script = Callable[[Asked], bytes | None]


@dataclass
class Scripted:
    """What a server was asked, and where it is.

    Attributes:
        connections: that were made to it.
    """

    script: Script
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(
        default_factory=dict
    )

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection."""
        serving = asyncio.create_task(self.serve(reader, writer))
        self.serving[serving] = writer

    async def end(self) -> None:
        """End all connections; whatever a script raised comes out."""
        self.closing.set()
        for writer in self.serving.values():
            writer.close()
        await asyncio.gather(*self.serving)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection."""
        self.connections += 1
        number = self.connections
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                asked = await read(reader, number)
                self.asked.append(asked)
                said = self.script(asked)
                if said is SILENCE:
                    await self.closing.wait()
                if not said:
                    break
                writer.write(said)
                await writer.drain()
                if b"Connection: close" in said:
                    break
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    @property
    def packets(self) -> list[str | None]:
        """What kinds of packets came."""
        return [asked.packet for asked in self.asked]

    @property
    def spans(self) -> list[str]:
        """What fragments said that they carry."""
        return [asked.span for asked in self.asked if asked.span is not None]


async def read(reader: asyncio.StreamReader, connection: int) -> Asked:
    """The next request of a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head[:-4].split("\r\n")
    method, target, version = line.split(" ")
    fields = [tuple(part.strip() for part in text.split(":", 1)) for text in lines]
    found = [(name, value) for name, value in fields]
    asked = Asked(connection, method, target, version, found, b"")
    length = int(asked.get("Content-Length") or 0)
    body = await reader.readexactly(length)
    return Asked(connection, method, target, version, found, body)


@asynccontextmanager
async def scripted(
    script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Scripted]:
    """A server on loopback."""
    told = Scripted(script)
    server = await asyncio.start_server(told.begin, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    told.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield told
    finally:
        server.close()
        await told.end()


def in_turn(*answers: bytes | None) -> Script:
    """The answers, one after the other; one more request is a failure."""
    left = iter(answers)
    return lambda _asked: next(left)
