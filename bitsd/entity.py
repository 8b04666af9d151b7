"""The bytes of one session: its file `request`, open, locked and appended to.

The length of `request` is the only record of the bytes held. Whoever has it locked
serves the session, in whatever process; one who waits for it knocks (`knocks`), and is
let in as soon as what came has been stored.
"""

import asyncio
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from . import record
from .cached import Access
from .knocks import Ears
from .protocol.session import Admission, Destination, Session
from .protocol.wire import SessionId
from .record import Keeping, SessionDamaged
from .turns import Body

_FLAGS = os.O_WRONLY | os.O_APPEND | record.PLAIN


class EntityGone(SessionDamaged):
    """The session is there and its bytes are not."""


class Busy(Exception):
    """Another process serves the session."""


class Entity:
    """What is held of an entity; `close` it to let others serve the session.

    Args:
        ears: hear who waits while a body is received.
        keeping: how bytes are kept now.

    Attributes:
        session: as a restart would have found it, when this was opened.
        file: a handle of `request` for writing at its end.
        kept: how the bytes were kept that are held.
    """

    def __init__(
        self, home: str, file: int, session: Session, ears: Ears, keeping: Keeping
    ) -> None:
        self.session = session
        self.file = file
        self.kept = keeping
        self._home = home
        self._ears = ears
        self._keeping = keeping
        self._step: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Let others serve the session, once no step of ours is under way."""
        if self._step is None or self._step.done():
            self.release()
        else:
            self._step.add_done_callback(self._given_up)

    def _given_up(self, step: asyncio.Future[None]) -> None:
        step.exception()  # which nobody waits for any more
        self.release()

    def release(self) -> None:
        """`close`, inside of a step; once is enough."""
        file, self.file = self.file, -1
        if file >= 0:
            os.close(file)

    async def step(self, act: Callable[[], None]) -> None:
        """Do what blocks in a thread; the session stays locked until it is done.

        Also when whoever waits for it is cancelled: the thread goes on.
        """
        loop = asyncio.get_running_loop()
        self._step = loop.run_in_executor(None, act)
        await asyncio.shield(self._step)

    @property
    def current(self) -> bool:
        """The bytes held were kept as they are now."""
        return self.kept == self._keeping

    def reliable(self, first: int) -> int:
        """How many bytes are held, for a fragment that begins at `first`.

        A power cut can leave the length of bytes that were never synced, and zeros or
        anything in their place. A client sends what was not acknowledged, and all
        before that was synced (protocol-notes/publishing.md).
        """
        held = self.session.received
        if self.kept.boot == self._keeping.boot:
            return held
        # In a gap lies what was acknowledged: the disk lost what it said it had.
        return first if self.kept.synced and first <= held else 0

    def shorten(self, received: int) -> None:
        """Hold the first `received` bytes and no more; blocks."""
        os.ftruncate(self.file, received)
        self.session = self.session.grown(received)

    async def append(
        self, admission: Admission, body: Body, acknowledged: int | None = None
    ) -> int:
        """Keep what was admitted of `body`, however it ends; returns bytes held.

        What is held is durable on return, unless only publication shall be.

        Args:
            admission: what to keep of it.
            body: the bytes.
            acknowledged: so many of those held were synced before, for sure; what is
                behind may be of a process that was killed. All of them if None.

        Raises:
            OSError: no room, or the device failed. Bytes written before it stay,
                bytes whose sync failed do not.
        """
        held = self.session.received
        writer = _Writer(self.file, admission)
        self._ears.attend(self._home, body)
        try:
            await body.into(writer.write)
        finally:
            self._ears.leave(self._home)
            await self.sync(held if acknowledged is None else acknowledged)
        return held + writer.written

    async def sync(self, acknowledged: int) -> None:
        """Make what is held durable, unless only publication shall be.

        Raises:
            OSError: it cannot be, and only what was acknowledged before is held.
        """
        if self._keeping.synced:
            await self.step(partial(self._fdatasync, acknowledged))

    def _fdatasync(self, acknowledged: int) -> None:
        try:
            os.fdatasync(self.file)
        except OSError:
            # After a failed sync Linux calls the pages clean: a second sync would
            # succeed without the bytes being there. Only what was synced before is.
            self._cut(acknowledged)
            raise

    def sync_all(self) -> None:
        """Make durable what no append did; blocks.

        Raises:
            OSError: it cannot be, and nothing is held any more.
        """
        try:
            os.fdatasync(self.file)
        except OSError:
            self._cut(0)
            raise

    def _cut(self, length: int) -> None:
        """Forget what is behind `length`, unless it was published already."""
        with suppress(OSError):
            if not (self.session.complete and os.fstat(self.file).st_nlink > 1):
                os.ftruncate(self.file, length)


class _Writer:
    """Writes what was admitted of a body to the end of `request`.

    It runs on the event loop: the page cache takes a chunk in less time than it
    takes to hand it to a thread (protocol-notes/performance.md).
    """

    def __init__(self, file: int, admission: Admission) -> None:
        self._file = file
        self._skip, self._take = admission
        self.written = 0

    def write(self, chunk: memoryview) -> None:
        if self._skip or len(chunk) > self._take - self.written:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped : skipped + self._take - self.written]
        while chunk:
            written = os.write(self._file, chunk)
            self.written += written
            chunk = chunk[written:]


def opened(
    home: str, named: SessionId, access: Access, ears: Ears, keeping: Keeping
) -> Entity:
    """Open and lock the entity of the session in `home`.

    Raises:
        Busy: another process has it.
        SessionNotFound: it is unknown; SessionDamaged: beyond use.
        BlockingIOError: `access` does not wait.
        OSError: as the system said.
    """
    try:
        file = access.open(f"{home}/request", _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        record.read(home, access=access)
        raise EntityGone(f"{named} has lost its request file") from None
    except OSError as error:
        if error.errno not in record.NO_FILE:
            raise
        record.read(home, access=access)
        raise SessionDamaged(f"request of {named} is no file") from None
    try:
        _lock(file)
        # Only now: whoever had it before may have ended the session.
        saved, request = record.read(home, access=access), os.fstat(file)
        session = _session(named, saved, request)
    except BaseException:
        os.close(file)
        raise
    entity = Entity(home, file, session, ears, keeping)
    # One that is whole and has another name was synced before it got it.
    if not (session.complete and request.st_nlink > 1):
        entity.kept = saved[0].kept
    return entity


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy from None


def session_in(home: Path | str, named: SessionId) -> Session:
    """The session in `home`, as it is now; blocks.

    Raises:
        SessionNotFound: it is unknown; SessionDamaged: beyond use.
    """
    saved = record.read(home)
    try:
        request = Path(home, "request").lstat()
    except FileNotFoundError:
        raise EntityGone(f"{named} has lost its request file") from None
    return _session(named, saved, request)


def _session(
    named: SessionId, saved: tuple[record.Record, float], request: os.stat_result
) -> Session:
    found, recorded = saved
    if not stat.S_ISREG(request.st_mode):
        raise SessionDamaged(f"request of {named} is no file")
    if found.total is not None and request.st_size > found.total:
        raise SessionDamaged(f"{named} holds {request.st_size} bytes of {found.total}")
    try:
        touched = datetime.fromtimestamp(max(request.st_mtime, recorded), UTC)
    except (OverflowError, ValueError):
        raise SessionDamaged(f"{named} has an impossible mtime") from None
    return Session(
        id=named,
        destination=Destination(found.destination),
        url=found.url,
        created=found.created,
        touched=touched,
        user=found.user,
        address=found.address,
        received=request.st_size,
        total=found.total,
        state=found.state,
        reply_url=found.reply_url,
        refused=found.refused,
    )
