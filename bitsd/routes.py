"""From a request to its directory, and from what that does to an answer.

Every answer to a `BITS_POST` is an Ack, refusals included; the body that came with a
refused packet is read first, so that the connection lives on.
"""

import asyncio
import errno
import re
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import BinaryIO, assert_never
from urllib.parse import quote

from aiohttp import web

from . import SOFTWARE, journal
from .body import FragmentBody
from .config import Config, Directory
from .connection import Connection, response
from .crowd import Pace, counted
from .destination import REPLIES, Folder, destination, names
from .disk import refusal_of
from .download import respond
from .owners import Owners
from .protocol import wire
from .protocol.refusal import Reason, Refusal
from .protocol.wire import (
    Ack,
    CancelSession,
    CloseSession,
    CreateSession,
    Fragment,
    Packet,
    Ping,
)
from .sessions import Caller, Sessions

#: Read into at once, and shared by all connections.
BUFFER_BYTES = 1 << 20

EVERYONE = "*"
OCTETS = "application/octet-stream"

_METHODS = f"GET, HEAD, {wire.METHOD}"
# A name, an IPv4 or a bracketed IPv6 address, with or without a port.
_HOST = re.compile(
    r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,4}|:[1-5]\d{4}|:6[0-4]\d{3}|:65[0-4]\d\d|:655[0-2]\d|:6553[0-5])?"
)
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


class Place:
    """One configured directory at work.

    Attributes:
        sessions: None where uploads are not enabled.
    """

    def __init__(self, directory: Directory, owners: Owners) -> None:
        self.directory = directory
        self.prefix = tuple(filter(None, names(directory.url)))
        self.folder = Folder(directory.path)
        self.sessions = Sessions(directory, owners) if directory.upload else None


class Routes:
    """The handler of every request."""

    def __init__(self, config: Config, places: Sequence[Place]) -> None:
        self._places = places
        self._stall_timeout = config.stall_timeout.total_seconds()
        self._drain_timeout = config.drain_timeout.total_seconds()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        rate = config.requests_per_second
        self._pace = Pace(rate) if rate else None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        if request.method == wire.METHOD and "Transfer-Encoding" not in request.headers:
            return await self._packet(request, _length(request))
        Connection.of(request).read_on()
        match request.method:
            case wire.METHOD:
                return await self._packet(request, 0)
            case "GET" | "HEAD":
                return await self._download(request)
            case _:
                return _plain(HTTPStatus.METHOD_NOT_ALLOWED, Allow=_METHODS)

    async def _packet(
        self, request: web.BaseRequest, length: int
    ) -> web.StreamResponse:
        """Serve one packet ([MC-BUP] 3.2.5.2)."""
        body = FragmentBody(request, length, self._buffer, self._stall_timeout)
        packet: Packet | None = None
        try:
            self._keep_pace(request)
            packet = wire.parse(request.headers.items())
            ack = await self._served(request, packet, body)
        except Refusal as refusal:
            ack = _refused(request, packet, refusal)
        except OSError as error:
            ack = _refused(request, packet, refusal_of(error))
        whole = await body.drain(self._drain_timeout)
        return response(ack, close=not whole)

    async def _served(
        self, request: web.BaseRequest, packet: Packet, body: FragmentBody
    ) -> Ack:
        place, path = self._place(request)
        if place.sessions is None:
            detail = f"set upload = true for {place.directory.url}"
            raise Refusal(Reason.UPLOADS_DISABLED, detail)
        if EVERYONE not in place.directory.write:
            detail = f"write of {place.directory.url} lets nobody in"
            raise Refusal(Reason.ACCESS_DENIED, detail)
        if isinstance(packet, Ping):
            return Ack()
        caller = Caller(None, request.remote or "", destination(path))
        match packet:
            case CreateSession():
                return await place.sessions.create(caller, _url(request))
            case Fragment():
                return await place.sessions.fragment(packet, caller, body)
            case CloseSession():
                return await place.sessions.close(packet, caller)
            case CancelSession():
                return await place.sessions.cancel(packet, caller)
            case _:
                assert_never(packet)

    def _keep_pace(self, request: web.BaseRequest) -> None:
        if self._pace is None:
            return
        if not self._pace.admit(counted(request.remote or ""), time.monotonic()):
            raise Refusal(Reason.TOO_MANY_REQUESTS, "of this address")

    def _place(self, request: web.BaseRequest) -> tuple[Place, tuple[str, ...]]:
        """The directory of a request, and the names below its URL."""
        path = names(request.raw_path)
        for place in self._places:
            if path[: len(place.prefix)] == place.prefix:
                return place, path[len(place.prefix) :]
        raise Refusal(Reason.NO_FOLDER, "no directory has this URL")

    async def _download(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer GET and HEAD ([MC-BUP] 3.5)."""
        try:
            self._keep_pace(request)
            place, path = self._place(request)
            if EVERYONE not in place.directory.read:
                return _plain(HTTPStatus.FORBIDDEN)
            file = await self._opened(place, path)
            content_type = place.directory.mime_types.get(_suffix(path[-1]), OCTETS)
            return await respond(
                request, file, content_type, stall_timeout=self._stall_timeout
            )
        except Refusal as refusal:
            return _no_file(request, refusal)
        except OSError as error:
            return _unreadable(request, error)

    async def _opened(self, place: Place, path: tuple[str, ...]) -> BinaryIO:
        """A published file or the reply of a session."""
        if place.sessions is not None and len(path) > 1 and path[0] == REPLIES:
            return await place.sessions.reply(wire.session_id(path[1]), None)
        wanted = destination(path)
        try:
            return place.folder.open_now(wanted)
        except BlockingIOError:
            return await asyncio.to_thread(place.folder.open, wanted)


def _length(request: web.BaseRequest) -> int:
    """The body's length; aiohttp has refused what is no number."""
    return int(request.headers.get("Content-Length", "0"))


def _url(request: web.BaseRequest) -> str:
    """The absolute URL of a request, as one printable word."""
    target = request.raw_path
    if target.startswith("/"):
        host = request.headers.get("Host", "")
        target = f"{request.scheme}://{host}{target}"
    else:
        host = re.split(r"[/?#]", target.partition("://")[2], maxsplit=1)[0]
    if _HOST.fullmatch(host) is None:
        raise Refusal(Reason.MALFORMED, f"Host {host[:80]!r}")
    return quote(target.encode("utf-8", "surrogateescape"), safe=_PRINTABLE)


def _refused(request: web.BaseRequest, packet: Packet | None, refusal: Refusal) -> Ack:
    _log(request, packet, refusal)
    return Ack.refusing(refusal, getattr(packet, "session_id", None))


def _log(request: web.BaseRequest, packet: Packet | None, refusal: Refusal) -> None:
    journal.warn(
        "refused",
        reason=refusal.reason.name.lower(),
        status=refusal.status,
        client=request.remote,
        packet=None if packet is None else type(packet).__name__,
        target=request.raw_path,
        detail=refusal.detail,
    )


def _no_file(request: web.BaseRequest, refusal: Refusal) -> web.Response:
    match refusal.reason:
        case Reason.MALFORMED:
            return _plain(HTTPStatus.BAD_REQUEST)
        case Reason.TOO_MANY_REQUESTS:
            _log(request, None, refusal)
            headers = {"Retry-After": "1"}
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, **headers)
        case _:
            return _plain(HTTPStatus.NOT_FOUND)


def _suffix(name: str) -> str:
    """In lower case, with its dot; none of a name that merely begins with a dot."""
    stem, dot, last = name.rpartition(".")
    return f"{dot}{last}".lower() if stem else ""


def _status_of(error: OSError) -> HTTPStatus:
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return HTTPStatus.FORBIDDEN
        case errno.ENOENT | errno.ENOTDIR | errno.ELOOP | errno.ENAMETOOLONG:
            return HTTPStatus.NOT_FOUND
        case _:
            return HTTPStatus.SERVICE_UNAVAILABLE


def _unreadable(request: web.BaseRequest, error: OSError) -> web.Response:
    status = _status_of(error)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        detail = refusal_of(error).detail
        journal.warn(
            "not-sent", client=request.remote, target=request.raw_path, detail=detail
        )
    return _plain(status)


def _plain(status: HTTPStatus, **headers: str) -> web.Response:
    """A short answer for people."""
    headers |= {"Server": SOFTWARE, "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, text=f"{status.phrase}\n", headers=headers)
