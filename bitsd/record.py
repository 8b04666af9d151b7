"""`session.json`: all of a session but its bytes and their count."""

import errno
import os
import stat
from datetime import datetime
from pathlib import Path, PurePath
from uuid import uuid4

import msgspec

from .cached import WAITING, Access
from .protocol.session import Session, State

#: What makes a folder a session.
FILE = "session.json"

#: To open what should be a file of ours. Something else that somebody put there is
#: neither waited for, as a pipe would be, nor followed.
PLAIN = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW

#: How the system says that it was something else.
NO_FILE = frozenset((errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV))

#: Longer than any that we write: its URL is of one line, each byte of it three at most.
MAXIMUM_BYTES = 1 << 20

_FORMAT = 1


class SessionNotFound(Exception):
    """There is no such session."""


class SessionDamaged(SessionNotFound):
    """Of the session too little is left to go on; says what."""


class Keeping(msgspec.Struct, frozen=True):
    """How bytes were kept, on which depends what a power cut leaves of them.

    Attributes:
        boot: of the system, in which they came.
        synced: each fragment was on the disk before its Ack.
    """

    boot: str
    synced: bool


def boot(source: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """What no two boots of a system have in common."""
    try:
        return source.read_text("ascii").strip()
    except OSError:
        return str(uuid4())  # each start of the server counts as one


#: The boot that this is, the same in all processes that the first one forks.
BOOT = boot()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    format: int
    destination: str
    url: str
    created: datetime
    user: str | None
    address: str
    total: int | None
    state: State
    reply_url: str | None
    refused: int | None
    kept: Keeping = Keeping("", synced=False)


_decoder = msgspec.json.Decoder(Record)


def write(home: Path, session: Session, kept: Keeping, *, durable: bool) -> None:
    """Replace the record of the session in `home`, atomically.

    Args:
        home: of the session.
        session: as it is.
        kept: how its bytes are.
        durable: on return it, and all else that has a name in `home`, is on the disk.
    """
    record = Record(
        format=_FORMAT,
        destination=session.destination,
        url=session.url,
        created=session.created,
        user=session.user,
        address=session.address,
        total=session.total,
        state=session.state,
        reply_url=session.reply_url,
        refused=session.refused,
        kept=kept,
    )
    staged = home / f"{FILE}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    file = os.open(staged, flags, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(msgspec.json.encode(record))
        stream.flush()
        if durable:
            os.fsync(file)
    staged.rename(home / FILE)
    if durable:
        sync_folder(home)


def read(
    home: Path | str, name: str = FILE, access: Access = WAITING
) -> tuple[Record, float]:
    """A record in `home`, and its mtime in seconds.

    Raises:
        SessionNotFound: there is none.
        SessionDamaged: it cannot be used.
        BlockingIOError: `access` does not wait.
    """
    path = f"{home}/{name}"
    try:
        file = access.open(path, os.O_RDONLY | PLAIN)
        try:
            status = os.fstat(file)
            _check(status)
            record = _decoder.decode(access.read(file, status.st_size))
        finally:
            os.close(file)
    except (FileNotFoundError, NotADirectoryError):
        raise SessionNotFound(f"no session {PurePath(home).name}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SessionDamaged(f"{path} is damaged: {error}") from None
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise SessionDamaged(f"{path} is no file") from None
    if record.format != _FORMAT:
        raise SessionDamaged(f"{path} was written by another version")
    return record, status.st_mtime


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_size > MAXIMUM_BYTES:
        raise ValueError(f"it has {status.st_size} bytes")


def sync(home: Path) -> None:
    """Make the record in `home` durable, and all that has a name in there."""
    file = os.open(home / FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    sync_folder(home)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
