"""What is in flight in a directory, as the disk shows it.

Nothing is locked and no server is asked, so none that runs is disturbed.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from .config import Directory
from .destination import SESSIONS, Folder
from .disk import Disk
from .protocol.session import Session, State
from .protocol.wire import SessionId
from .record import SessionDamaged, SessionNotFound

#: Shorter than this an upload has no rate.
SHORTEST = timedelta(seconds=1)


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """One session. The names are the keys of `--json`, and stay.

    Of a damaged session most is unknown, and null.

    Attributes:
        id: `{GUID}`.
        directory: URL of its directory.
        path: its folder on disk.
        state: `receiving`; `delivering` (all bytes are held, and the file has no name
            yet); `complete` (it has, and the client has not said Close yet); `refused`
            (by the application, for good); `timed-out` (the next sweep removes it);
            `damaged`.
        held: bytes on disk.
        total: bytes of the whole file; null before the first fragment.
        file: below the directory.
        url: of the upload.
        user: who signed in; null for anonymous.
        client: address of its Create-Session.
        created: RFC 3339, as all times.
        last_progress: when anything was stored last, or its reply was read.
        expires: when it times out unless it makes progress.
        age_seconds: since `created`.
        idle_seconds: since `last_progress`.
        bytes_per_second: `held` over the time from `created` to `last_progress`; null
            for less than a second.
        error: what the disk tells: why it is damaged, or what the application said.
    """

    id: SessionId
    directory: str
    path: str
    state: str
    held: int
    last_progress: datetime
    expires: datetime
    idle_seconds: int
    total: int | None = None
    file: str | None = None
    url: str | None = None
    user: str | None = None
    client: str | None = None
    created: datetime | None = None
    age_seconds: int | None = None
    bytes_per_second: int | None = None
    error: str | None = None


def flights(directory: Directory, now: datetime) -> Iterator[Flight]:
    """The sessions of a directory; blocks between them.

    Raises:
        PermissionError: this user may not look.
        OSError: as the system said.
    """
    disk = Disk(Folder(directory.path))
    with suppress(FileNotFoundError):  # nobody has uploaded here yet
        for named in disk.ids():
            with suppress(SessionNotFound):
                yield _flight(directory, disk, named, now)


def _flight(
    directory: Directory, disk: Disk, named: SessionId, now: datetime
) -> Flight:
    try:
        session = disk.read(named)
    except SessionDamaged as error:
        return _damaged(directory, disk, named, now, str(error))
    return Flight(
        id=named,
        directory=directory.url,
        path=str(disk.request(named).parent),
        state=_state(session, directory, now),
        held=session.received,
        last_progress=session.touched,
        expires=session.touched + directory.session_timeout,
        idle_seconds=_seconds(now - session.touched),
        total=session.total,
        file=session.destination,
        url=session.url,
        user=session.user,
        client=session.address,
        created=session.created,
        age_seconds=_seconds(now - session.created),
        bytes_per_second=rate(session.received, session.touched - session.created),
        error=None if session.refused is None else f"application: {session.refused}",
    )


def _damaged(
    directory: Directory, disk: Disk, named: SessionId, now: datetime, why: str
) -> Flight:
    touched = disk.touched(named)
    return Flight(
        id=named,
        directory=directory.url,
        path=str(disk.request(named).parent),
        state="damaged",
        held=_size(disk.request(named)),
        last_progress=touched,
        expires=touched + directory.session_timeout,
        idle_seconds=_seconds(now - touched),
        error=why,
    )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _state(session: Session, directory: Directory, now: datetime) -> str:
    if session.expired(now, directory.session_timeout):
        return "timed-out"
    if session.refused is not None:
        return "refused"
    if session.state is State.WAIT_FOR_CLOSE:
        return "complete"
    return "delivering" if session.complete else "receiving"


def _seconds(time: timedelta) -> int:
    """Whole seconds; a clock that was set back counts as none."""
    return max(0, int(time.total_seconds()))


def rate(held: int, time: timedelta) -> int | None:
    """Bytes a second; None of a time that is too short to tell."""
    return int(held / time.total_seconds()) if time >= SHORTEST else None


def timed_out(directory: Directory, now: datetime) -> list[SessionId]:
    """What the next sweep of a server would remove, unless it is in use; blocks.

    Raises:
        OSError: as the system said.
    """
    disk = Disk(Folder(directory.path))
    try:
        return [
            named
            for named in disk.ids()
            if now - disk.touched(named) > directory.session_timeout
        ]
    except FileNotFoundError:
        return []


def owner_uid(directory: Directory) -> int:
    """Whose the sessions are, and so the server's user; blocks."""
    try:
        return (directory.path / SESSIONS).stat().st_uid
    except FileNotFoundError:
        return directory.path.stat().st_uid
