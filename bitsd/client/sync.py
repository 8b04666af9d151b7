"""Keep a folder as a server has it, by asking again and again.

Clients of MED-V did so: every 15 minutes they asked for the index of an image, and
fetched the image only after its index. Whatever fails is tried at the next look.
"""

import asyncio
import json
import random
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
from yarl import URL

from .download import download, file_name
from .fetching import How, already_there
from .http import Http
from .options import Options
from .partial import Here, look_at
from .progress import Tell, TransferFailed
from .replies import Body, Version, understood

#: As MED-V's clients did.
EVERY = timedelta(minutes=15)

#: So that those who began at one moment do not go on asking at one moment.
_SPREAD = 0.1

_IMAGE = ".ckm"

_GONE = (404, 410)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file, and what has to be here before it.

    Attributes:
        index: URL of its index, which the server may or may not have.
    """

    url: str
    index: str | None = None


def in_order(urls: Iterable[str]) -> list[Wanted]:
    """What to ask for, every file once; that of an index belongs to its image."""
    unique = dict.fromkeys(str(URL(url)) for url in urls)
    wanted = [Wanted(url, _index_of(url)) for url in unique]
    indexes = {each.index for each in wanted}
    return [each for each in wanted if each.url not in indexes]


def _index_of(url: str) -> str | None:
    place = URL(url)
    if not place.name.lower().endswith(_IMAGE):
        return None
    return str(place.with_name(f"{place.name}.index", keep_query=True))


def is_new(there: Version, here: Here | None, known: Version | None) -> bool:
    """The server has another version than the folder.

    Args:
        there: what the server says now.
        here: the file, if there is one.
        known: what the server said when it was fetched, if that is remembered.
    """
    if here is None or here.length != there.length:
        return True
    if there.mtime is not None and here.mtime != there.mtime:
        return True
    if known is not None:
        return known.etag != there.etag
    return there.mtime is None


def next_look(every: timedelta, dice: random.Random) -> float:
    """Seconds from the end of a look to the next one."""
    return every.total_seconds() * dice.uniform(1 - _SPREAD, 1 + _SPREAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """A folder that follows a server.

    Attributes:
        urls: whose last names differ.
        memory: a folder for what the server said of each file.
        tell_all: also of a file that is already there, which most are at most looks.
    """

    folder: Path
    urls: tuple[str, ...]
    options: Options
    how: How
    memory: Path
    tell: Tell
    tell_all: bool = False

    async def look(self) -> bool:
        """Fetch what changed; whether all is as the server has it."""
        well = True
        for wanted in in_order(self.urls):
            well = await self._pair(wanted) and well
        return well

    async def _pair(self, wanted: Wanted) -> bool:
        if wanted.index is not None and not await self._well(
            wanted.index, optional=True
        ):
            why = "not asked for, as its index was not fetched"
            self._failed(wanted.url, TransferFailed(why))
            return False
        return await self._well(wanted.url, optional=False)

    async def _well(self, url: str, *, optional: bool) -> bool:
        """A file is as the server has it now; if not, why is told."""
        try:
            await self._follow(url, optional=optional)
        except TransferFailed as failure:
            self._failed(url, failure)
            return False
        return True

    def _failed(self, url: str, failure: TransferFailed) -> None:
        # It is tried at the next look, whatever it is.
        self.tell(replace(failure.event(file_name(url)), resumable=None))

    async def _follow(self, url: str, *, optional: bool) -> None:
        async with (
            Http(self.options) as http,
            http.request("HEAD", url, ()) as response,
        ):
            reply = understood(response.status, response.headers, None, None)
            status = response.status
        if isinstance(reply, Body):
            await self._as_there(url, reply.version)
        elif not (optional and status in _GONE):
            raise TransferFailed(reply.reason, status=status)

    async def _as_there(self, url: str, there: Version) -> None:
        target = self.folder / file_name(url)
        memory = Memory(self.memory, target, url)
        here = await asyncio.to_thread(look_at, target)
        known = await asyncio.to_thread(memory.recall)
        if is_new(there, here, known):
            how = replace(self.how, force=True)
            done = await download(
                url, target, options=self.options, how=how, progress=self.tell
            )
            await asyncio.to_thread(memory.remember, done.version)
            return
        if known is None:
            await asyncio.to_thread(memory.remember, there)
        if self.tell_all:
            self.tell(already_there(target, there))


class Memory:
    """What the server said of a file, for the program's next run; its calls block.

    Where it cannot be kept, a file is known by its length and time alone.
    """

    def __init__(self, folder: Path, target: Path, url: str) -> None:
        # The URL may hold a password.
        name = sha256(f"{target.absolute()}\0{url}".encode("utf-8", "surrogateescape"))
        self._path = folder / f"{name.hexdigest()[:32]}.json"

    def recall(self) -> Version | None:
        """None if nothing is remembered."""
        try:
            return msgspec.convert(json.loads(self._path.read_bytes()), Version)
        except (OSError, ValueError, msgspec.ValidationError):
            return None

    def remember(self, version: Version) -> None:
        """This is what is here now."""
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(asdict(version)), "ascii")
            new.replace(self._path)


async def follow(sync: Sync, every: timedelta, *, once: bool) -> bool:
    """Look again and again: at once, and then at times that differ between clients.

    Args:
        sync: looks.
        every: so long after the end of a look.
        once: one look; whether all is as the server has it.
    """
    dice = random.SystemRandom()
    while True:
        well = await sync.look()
        if once:
            return well
        await asyncio.sleep(next_look(every, dice))
