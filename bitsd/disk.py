"""Sessions on disk: each is a folder `{request, session.json, response}`.

The length of `request` is the only record of the bytes held, and the later mtime of
`request` and `session.json` that of the last progress. Every state that a crash can
leave between two steps here is one that the next packet understands.
"""

import asyncio
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from . import record
from .destination import Folder
from .protocol.refusal import Reason, Refusal
from .protocol.session import Admission, Destination, Session
from .protocol.wire import SessionId, session_id
from .record import SessionDamaged
from .turns import Body


class EntityGone(SessionDamaged):
    """The session is there and its bytes are not."""


class _Writer:
    """Writes what was admitted of a body to the end of `request`.

    It runs on the event loop: the page cache takes a chunk in less time than it
    takes to hand it to a thread (protocol-notes/performance.md).
    """

    def __init__(self, file: int, admission: Admission) -> None:
        self._file = file
        self._skip, self._take = admission

    def write(self, chunk: memoryview) -> None:
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        kept = chunk[skipped : skipped + self._take]
        self._take -= len(kept)
        while kept:
            kept = kept[os.write(self._file, kept) :]


class Disk:
    """The sessions of one directory.

    Methods are called by whoever has the session's turn; blocking steps run in
    threads, a whole step in one hop.

    Args:
        folder: where published files are, and BITS-Sessions with them.
        durable: fdatasync before an append counts, not only before publication.
    """

    def __init__(self, folder: Folder, *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable

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
            if not os.access(f"/proc/self/fd/{folder}", os.W_OK):
                raise Refusal(
                    Reason.ACCESS_DENIED, f"may not write to the folder of {wanted!r}"
                )
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
        """The folder of `wanted`; that it is missing is an answer for the client."""
        with ExitStack() as stack:
            try:
                found = stack.enter_context(self._folder.parent(wanted))
            except (FileNotFoundError, NotADirectoryError):
                raise Refusal(Reason.NO_FOLDER, f"no folder for {wanted!r}") from None
            yield found

    async def create(self, session: Session) -> None:
        """Make a session durable, whole or not at all."""
        await asyncio.to_thread(self._create, session)

    def _create(self, session: Session) -> None:
        home = self._home(session.id)
        staged = home.with_name(f"new-{session.id}")
        try:
            staged.mkdir()
        except FileNotFoundError:  # somebody removed BITS-Sessions
            self.prepare()
            staged.mkdir()
        try:
            (staged / "request").touch(exist_ok=False)
            record.write(staged, session)
            staged.rename(home)
        except OSError:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        try:
            record.sync_folder(self._folder.sessions)
        except OSError:
            shutil.rmtree(home, ignore_errors=True)
            raise

    async def load(self, named: SessionId) -> Session:
        """The session as a restart would find it.

        Raises:
            SessionNotFound: it is unknown; SessionDamaged: beyond use.
        """
        return await asyncio.to_thread(self.read, named)

    def read(self, named: SessionId) -> Session:
        """`load`, blocking."""
        saved, recorded = record.read(self._home(named))
        try:
            request = self.request(named).stat()
        except FileNotFoundError:
            raise EntityGone(f"{named} has lost its request file") from None
        if saved.total is not None and request.st_size > saved.total:
            raise SessionDamaged(
                f"{named} holds {request.st_size} bytes of {saved.total}"
            )
        try:
            touched = datetime.fromtimestamp(max(request.st_mtime, recorded), UTC)
        except (OverflowError, ValueError):
            raise SessionDamaged(f"{named} has an impossible mtime") from None
        return Session(
            id=named,
            destination=Destination(saved.destination),
            url=saved.url,
            created=saved.created,
            touched=touched,
            user=saved.user,
            address=saved.address,
            received=request.st_size,
            total=saved.total,
            state=saved.state,
            reply_url=saved.reply_url,
            refused=saved.refused,
        )

    def touched(self, named: SessionId) -> datetime:
        """Last time that anything was stored, of a damaged session too; blocks.

        Of one that has no time the calendar knows: long ago.
        """
        home = self._home(named)
        times = [0.0]
        for path in (home, home / "request", home / "session.json"):
            with suppress(OSError):
                times.append(path.lstat().st_mtime)
        try:
            return datetime.fromtimestamp(max(times), UTC)
        except (OverflowError, ValueError):
            return datetime.fromtimestamp(0, UTC)

    async def save(self, session: Session) -> None:
        """Record what changed other than bytes; durable on return."""
        await asyncio.to_thread(record.write, self._home(session.id), session)

    async def append(self, session: Session, admission: Admission, body: Body) -> int:
        """Keep what was admitted of `body`, however it ends; returns bytes held.

        What is held is durable on return, unless only publication shall be.

        Raises:
            OSError: no room, or the device failed. Bytes written before it stay,
                bytes whose sync failed do not.
        """
        # Not in a thread: `load` has just brought in all that it touches.
        file = self._open_request(session)
        try:
            await body.into(_Writer(file, admission).write)
        finally:
            if self._durable:
                settling = asyncio.to_thread(self._settle, file, session.received)
                # Whoever is cancelled now, the file is synced, closed and unlocked.
                held = await asyncio.shield(asyncio.ensure_future(settling))
            else:
                held = self._settle(file, session.received)
        return held

    def _open_request(self, session: Session) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(self.request(session.id), flags)
        try:
            # Turns are of this process; an old one may still be at the same session.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = os.fstat(file).st_size == session.received
        except BlockingIOError:
            alone = False
        except OSError:
            os.close(file)
            raise
        if not alone:
            os.close(file)
            detail = "another process serves this session"
            raise Refusal(Reason.SUPERSEDED, detail)
        return file

    def _settle(self, file: int, before: int) -> int:
        try:
            if self._durable:
                os.fdatasync(file)
            return os.fstat(file).st_size
        except OSError:
            # After a failed sync Linux calls the pages clean: a second sync would
            # succeed without the bytes being there. Only what was held before is.
            _cut(file, before)
            raise
        finally:
            os.close(file)

    async def publish(self, session: Session, *, overwrite: bool) -> None:
        """Give the complete entity its name: durable, atomic, and once.

        A link and not a rename, so that a restart sees by the inode that it was
        done already, and never takes another's file of the same name for ours.

        Raises:
            Refusal: EXISTS, IS_A_FOLDER or NO_FOLDER.
            OSError: as the system said.
        """
        await asyncio.to_thread(self._publish, session, overwrite=overwrite)

    def _publish(self, session: Session, *, overwrite: bool) -> None:
        request = self.request(session.id)
        with request.open("r+b") as file:
            try:
                os.fdatasync(file.fileno())
            except OSError:
                # As in `_settle`; here nothing may have been synced before.
                if not self._durable:
                    _cut(file.fileno(), 0)
                raise
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

    async def delete(self, named: SessionId) -> None:
        """Forget a session and its bytes; a published file stays."""
        await asyncio.to_thread(self.remove, named)

    def remove(self, named: SessionId) -> None:
        """`delete`, blocking."""
        home = self._home(named)
        # First what makes it a session: what a crash leaves is then only litter.
        (home / "session.json").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(home)

    def open_response(self, named: SessionId) -> BinaryIO:
        """Open the reply for unbuffered reading, which counts as progress; blocks.

        Raises:
            OSError: there is none.
        """
        file = self.response(named).open("rb", buffering=0)
        os.utime(self._home(named) / "session.json")
        return file

    def ids(self) -> Iterator[SessionId]:
        """The sessions there are, damaged ones included; blocks between them."""
        with os.scandir(self._folder.sessions) as entries:
            for entry in entries:
                with suppress(Refusal):
                    named = session_id(entry.name)
                    if named == entry.name:
                        yield named

    def clean(self, before: datetime) -> None:
        """Remove what crashes left that is no session and older; blocks."""
        with os.scandir(self._folder.sessions) as entries:
            litter = [entry for entry in entries if _is_litter(entry, before)]
        for entry in litter:
            shutil.rmtree(entry.path, ignore_errors=True)


def _cut(file: int, length: int) -> None:
    """Forget what is behind `length`, unless it was published already."""
    with suppress(OSError):
        if os.fstat(file).st_nlink == 1:
            os.ftruncate(file, length)


def _is_litter(entry: os.DirEntry[str], before: datetime) -> bool:
    """A folder of ours without the file that would make it a session."""
    named = entry.name.removeprefix("new-")
    if not (named.startswith("{") and entry.is_dir(follow_symlinks=False)):
        return False
    if entry.name == named and Path(entry.path, "session.json").exists():
        return False
    try:
        return entry.stat(follow_symlinks=False).st_mtime < before.timestamp()
    except FileNotFoundError:  # it has become a session meanwhile
        return False


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
        case errno.EACCES | errno.EPERM | errno.EXDEV:
            return Refusal(Reason.ACCESS_DENIED, detail)
        case errno.ENAMETOOLONG:
            return Refusal(Reason.MALFORMED, detail)
        case _:
            return Refusal(Reason.STORAGE_FAILED, detail)
