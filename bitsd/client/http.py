"""Requests to a server: its certificates, its sign-in, and what goes wrong on the way.

Nothing of BITS is decided here but one thing: a connection is signed in with a Ping
where the request itself has a body to carry, so that no body is sent twice.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace, TracebackType
from typing import Self, TypeAlias

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    TCPConnector,
    TraceConfig,
    TraceConnectionCreateEndParams,
)
from multidict import CIMultiDict
from yarl import URL

from bitsd import SOFTWARE
from bitsd.protocol.wire import METHOD, Field, Ping

from . import redirects
from .options import Options
from .signin import CannotSignIn, Exchange, Scheme, basic, candidates, listed, offers
from .trouble import NoAnswer, no_answer
from .way import is_loopback, named_proxy, proxy, shared_tls, wants_tls

Body: TypeAlias = Callable[[], AsyncIterator[bytes]]
"""Gives the bytes of a request from their start, each time that it is called."""

#: Nobody who is there takes longer to accept a connection.
CONNECT_SECONDS = 30.0

#: Of a piece of a body; less than the buffer of a transport holds.
_END = 16 * 1024

#: A sign-in whose connection is lost is begun anew so many times.
_SIGN_INS = 3

_UNAUTHORIZED = 401
_WRONG = "wrong name or password?"


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: URL
    headers: tuple[Field, ...]
    body: Body | None = None

    @property
    def origin(self) -> URL:
        return self.url.origin()

    @property
    def host(self) -> str:
        return self.url.host_port_subcomponent or ""

    def ping(self) -> "_Request":
        return replace(self, headers=tuple(Ping().fields()), body=None)


class _NotSignedIn(Exception):
    """A body would have gone to a connection that is not signed in."""


class _Sending:
    """A body on its way.

    Attributes:
        refused: none of it was sent, for the connection is not signed in.
    """

    def __init__(self, body: Body, may_go: Callable[[], bool]) -> None:
        self.refused = False
        self._body = body
        self._may_go = may_go

    async def pieces(self, progress: Callable[[], None]) -> AsyncIterator[bytes]:
        """The body; asked for when there is a connection, before the head is sent."""
        if not self._may_go():
            self.refused = True
            raise _NotSignedIn
        async for piece in self._body():
            # The end has room in the socket's buffer. If it had to wait there, the
            # answer could come before aiohttp knew that the body is over, and aiohttp
            # would take it for an early one and give up the connection.
            for part in filter(None, (piece[:-_END], piece[-_END:])):
                yield part
            progress()


class Http:
    """One connection at a time to a server, kept alive; a context manager."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._connections = 0
        self._answering: set[URL] = set()
        # Origins that get the password with every request; what others want of a
        # connection; and those of them whose connection is signed in.
        self._basic: set[URL] = set()
        self._wanted: dict[URL, Scheme] = {}
        self._signed_in: set[URL] = set()

    async def __aenter__(self) -> Self:
        """Read the certificates.

        Raises:
            NoAnswer: that does not work.
        """
        context = await asyncio.to_thread(shared_tls, self._options)
        trace = TraceConfig()
        trace.on_connection_create_end.append(self._connected)
        patience = self._options.timeout_seconds
        self._session = ClientSession(
            connector=TCPConnector(limit=1, ssl=context),
            headers={"User-Agent": SOFTWARE},
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            timeout=ClientTimeout(
                sock_connect=min(CONNECT_SECONDS, patience), sock_read=patience
            ),
            trace_configs=[trace],
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close its connections."""
        await self._session.close()

    async def _connected(
        self,
        _session: ClientSession,
        context: SimpleNamespace,
        _parameters: TraceConnectionCreateEndParams,
    ) -> None:
        self._connections += 1
        self._signed_in.discard(context.trace_request_ctx)

    def request(
        self,
        method: str,
        url: str | URL,
        headers: Iterable[Field],
        body: Body | None = None,
    ) -> AbstractAsyncContextManager[ClientResponse]:
        """The answer, whose body is still to be read; signs in when asked to.

        Redirects of downloads are followed; to another server without anything that is
        for the first one alone.

        Args:
            method: GET, HEAD or BITS_POST.
            url: requoted where it holds what a URL cannot.
            headers: with the Content-Length of the body.
            body: may be called more than once.

        Raises:
            NoAnswer: there is none, or it breaks off while it is read.
        """
        return self._answer(_Request(method, URL(url), tuple(headers), body))

    @asynccontextmanager
    async def _answer(self, request: _Request) -> AsyncIterator[ClientResponse]:
        patience = self._options.timeout_seconds
        try:
            response = await self._answered(request)
        # A name that cannot be one in DNS is a UnicodeError.
        except (ClientError, TimeoutError, UnicodeError) as error:
            via = named_proxy(request.url)
            new = via is None and request.origin not in self._answering
            if new and await wants_tls(error, request.url, patience):
                why = f"{request.host} speaks TLS: use https://"
                raise NoAnswer(why, final=True) from error
            raise no_answer(error, request.host, patience, via) from error
        self._answering.add(request.origin)
        try:
            yield response
        except ClientError as error:
            raise no_answer(error, request.host, patience) from error
        finally:
            response.release()

    async def _answered(self, request: _Request) -> ClientResponse:
        wanted = self._wanted.get(request.origin)
        if request.body is not None and wanted is not None:
            try:
                return await self._sent_signed_in(wanted, request)
            except CannotSignIn as problem:
                raise _cannot_sign_in(request, str(problem)) from problem
        response = await self._send(request)
        asked = response.status == _UNAUTHORIZED and request.origin not in self._basic
        elsewhere = response.url.origin() != request.origin
        if not asked or elsewhere or self._options.user is None:
            return response
        offered = offers(response.headers.getall("WWW-Authenticate", ()))
        await _put_away(response)
        return await self._challenged(request, offered)

    async def _challenged(
        self, request: _Request, offered: dict[str, str]
    ) -> ClientResponse:
        """The answer to a request that a server wants to be signed in for.

        A way that a server refuses is followed by the next: it may know a user by one
        and not by another.
        """
        refused, problems = list[str](), list[str]()
        refusal: ClientResponse | None = None
        for scheme in candidates(offered, self._options.authentication):
            if refusal is not None:
                await _put_away(refusal)
            try:
                response = await self._sent_signed_in(scheme, request)
            except CannotSignIn as problem:
                problems.append(str(problem))
                continue
            if response.status != _UNAUTHORIZED:
                return response
            refusal = response
            refused.append(scheme)
            self._wanted.pop(request.origin, None)
        if refusal is not None and len(refused) + len(problems) == 1:
            return refusal
        if refusal is not None:
            refusal.close()
            problems.insert(0, f"refused by {listed(refused)}: {_WRONG}")
            raise _cannot_sign_in(request, "; ".join(problems[:2]), _UNAUTHORIZED)
        named = ", ".join(sorted(offered)) or "no way that it names"
        problems.append(f"it takes {named}, not {self._options.authentication}")
        raise _cannot_sign_in(request, problems[0])

    async def _sent_signed_in(
        self, scheme: Scheme, request: _Request
    ) -> ClientResponse:
        if scheme == "basic":
            self._allow_basic(request)
            return await self._send(request)
        if request.body is None:
            return await self._sign_in(scheme, request)
        for _ in range(_SIGN_INS):
            if request.origin not in self._signed_in:
                response = await self._sign_in(scheme, request.ping())
                if response.status == _UNAUTHORIZED:
                    return response
                await _put_away(response)
            try:
                return await self._send(request)
            except _NotSignedIn:
                continue
        raise _lost(request)

    def _allow_basic(self, request: _Request) -> None:
        """From now on send the password there, unless others can read it."""
        if not self._options.user:
            raise CannotSignIn("basic needs a name, as --user NAME")
        if (
            request.url.scheme != "https"
            and self._options.authentication != "basic"
            and not is_loopback(request.url.host or "")
        ):
            raise CannotSignIn(
                "basic shows the password to the network; use https, or say "
                "--auth basic if that does not matter"
            )
        self._basic.add(request.origin)

    async def _sign_in(self, scheme: Scheme, request: _Request) -> ClientResponse:
        """The answer to a request that carried tokens to and fro on one connection."""
        user, password = self._options.user or "", self._options.password or ""
        host = request.url.host or ""
        for _ in range(_SIGN_INS):
            exchange = await asyncio.to_thread(Exchange, scheme, user, password, host)
            token = await asyncio.to_thread(exchange.authorization, "")
            response = await self._send(request, token)
            connection = self._connections
            while not exchange.complete and (told := _token(response, scheme)):
                await _put_away(response)
                token = await asyncio.to_thread(exchange.authorization, told)
                response = await self._send(request, token)
            if response.status != _UNAUTHORIZED:
                self._wanted[request.origin] = scheme
                self._signed_in.add(request.origin)
            # The tokens are about the connection that the first of them went to.
            if self._connections == connection or response.status != _UNAUTHORIZED:
                return response
            await _put_away(response)
        raise _lost(request)

    async def _send(
        self, request: _Request, token: str | None = None
    ) -> ClientResponse:
        headers = CIMultiDict(request.headers)
        if request.method != METHOD:
            headers.setdefault("Accept-Encoding", "identity")
        if token is None and request.origin in self._basic:
            token = basic(self._options.user or "", self._options.password or "")
        if token is not None:
            headers["Authorization"] = token
        if request.body is None:
            return await self._request(request, headers, None)
        sending = _Sending(request.body, lambda: self._may_carry(request.origin))
        try:
            return await self._with_body(request, headers, sending)
        except ClientError:
            if sending.refused:
                raise _NotSignedIn from None
            raise

    async def _with_body(
        self, request: _Request, headers: CIMultiDict[str], sending: _Sending
    ) -> ClientResponse:
        """Send a body; neither that nor the wait for the answer may stall."""
        clock = asyncio.get_running_loop().time
        patience = self._options.timeout_seconds
        async with asyncio.timeout(patience) as limit:
            pieces = sending.pieces(lambda: limit.reschedule(clock() + patience))
            return await self._request(request, headers, pieces)

    async def _request(
        self,
        request: _Request,
        headers: CIMultiDict[str],
        body: AsyncIterator[bytes] | None,
    ) -> ClientResponse:
        """The answer at the end of all redirects.

        aiohttp would follow them with all that `--header` says, to whatever server.
        """
        url, own = request.url, CIMultiDict(self._options.headers)
        own.update(headers)
        for _ in range(redirects.MAXIMUM):
            response = await self._session.request(
                request.method,
                url,
                headers=own,
                data=body,
                allow_redirects=False,
                proxy=proxy(url),
                trace_request_ctx=url.origin(),
            )
            if request.method == METHOD:
                return response
            to = redirects.target(url, response.status, response.headers)
            if to is None:
                return response
            await _put_away(response)
            if to.origin() != request.origin:
                own = headers.copy()
                own.popall("Authorization", None)
            url = to
        raise NoAnswer(f"{request.host} redirects in a circle", final=True)

    def _may_carry(self, origin: URL) -> bool:
        return origin not in self._wanted or origin in self._signed_in


async def _put_away(response: ClientResponse) -> None:
    """Read an answer to its end, so that its connection can be used again."""
    await response.read()
    response.release()


def _token(response: ClientResponse, scheme: Scheme) -> str:
    """The server's part of a sign-in that goes on, or nothing."""
    if response.status != _UNAUTHORIZED:
        return ""
    return offers(response.headers.getall("WWW-Authenticate", ())).get(scheme, "")


def _cannot_sign_in(request: _Request, why: str, status: int | None = None) -> NoAnswer:
    sentence = f"cannot sign in at {request.host}: {why}"
    return NoAnswer(sentence, final=True, status=status)


def _lost(request: _Request) -> NoAnswer:
    return NoAnswer(
        f"the sign-in at {request.host} needs one connection, and each was lost; a "
        "proxy between may share its connections, which NTLM cannot bear"
    )
