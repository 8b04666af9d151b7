"""The server that is examined: connections to it, signed in where it wants that."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from yarl import URL

from bitsd import SOFTWARE
from bitsd.client.options import Options
from bitsd.client.signin import (
    CannotSignIn,
    Exchange,
    Scheme,
    basic,
    candidates,
    offers,
)
from bitsd.protocol.wire import METHOD, Field, Packet, Ping

from .line import MAXIMUM_BODY, Answer, Line

#: Filters on the way may know BITS by it.
AGENT = f"Microsoft BITS/7.8 {SOFTWARE}"

_UNAUTHORIZED = 401


class Patient:
    """A URL, and how it is reached.

    Args:
        url: absolute, of a folder or a file.
        options: how to sign in, and more.
        tls: whom to trust; None for plain HTTP.

    Attributes:
        target: path and query of the URL, as sent.
        answers: all that came so far.
        offered: ways to sign in that it named, in lower case.
        trouble: why a sign-in did not work.
        certificate_asked: it asks for a client certificate.
        signed_in: the connections are, by this scheme.
    """

    def __init__(self, url: URL, options: Options, tls: ssl.SSLContext | None) -> None:
        self.url = url
        self.host = url.host or ""
        self.port = url.port or 0
        self.target = url.raw_path_qs
        self.options = options
        self.tls = tls
        self.answers: list[Answer] = []
        self.offered: dict[str, str] = {}
        self.trouble = ""
        self.certificate_asked = False
        self._authorization: str | None = None
        self.signed_in: Scheme | None = None

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Line]:
        """A connection for a while, signed in if that is known to be wanted.

        Raises:
            OSError: there is none.
        """
        line = await self.line()
        try:
            if self.signed_in is not None:
                await self._sign_in(line, self.signed_in)
            yield line
        finally:
            line.close()

    async def line(self) -> Line:
        """A connection that the caller closes.

        Raises:
            OSError: there is none.
        """
        patience = self.options.timeout_seconds
        return await Line.dial(self.host, self.port, patience, self.tls, self.host)

    def fields(self, fields: Iterable[Field]) -> list[Field]:
        """What a request has besides."""
        common = [("Accept", "*/*"), *fields, ("User-Agent", AGENT)]
        common += [
            ("Host", self.url.host_port_subcomponent or ""),
            *self.options.headers,
        ]
        if self._authorization is not None:
            common.append(("Authorization", self._authorization))
        return [*common, ("Connection", "Keep-Alive")]

    async def packet(
        self,
        line: Line,
        packet: Packet,
        body: Iterable[bytes] = (),
        also: Iterable[Field] = (),
    ) -> Answer:
        """Send a packet and read what comes back.

        Raises:
            Broken: nothing does.
        """
        fields = self.fields([*packet.fields(), *also])
        answer = await line.ask(METHOD, self.target, fields, body)
        self.answers.append(answer)
        return answer

    async def fetch(
        self, line: Line, method: str, *fields: Field, most: int = MAXIMUM_BODY
    ) -> Answer:
        """GET or HEAD as BITS asks for parts of files.

        Raises:
            Broken: nothing comes back.
        """
        asked = self.fields([("Accept-Encoding", "identity"), *fields])
        answer = await line.ask(method, self.target, asked, most=most)
        self.answers.append(answer)
        return answer

    async def ping(self, line: Line, *also: Field) -> Answer:
        """Ping, and sign in if that is asked for and possible.

        Raises:
            Broken: there is no answer.
        """
        answer = await self.packet(line, Ping(), also=also)
        if answer.status != _UNAUTHORIZED:
            return answer
        self.offered = _offers(answer)
        if self.options.user is None:
            return answer
        for scheme in candidates(self.offered, self.options.authentication):
            if await self._sign_in(line, scheme):
                self.signed_in = scheme
                return await self.packet(line, Ping(), also=also)
        return answer

    async def _sign_in(self, line: Line, scheme: Scheme) -> bool:
        """Sign a connection in; whether that worked.

        Raises:
            Broken: the connection broke.
        """
        user, password = self.options.user or "", self.options.password or ""
        if scheme == "basic":
            self._authorization = basic(user, password)
            return True
        try:
            exchange = await asyncio.to_thread(
                Exchange, scheme, user, password, self.host
            )
            told = ""
            while True:
                token = await asyncio.to_thread(exchange.authorization, told)
                answer = await self.packet(
                    line, Ping(), also=[("Authorization", token)]
                )
                told = _offers(answer).get(scheme, "")
                if answer.status != _UNAUTHORIZED or exchange.complete or not told:
                    return answer.status != _UNAUTHORIZED
        except CannotSignIn as problem:
            self.trouble = str(problem)
            return False


def _offers(answer: Answer) -> dict[str, str]:
    values = [v for name, v in answer.fields if name.lower() == "www-authenticate"]
    return offers(values)
