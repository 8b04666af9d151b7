"""The life of a process that serves: self-test, accepting, the sweep, a clean stop."""

import asyncio
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from . import journal
from .body import FragmentBody
from .config import Config, ConfigError
from .connection import Connection, HttpServer, Limits, response
from .forwarded import Proxies
from .handshakes import Door, Handshakes
from .latest import Latest
from .listeners import BACKLOG, CannotStart, Listeners
from .owners import Ask, Owners, Tables
from .protocol import wire
from .protocol.wire import Ack, Ping
from .routes import Place, Routes
from .sessions import Sessions
from .signin import SignIn
from .tls import ServerContext
from .tls_files import Unusable, doubts
from .users import Users

#: Sessions are looked through for expired ones four times a time-out, between these.
SHORTEST_SWEEP = timedelta(seconds=1)
LONGEST_SWEEP = timedelta(hours=1)

_SELF_TEST_SECONDS = 10.0

_RESTART = (
    "only the users were read again: more has changed in the configuration than "
    "groups, read, write, authentication and [[certificate]]"
)

# Since 3.13 asyncio removes the path as well, which other processes still need.
_KEEP_PATH: dict[str, Any] = (
    {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
)


class Server:
    """bitsd in one process, from `start` to `stop`.

    Args:
        config: what to serve.
        listeners: open; what to accept from.
        ask: where sessions are counted; in this process if not given.
        number: of the process among those that serve; the first one also counts
            and expires sessions.
        latest: what `reload` reads again.
    """

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        ask: Ask | None = None,
        number: int = 0,
        latest: Latest | None = None,
    ) -> None:
        self._config = config
        self._listeners = listeners
        ask = ask or Tables.of(config.directory).ask
        self._places = [
            Place(config, directory, Owners(index, ask))
            for index, directory in enumerate(config.directory)
        ]
        self._latest = latest or Latest(config)
        self._sign_in = SignIn(Users.empty(), keytab=config.keytab)
        self._number = number
        self._accepting: list[asyncio.Server | Door] = []
        self._http: HttpServer | None = None
        self._handshakes: Handshakes | None = None
        self._sweeps: list[asyncio.Task[None]] = []
        self._reloading = asyncio.Lock()
        self._go_by_latest()

    async def start(self) -> None:
        """Find what an earlier run left, test ourselves, and accept.

        Raises:
            CannotStart: a folder cannot be written, or the aiohttp that is
                installed does not take our requests.
        """
        limits = _limits(self._config)
        if self._config.workers > 1:
            # One that replaces another would begin with files as they once were.
            for context in self._contexts():
                await _renew(context)
        await self_test(HttpServer(_self_test_answer, limits))
        self._http = HttpServer(
            Routes(self._config, self._places, self._sign_in),
            limits,
            Proxies(self._config.trusted_proxies),
        )
        for place in self._places:
            if place.sessions is not None:
                await self._open(place, place.sessions)
        self._handshakes = Handshakes(self._http)
        for listening in self._listeners.sockets[self._number]:
            tls = self._listeners.tls.get(listening)
            if tls is None:
                self._accepting.append(await _accept(listening, self._http))
            else:
                self._accepting.append(Door(listening, tls, self._handshakes))

    async def _open(self, place: Place, sessions: Sessions) -> None:
        try:
            await sessions.open()
        except OSError as error:
            detail = f"{place.folder.path}: {error.strerror}; uploads need to write"
            raise CannotStart(detail) from None
        if self._number:
            return
        timeout = place.directory.session_timeout
        period = min(max(timeout / 4, SHORTEST_SWEEP), LONGEST_SWEEP)
        self._sweeps.append(asyncio.create_task(_look_after(sessions, period)))

    async def reload(self) -> None:
        """Read files again that may be new, while connections live on.

        With a mistake in those of an address, or in the configuration or its users,
        it goes on with what it has.
        """
        async with self._reloading:
            for context in self._contexts():
                await _reload(context)
            try:
                whole = await asyncio.to_thread(self._latest.renew)
            except ConfigError as error:
                for problem in error.problems:
                    journal.warn("not-reloaded", detail=problem)
                return
            if not whole:
                journal.warn("restart-needed", detail=_RESTART)
            for warning in self._latest.users.warnings:
                journal.warn("users", detail=warning)
            self._go_by_latest()
            self._sign_out()
            journal.note("reloaded")

    def _go_by_latest(self) -> None:
        """Go by users, groups, lists and rules as they were last read."""
        config = self._latest.config
        self._sign_in.reload(self._latest.users, config.certificate)
        for place, directory in zip(self._places, config.directory, strict=True):
            place.permit(config, directory)

    def _sign_out(self) -> None:
        """End the connections of users of whom something has changed."""
        connections = self._http.connections if self._http else ()
        ours = (each for each in connections if isinstance(each, Connection))
        for connection in ours:
            last = connection.line.last
            if last is not None and not self._sign_in.stands(last, connection.line):
                journal.note("signed-out", user=last.name, client=connection.peername)
                connection.give_way()

    def _contexts(self) -> list[ServerContext]:
        """Those that any address has, once each."""
        mine = map(self._listeners.tls.get, self._listeners.sockets[self._number])
        return list(dict.fromkeys(filter(None, mine)))

    async def stop(self) -> None:
        """Take no more, let bodies end, finish answers, close connections."""
        for sweep in self._sweeps:
            sweep.cancel()
        for accepting in self._accepting:
            accepting.close()
        self._listeners.close()
        if self._handshakes is not None:
            self._handshakes.stop()
        for place in self._places:
            if place.sessions is not None:
                place.sessions.stop()
        if self._http is not None:
            self._http.pre_shutdown()
            # aiohttp waits twice: for answers, and after having cancelled them. The
            # rest is for everything else.
            await self._http.shutdown(self._config.stop_timeout.total_seconds() * 0.4)
        # Only now does nobody ask any more.
        self._sign_in.close()


def _limits(config: Config) -> Limits:
    return Limits(
        connections=config.maximum_connections,
        per_address=config.connections_per_address,
        header=config.header_timeout.total_seconds(),
        idle=config.idle_timeout.total_seconds(),
        stall=config.stall_timeout.total_seconds(),
        drain=config.drain_timeout.total_seconds(),
    )


async def _accept(listening: socket.socket, http: HttpServer) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if listening.family == socket.AF_UNIX:
        return await loop.create_unix_server(
            http, sock=listening, backlog=BACKLOG, **_KEEP_PATH
        )
    return await loop.create_server(http, sock=listening, backlog=BACKLOG)


async def _renew(context: ServerContext) -> bool:
    """Read the files of an address again; whether they are what it has now."""
    problems = await asyncio.to_thread(_problems, context)
    for problem in problems:
        journal.warn("tls-not-reloaded", detail=problem)
    return not problems


def _problems(context: ServerContext) -> list[str]:
    try:
        context.renew()
    except Unusable as error:
        return error.problems
    return []


async def _reload(context: ServerContext) -> None:
    if not await _renew(context):
        return
    material = context.material
    journal.note(
        "tls-reloaded",
        certificate=material.files.certificate,
        expires=material.expires.isoformat(),
    )
    now = datetime.now(UTC)
    for doubt in await asyncio.to_thread(lambda: [*doubts(material, now)]):
        journal.warn("tls", detail=doubt)


async def _look_after(sessions: Sessions, period: timedelta) -> None:
    """Count what is there, then forget what expires; a folder that fails is retried."""
    counted = False
    while True:
        try:
            if not counted:
                await sessions.count()
                counted = True
            await sessions.expire()
        except OSError as error:
            journal.warn("sweep", directory=sessions.directory.url, detail=error)
        await asyncio.sleep(period.total_seconds())


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
