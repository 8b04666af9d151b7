"""What is in BITS-Sessions beside the sessions: litter, graves and strangers.

Litter is what a crash left of a session that was being made or removed, a grave is the
record of a session that was closed, and a stranger is what somebody put there.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from heapq import heappush, heappushpop
from pathlib import Path

from . import record
from .protocol.refusal import Refusal
from .protocol.wire import SessionId, session_id

# What a closed session leaves, so that its Close may come again ([MC-BUP] 3.1.6.2).
_CLOSED = "closed-"

# What an operator leaves of one that was cancelled, so that the log says so.
_CANCELLED = "cancelled-"

#: Graves that outlive a cleaning; each takes a name and a block of the disk.
MAXIMUM_GRAVES = 100_000


def grave(named: SessionId) -> str:
    """The name of what is left of a session that was closed."""
    return f"{_CLOSED}{named}"


def mark(named: SessionId) -> str:
    """The name of what says that an operator cancelled a session."""
    return f"{_CANCELLED}{named}"


def ids(sessions: Path) -> Iterator[SessionId]:
    """The sessions in a folder, damaged ones and litter included; blocks between."""
    with os.scandir(sessions) as entries:
        for entry in entries:
            if _is_home(entry):
                yield SessionId(entry.name)


def strangers(sessions: Path) -> Iterator[str | None]:
    """Paths of what bitsd did not make, None for all else; blocks between."""
    with os.scandir(sessions) as entries:
        for entry in entries:
            ours = _is_home(entry) or _is_grave(entry)
            yield None if ours else entry.path


def is_session(home: Path | str) -> bool:
    """There is the record that makes a session of a folder, or could be; blocks."""
    try:
        os.lstat(f"{home}/{record.FILE}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # who may not look cannot say that it is not there
        return True
    return True


def clean(
    sessions: Path, before: datetime, most: int = MAXIMUM_GRAVES
) -> Iterator[OSError | None]:
    """Remove litter and graves; blocks between its steps, which say what they cannot.

    Args:
        sessions: the folder.
        before: what is older goes.
        most: graves that stay, however young; the oldest go.
    """
    graves: list[tuple[float, str]] = []
    with os.scandir(sessions) as entries:
        for entry in entries:
            try:
                if _is_litter(entry, before):
                    _remove(entry)
                elif _is_grave(entry):
                    _lay(entry, graves, most)
            except FileNotFoundError:  # it has gone meanwhile
                yield None
            except OSError as error:
                yield error
            else:
                yield None


def _lay(entry: os.DirEntry[str], graves: list[tuple[float, str]], most: int) -> None:
    """Put a grave to the youngest, and remove the oldest if they are too many."""
    found = (entry.stat(follow_symlinks=False).st_mtime, entry.path)
    if len(graves) < most:
        heappush(graves, found)
    else:
        Path(heappushpop(graves, found)[1]).unlink(missing_ok=True)


def _is_home(entry: os.DirEntry[str]) -> bool:
    return _is_id(entry.name) and entry.is_dir(follow_symlinks=False)


def _is_grave(entry: os.DirEntry[str]) -> bool:
    kind, dash, named = entry.name.partition("-")
    ours = kind + dash in (_CLOSED, _CANCELLED) and _is_id(named)
    return ours and entry.is_file(follow_symlinks=False)


def _is_id(name: str) -> bool:
    with suppress(Refusal):
        return session_id(name) == name
    return False


def _is_litter(entry: os.DirEntry[str], before: datetime) -> bool:
    """An old grave, or a folder of ours that is not a session yet or no longer."""
    if not _is_grave(entry) and (not _is_home(entry) or is_session(entry.path)):
        return False
    return entry.stat(follow_symlinks=False).st_mtime < before.timestamp()


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path)
    else:
        Path(entry.path).unlink()
