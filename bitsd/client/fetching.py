"""The work of a download: requests, what comes of them, and what is tried again.

Each connection asks for one range after the other. What is held is of one version.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar, assert_never

from aiohttp import ClientError, ClientResponse, StreamReader

from bitsd.protocol.wire import Field
from bitsd.ranges import ByteRange

from .http import Http
from .options import Options
from .partial import Partial, look_at
from .progress import Event, Kind, Tell, TransferFailed
from .replies import CHANGED, Again, Body, Later, Never, Reply, Version, understood
from .retry import RETRY_FOR, Patience
from .spans import SMALLEST_PIECE, pieces
from .trouble import NoAnswer

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: What is written at once, so that the disk is not asked for every packet.
BLOCK = 1024 * 1024

#: What a crash may cost.
SAVE_SECONDS = 1.0

#: A file that changes as often is fetched over one connection, as one range: the
#: servers behind one name may differ in what they call one version.
_CHANGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a file is fetched.

    Attributes:
        connections: at most; each has its own range.
        force: even if the file that is here looks like the server's.
        retry_for: without any progress.
    """

    connections: int = 1
    force: bool = False
    retry_for: timedelta = RETRY_FOR


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is here.

    Attributes:
        fetched: False if it was here before.
    """

    path: Path
    version: Version
    fetched: bool


class _StartOver(Exception):
    """What is held is of no use.

    Attributes:
        plain: do not ask for ranges any more.
        changed: for the server has another version.
    """

    def __init__(self, reason: str, *, plain: bool, changed: bool = False) -> None:
        super().__init__(reason)
        self.plain = plain
        self.changed = changed


class Fetching:
    """One download under way."""

    def __init__(
        self,
        url: str,
        part: Partial,
        disk: ThreadPoolExecutor,
        options: Options,
        tell: Tell,
    ) -> None:
        self._url = url
        self._part = part
        self._disk = disk
        self._options = options
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._how = How()
        self._https: list[Http] = []
        self._opened = AsyncExitStack()
        self._plain = False
        self._begun = self._saved = self._loop.time()
        self._patience = Patience()
        self._most = 0

    async def on_disk(
        self, act: Callable[_P, _T], *arguments: _P.args, **_: _P.kwargs
    ) -> _T:
        """What blocks, after what was handed over before."""
        return await self._loop.run_in_executor(self._disk, act, *arguments)

    async def run(self, how: How) -> Downloaded:
        """The file, once it is whole and has its name."""
        self._how = how
        self._patience = Patience(retry_for=how.retry_for, progressed_at=self._begun)
        async with self._opened:
            return await self._run()

    async def _run(self) -> Downloaded:
        target = self._part.target
        await self.on_disk(self._part.open)
        version = None if self._how.force else await self._already_there()
        if version is not None:
            await self.on_disk(self._part.discard)
            self._tell(replace(already_there(target, version), seconds=self._took()))
            return Downloaded(target, version, fetched=False)
        version = await self._whole()
        await self.on_disk(self._part.publish, version.mtime)
        self._tell(_done(target, version, "fetched", self._took()))
        return Downloaded(target, version, fetched=True)

    async def _already_there(self) -> Version | None:
        """The server's version, if what has the name looks like it."""
        here = await self.on_disk(look_at, self._part.target)
        if here is None:
            return None
        (http,) = await self._ways(1)
        reply = await self._ask(http, "HEAD", None)
        while isinstance(reply, Later):
            await self._pause(reply)
            reply = await self._ask(http, "HEAD", None)
        # Whatever is wrong, the GET tells; and not all who know GET know HEAD.
        version = reply.version if isinstance(reply, Body) else None
        same = version is not None and here == (version.length, version.mtime)
        return version if same else None

    async def _whole(self) -> Version:
        """The version that is held, once all of it is."""
        changes = 0
        while True:
            try:
                return await self._rest()
            except _StartOver as over:
                if over.changed and not self._plain:
                    self._most = 0  # all of the new version is progress
                changes += 1
                self._plain = self._plain or over.plain or changes >= _CHANGES
                await self.on_disk(self._part.forget)
                self._say(Kind.AGAIN, reason=str(over))

    async def _rest(self) -> Version:
        version = self._part.version
        if version is None:
            version = await self._first()
        else:
            self._say(Kind.STARTED)
        while wanted := self._part.missing():
            queue = deque(pieces(wanted, self._how.connections))
            ways = await self._ways(min(self._how.connections, len(queue)))
            await _together([self._pieces(http, queue) for http in ways])
        return version

    async def _first(self) -> Version:
        """Learn the version, and take all of it or some."""
        ranged = self._how.connections > 1 and not self._plain
        asked = ByteRange(0, SMALLEST_PIECE - 1) if ranged else None
        (http,) = await self._ways(1)
        while self._part.version is None:
            await self._attempt(http, asked)
        return self._part.version

    async def _pieces(self, http: Http, queue: deque[ByteRange]) -> None:
        """What one connection fetches, until nothing is left for it."""
        while queue:
            asked = queue.popleft()
            await self._attempt(http, asked)
            queue.extendleft(reversed(self._part.missing(asked)))

    async def _ways(self, number: int) -> list[Http]:
        """So many connections; each is signed in once, and kept until the end."""
        while len(self._https) < number:
            http = await self._opened.enter_async_context(Http(self._options))
            self._https.append(http)
        return self._https[:number]

    async def _attempt(self, http: Http, asked: ByteRange | None) -> None:
        """Ask once and take what comes; wait, if it is not what was promised.

        Raises:
            _StartOver: what comes next would not fit what is held.
        """
        reply = await self._ask(http, "GET", asked)
        match reply:
            case Body():
                pass
            case Again(reason, plain):
                raise _StartOver(reason, plain=plain, changed=reason == CHANGED)
            case Never(reason, status):
                raise TransferFailed(reason, status=status)
            case Later():
                await self._pause(reply)
                version = self._part.version
                if version and (self._plain or version.validator is None):
                    raise _StartOver(reply.reason, plain=self._plain)
            case _:
                assert_never(reply)

    async def _ask(self, http: Http, method: str, asked: ByteRange | None) -> Reply:
        """What is answered, and its body has come; if it broke off, `Later`."""
        held = None if asked is None else self._part.version
        fields = _fields(asked, held)
        try:
            async with http.request(method, self._url, fields) as response:
                reply = understood(response.status, response.headers, asked, held)
                if isinstance(reply, Body) and method == "GET":
                    await self._receive(response, reply)
                return reply
        except NoAnswer as problem:
            if not problem.resumable:
                raise
            return Later(str(problem))

    async def _receive(self, response: ClientResponse, body: Body) -> None:
        if self._part.version is None:
            await self.on_disk(self._part.begin, body.version)
            self._say(Kind.STARTED)
        at, end = body.first, body.first + body.length
        block: list[bytes] = []
        due = self._loop.time() + SAVE_SECONDS
        try:
            async with aclosing(_chunks(response.content)) as chunks:
                async for octets in chunks:
                    if at + sum(map(len, block)) + len(octets) > end:
                        raise NoAnswer("more bytes came than were announced")
                    block.append(octets)
                    if sum(map(len, block)) >= BLOCK or self._loop.time() >= due:
                        at = await self._write(at, block)
                        due = self._loop.time() + SAVE_SECONDS
        finally:
            at = await self._write(at, block)
        if at < end:
            raise NoAnswer("fewer bytes came than were announced")

    async def _write(self, at: int, block: list[bytes]) -> int:
        """Empty the block; where the next one goes."""
        octets = b"".join(block)
        if not octets:
            return at
        block.clear()
        await self.on_disk(self._part.write, at, octets)
        self._count_progress()
        self._say(Kind.PROGRESS)
        if self._loop.time() >= self._saved + SAVE_SECONDS:
            self._saved = self._loop.time()
            await self.on_disk(self._part.save)
        return at + len(octets)

    def _count_progress(self) -> None:
        """What came before is none: some send the same bytes again and again."""
        if self._part.held > self._most:
            self._most = self._part.held
            self._patience = self._patience.rewarded(self._loop.time())

    async def _pause(self, later: Later) -> None:
        """Wait for the next try.

        Raises:
            TransferFailed: there was no progress for too long.
        """
        self._patience = self._patience.tried()
        # It spreads clients over time, and keeps no secret.
        chance = random.random()  # noqa: S311
        now = self._loop.time()
        wait = self._patience.wait_seconds(now, chance, later.seconds)
        if wait is None:
            raise TransferFailed(f"gave up: {later.reason}", resumable=True)
        self._say(Kind.WAITING, reason=later.reason, seconds=wait)
        await asyncio.sleep(wait)

    def _took(self) -> float:
        return round(self._loop.time() - self._begun, 3)

    def _say(
        self, kind: Kind, reason: str | None = None, seconds: float | None = None
    ) -> None:
        version = self._part.version
        event = Event(
            event=kind,
            file=self._part.target.name,
            held=self._part.held,
            total=None if version is None else version.length,
            reason=reason,
            seconds=seconds,
        )
        self._tell(event)


def already_there(target: Path, version: Version) -> Event:
    """Nothing has to be fetched."""
    return _done(target, version, "already there")


def _done(
    target: Path, version: Version, what: str, seconds: float | None = None
) -> Event:
    return Event(
        event=Kind.DONE,
        file=target.name,
        held=version.length,
        total=version.length,
        reason=f"{what}, {version.length} bytes",
        seconds=seconds,
    )


async def _chunks(content: StreamReader) -> AsyncGenerator[bytes, None]:
    """All that came, also of a body that breaks off."""
    try:
        async for octets in content.iter_any():
            yield octets
    except ClientError:
        # It keeps what came just before the end, and has no other way to ask for it.
        yield content._read_nowait(-1)  # noqa: SLF001
        raise


def _fields(asked: ByteRange | None, held: Version | None) -> list[Field]:
    """RFC 9110 13.1.5: with If-Range a range comes only of the version that is held."""
    if asked is None:
        return []
    fields = [("Range", f"bytes={asked.first}-{asked.last}")]
    if held is not None and held.validator is not None:
        fields.append(("If-Range", held.validator))
    return fields


async def _together(works: Sequence[Coroutine[None, None, None]]) -> None:
    """All of them; if one fails the others are over before that is known."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
