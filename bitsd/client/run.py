"""The steps of an upload, done one after the other."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from yarl import URL

from bitsd.protocol.wire import METHOD, Fragment

from . import moves, redirects
from .http import Http
from .moves import (
    Answered,
    Done,
    Failed,
    GaveUp,
    GetReply,
    Moment,
    Send,
    Unanswered,
    Wait,
    Waited,
)
from .options import Options
from .progress import Event, Kind, Tell, TransferFailed
from .reply import fetch, location, stranger
from .steps import Upload, after, start
from .trouble import NoAnswer

#: Read from the file at a time.
PIECE = 256 * 1024


def _moment() -> Moment:
    # It spreads clients over time, and keeps no secret.
    chance = random.random()  # noqa: S311
    return Moment(asyncio.get_running_loop().time(), chance)


@dataclass(slots=True, kw_only=True)
class Run:
    """What it takes to do the steps of an upload.

    Attributes:
        options: how the server is reached.
        url: of the file, with the host that the user named.
        file: its name, for `tell`.
        read: bytes of the file, by offset and length; blocks.
        keep: notes what the next run of the program has to know; blocks.
        tell: is told what happens.
        sent: bytes of fragments given to the network.
    """

    http: Http
    options: Options
    url: URL
    file: str
    read: Callable[[int, int], bytes]
    keep: Callable[[Upload], None]
    tell: Tell
    sent: int = 0
    _asked: set[URL] = field(default_factory=set)
    _trouble: Exception | None = None

    async def to_the_end(self, upload: Upload) -> Upload:
        """Do all steps; the upload once the server has it, or is rid of it.

        Raises:
            TransferFailed: that cannot be reached.
            Exception: whatever `read`, `keep` and `tell` raise.
        """
        upload, step = start(upload, _moment())
        while not isinstance(step, Done):
            await asyncio.to_thread(self.keep, upload)
            if isinstance(step, Wait):
                self._say(Kind.WAITING, upload.offset, upload.size, step)
            upload, step = after(upload, await self._event(step), _moment())
        return upload

    def _say(self, kind: Kind, held: int, total: int, wait: Wait | None = None) -> None:
        event = Event(event=kind, file=self.file, held=held, total=total)
        if wait is not None:
            event = replace(event, reason=wait.why, seconds=wait.seconds)
        self.tell(event)

    async def _event(
        self, step: Send | GetReply | Wait | Failed | GaveUp
    ) -> moves.Event:
        """Do a step; what comes of it."""
        match step:
            case Wait(seconds):
                await asyncio.sleep(seconds)
                return Waited()
            case Failed(why, status, code):
                raise TransferFailed(why, status=status, code=code)
            case GaveUp(why):
                raise TransferFailed(f"gave up: {why}", resumable=True)
            case GetReply(url, file):
                return await self._outcome(self._fetched(url, Path(file)))
            case _:
                return await self._outcome(self._sent(step))

    async def _outcome(self, answer: Awaitable[Answered]) -> moves.Event:
        """An answer, or that there is none."""
        try:
            return await answer
        except NoAnswer as error:
            if self._trouble is not None:
                raise self._trouble from None
            return Unanswered(str(error), not error.resumable, error.status)

    async def _sent(self, step: Send) -> Answered:
        """Send a packet, to the node that has the session, on the URL's port."""
        packet, body = step.packet, None
        if isinstance(packet, Fragment):
            await asyncio.to_thread(self.read, packet.first, 0)  # is it still the same?
            body = partial(self._pieces, packet) if packet.length else None
        url = self.url if step.host_id is None else self.url.with_host(step.host_id)
        self._asked.add(url.origin())
        clock = asyncio.get_running_loop().time
        begun = clock()
        async with self.http.request(METHOD, url, packet.fields(), body) as response:
            to = redirects.target(url, response.status, response.headers)
            if to is not None:
                why = redirects.advice(url, to)
                raise NoAnswer(why, final=True, status=response.status)
            fields = tuple(response.headers.items())
            return Answered(response.status, fields, clock() - begun)

    async def _pieces(self, packet: Fragment) -> AsyncIterator[bytes]:
        """The bytes of a fragment, or none of the rest once the file changed."""
        offset = packet.first
        try:
            while offset <= packet.last:
                length = min(PIECE, packet.last + 1 - offset)
                yield await asyncio.to_thread(self.read, offset, length)
                offset += length
                self.sent += length
                self._say(Kind.PROGRESS, offset, packet.total)
        except Exception as error:
            # It breaks the connection, and is not about the connection.
            self._trouble = error
            raise

    async def _fetched(self, reply_url: str, file: Path) -> Answered:
        """Fetch the reply; where no packet went, as a stranger."""
        url = location(self.url, reply_url)
        if url.origin() in self._asked:
            return Answered(await fetch(self.http, url, file))
        async with Http(stranger(self.options)) as http:
            return Answered(await fetch(http, url, file))
