"""GET and HEAD of a file: `ranges` decides, the kernel copies ([MC-BUP] 3.5).

aiohttp's own `FileResponse` answers 416 to several ranges, which ends a BITS job.
"""

import os
import secrets
import time
from collections.abc import Sequence
from typing import BinaryIO

from aiohttp import web

from . import journal
from .answer import Answer
from .pieces import Client, send
from .ranges import Piece, Representation, decide, etag, last_modified


async def respond(
    request: web.BaseRequest,
    file: BinaryIO,
    content_type: str,
    *,
    stall_timeout: float,
) -> Answer:
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
        response = Answer(answer.status, answer.fields)
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
    response: Answer,
    file: BinaryIO,
    pieces: Sequence[Piece],
    stall_timeout: float,
) -> None:
    transport = request.transport
    if transport is None:  # the client is gone, and aiohttp will see to it
        return
    client = Client(transport, stall_timeout)
    try:
        whole = (response.head(request), *pieces)
        await send(client, request.writer, file.fileno(), whole)
    except OSError as error:  # TimeoutError and ConnectionError are among them
        if not isinstance(error, ConnectionError):
            reason = str(error) or f"nothing taken for {stall_timeout} seconds"
            journal.warn("download-cut", client=request.remote, detail=reason)
        response.force_close()
        transport.abort()
