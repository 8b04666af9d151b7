"""The life of the server: self-test, listeners, the sweep, a clean stop."""

import asyncio
import errno
import os
import socket
from asyncio.base_events import Server as Listening
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from aiohttp import web

from . import journal
from .body import FragmentBody
from .config import Config, Listen
from .connection import HttpServer, Limits, response
from .protocol import wire
from .protocol.wire import Ack, Ping
from .routes import Place, Routes
from .sessions import Sessions

#: Sessions are looked through for expired ones four times a time-out, between these.
SHORTEST_SWEEP = timedelta(seconds=1)
LONGEST_SWEEP = timedelta(hours=1)

_SELF_TEST_SECONDS = 10.0
_BACKLOG = 1024


class CannotStart(Exception):
    """The server does not start; one line that says what to do."""


class Server:
    """bitsd, from `start` to `stop`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._places = [Place(directory) for directory in config.directory]
        self._servers: list[tuple[Listen, Listening]] = []
        self._inodes: dict[str, int | None] = {}
        self._http: HttpServer | None = None
        self._sweeps: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Find what an earlier run left, test ourselves, and listen.

        Raises:
            CannotStart: an address cannot be used, a folder cannot be written, or
                the aiohttp that is installed does not take our requests.
        """
        limits = _limits(self._config)
        await self_test(HttpServer(_self_test_answer, limits))
        self._http = HttpServer(Routes(self._config, self._places), limits)
        for place in self._places:
            if place.sessions is not None:
                await self._open(place, place.sessions)
        try:
            for listen in self._config.listen:
                server = await _listen(listen, self._http)
                self._servers.append((listen, server))
                self._inodes[listen.address] = _inode(listen.path)
        except CannotStart:
            await self.stop()
            raise

    async def _open(self, place: Place, sessions: Sessions) -> None:
        try:
            await sessions.open()
        except OSError as error:
            detail = f"{place.folder.path}: {error.strerror}; uploads need to write"
            raise CannotStart(detail) from None
        timeout = place.directory.session_timeout
        period = min(max(timeout / 4, SHORTEST_SWEEP), LONGEST_SWEEP)
        self._sweeps.append(asyncio.create_task(_sweep(sessions, period)))

    @property
    def urls(self) -> list[str]:
        """Where it listens, with the ports that the system chose."""
        return [
            _url(listen, listening)
            for listen, server in self._servers
            for listening in server.sockets
        ]

    async def stop(self) -> None:
        """Take no more, let bodies end, finish answers, close connections."""
        for sweep in self._sweeps:
            sweep.cancel()
        for listen, server in self._servers:
            inode = self._inodes.get(listen.address)
            server.close()
            if listen.path is not None and _inode(listen.path) == inode:
                listen.path.unlink(missing_ok=True)
        for place in self._places:
            if place.sessions is not None:
                place.sessions.stop()
        if self._http is not None:
            self._http.pre_shutdown()
            # aiohttp waits twice: for answers, and after having cancelled them. The
            # rest is for everything else.
            await self._http.shutdown(self._config.stop_timeout.total_seconds() * 0.4)


def _limits(config: Config) -> Limits:
    return Limits(
        connections=config.maximum_connections,
        header=config.header_timeout.total_seconds(),
        idle=config.idle_timeout.total_seconds(),
        drain=config.drain_timeout.total_seconds(),
    )


async def _listen(listen: Listen, http: HttpServer) -> Listening:
    loop = asyncio.get_running_loop()
    try:
        if listen.path is not None:
            await _check_unused(listen.path)
            return await loop.create_unix_server(http, listen.path, backlog=_BACKLOG)
        return await loop.create_server(
            http, listen.host, listen.port, backlog=_BACKLOG
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        detail = f"cannot listen on {listen.address}: {reason}; choose another address"
        raise CannotStart(detail) from None


async def _check_unused(path: Path) -> None:
    """Refuse what asyncio would not: to take the socket of a server that lives."""
    try:
        _reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return
    writer.close()
    raise OSError(errno.EADDRINUSE, "in use")


def _inode(path: Path | None) -> int | None:
    try:
        return None if path is None else path.stat().st_ino
    except OSError:
        return None


def _url(listen: Listen, listening: socket.socket) -> str:
    if listen.path is not None:
        return f"unix:{listen.path}"
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _sweep(sessions: Sessions, period: timedelta) -> None:
    while True:
        await asyncio.sleep(period.total_seconds())
        try:
            await sessions.expire()
        except OSError as error:
            journal.warn("sweep", directory=sessions.directory.url, detail=error)


async def self_test(http: web.Server) -> None:
    """Send ourselves what clients send, before any of them can.

    Raises:
        CannotStart: it bounced.
    """
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(http, ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        async with asyncio.timeout(_SELF_TEST_SECONDS):
            for part in _self_test_requests():
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            answers = [await reader.readuntil(b"\r\n\r\n") for _ in range(2)]
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        answers = []
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    if not answers or not all(b"HTTP/1.1 200 " in answer for answer in answers):
        raise CannotStart(
            "the installed aiohttp does not take BITS_POST requests; "
            "install bitsd again, with the versions it asks for"
        )


def _self_test_requests() -> list[bytes]:
    """A packet whose body comes late, and another right behind it."""
    ping = "".join(f"{name}: {value}\r\n" for name, value in Ping().fields())
    start = f"{wire.METHOD} / HTTP/1.1\r\nHost: bitsd\r\n"
    header = f"{start}{ping}\r\n".encode()
    return [header.replace(b"Length: 0", b"Length: 4"), b"bits", header]


async def _self_test_answer(request: web.BaseRequest) -> web.StreamResponse:
    length = int(request.headers["Content-Length"])
    body = FragmentBody(request, length, memoryview(bytearray(16)), _SELF_TEST_SECONDS)
    whole = await body.drain(_SELF_TEST_SECONDS)
    return response(Ack(), close=not whole)
