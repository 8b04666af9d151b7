"""Tell the server application of an upload, and bring back what it says.

[MC-BUP] 3.3 and 2.2.12-13: a POST by reference (the application reads the file) or
by value (the file is the body), inside the request of the last fragment. See
protocol-notes/upload-reply.md.
"""

import asyncio
import os
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp

from . import SOFTWARE, journal
from .config import Directory
from .protocol.refusal import Reason, Refusal
from .protocol.session import Session

_CHUNK = 1 << 18

# Passed on, these would mean something else to a BITS client than a failed
# application: sign in, make the fragments smaller, go on from an offset.
_NOT_PASSED_ON = frozenset((401, 407, 413, 416))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an application that took the upload wants done.

    Attributes:
        publish: the file shall also get its name (BITS-Copy-File-To-Destination).
        reply_url: of a ready reply that the application keeps itself.
        replied: it left a reply that is not empty.
    """

    publish: bool
    reply_url: str | None
    replied: bool


@dataclass(frozen=True, slots=True)
class Application:
    """The server application of a directory ([MC-BUP] 1.3.3).

    Attributes:
        url: absolute, or relative to the folder of the upload's URL.
        by_value: the file goes along, not its name.
        timeout: seconds for everything; below the client's own 5 minutes.
    """

    url: str
    by_value: bool
    timeout: float

    @classmethod
    def of(cls, directory: Directory) -> "Application | None":
        """The application that a directory notifies, if any."""
        if directory.notification == "none" or directory.notification_url is None:
            return None
        return cls(
            url=directory.notification_url,
            by_value=directory.notification == "by-value",
            timeout=directory.notification_timeout.total_seconds(),
        )

    async def notify(self, session: Session, request: Path, response: Path) -> Outcome:
        """Post the upload and wait for what the application says of it.

        Args:
            session: complete.
            request: file that holds the uploaded bytes.
            response: file for the reply; what an earlier try left there is removed.

        Raises:
            Refusal: APPLICATION_FAILED with the application's status,
                APPLICATION_TIMEOUT or REPLY_MALFORMED; context is the application.
        """
        await asyncio.to_thread(response.unlink, missing_ok=True)
        url = notification_url(self.url, session.url)
        try:
            async with asyncio.timeout(self.timeout):
                return await self._post(url, session, request, response)
        except TimeoutError:
            detail = f"{url} did not answer within {self.timeout:g} s"
            raise _refusal(Reason.APPLICATION_TIMEOUT, detail, session) from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            detail = f"{url}: {error}"
            raise _refusal(Reason.REPLY_MALFORMED, detail, session) from None
        except (aiohttp.ClientError, ValueError) as error:
            detail = f"{url}: {error}"
            raise _refusal(
                Reason.APPLICATION_FAILED, detail, session, status=503
            ) from None

    async def _post(
        self, url: str, session: Session, request: Path, response: Path
    ) -> Outcome:
        headers = {
            "Accept": "*/*",
            "User-Agent": SOFTWARE,
            "BITS-Original-Request-URL": session.url,
            "BITS-Session-Id": session.id,
        }
        if not self.by_value:
            headers["BITS-Request-DataFile-Name"] = str(request)
            headers["BITS-Response-DataFile-Name"] = str(response)
        forever = aiohttp.ClientTimeout(total=None)  # `notify` has its own clock
        async with aiohttp.ClientSession(
            auto_decompress=False, timeout=forever
        ) as client:
            content: bytes | BinaryIO = b""
            if self.by_value:
                content = await asyncio.to_thread(request.open, "rb")
            # aiohttp closes the file, as it does every payload.
            async with client.post(
                url, data=content, headers=headers, allow_redirects=False
            ) as answer:
                return await self._outcome(answer, session, response)

    async def _outcome(
        self, answer: aiohttp.ClientResponse, session: Session, response: Path
    ) -> Outcome:
        journal.note(
            "notified", url=answer.url, status=answer.status, session=session.id
        )
        if answer.status != HTTPStatus.OK:
            detail = f"{answer.url} answered {answer.status}"
            status = _passed_on(answer.status)
            raise _refusal(Reason.APPLICATION_FAILED, detail, session, status=status)
        if self.by_value:
            await _store(answer.content, response)
        reply_url = answer.headers.get("BITS-Static-Response-URL", "")
        if not (reply_url.isascii() and reply_url.isprintable()):
            detail = f"BITS-Static-Response-URL is {reply_url!r}"
            raise _refusal(Reason.REPLY_MALFORMED, detail, session)
        return Outcome(
            publish="BITS-Copy-File-To-Destination" in answer.headers,
            reply_url=reply_url or None,
            replied=await asyncio.to_thread(_has_bytes, response),
        )


def _passed_on(status: int) -> int:
    """What a client is told of an application's status that is not 200."""
    if status < HTTPStatus.BAD_REQUEST or status in _NOT_PASSED_ON:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return status


def notification_url(configured: str, upload_url: str) -> str:
    """Where to post: resolved against the upload's URL, whose query goes along."""
    upload = urlsplit(upload_url)
    base = urlunsplit((upload.scheme, upload.netloc, upload.path, "", ""))
    url = urlsplit(urljoin(base, configured))
    query = "&".join(filter(None, (url.query, upload.query)))
    return urlunsplit((url.scheme, url.netloc, url.path, query, ""))


def _refusal(
    reason: Reason, detail: str, session: Session, *, status: int | None = None
) -> Refusal:
    """[MC-BUP] 2.2.7.2: the Ack of a fragment says what is held, also now."""
    return Refusal(reason, detail, received=session.received, status=status)


async def _store(content: aiohttp.StreamReader, response: Path) -> None:
    staged = response.with_name("response.new")
    file = await asyncio.to_thread(staged.open, "wb")
    try:
        async for chunk in content.iter_chunked(_CHUNK):
            await asyncio.to_thread(file.write, chunk)
        # Its name becomes durable with the record of the session.
        await asyncio.to_thread(_sync, file)
    finally:
        await asyncio.to_thread(file.close)
    await asyncio.to_thread(staged.rename, response)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
