"""A connection to the server that a recording is played to."""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterable
from contextlib import suppress
from ssl import SSLContext
from typing import NamedTuple

from .message import Answer
from .messages import Answers
from .streams import How

_READ_BYTES = 256 * 1024

#: How long to wait for another end that does not take what was sent, in seconds.
_END_SECONDS = 1.0

#: How often to look whether the other end has what was sent, in seconds.
_DELIVERY_SECONDS = 0.005


class Target(NamedTuple):
    """The server.

    Attributes:
        tls: None for plain HTTP.
    """

    host: str
    port: int
    tls: SSLContext | None

    @property
    def authority(self) -> str:
        """As a Host field has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 80 if self.tls is None else 443
        return host if self.port == usual else f"{host}:{self.port}"


class Line:
    """One connection, whose answers are read as they come.

    Attributes:
        methods: of the requests that were sent.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.methods: list[str] = []
        self._reader, self._writer = reader, writer
        self._answers = Answers(self._method)
        self._came = asyncio.Condition()
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def dial(cls, target: Target) -> "Line":
        """Connect."""
        name = None if target.tls is None else target.host
        return cls(
            *await asyncio.open_connection(
                target.host, target.port, ssl=target.tls, server_hostname=name
            )
        )

    def _method(self, _answer: Answer) -> str | None:
        number = len(self._answers.found)
        return self.methods[number] if number < len(self.methods) else None

    async def _read(self) -> None:
        how = How.FIN
        try:
            while octets := await self._reader.read(_READ_BYTES):
                async with self._came:
                    self._answers.add(octets, 0.0)
                    self._came.notify_all()
        except OSError:  # ssl.SSLError is one
            how = How.RST
        async with self._came:
            self._answers.end(how)
            self._ended = True
            self._came.notify_all()

    async def send(self, octets: AsyncIterable[bytes]) -> None:
        """Send bytes, as long as the other end takes them."""
        with suppress(OSError):
            async for each in octets:
                self._writer.write(each)
                await self._writer.drain()

    async def may_send_body(self, patience: float) -> bool:
        """Wait for 100 Continue; not if an answer comes in its place.

        A server may never say it, so RFC 9110 10.1.1 has clients go on after a while.
        """
        number = len(self.methods) - 1

        def is_told() -> bool:
            interim, found = self._answers.interim, self._answers.found
            return self._ended or bool(interim) or len(found) > number

        with suppress(TimeoutError):
            async with asyncio.timeout(patience), self._came:
                await self._came.wait_for(is_told)
        return not self._ended and len(self._answers.found) <= number

    async def answer(self, number: int, length: int | None = None) -> Answer | None:
        """The answer to a request, once it is whole or nothing more comes.

        Args:
            number: of the request on this connection, from 0.
            length: bytes of the body that are enough.
        """

        def is_here() -> bool:
            found = self._answers.found[number : number + 1]
            enough = any(
                each.complete or (length is not None and each.length >= length)
                for each in found
            )
            return self._ended or enough

        async with self._came:
            await self._came.wait_for(is_here)
        return next(iter(self._answers.found[number : number + 1]), None)

    async def half_close(self) -> None:
        """Say that nothing more is sent; TLS cannot say that."""
        with suppress(OSError, NotImplementedError):
            self._writer.write_eof()

    @property
    def _unsent(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def reset(self) -> None:
        """Break the connection off, once the other end has all that was sent."""
        connection = self._writer.get_extra_info("socket")
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                # Nothing tells when the system has sent it all.
                while self._unsent or _undelivered(connection):  # noqa: ASYNC110
                    await asyncio.sleep(_DELIVERY_SECONDS)
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
        await self._over()

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        await self._over()

    async def _over(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._writer.wait_closed()
        self._writer.transport.abort()


def _undelivered(connection: socket.socket) -> int:
    """Bytes that the other end did not acknowledge, tcp(7)."""
    octets = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    (count,) = struct.unpack("i", octets)
    return int(count)
