"""The head of an answer, written at once.

aiohttp's own way from a status and some fields to bytes on a socket, which has much to
ask about bodies, cookies and compression, costs as much as all that a Ping needs.
"""

import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_writer import HttpVersion11

from . import SOFTWARE
from .protocol.wire import Field

#: Where a request keeps what its answer has to say of a sign-in.
PROOF = web.RequestKey("proof", str)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Answer(web.StreamResponse):
    """An answer whose body, if it has one, is sent by whoever made it.

    Args:
        status: of HTTP.
        fields: all but Date, Server and Connection; checked, without line ends.
        close: end the connection after it.
    """

    # Without super().__init__(), which makes what is never looked at.
    def __init__(
        self, status: int, fields: Iterable[Field], *, close: bool = False
    ) -> None:
        self._status = status
        self._fields = fields
        self._begun = False
        if close:
            self._keep_alive = False

    def head(self, request: web.BaseRequest) -> bytes:
        """Status line and fields, which whoever asks is going to send."""
        self._begun = True
        version = request.version
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        phrase = _PHRASES.get(self._status, "")
        lines = [f"HTTP/{version.major}.{version.minor} {self._status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self._fields]
        if PROOF in request:
            lines.append(f"WWW-Authenticate: {request[PROOF]}")
        lines += [f"Server: {SOFTWARE}", f"Date: {_date(int(time.time()))}"]
        if not self._keep_alive:
            lines.append("Connection: close")
        elif version < HttpVersion11:
            lines.append("Connection: keep-alive")
        head = "\r\n".join((*lines, "", "")).encode()
        # So that no other answer follows if this one fails in the middle.
        request.writer.output_size += len(head)
        return head

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send the head, unless that was done; a client that takes none has to wait."""
        if not self._begun and request.transport is not None:
            request.transport.write(self.head(request))
            await request.writer.drain()

    async def write_eof(self, _data: bytes = b"") -> None:
        """Nothing is left to send."""


@lru_cache(maxsize=1)
def _date(now: int) -> str:
    """RFC 9110 5.6.7."""
    return formatdate(now, usegmt=True)
