"""Sessions on disk: each is a folder `{request, session.json, response}`.

The later mtime of `request` and `session.json` is that of the last progress. Every
state that a crash can leave between two steps here is one that the next packet
understands.
"""

import asyncio
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias

from . import litter, record
from .cached import AT_ONCE, WAITING
from .destination import Folder, check_writable
from .entity import Busy, Entity, opened, session_in
from .knocks import Ears, Knock
from .protocol.refusal import Reason, Refusal
from .protocol.session import Destination, Session, State
from .protocol.wire import SessionId
from .record import BOOT, Keeping, Record, SessionNotFound

#: Raises what it likes if a session is not for whoever asks: which, whose, where to.
Check: TypeAlias = Callable[[SessionId, str | None, str], None]

#: How often one who waits for another process tries again, in seconds.
KNOCK_SECONDS = 0.01


class Disk:
    """The sessions of one directory.

    Methods are called by whoever has the session's turn; blocking steps run in
    threads, a whole step in one hop.

    Args:
        folder: where published files are, and BITS-Sessions with them.
        durable: fdatasync before an append counts, not only before publication.
        boot: which boot of the system this is.
    """

    def __init__(
        self, folder: Folder, *, durable: bool = True, boot: str = BOOT
    ) -> None:
        self._folder = folder
        self._keeping = Keeping(boot, durable)
        self._sessions = str(folder.sessions)
        self._ears = Ears(self._sessions)

    def prepare(self) -> None:
        """Make the folder of the sessions; blocks."""
        self._folder.sessions.mkdir(exist_ok=True)
        record.sync_folder(self._folder.path)

    def request(self, named: SessionId) -> Path:
        """Where the uploaded bytes are."""
        return self._home(named) / "request"

    def response(self, named: SessionId) -> Path:
        """Where the application's reply is or will be."""
        return self._home(named) / "response"

    def _home(self, named: SessionId) -> Path:
        return self._folder.sessions / named

    def free(self) -> int:
        """Bytes that uploads may still fill; blocks."""
        space = os.statvfs(self._folder.path)
        return space.f_bavail * space.f_frsize

    def check_destination(self, wanted: Destination, *, overwrite: bool) -> None:
        """Whether an upload to `wanted` could be published now; blocks.

        Raises:
            Refusal: NO_FOLDER, IS_A_FOLDER, EXISTS or ACCESS_DENIED.
        """
        with self._destination_folder(wanted) as (folder, name):
            check_writable(folder)
            try:
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return
            if stat.S_ISDIR(mode):
                raise Refusal(Reason.IS_A_FOLDER, f"{wanted!r} is a folder")
            if not overwrite:
                raise Refusal(Reason.EXISTS, f"{wanted!r} exists, overwrite is off")

    @contextmanager
    def _destination_folder(self, wanted: Destination) -> Iterator[tuple[int, str]]:
        """The folder of `wanted`; what keeps us from it is an answer for the client."""
        try:
            with ExitStack() as stack:
                try:
                    found = stack.enter_context(self._folder.parent(wanted))
                except (FileNotFoundError, NotADirectoryError):
                    detail = f"no folder for {wanted!r}"
                    raise Refusal(Reason.NO_FOLDER, detail) from None
                yield found
        except PermissionError as error:
            detail = f"may not write to the folder of {wanted!r}: {error.strerror}"
            raise Refusal(Reason.ACCESS_DENIED, detail) from None

    def create(self, session: Session) -> None:
        """Make a session, whole or not at all; blocks.

        It is not synced: a power cut may take what holds no bytes yet, and its client
        begins anew.
        """
        home = self._home(session.id)
        try:
            home.mkdir()
        except FileNotFoundError:  # somebody removed BITS-Sessions
            self.prepare()
            home.mkdir()
        try:
            (home / "request").touch(exist_ok=False)
            # Last what makes it a session: what a crash leaves is only litter.
            record.write(home, session, self._keeping, durable=False)
        except OSError:
            shutil.rmtree(home, ignore_errors=True)
            raise

    async def open(self, named: SessionId, check: Check | None = None) -> Entity:
        """The session as a restart would find it, locked; the caller closes it.

        Args:
            named: which.
            check: unless it raises, another process that serves the session is
                waited for and let know. None does not wait.

        Raises:
            Busy: another process serves it, and there is no waiting.
            SessionNotFound: it is unknown; SessionDamaged: beyond use.
        """
        try:
            return await self._opened(named)
        except Busy:
            if check is None:
                raise
        await self.check(named, check)
        knock = Knock(self._sessions, f"{self._sessions}/{named}")
        try:
            while True:
                await asyncio.to_thread(knock.knock)
                await asyncio.sleep(KNOCK_SECONDS)
                with suppress(Busy):
                    return await self._opened(named)
        finally:
            knock.close()

    async def check(self, named: SessionId, check: Check) -> None:
        """Let `check` look at a session, whoever serves it, if there is one."""
        home = self._home(named)
        with suppress(SessionNotFound):
            try:
                # As quickly, so that packets stay in the order in which they came.
                saved, _mtime = record.read(home, access=AT_ONCE)
            except BlockingIOError:
                saved, _mtime = await asyncio.to_thread(record.read, home)
            check(named, saved.user, saved.destination)

    async def _opened(self, named: SessionId) -> Entity:
        home = f"{self._sessions}/{named}"
        try:
            return opened(home, named, AT_ONCE, self._ears, self._keeping)
        except BlockingIOError:
            return await asyncio.to_thread(
                opened, home, named, WAITING, self._ears, self._keeping
            )

    def read(self, named: SessionId) -> Session:
        """The session as it is now, whoever serves it; blocks.

        Raises:
            SessionNotFound: it is unknown; SessionDamaged: beyond use.
        """
        return session_in(self._home(named), named)

    def touched(self, named: SessionId) -> datetime:
        """Last time that anything was stored, of a damaged session too; blocks.

        Of one that has no time the calendar knows: long ago.
        """
        home = self._home(named)
        times = [0.0]
        for path in (home, home / "request", home / record.FILE):
            with suppress(OSError):
                times.append(path.lstat().st_mtime)
        try:
            return datetime.fromtimestamp(max(times), UTC)
        except (OverflowError, ValueError):
            return datetime.fromtimestamp(0, UTC)

    async def save(self, entity: Entity, session: Session) -> None:
        """Record what changed of an entity's session, and how its bytes are kept.

        Bytes beyond those that the session has received are dropped.
        It is on the disk on return if fragments are or were, and always when the
        entity was delivered: else a power cut could leave an upload that was published
        and is not complete.
        """
        await entity.step(partial(self._save, entity, session))

    def _save(self, entity: Entity, session: Session) -> None:
        if session.received < entity.session.received:
            entity.shorten(session.received)
        elif self._keeping.synced and not entity.kept.synced:
            entity.sync_all()
        durable = (
            self._keeping.synced
            or entity.kept.synced
            or session.state is State.WAIT_FOR_CLOSE
        )
        home = self._home(session.id)
        record.write(home, session, self._keeping, durable=durable)
        if durable:
            record.sync_folder(self._folder.sessions)

    async def settle(self, entity: Entity) -> None:
        """Sync once more what a crash may have kept `save` from syncing."""
        if self._keeping.synced:
            await entity.step(partial(self._settle, entity.session.id))

    def _settle(self, named: SessionId) -> None:
        record.sync(self._home(named))
        record.sync_folder(self._folder.sessions)

    async def publish(self, entity: Entity, *, overwrite: bool) -> None:
        """Give the complete entity its name: durable, atomic, and once.

        A link and not a rename, so that a restart sees by the inode that it was
        done already, and never takes another's file of the same name for ours.

        Raises:
            Refusal: EXISTS, IS_A_FOLDER or NO_FOLDER.
            OSError: as the system said.
        """
        await entity.step(partial(self._publish, entity, overwrite=overwrite))

    def _publish(self, entity: Entity, *, overwrite: bool) -> None:
        session = entity.session
        request = self.request(session.id)
        if not self._keeping.synced:
            entity.sync_all()
            # A name that outlived the session would refuse its own upload.
            self._settle(session.id)
        with self._destination_folder(session.destination) as (folder, name):
            try:
                if overwrite:
                    _replace(request, folder, name)
                else:
                    _link(request, folder, name)
            except FileExistsError:
                detail = f"{session.destination!r} exists, overwrite is off"
                raise Refusal(Reason.EXISTS, detail) from None
            except IsADirectoryError:
                detail = f"{session.destination!r} is a folder"
                raise Refusal(Reason.IS_A_FOLDER, detail) from None
            os.fsync(folder)

    async def delete(self, named: SessionId, entity: Entity | None = None) -> None:
        """Forget a session and its bytes; a published file stays.

        Args:
            named: which.
            entity: the session's, if it is open; it is closed, for the last one who
                has a deleted file open waits until its blocks are free.
        """
        if entity is None:
            await asyncio.to_thread(self.remove, named)
        else:
            await entity.step(partial(self.remove, named, entity))

    def remove(self, named: SessionId, entity: Entity | None = None) -> None:
        """`delete`, blocking."""
        home = self._home(named)
        # First what makes it a session: what a crash leaves is then only litter.
        with suppress(IsADirectoryError):  # which somebody put there
            (home / record.FILE).unlink(missing_ok=True)
        if entity is not None:
            entity.release()
        with suppress(FileNotFoundError):
            shutil.rmtree(home)

    async def bury(self, entity: Entity) -> None:
        """`delete`, and remember for a while that the session was closed."""
        await entity.step(partial(self._bury, entity))

    def _bury(self, entity: Entity) -> None:
        named = entity.session.id
        home = self._home(named)
        grave = self._folder.sessions / litter.grave(named)
        # In this order, or the grave could be taken for an old one.
        os.utime(home / record.FILE)
        (home / record.FILE).rename(grave)
        entity.release()
        shutil.rmtree(home)

    def closed(self, named: SessionId) -> Record:
        """The record of a session that was closed not long ago; blocks.

        Raises:
            SessionNotFound: there was none.
        """
        return record.read(self._folder.sessions, litter.grave(named))[0]

    def mark(self, named: SessionId) -> None:
        """Leave word for a while that an operator cancelled a session; blocks.

        Raises:
            OSError: as the system said.
        """
        (self._folder.sessions / litter.mark(named)).touch()

    def is_marked(self, named: SessionId) -> bool:
        """An operator cancelled the session not long ago; blocks."""
        return os.path.lexists(self._folder.sessions / litter.mark(named))

    def open_response(self, named: SessionId) -> BinaryIO:
        """Open the reply for unbuffered reading, which counts as progress; blocks.

        Raises:
            OSError: there is none.
        """
        path = self.response(named)
        # A pipe that somebody put there does not wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a file", str(path))
            file = os.fdopen(handle, "rb", buffering=0)
        except OSError:
            os.close(handle)
            raise
        with suppress(OSError):  # what can be read, is, though the disk be read-only
            os.utime(self._home(named) / record.FILE)
        return file

    def ids(self) -> Iterator[SessionId]:
        """The sessions there are, damaged ones included; blocks between them."""
        return litter.ids(self._folder.sessions)

    def strangers(self) -> Iterator[str | None]:
        """Paths of what bitsd did not put there, None for all else; blocks between."""
        return litter.strangers(self._folder.sessions)

    def missing(self, named: Iterable[SessionId]) -> list[SessionId]:
        """Those of them that are no sessions; blocks."""
        return [each for each in named if not litter.is_session(self._home(each))]

    def clean(self, before: datetime) -> Iterator[OSError | None]:
        """Remove what crashes and closed sessions left, if older.

        Blocks between its steps, which say what they cannot remove.
        """
        return litter.clean(self._folder.sessions, before)


def _link(request: Path, folder: int, name: str) -> None:
    try:
        os.link(request, name, dst_dir_fd=folder)
    except FileExistsError:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not os.path.samestat(there, request.stat()):
            raise


def _replace(request: Path, folder: int, name: str) -> None:
    staged = request.with_name("publish")
    staged.unlink(missing_ok=True)
    staged.hardlink_to(request)
    os.rename(staged, name, dst_dir_fd=folder)
    # rename() between two names of one file does nothing: it was published before.
    staged.unlink(missing_ok=True)


def refusal_of(error: OSError) -> Refusal:
    """What a client is told when the storage said no."""
    detail = f"{errno.errorcode.get(error.errno or 0, error.errno)}: {error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return Refusal(Reason.DISK_FULL, detail)
        case errno.EFBIG:
            return Refusal(Reason.TOO_LARGE, detail)
        case errno.EXDEV:
            return Refusal(Reason.ACCESS_DENIED, detail)
        case errno.ENAMETOOLONG:
            return Refusal(Reason.MALFORMED, detail)
        case _:
            return Refusal(Reason.STORAGE_FAILED, detail)
