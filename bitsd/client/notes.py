"""What is kept of an upload, so that the same command goes on after whatever happened.

One small file for each pair of a file and a URL, in the state directory of the user
(XDG Base Directory Specification). Credentials are not in there, nor is the URL, which
may hold some.
"""

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import msgspec

from .progress import TransferFailed
from .source import Looks

#: So long without progress, and an upload counts as given up: no server keeps its
#: part of it for long.
KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Note:
    """An upload that has a session.

    Attributes:
        source: its path, for people who look.
        looks: of the file that the session is for.
        session_id: as the server wrote it.
        offset: that the server said last. It is asked again, and with this one: a
            server that had a power cut trusts no bytes behind it.
        host_id: see `steps.Upload`, as for the others.
    """

    source: str
    looks: Looks
    session_id: str
    offset: int = 0
    host_id: str | None = None
    fallback_seconds: int | None = None
    finished: bool = False


def folder(what: str) -> Path:
    """For notes of one kind: in `$XDG_STATE_HOME`, which counts if it is absolute."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = named if named.is_absolute() else Path.home() / ".local" / "state"
    return state / "bitsd" / what


class Notes:
    """The notes of one upload, which this program alone may write; its calls block.

    Raises:
        TransferFailed: another program has them, or there is no place.
    """

    def __init__(self, source: Path, url: str) -> None:
        name = sha256(f"{source}\0{url}".encode("utf-8", "surrogateescape"))
        self._path = folder("uploads") / f"{name.hexdigest()[:32]}.json"
        self._written: Note | None = None
        self._lock_path = self._path.with_suffix(".lock")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(self._lock_path)
        except BlockingIOError:
            message = f"another bitsd uploads {source} to that URL; wait or stop it"
            raise TransferFailed(message) from None
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> TransferFailed:
        where = self._path.parent
        remedy = "set XDG_STATE_HOME to a folder that can be written"
        return TransferFailed(
            f"cannot keep notes in {where}: {error.strerror}; {remedy}"
        )

    def close(self) -> None:
        """Let others have them; where nothing is kept nothing is left."""
        if not self._path.exists():
            self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)

    def read(self) -> Note | None:
        """What was kept; of something that is no note nothing was.

        Raises:
            TransferFailed: there is something that cannot be read.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Note)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        except OSError as error:
            raise self._failed(error) from None

    def write(self, note: Note) -> None:
        """Keep it, whole or not at all, also when the power fails.

        Raises:
            TransferFailed: that did not work.
        """
        if note == self._written:
            return
        new = self._path.with_suffix(".new")
        try:
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(note)))
                file.flush()
                os.fsync(handle)
            new.replace(self._path)
            _sync(self._path.parent)
            self._written = note
        except OSError as error:
            raise self._failed(error) from None

    def forget(self) -> None:
        """Keep nothing."""
        self._path.unlink(missing_ok=True)


def forget_old(before: float) -> None:
    """Forget the uploads that had no progress since that time; blocks.

    Those that somebody works at stay.
    """
    for path in folder("uploads").glob("*.json"):
        # Another has it or removes it, too; and the next upload comes by again.
        with suppress(OSError):
            if path.stat().st_mtime < before:
                _forget(path, before)


def _forget(path: Path, before: float) -> None:
    lock_path = path.with_suffix(".lock")
    lock = _locked(lock_path)
    try:
        if path.stat().st_mtime < before:  # nobody came between
            path.unlink()
            lock_path.unlink()
    finally:
        os.close(lock)


def _locked(path: Path) -> int:
    """The handle of a lock, which is nobody else's.

    Raises:
        BlockingIOError: somebody else has it.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have removed what was opened.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
