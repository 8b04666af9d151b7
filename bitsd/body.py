"""The body of a fragment, from the socket into whatever stores it.

For the length of the body its connection's transport is lent to a protocol that
reads into one reusable buffer, which costs half of what a stream of chunks does and
holds nothing in memory (protocol-notes/performance.md). A body just ends: peer gone,
too slow, superseded or server stopping look the same to whoever stores it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web
from aiohttp.http_writer import HttpVersion11

from .connection import MINIMUM_PROGRESS, Connection
from .protocol.refusal import Reason

# A body that is cut may have bytes in the socket that came before: it is read on
# while they flow, in seconds, and a newer packet waits no longer than that.
_EBB = 0.02
_LONGEST_EBB = 0.25

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _drop(_chunk: memoryview) -> None:
    pass


class FragmentBody(asyncio.BufferedProtocol):
    """A `turns.Body` over a connection.

    Make it before the handler's first `await`: from then on the connection is not
    read, so that the end of it cannot overtake bytes that came before.

    Args:
        request: whose body it is; not chunked.
        length: of the body, in bytes.
        buffer: to read into; may be shared by all connections of an event loop,
            since what is read is stored before anything else runs.
        stall_timeout: seconds in which `MINIMUM_PROGRESS` has to come.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        length: int,
        buffer: memoryview,
        stall_timeout: float,
    ) -> None:
        self._connection = Connection.of(request)
        self._transport = request.transport
        self._buffer = buffer
        self._stall_timeout = stall_timeout
        content = request.content
        self._head = content.read_nowait() if length and content.total_bytes else b""
        self._remaining = length - len(self._head)
        self._expected = (
            self._remaining > 0
            and not self._head
            and request.version >= HttpVersion11
            and request.headers.get("Expect", "").lower() == "100-continue"
        )
        self._content = content
        self._sink: Callable[[memoryview], None] = _drop
        self._progress = 0
        self._lending = False
        # And while it is:
        self._lent: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._end: asyncio.Future[None]
        self.ended: Reason | None = None
        if self._transport is None:
            self.ended = Reason.CUT_OFF
        elif self._remaining:
            self._transport.pause_reading()

    async def into(self, sink: Callable[[memoryview], None]) -> None:
        """Hand every chunk to `sink` until the body ends, whole or not."""
        head, self._head = self._head, b""
        if head:
            sink(memoryview(head))
        if self._remaining and self.ended is not Reason.CUT_OFF:
            await self._lend(sink)

    def invite(self) -> None:
        """A client that waits for 100 shall send its body, though nobody wants it."""
        if self._expected and self._transport is not None:
            self._expected = False
            self._transport.write(_CONTINUE)

    async def drain(self, seconds: float) -> bool:
        """Read the rest and drop it; True when the connection can go on after it.

        Args:
            seconds: how long to try.
        """
        if not self._remaining and not self._head:
            return True
        # RFC 9110 10.1.1: a client that waits for 100 may never send its body.
        if not self._expected and self.ended is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.into(_drop)
        if self._remaining:
            self._content.feed_eof()  # or aiohttp would wait for it once more
        return not self._remaining

    def cut(self, reason: Reason) -> None:
        """Let the body end here; what the peer had sent before is still taken."""
        if self.ended is None and self._remaining:
            self.ended = reason
            if self._lending:
                self._ebb_away()

    async def _lend(self, sink: Callable[[memoryview], None]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            self.ended = Reason.CUT_OFF
            return
        self.invite()
        loop = asyncio.get_running_loop()
        self._sink = sink
        self._end = loop.create_future()
        self._progress = 0
        self._lending = True
        self._lent = transport
        self._timer = loop.call_later(self._stall_timeout, self._watch, loop)
        transport.set_protocol(self)
        transport.resume_reading()
        if self.ended is not None:
            self._ebb_away()
        try:
            await self._end
        finally:
            self._give_back()

    def _give_back(self) -> None:
        """The connection has its transport again, and reads on if the body is whole."""
        if self._lending:
            self._lending = False
            self._timer.cancel()
            if self._remaining:
                self._lent.pause_reading()
            self._lent.set_protocol(self._connection)
            if not self._remaining:
                self._connection.body_received()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._progress < MINIMUM_PROGRESS:
            self.cut(Reason.STALLED)
        else:
            self._progress = 0
            self._timer = loop.call_later(self._stall_timeout, self._watch, loop)

    def _ebb_away(self) -> None:
        """End as soon as nothing comes any more, or too long."""
        self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._progress = 0
        self._timer = loop.call_later(_EBB, self._ebb, loop, loop.time() + _LONGEST_EBB)

    def _ebb(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        if not self._progress or loop.time() > until:
            self._finish(None)
        else:
            self._progress = 0
            self._timer = loop.call_later(_EBB, self._ebb, loop, until)

    def _finish(self, error: OSError | None) -> None:
        self._give_back()
        with suppress(asyncio.InvalidStateError):  # it may end in two ways at once
            if error is None:
                self._end.set_result(None)
            else:
                self._end.set_exception(error)

    # asyncio.BufferedProtocol, while the transport is lent

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Never more than the body has, so that nothing is read too much."""
        return self._buffer[: self._remaining]

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` of the body came."""
        self._remaining -= nbytes
        self._progress += nbytes
        try:
            self._sink(self._buffer[:nbytes])
        except OSError as error:
            self._finish(error)
        else:
            if not self._remaining:
                self._finish(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The peer is gone; aiohttp has to know as well."""
        if self.ended is None:
            self.ended = Reason.CUT_OFF
        self._finish(None)
        self._connection.connection_lost(error)

    def pause_writing(self) -> None:
        """About an earlier answer, which is aiohttp's."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """About an earlier answer, which is aiohttp's."""
        self._connection.resume_writing()
