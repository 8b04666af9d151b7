"""Upload a file by BITS, from any system.

from bitsd import upload

await upload("report.7z", "https://server/in/")
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

from yarl import URL

from bitsd.protocol.wire import SessionId

from . import reply
from .http import Http
from .notes import KEPT, Note, Notes, forget_old
from .options import Options
from .pace import Pace
from .progress import Event, Kind, Tell, TransferFailed, nobody
from .retry import RETRY_FOR, Patience
from .run import Run
from .source import Source
from .steps import Upload

#: For telling a server that an upload is given up, which it finds out by itself too.
CANCEL_FOR = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How an upload is done.

    Attributes:
        fragment_size: bytes; follows the speed of the line if not given.
        retry_for: without progress, and it is given up.
        restart: forget what an earlier run sent, also of a file that changed since.
        reply: where the server application's reply is stored; not fetched if not given.
    """

    fragment_size: int | None = None
    retry_for: timedelta = RETRY_FOR
    restart: bool = False
    reply: Path | None = None

    def upload(self, size: int, note: Note | None) -> Upload:
        """An upload of so many bytes that begins, or goes on from what was noted."""
        pace = Pace() if self.fragment_size is None else Pace.fixed(self.fragment_size)
        fresh = Upload(
            size=size,
            reply_file=None if self.reply is None else str(self.reply),
            pace=pace,
            patience=Patience(retry_for=self.retry_for),
        )
        if note is None:
            return fresh
        return replace(
            fresh,
            session_id=SessionId(note.session_id),
            offset=min(note.offset, size),
            host_id=note.host_id,
            fallback_seconds=note.fallback_seconds,
            finished=note.finished,
        )


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The server has the whole file.

    Attributes:
        url: of the file.
        size: of it.
        sent: bytes of it given to the network by this run of the program.
        seconds: that this run took.
        reply_url: where the server application's reply was, if there is one.
    """

    url: str
    size: int
    sent: int
    seconds: float
    reply_url: str | None

    def event(self, file: str, reply: Path | None) -> Event:
        """It, told of a file whose reply went there."""
        kept = self.reply_url if reply is None else str(reply)
        reason = f"uploaded to {self.url}, {self.size} bytes"
        if self.reply_url is not None:
            unread = "not fetched without --reply" if reply is None else "fetched"
            reason += f"; reply {kept}, {unread}"
        return Event(
            event=Kind.DONE,
            file=file,
            held=self.size,
            total=self.size,
            reason=reason,
            seconds=round(self.seconds, 3),
            url=self.url,
            reply=None if self.reply_url is None else kept,
        )


def destination(path: Path, url: str) -> URL:
    """The URL that a file is to have; one that ends in a slash gets the file's name.

    Raises:
        ValueError: it is no URL for a file; says why.
    """
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url} is not http://HOST/PATH or https://HOST/PATH")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise ValueError("name and password do not belong into the URL: use --user")
    if not parsed.raw_path.endswith("/"):
        return parsed.with_fragment(None)
    named = parsed.raw_path + quote(os.fsencode(path.name))
    return parsed.with_path(named, encoded=True, keep_query=True)


async def upload(
    path: str | Path,
    url: str,
    *,
    options: Options | None = None,
    terms: Terms | None = None,
    progress: Tell = nobody,
) -> Uploaded:
    """Upload a file; the same call goes on with an upload that was interrupted.

    Args:
        path: of the file.
        url: that it is to have; one that ends in a slash gets the file's name.
        options: how the server is reached.
        terms: how the upload is done.
        progress: is told what happens, often.

    Raises:
        ValueError: the URL is none for a file.
        TransferFailed: the server does not have the file; see `resumable`.
    """
    return await _Job(path, url, options).upload(terms or Terms(), progress)


async def cancel(path: str | Path, url: str, *, options: Options | None = None) -> None:
    """Give up an upload that was interrupted.

    Raises:
        ValueError: as for `upload`.
        TransferFailed: there is none, or the server could not be told.
    """
    await _Job(path, url, options).cancel()


class _Job:
    def __init__(self, path: str | Path, url: str, options: Options | None) -> None:
        self._path = Path(path).absolute()
        self._url = destination(self._path, url)
        self._options = options or Options()

    async def upload(self, terms: Terms, tell: Tell) -> Uploaded:
        clock = asyncio.get_running_loop().time
        begun = clock()
        if terms.reply is not None:
            await asyncio.to_thread(reply.check, terms.reply)
        async with (
            _opened(lambda: Notes(self._path, str(self._url))) as notes,
            _opened(lambda: Source(self._path)) as source,
            Http(self._options) as http,
        ):
            await asyncio.to_thread(forget_old, time.time() - KEPT.total_seconds())
            note = await self._earlier(notes, source, terms, http)
            upload = terms.upload(source.looks.size, note)
            started = Event(
                event=Kind.STARTED,
                file=self._path.name,
                held=upload.offset,
                total=upload.size,
            )
            tell(started)
            run = self._run(http, source.read, _keeper(notes, source), tell)
            done = await run.to_the_end(upload)
            await asyncio.to_thread(notes.forget)
        url, took = str(self._url), clock() - begun
        uploaded = Uploaded(url, done.size, run.sent, took, done.reply_url)
        tell(uploaded.event(self._path.name, terms.reply))
        return uploaded

    async def cancel(self) -> None:
        async with (
            _opened(lambda: Notes(self._path, str(self._url))) as notes,
            Http(self._options) as http,
        ):
            note = await asyncio.to_thread(notes.read)
            if note is None:
                why = f"no upload of {self._path} to that URL was begun here"
                raise TransferFailed(why)
            await self._cancelled(note, http, CANCEL_FOR)
            await asyncio.to_thread(notes.forget)

    async def _earlier(
        self, notes: Notes, source: Source, terms: Terms, http: Http
    ) -> Note | None:
        """What an earlier run left, if this one goes on with that."""
        note = await asyncio.to_thread(notes.read)
        if note is None:
            return None
        if terms.restart:
            with suppress(TransferFailed):  # the session times out by itself
                await self._cancelled(note, http, timedelta(0))
            await asyncio.to_thread(notes.forget)
            return None
        if note.looks != source.looks:
            why = f"{self._path} changed since its upload began"
            raise TransferFailed(f"{why}; to upload it as it is now, say --restart")
        return note

    async def _cancelled(self, note: Note, http: Http, retry_for: timedelta) -> None:
        upload = Terms(retry_for=retry_for).upload(note.looks.size, note)
        # None of the file is read, and there is nothing new to keep.
        run = self._run(http, lambda *_span: b"", lambda _upload: None, nobody)
        await run.to_the_end(replace(upload, cancelling=True))

    def _run(
        self,
        http: Http,
        read: Callable[[int, int], bytes],
        keep: Callable[[Upload], None],
        tell: Tell,
    ) -> Run:
        return Run(
            http=http,
            options=self._options,
            url=self._url,
            file=self._path.name,
            read=read,
            keep=keep,
            tell=tell,
        )


class _Closes(Protocol):
    def close(self) -> None: ...


_Thing = TypeVar("_Thing", bound=_Closes)


@asynccontextmanager
async def _opened(opening: Callable[[], _Thing]) -> AsyncIterator[_Thing]:
    """What blocks when it is opened and closed."""
    thing = await asyncio.to_thread(opening)
    try:
        yield thing
    finally:
        await asyncio.to_thread(thing.close)


def _keeper(notes: Notes, source: Source) -> Callable[[Upload], None]:
    def keep(upload: Upload) -> None:
        if upload.session_id is not None:
            note = Note(
                source=str(source.path),
                looks=source.looks,
                session_id=upload.session_id,
                offset=upload.offset,
                host_id=upload.host_id,
                fallback_seconds=upload.fallback_seconds,
                finished=upload.finished,
            )
            notes.write(note)

    return keep
