"""aiohttp's HTTP/1.1, as far as BITS needs it to be different.

Everything that leans on how aiohttp works inside is in this module and in `parser`: its
minor version is pinned, and `server.self_test` asks at each start whether it still
holds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import (
    ERROR,
    MAX_MSG_QUEUE_SIZE,
    RequestHandler,
    RequestPayloadError,
)

from . import journal, tls
from .answer import Answer
from .crowd import Crowd, counted
from .forwarded import Proxies
from .line import Line, line_of
from .parser import MAXIMUM_FIELDS, MAXIMUM_LINE, Parser, Unreadable
from .protocol.refusal import Reason, Refusal
from .protocol.wire import Ack, Field

#: A body, or an answer, that moves less than this in `stall_timeout` is too slow.
MINIMUM_PROGRESS = 4096

# Read at once while no body is: room for most headers, and what comes of a body
# with its header is little, since aiohttp copies it twice.
_READ_BYTES = 16_384

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nBITS-Packet-Type: Ack\r\nRetry-After: 30\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


def response(ack: Ack, more: Iterable[Field] = (), *, close: bool = False) -> Answer:
    """An Ack as it is sent, with more fields; a 503 says when to come again."""
    fields = [*ack.fields(), ("Cache-Control", "no-store"), *more]
    if ack.status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields.append(("Retry-After", "30"))
    return Answer(ack.status, fields, close=close)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may take; times in seconds.

    Attributes:
        connections: how many there may be at once; one more ends the one that is idle
            for longest, or is refused if none is.
        per_address: likewise of one address.
        header: for the rest of a request's header once some of it came.
        idle: for the next request to begin.
        stall: in which a client that has answers waiting takes `MINIMUM_PROGRESS`.
        drain: for a body that nobody wants, before the connection is closed.
    """

    connections: int
    per_address: int
    header: float
    idle: float
    stall: float
    drain: float


class Connection(RequestHandler, asyncio.BufferedProtocol):
    """One client's connection.

    It reads into a buffer that all connections of a server share: aiohttp's way
    allocates 256 KiB for each read, which costs as much as what is read.

    Attributes:
        client: whom it counts for, as `counted` says.
        heard: when something last came but for bodies, by the clock of the loop.
        line: who has signed in over it.
        mark: a word that no other connection has, once it was asked for.
    """

    __slots__ = (
        "_header_timer",
        "_server",
        "_unread_timer",
        "client",
        "heard",
        "line",
        "mark",
    )

    def __init__(self, server: "HttpServer", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            # None is what switches it off, whatever the annotation says.
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=server.limits.idle,
            lingering_time=server.limits.drain,
            max_line_size=MAXIMUM_LINE,
            max_field_size=MAXIMUM_LINE,
            max_headers=MAXIMUM_FIELDS,
        )
        self._server = server
        self.client: str | None = None
        self._header_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self.heard = 0.0
        self.line = Line()
        self.mark = ""
        # aiohttp's C parser answers 400 to any method outside llhttp's list, before
        # a handler runs; BITS_POST is not in it. The Python parser takes any token.
        # A body that it would decompress would not have the offsets it says it has.
        self._parser = Parser(
            self,
            loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
        )

    @classmethod
    def of(cls, request: web.BaseRequest) -> "Connection":
        """The connection that a request came on.

        Raises:
            TypeError: it is not one of ours.
        """
        if not isinstance(request.protocol, cls):
            raise TypeError("only a Connection of ours lends its transport")
        return request.protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse it when its handshake failed, or when there are too many."""
        address = _address(transport)
        failure = tls.failure(transport)
        if failure is not None:
            self._server.failed.note(self._loop.time(), client=address, detail=failure)
            self._turn_away(transport)
            return
        trusted = self._server.proxies.trusts(address)
        client = None if trusted else counted(address)
        full = self._server.let_in(client)
        if full is None:
            self.client = client
            self.line = line_of(transport, address, shared=trusted)
            self.heard = self._loop.time()
            # What the system does not take at once has the clock of `pause_writing`,
            # also when the connection is to close and waits for that. It is one that
            # writes, though with uvloop it is no asyncio.Transport.
            transport.set_write_buffer_limits(high=1)  # type: ignore[attr-defined]
            super().connection_made(transport)
            return
        journal.warn(full, client=address, connections=len(self._server.connections))
        # One that writes, though with uvloop it is no asyncio.Transport.
        transport.write(_FULL)  # type: ignore[attr-defined]
        self._turn_away(transport)

    def _turn_away(self, transport: asyncio.BaseTransport) -> None:
        self._manager = None
        self._force_close = True
        transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clocks."""
        self._stop_clock()
        self._stop_waiting()
        self.line = Line()
        client, self.client = self.client, None
        self._server.crowd.leave(client)
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Nothing of a request has come that was not answered."""
        busy = self._request_in_progress or self._messages or self._header_timer
        return not busy and not self._force_close

    def give_way(self) -> None:
        """End at once, whatever the peer still has to take."""
        self._force_close = True
        if self.transport is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Give a client that does not take its answers its time, and no more."""
        super().pause_writing()
        if self.transport is not None:
            self._wait(self.transport)

    def resume_writing(self) -> None:
        """It has taken them."""
        super().resume_writing()
        self._stop_waiting()

    def _wait(self, transport: asyncio.Transport) -> None:
        waiting = transport.get_write_buffer_size()
        self._unread_timer = self._loop.call_later(
            self._server.limits.stall, self._look, transport, waiting
        )

    def _look(self, transport: asyncio.Transport, before: int) -> None:
        """End it if it took next to nothing of what waited before."""
        if before - transport.get_write_buffer_size() >= MINIMUM_PROGRESS:
            self._wait(transport)
        else:
            journal.note("unread", client=self.peername)
            transport.abort()

    def _stop_waiting(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go (asyncio.BufferedProtocol)."""
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` came (asyncio.BufferedProtocol)."""
        self.data_received(bytes(self._server.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Give a header that came in part its time, and no more.

        A body waits in the socket until a handler asks for it: what came on here
        would be copied twice.
        """
        self.heard = self._loop.time()
        super().data_received(data)
        if self._messages or self._request_in_progress:
            self._stop_clock()
            if self._messages and not self._messages[-1][1].is_eof():
                self._pause_transport_reading()
        elif self._header_timer is None and not self._force_close:
            self._header_timer = self._loop.call_later(
                self._server.limits.header, self._header_late
            )

    def _stop_clock(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_late(self) -> None:
        journal.note("slow-header", client=self.peername)
        self.force_close()

    def read_on(self) -> None:
        """Let aiohttp read the body that came with a request, and drop it.

        Not while so many requests wait that it does not want to read more of them.
        """
        if not self._buffer_paused:
            self._resume_transport_reading()

    def body_received(self) -> None:
        """Go on with the next request: the body of this one came another way."""
        # aiohttp has no public way to take a body off its hands.
        waiting = self._parser and self._parser._payload_parser  # noqa: SLF001
        if waiting and self.transport is not None:
            # To the parser the body ends with one byte more, which nobody reads.
            waiting._length = 1  # noqa: SLF001
            self.data_received(b"\0")

    def log_exception(self, *args: object, **fields: object) -> None:
        """A body that nobody could read is the peer's fault, and no traceback."""
        error = fields.get("exc_info")
        if isinstance(error, RequestPayloadError):
            journal.note("unreadable", client=self.peername, detail=error)
        else:
            super().log_exception(*args, **fields)

    def handle_error(
        self,
        request: web.BaseRequest,
        _status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The last line of defence: an Ack that says nothing, a log that says all."""
        if isinstance(exc, HttpProcessingError):
            # aiohttp quotes what it could not read, which may be a password.
            detail = message if isinstance(exc, Unreadable) else type(exc).__name__
            journal.note("unreadable", client=request.remote, detail=detail)
            refusal = Refusal(Reason.MALFORMED, "unreadable request")
        else:
            journal.log.error("internal error", exc_info=exc)
            refusal = Refusal(Reason.INTERNAL, "internal error")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer had begun")
        return response(Ack.refusing(refusal), close=True)


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _idle(connection: RequestHandler, client: str | None) -> Connection | None:
    """The connection if it is, and this client's if that is not None."""
    if not isinstance(connection, Connection) or not connection.idle:
        return None
    return connection if client in (None, connection.client) else None


class HttpServer(web.Server):
    """The connections of all listeners.

    Args:
        handler: answers requests.
        limits: of each connection.
        proxies: who is believed about where requests come from.

    Attributes:
        buffer: what connections read into, and have read from before anything else
            runs.
        crowd: who has them.
        failed: tells of handshakes.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        limits: Limits,
        proxies: Proxies | None = None,
    ) -> None:
        super().__init__(handler)
        self.proxies = proxies or Proxies()
        self.limits = limits
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self.crowd = Crowd(limits.per_address)
        self.failed = journal.Seldom("handshake-failed")

    def let_in(self, client: str | None) -> str | None:
        """Count one more connection; why not, if there are too many.

        Args:
            client: whose, as `counted` says.
        """
        if not self.crowd.has_room(client) and not self._make_room(client):
            return "address-full"
        full = len(self._connections) >= self.limits.connections
        if full and not self._make_room(None):
            return "full"
        self.crowd.enter(client)
        return None

    def _make_room(self, client: str | None) -> bool:
        """End the connection that is idle for longest, for one that may not be.

        Args:
            client: whose; anybody's if None.
        """
        idle = filter(None, (_idle(each, client) for each in self._connections))
        longest = min(idle, key=attrgetter("heard"), default=None)
        if longest is None:
            return False
        longest.give_way()
        return True

    def __call__(self) -> Connection:
        """A protocol for a new connection."""
        return Connection(self, self._loop)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """[MC-BUP] 2.2.1: an unreadable request, too, is answered in HTTP/1.1.

        One that a trusted proxy handed on comes from where that says.
        """
        if message is ERROR:
            message = message._replace(version=HttpVersion11)
        request = super()._make_request(message, payload, protocol, writer, task)
        if not isinstance(protocol, Connection) or not protocol.line.shared:
            return request
        peer = request.remote or ""
        address, scheme = self.proxies.origin(peer, message.headers)
        return request.clone(remote=address, scheme=scheme or request.scheme)
