"""GET and HEAD of a file: `ranges` decides, the kernel copies ([MC-BUP] 3.5).

aiohttp's own `FileResponse` answers 416 to several ranges, which ends a BITS job.
"""

import asyncio
import fcntl
import os
import secrets
import struct
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from termios import TIOCOUTQ
from typing import BinaryIO

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from . import SOFTWARE, journal
from .ranges import ByteRange, Piece, Representation, decide, etag, last_modified

#: Bytes handed to the kernel at a time. A page that is not in memory blocks the loop
#: for as long as its disk takes, which is bounded by this.
BLOCK = 256 * 1024

#: A client that takes less than this in a `stall_timeout` is too slow.
MINIMUM_PROGRESS = 4096


class _FileShrank(OSError):
    """The file ended before the bytes that its Content-Length promised."""


async def respond(
    request: web.BaseRequest,
    file: BinaryIO,
    content_type: str,
    *,
    stall_timeout: float,
) -> web.StreamResponse:
    """Answer a GET or HEAD with a file, and close the file in the end.

    The connection is aborted if the whole answer cannot be sent: a short body must
    not be followed by another response. A client that goes away is not an error.

    Args:
        file: regular, opened for reading; its position does not matter.
        stall_timeout: seconds in which a client must take `MINIMUM_PROGRESS` bytes.

    Raises:
        OSError: the file's state cannot be read; nothing was sent.
    """
    try:
        now = int(time.time())
        offered = _representation(file, content_type, now)
        answer = decide(
            request.method,
            request.headers.items(),
            offered,
            boundary=secrets.token_hex(12),
            now=now,
        )
        headers = {**dict(answer.fields), "Server": SOFTWARE}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await _send(request, response, file, answer.pieces, stall_timeout)
        return response
    finally:
        file.close()  # of a file that was only read, so nothing waits for a disk


def _representation(file: BinaryIO, content_type: str, now: int) -> Representation:
    status = os.fstat(file.fileno())
    size, mtime_ns = status.st_size, status.st_mtime_ns
    mtime, ctime = mtime_ns // 10**9, status.st_ctime_ns // 10**9
    return Representation(
        size=size,
        etag=etag(inode=status.st_ino, size=size, mtime_ns=mtime_ns),
        last_modified=last_modified(mtime=mtime, ctime=ctime, now=now),
        content_type=content_type,
    )


async def _send(
    request: web.BaseRequest,
    response: web.StreamResponse,
    file: BinaryIO,
    pieces: Iterable[Piece],
    stall_timeout: float,
) -> None:
    transport = request.transport
    if transport is None:  # the client is gone, and aiohttp will see to it
        return
    try:
        await response.prepare(request)
        body = _Body(transport, request.writer, file, stall_timeout)
        await body.send(pieces)
    except OSError as error:  # TimeoutError and ConnectionError are among them
        if not isinstance(error, ConnectionError):
            reason = str(error) or f"nothing taken for {stall_timeout} seconds"
            journal.warn("download-cut", client=request.remote, detail=reason)
        response.force_close()
        transport.abort()


class _Body:
    """The way of a body's pieces to one client.

    The kernel copies from file to socket. asyncio's own `sendfile` does the same at
    several times the cost for a short range, and not at all under uvloop. TLS has to
    read the file.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        writer: AbstractStreamWriter,
        file: BinaryIO,
        stall_timeout: float,
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._file = file.fileno()
        self._stall_timeout = stall_timeout
        self._socket = transport.get_extra_info("socket").fileno()
        self._tls = transport.get_extra_info("sslcontext") is not None
        self._sent = 0
        self._taken = 0

    async def send(self, pieces: Iterable[Piece]) -> None:
        """Returns when the kernel has all of them.

        Raises:
            ConnectionError: the client is gone.
            TimeoutError: the client does not read.
            OSError: the file cannot be read, or not that far.
        """
        # Let `drain` wait for the last byte. A TLS transport pauses at the high mark,
        # not above it: with 0, when all is sent.
        self._transport.set_write_buffer_limits(high=1 if self._tls else 0)
        for piece in pieces:
            if isinstance(piece, ByteRange):
                await self._range(piece)
            else:
                await self._bytes(piece)
        self._transport.set_write_buffer_limits()

    async def _range(self, wanted: ByteRange) -> None:
        await self._drained()
        offset = wanted.first
        while offset <= wanted.last:
            count = min(BLOCK, wanted.last + 1 - offset)
            if self._tls:
                data = await asyncio.to_thread(os.pread, self._file, count, offset)
                await self._bytes(data)
                sent = len(data)
            else:
                sent = await self._sendfile(offset, count)
            if not sent:
                raise _FileShrank(f"the file ends at {offset}, not {wanted.last + 1}")
            offset += sent
            if offset <= wanted.last:
                await asyncio.sleep(0)  # a fast client is not the only one

    async def _sendfile(self, offset: int, count: int) -> int:
        while True:
            if self._transport.is_closing():
                raise ConnectionResetError
            try:
                sent = os.sendfile(self._socket, self._file, offset, count)
            except BlockingIOError:
                await self._patiently(self._writable())
            else:
                self._sent += sent
                return sent

    async def _writable(self) -> None:
        """The kernel takes bytes again."""
        loop = asyncio.get_running_loop()
        # The loop watches the transport's own handle for reading, by itself.
        handle = os.dup(self._socket)
        ready = loop.create_future()
        loop.add_writer(handle, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_writer(handle)
            os.close(handle)

    async def _bytes(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError
        self._sent += len(data)
        self._transport.write(data)
        await self._drained()

    async def _drained(self) -> None:
        if self._transport.get_write_buffer_size():
            await self._patiently(self._writer.drain())

    async def _patiently(self, sending: Coroutine[None, None, None]) -> None:
        """Wait as long as the client takes what it is sent."""
        waiting = asyncio.ensure_future(sending)
        try:
            while not waiting.done():
                await asyncio.wait((waiting,), timeout=self._stall_timeout)
                if not waiting.done() and self._stalled():
                    raise TimeoutError
            waiting.result()
        finally:
            waiting.cancel()

    def _stalled(self) -> bool:
        """Since the last time it was asked, the client took next to nothing."""
        before, self._taken = self._taken, self._sent - self._unacknowledged()
        return self._taken - before < MINIMUM_PROGRESS

    def _unacknowledged(self) -> int:
        """Bytes that are in the transport or the kernel still."""
        size = struct.pack("i", 0)
        (queued,) = struct.unpack("i", fcntl.ioctl(self._socket, TIOCOUTQ, size))
        return int(queued) + self._transport.get_write_buffer_size()


def _wake(ready: asyncio.Future[None]) -> None:
    with suppress(asyncio.InvalidStateError):  # it may be told twice, or too late
        ready.set_result(None)
