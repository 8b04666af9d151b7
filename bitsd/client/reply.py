"""The reply of a server application, fetched and stored ([MC-BUP] 3.5)."""

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile, mkstemp

from aiohttp import ClientError, ClientResponse
from yarl import URL

from .http import Http
from .options import Options
from .progress import TransferFailed

_PIECE = 256 * 1024
_OK = 200


def location(upload: URL, reply: str) -> URL:
    """Where a reply is.

    Args:
        upload: URL of the upload, with the host that its caller named.
        reply: BITS-Reply-URL; IIS sends it relative and with backslashes, and its
            client was seen to ask the URL's own host for it ([MC-BUP] 4.2).
    """
    return upload.join(URL(reply.replace("\\", "/")))


def stranger(options: Options) -> Options:
    """How to reach a server that the user did not name: as nobody."""
    return replace(
        options, user=None, password=None, certificate=None, key=None, headers=()
    )


def check(path: Path) -> None:
    """Find out whether a reply can be stored there, before it is worked for; blocks.

    Raises:
        TransferFailed: it cannot.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass
    except OSError as error:
        raise _no_place(path, error) from error


async def fetch(http: Http, url: URL, path: Path) -> int:
    """Store a reply, whole or not at all; the status of the answer.

    Raises:
        NoAnswer: there was none, or not all of it.
        TransferFailed: there is no place.
    """
    async with http.request("GET", url, ()) as response:
        if response.status == _OK:
            await _store(response, path)
        return response.status


async def _store(response: ClientResponse, path: Path) -> None:
    try:
        handle, new = await asyncio.to_thread(
            mkstemp, prefix=f".{path.name}.", dir=path.parent
        )
        try:
            with os.fdopen(handle, "wb") as file:
                async for piece in response.content.iter_chunked(_PIECE):
                    await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(Path(new).replace, path)
        finally:
            await asyncio.to_thread(Path(new).unlink, missing_ok=True)
    except ClientError:  # some are OSErrors, and none is about the disk
        raise
    except OSError as error:
        raise _no_place(path, error) from error


def _no_place(path: Path, error: OSError) -> TransferFailed:
    return TransferFailed(f"cannot store {path}: {error.strerror}")
