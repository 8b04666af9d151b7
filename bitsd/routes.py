"""From a request to its directory, and from what that does to an answer.

Every answer to a `BITS_POST` is an Ack, refusals included; the body that came with a
refused packet is read first, so that the connection lives on.
"""

import asyncio
import errno
import re
import secrets
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import BinaryIO, assert_never
from urllib.parse import quote

from aiohttp import web
from multidict import CIMultiDict

from . import SOFTWARE, arrival, journal
from .access import Allowed, allowed
from .answer import PROOF
from .arrival import Arrival
from .body import FragmentBody
from .caller import Caller
from .config import Config, Directory
from .connection import Connection, response
from .crowd import Pace, counted
from .destination import REPLIES, Folder, destination, names
from .disk import refusal_of
from .downloads import respond
from .forwarded import proxied
from .line import Line
from .offers import sign_in
from .owners import Owners
from .protocol import wire
from .protocol.refusal import Reason, Refusal
from .protocol.wire import (
    Ack,
    CancelSession,
    CloseSession,
    CreateSession,
    Field,
    Fragment,
    Packet,
    Ping,
)
from .sessions import Sessions
from .signin import Asking, SignIn, SignInNeeded

#: Read into at once, and shared by all connections.
BUFFER_BYTES = 1 << 20

#: For the body of a packet that is answered with 401, in seconds: as long as a client
#: waits ([MC-BUP] 3.1.6.2). It sends one before it is asked who it is, and a connection
#: that is being signed in has to live on.
HANDSHAKE_TIMEOUT = 300.0

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
        read: who may download.
        write: who may upload.
        offered: ways to sign in, in order.
    """

    def __init__(self, config: Config, directory: Directory, owners: Owners) -> None:
        self.directory = directory
        self.permit(config, directory)
        self.prefix = tuple(filter(None, names(directory.url)))
        self.folder = Folder(directory.path)
        self.sessions = Sessions(directory, owners) if directory.upload else None

    def permit(self, config: Config, directory: Directory) -> None:
        """Go by these lists, groups and ways to sign in from now on."""
        self.offered = (*sign_in(config, directory),)
        self.read = allowed(directory.read, config.groups)
        self.write = allowed(directory.write, config.groups)


class Routes:
    """The handler of every request."""

    def __init__(
        self, config: Config, places: Sequence[Place], signing_in: SignIn
    ) -> None:
        self._places = places
        self._sign_in = signing_in
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
                return _plain(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", _METHODS))

    async def _packet(
        self, request: web.BaseRequest, length: int
    ) -> web.StreamResponse:
        """Serve one packet ([MC-BUP] 3.2.5.2)."""
        body = FragmentBody(request, length, self._buffer, self._stall_timeout)
        packet: Packet | None = None
        fields: Sequence[Field] = ()
        timeout = self._drain_timeout
        try:
            self._keep_pace(request)
            place, path = self._place(request)
            sessions = _sessions(place)
            user = await self._user(request, place, place.write)
            packet = wire.parse(request.headers.items())
            if isinstance(packet, Ping):
                ack, fields = Ack(), _arrival(request)
            else:
                caller = Caller(user, request.remote or "", destination(path))
                ack = await _served(request, sessions, packet, caller, body)
        except SignInNeeded as needed:
            ack = Ack.refusing(needed)
            fields = _challenges(needed)
            timeout = HANDSHAKE_TIMEOUT
            if needed.bound:
                body.invite()
        except Refusal as refusal:
            ack = _refused(request, packet, refusal)
        except OSError as error:
            ack = _refused(request, packet, refusal_of(error))
        whole = await body.drain(timeout)
        return response(ack, fields, close=not whole)

    async def _user(
        self, request: web.BaseRequest, place: Place, may: Allowed
    ) -> str | None:
        """Who sent a request, if that may; None for anybody.

        Raises:
            SignInNeeded: signing in could help.
            Refusal: NOT_PERMITTED, it does not.
        """
        line = Connection.of(request).line
        if may.everyone:
            line.last = None
            if line.certificate is None:
                return None
            line.last = self._sign_in.certified(
                place.offered, line, proxied=_proxied(request, line)
            )
            return None if line.last is None else line.last.name
        if may.nobody:
            raise Refusal(Reason.NOT_PERMITTED, f"{place.directory.url} lets nobody in")
        asking = _asking(request, place.directory, line)
        identity = await self._sign_in.identify(place.offered, asking, line)
        line.last = identity
        if line.proof is not None:
            request[PROOF], line.proof = line.proof, None
        if not may.admits(identity.name):
            detail = f"{identity.name} is not let in to {place.directory.url}"
            raise Refusal(Reason.NOT_PERMITTED, detail)
        return identity.name

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
            file = await self._opened(request, place, path)
            content_type = place.directory.mime_types.get(_suffix(path[-1]), OCTETS)
            return await respond(
                request, file, content_type, stall_timeout=self._stall_timeout
            )
        except SignInNeeded as needed:
            return _plain(HTTPStatus.UNAUTHORIZED, *_challenges(needed))
        except Refusal as refusal:
            answer = _no_file(request, refusal)
        except OSError as error:
            answer = _unreadable(request, error)
        if PROOF in request:
            answer.headers["WWW-Authenticate"] = request[PROOF]
        return answer

    async def _opened(
        self, request: web.BaseRequest, place: Place, path: tuple[str, ...]
    ) -> BinaryIO:
        """A published file, or the reply of a session, which is for its user."""
        if place.sessions is not None and len(path) > 1 and path[0] == REPLIES:
            user = await self._user(request, place, place.write)
            return await place.sessions.reply(wire.session_id(path[1]), user)
        await self._user(request, place, place.read)
        wanted = destination(path)
        try:
            return place.folder.open_now(wanted)
        except BlockingIOError:
            return await asyncio.to_thread(place.folder.open, wanted)


def _asking(request: web.BaseRequest, directory: Directory, line: Line) -> Asking:
    values = request.headers.getall("Authorization", ())
    if len(values) > 1:
        raise Refusal(Reason.MALFORMED, "several Authorization fields")
    through_proxy = _proxied(request, line)
    private = request.scheme == "https" or (line.local and not through_proxy)
    return Asking(
        address=request.remote or "",
        authorization=values[0] if values else None,
        private=private or directory.allow_basic_over_http,
        proxied=through_proxy,
    )


def _proxied(request: web.BaseRequest, line: Line) -> bool:
    """Requests of others may come over the same connection."""
    return line.shared or proxied(request.headers)


def _challenges(needed: SignInNeeded) -> list[Field]:
    return [("WWW-Authenticate", challenge) for challenge in needed.challenges]


def _sessions(place: Place) -> Sessions:
    if place.sessions is None:
        detail = f"set upload = true for {place.directory.url}"
        raise Refusal(Reason.UPLOADS_DISABLED, detail)
    return place.sessions


async def _served(
    request: web.BaseRequest,
    sessions: Sessions,
    packet: CreateSession | Fragment | CloseSession | CancelSession,
    caller: Caller,
    body: FragmentBody,
) -> Ack:
    match packet:
        case CreateSession():
            return await sessions.create(caller, _url(request))
        case Fragment():
            return await sessions.fragment(packet, caller, body)
        case CloseSession():
            return await sessions.close(packet, caller)
        case CancelSession():
            return await sessions.cancel(packet, caller)
        case _:
            assert_never(packet)


def _length(request: web.BaseRequest) -> int:
    """The body's length; aiohttp has refused what is no number."""
    return int(request.headers.get("Content-Length", "0"))


def _arrival(request: web.BaseRequest) -> Sequence[Field]:
    """What became of a Ping on its way to us, if it asks."""
    if arrival.FIELD not in request.headers:
        return ()
    connection = Connection.of(request)
    connection.mark = connection.mark or secrets.token_hex(4)
    version = f"{request.version.major}.{request.version.minor}"
    ranged = "Range" in request.headers
    found = Arrival(version, request.keep_alive, connection.mark, ranged)
    return [(arrival.FIELD, str(found))]


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
        case Reason.NOT_PERMITTED:
            _log(request, None, refusal)
            return _plain(HTTPStatus.FORBIDDEN)
        case Reason.TOO_MANY_REQUESTS | Reason.TOO_MANY_FAILURES:
            _log(request, None, refusal)
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, ("Retry-After", "1"))
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


def _plain(status: HTTPStatus, *fields: Field) -> web.Response:
    """A short answer for people."""
    headers = CIMultiDict(
        [("Server", SOFTWARE), ("X-Content-Type-Options", "nosniff"), *fields]
    )
    return web.Response(status=status, text=f"{status.phrase}\n", headers=headers)
