"""One connection, on which nothing is repaired, retried or hidden.

A client library would follow, decompress, reconnect or refuse; here an answer is what
came, and so is its absence.
"""

import asyncio
import os
import re
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from bitsd.protocol.wire import Field
from bitsd.reasons import reason

#: Of the body of an answer no more is kept: error pages are shorter.
MAXIMUM_BODY = 1 << 20

_MAXIMUM_HEAD = 1 << 16
_CHUNK = 1 << 16
_STATUS_LINE = re.compile(r"(HTTP/\d\.\d) (\d{3})(?: (.*))?")
_INTERIM = range(100, 200)
_BODILESS = (204, 304)


class Broken(Exception):
    """There is no answer, or none that is HTTP; says what came instead."""


def why(error: Broken | OSError) -> str:
    """What came in place of an answer."""
    return reason(error) if isinstance(error, OSError) else str(error)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it came.

    Attributes:
        version: `HTTP/1.1` or another.
        fields: names keep the case of the wire.
        body: as far as it was read.
        whole: all of the body was read.
        kept: the connection can carry another request.
    """

    version: str
    status: int
    fields: Sequence[Field]
    body: bytes = b""
    whole: bool = True
    kept: bool = True

    def get(self, name: str) -> str | None:
        """All values of a field in one, or None."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    @property
    def length(self) -> int | None:
        """Content-Length, if there is one."""
        value = self.get("Content-Length") or ""
        return int(value) if value.isascii() and value.isdigit() else None

    @property
    def is_ack(self) -> bool:
        """A BITS server wrote it."""
        return (self.get("BITS-Packet-Type") or "").lower() == "ack"

    @property
    def hresult(self) -> int | None:
        """The error code of an Ack, if it has one."""
        value = self.get("BITS-Error-Code") or self.get("BITS-Error") or ""
        try:
            return int(value.partition(",")[0], 16)
        except ValueError:
            return None

    @property
    def received(self) -> int | None:
        """BITS-Received-Content-Range: what the server holds."""
        value = self.get("BITS-Received-Content-Range") or ""
        return int(value) if value.isascii() and value.isdigit() else None


class Line(asyncio.Protocol):
    """A connection.

    Args:
        patience: how long it may be silent, in seconds.

    Attributes:
        peer_certificate: of the server; empty unless it was verified.
        tls_version: as `TLSv1.3`; None for plain TCP.
    """

    def __init__(self, patience: float) -> None:
        self.peer_certificate: dict[str, object] = {}
        self.tls_version: str | None = None
        self._patience = patience
        self._buffer = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._paused = False
        self._news = asyncio.Event()
        self._transport: asyncio.Transport

    @classmethod
    async def dial(
        cls,
        host: str,
        port: int,
        patience: float,
        tls: ssl.SSLContext | None,
        name: str,
    ) -> "Line":
        """Connect.

        Raises:
            OSError: as the system said; ssl.SSLError is one.
            TimeoutError: nobody answers, which is one, too.
        """
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(
            lambda: cls(patience),
            host,
            port,
            ssl=tls,
            server_hostname=None if tls is None else name,
        )
        _transport, line = await asyncio.wait_for(connecting, patience)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it; with uvloop it is no asyncio.Transport, and works as one."""
        # See above: the annotation names asyncio's own.
        self._transport = transport  # type: ignore[assignment]
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is not None:
            # Only now: an alert that comes right after the handshake takes them away.
            self.peer_certificate = dict(tls.getpeercert() or {})
            self.tls_version = tls.version()

    def data_received(self, data: bytes) -> None:
        """Wake who waits."""
        self._buffer += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep what came before, which an error page may be."""
        if exc is not None and self.tls_version is None:
            self._buffer += _left(self._transport)
        self._ended, self._error = True, exc
        self._news.set()

    def pause_writing(self) -> None:
        """The other side is slow."""
        self._paused = True

    def resume_writing(self) -> None:
        """It is no more."""
        self._paused = False
        self._news.set()

    async def ask(
        self,
        method: str,
        target: str,
        fields: Iterable[Field],
        body: Iterable[bytes] = (),
        *,
        most: int = MAXIMUM_BODY,
    ) -> Answer:
        """Send a request and read its answer.

        An answer that comes before the body is over ends the sending.

        Args:
            method: of it.
            target: as on the wire.
            fields: all that are sent.
            body: its pieces.
            most: bytes of the answer's body that are wanted.

        Raises:
            Broken: there is no answer.
        """
        await self.send(method, target, fields, body)
        return await self.receive(head=method == "HEAD", most=most)

    async def send(
        self, method: str, target: str, fields: Iterable[Field], body: Iterable[bytes]
    ) -> None:
        """Send a request; an answer, or the end, ends the sending.

        Raises:
            Broken: the other side takes too long to take it.
        """
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields]
        head = "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape")
        for piece in chain((head,), body):
            if self._ended or self._buffer:
                return
            self._transport.write(piece)
            await self._settled()

    async def _settled(self) -> None:
        """Wait until more can be sent, or something came."""
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self._patience):
                while self._paused and not self._ended and not self._buffer:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Broken(f"no answer within {self._patience:g} s") from None

    async def receive(self, *, head: bool = False, most: int = MAXIMUM_BODY) -> Answer:
        """The next answer.

        Args:
            head: it has no body, whatever it says.
            most: bytes of its body that are wanted.

        Raises:
            Broken: there is none.
        """
        while True:
            version, status, fields = _parsed(await self._head())
            if status not in _INTERIM:
                break
        answer = Answer(version, status, fields)
        if head or status in _BODILESS:
            body, whole = b"", True
        elif "chunked" in (answer.get("Transfer-Encoding") or "").lower():
            body, whole = await self._chunked(most)
        else:
            body, whole = await self._plain(answer.length, most)
        kept = whole and _kept(answer, bodiless=head or status in _BODILESS)
        return Answer(version, status, fields, body, whole, kept)

    async def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _MAXIMUM_HEAD:
                raise Broken("an endless header")
            if not await self._more():
                raise Broken(self._why())
        head, _end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        return head

    async def _more(self) -> bool:
        """Wait for more; False at the end.

        Raises:
            Broken: it takes too long.
        """
        had = len(self._buffer)
        try:
            async with asyncio.timeout(self._patience):
                while len(self._buffer) == had and not self._ended:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Broken(f"no answer within {self._patience:g} s") from None
        return len(self._buffer) > had

    def _why(self) -> str:
        if self._buffer:
            return "what came is no HTTP"
        if self._error is not None:
            return "the connection was reset without an answer"
        return "the connection was closed without an answer"

    async def _plain(self, length: int | None, most: int) -> tuple[bytes, bool]:
        """A body of a length, or up to the end of the connection."""
        wanted = most if length is None else min(length, most)
        while len(self._buffer) < wanted and await self._more():
            pass
        body = bytes(self._buffer[:wanted])
        del self._buffer[:wanted]
        if length is None:
            return body, self._ended and not self._buffer
        return body, len(body) == length

    async def _chunked(self, most: int) -> tuple[bytes, bool]:
        body = b""
        while len(body) < most:
            size = await self._chunk_size()
            if size is None:
                return body, False
            octets, whole = await self._plain(size + 2, most + 2)
            if not whole:
                return body + octets, False
            if size == 0:
                return body, True
            body += octets[:-2]
        return body, False

    async def _chunk_size(self) -> int | None:
        while b"\r\n" not in self._buffer:
            if not await self._more():
                return None
        line, _end, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer = bytearray(rest)
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            return None

    def close(self) -> None:
        """End it, whatever is under way."""
        self._transport.abort()


def _left(transport: asyncio.Transport) -> bytes:
    """What had come before a reset that sending met first, so that nobody read it."""
    left = b""
    with suppress(OSError):
        left = os.read(transport.get_extra_info("socket").fileno(), _MAXIMUM_HEAD)
    return left


def _parsed(head: bytes) -> tuple[str, int, list[Field]]:
    status_line, *lines = head.decode("latin-1").split("\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise Broken("what came is no HTTP")
    fields = [line.partition(":")[::2] for line in lines]
    return match[1], int(match[2]), [(name, value.strip()) for name, value in fields]


def _kept(answer: Answer, *, bodiless: bool) -> bool:
    connection = (answer.get("Connection") or "").lower()
    if "close" in connection:
        return False
    if answer.version == "HTTP/1.0" and "keep-alive" not in connection:
        return False
    chunked = answer.get("Transfer-Encoding") is not None
    return bodiless or chunked or answer.length is not None
