"""GET and HEAD of a file: `ranges` decides, the kernel copies ([MC-BUP] 3.5).

aiohttp's own `FileResponse` answers 416 to several ranges, which ends a BITS job.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from . import SOFTWARE, journal
from .ranges import ByteRange, Piece, Representation, decide, etag, last_modified

#: Bytes handed to the kernel at a time, all of which it must take within
#: `stall_timeout`. A page that is not in memory blocks the loop for as long as its
#: disk takes, which is bounded by this, too. Smaller ones are slower.
BLOCK = 256 * 1024


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
        stall_timeout: seconds in which a client must take `BLOCK` bytes.

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


@dataclass(slots=True)
class _Body:
    """The way of a body's pieces to one client.

    Attributes:
        native: the kernel can copy from file to socket, which TLS rules out and
            some event loops do not know.
    """

    transport: asyncio.Transport
    writer: AbstractStreamWriter
    file: BinaryIO
    stall_timeout: float
    native: bool = True

    async def send(self, pieces: Iterable[Piece]) -> None:
        """Returns when the kernel has all of them.

        Raises:
            ConnectionError: the client is gone.
            TimeoutError: the client does not read.
            OSError: the file cannot be read, or not that far.
        """
        tls = self.transport.get_extra_info("sslcontext") is not None
        self.native = not tls
        _unbuffer(self.transport, tls=tls)
        for piece in pieces:
            if isinstance(piece, ByteRange):
                await self._range(piece)
            else:
                await self._bytes(piece)
        self.transport.set_write_buffer_limits()

    async def _range(self, wanted: ByteRange) -> None:
        offset = wanted.first
        while offset <= wanted.last:
            sent = await self._block(offset, min(BLOCK, wanted.last + 1 - offset))
            if not sent:
                raise _FileShrank(f"the file ends at {offset}, not {wanted.last + 1}")
            offset += sent

    async def _block(self, offset: int, count: int) -> int:
        """Bytes sent; fewer than `count` at the end of the file, and there alone."""
        if self.native:
            try:
                return await self._sendfile(offset, count)
            except (NotImplementedError, asyncio.SendfileNotAvailableError):
                self.native = False
        # asyncio's own fallback reads 16 KiB at a time, and may leave the protocol
        # with a resume_writing whose pause_writing it never saw.
        data = await asyncio.to_thread(os.pread, self.file.fileno(), count, offset)
        await self._bytes(data)
        return len(data)

    async def _sendfile(self, offset: int, count: int) -> int:
        if self.transport.is_closing():
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.stall_timeout):
            return await loop.sendfile(
                self.transport, self.file, offset, count, fallback=False
            )

    async def _bytes(self, data: bytes) -> None:
        async with asyncio.timeout(self.stall_timeout):
            await self.writer.write(data)
            await self.writer.drain()


def _unbuffer(transport: asyncio.Transport, *, tls: bool) -> None:
    """Let `drain` wait for the last byte: a client that never reads it is stalled."""
    # A TLS transport pauses at the high mark, not above it: at 0, when all is sent.
    transport.set_write_buffer_limits(high=1 if tls else 0)
