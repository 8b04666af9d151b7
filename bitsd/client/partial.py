"""A file that is being fetched: what came is in `.FILE.bitsd-part` until all is there.

`.FILE.bitsd-state` says what the other holds. It is written after what it tells of has
reached the disk, and is worth nothing unless that is as long as the whole file.
Everything here may block.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from bitsd.ranges import ByteRange

from .progress import TransferFailed
from .replies import Version
from .spans import Spans, before, count, joined, missing

_FULL = (errno.ENOSPC, errno.EDQUOT)

#: Forgotten on a full disk, so that there is room to write down the rest.
_ROOM = 64 * 1024

_CLOSED = -1

#: Bytes that a name may have on the file systems of Linux.
_LONGEST_NAME = 255


def part_of(target: Path) -> Path:
    """What holds the bytes that came, until all are there."""
    return _beside(target, "part")


def state_of(target: Path) -> Path:
    """What says which bytes came."""
    return _beside(target, "state")


def _beside(target: Path, what: str) -> Path:
    """A name that no other program gives its own unfinished files, as `.part` is."""
    name = f".{target.name}.bitsd-{what}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        short = sha256(os.fsencode(target.name)).hexdigest()[:32]
        name = f".{short}.bitsd-{what}"
    return target.with_name(name)


class Partial:
    """What came of a file; nobody else has it while it is open.

    Attributes:
        version: that is held; None if nothing is.
        done: the bytes that are held.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.version: Version | None = None
        self.done: Spans = ()
        # The URL may hold a password, or a secret in its query.
        self._url = sha256(url.encode()).hexdigest()
        self._part = part_of(target)
        self._state = state_of(target)
        self._new_state = _beside(target, "state-new")
        self._file = _CLOSED

    def open(self) -> None:
        """Take it, with what an earlier run left of the same URL.

        Raises:
            TransferFailed: also if another process has it.
        """
        with self._told():
            if self.target.exists() and not self.target.is_file():
                raise TransferFailed(f"{self.target} is no plain file")
            self._lock()
            self._recall()

    @property
    def held(self) -> int:
        """Bytes that came."""
        return count(self.done)

    def missing(self, wanted: ByteRange | None = None) -> list[ByteRange]:
        """The bytes that did not come yet, of those wanted or of all."""
        if self.version is None or not self.version.length:
            return []
        whole = ByteRange(0, self.version.length - 1)
        return missing(self.done, wanted or whole)

    def begin(self, version: Version) -> None:
        """Hold nothing, of this version.

        The old state is gone for good before anything of the old version is.
        """
        with self._told():
            self.forget()
            os.ftruncate(self._file, 0)
            system = os.fstatvfs(self._file)
            free = system.f_bavail * system.f_frsize
            if free < version.length:
                need = f"{self.target} needs {version.length} bytes"
                raise TransferFailed(f"{need}, and the disk has {free}; make room")
            os.ftruncate(self._file, version.length)
            self.version = version

    def forget(self) -> None:
        """Hold nothing."""
        self.version, self.done = None, ()
        with self._told():
            self._new_state.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
            self._sync_folder()

    def write(self, first: int, octets: bytes) -> None:
        """Hold these bytes, or those of them for which there is room."""
        at, end = first, first + len(octets)
        with self._told():
            while at < end:
                at += os.pwrite(self._file, memoryview(octets)[at - first :], at)
                self.done = joined(self.done, ByteRange(first, at - 1))

    def save(self) -> None:
        """Let what is held survive whatever happens."""
        with self._told():
            self._save()

    def publish(self, mtime: int | None) -> None:
        """Be the file, which is whole; with that time, or the present one."""
        with self._told():
            if mtime is not None:
                os.utime(self._file, (time.time(), mtime))
            os.fsync(self._file)
            self._part.replace(self.target)
            self._sync_folder()
            self._state.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing behind, for the file is not needed."""
        self.forget()
        with self._told():
            self._part.unlink()

    def close(self) -> None:
        """Leave behind what is of use for another run."""
        if self._file == _CLOSED:
            return
        try:
            if self._part_is_ours():
                self._leave()
        finally:
            os.close(self._file)

    def _leave(self) -> None:
        if not self.done or self.version is None or self.version.validator is None:
            self.discard()
            return
        try:
            self._save()
        except OSError as error:
            if error.errno not in _FULL:
                raise self._sentence(error) from None
            self._make_room()
            self.save()

    def _make_room(self) -> None:
        """Give up the last bytes that came, behind which there is nothing but holes."""
        end = max(self.done[-1].last + 1 - _ROOM, 0)
        with self._told():
            self.done = before(self.done, end)
            length = os.fstat(self._file).st_size
            os.ftruncate(self._file, end)
            os.ftruncate(self._file, length)

    def _lock(self) -> None:
        """Have the file that has the name, and nobody else have it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while not self._part_is_ours():  # whoever had it before has just published it
            file = os.open(self._part, flags, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                message = f"{self.target} is being fetched by another process"
                raise TransferFailed(message) from None
            if self._file != _CLOSED:
                os.close(self._file)
            self._file = file

    def _part_is_ours(self) -> bool:
        with suppress(FileNotFoundError):
            named = self._part.stat()
            return self._file != _CLOSED and os.path.samestat(
                named, os.fstat(self._file)
            )
        return False

    def _recall(self) -> None:
        with suppress(FileNotFoundError):
            state = _read(self._state.read_bytes())
            length = os.fstat(self._file).st_size
            expected = (self._url, length)
            if state and (state.url, state.version.length) == expected:
                self.version = state.version
                # One byte is always asked for, so that no old version is published.
                self.done = before(state.done, length - 1)

    def _save(self) -> None:
        """The state tells of what is on the disk, so it comes last."""
        version = None if self.version is None else asdict(self.version)
        state = {"url": self._url, "version": version, "done": self.done}
        os.fdatasync(self._file)
        with self._new_state.open("wb") as file:
            file.write(json.dumps(state).encode())
            file.flush()
            os.fsync(file.fileno())
        self._new_state.replace(self._state)

    def _sync_folder(self) -> None:
        folder = os.open(self.target.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._sentence(error) from None

    def _sentence(self, error: OSError) -> TransferFailed:
        if error.errno in _FULL:
            remedy = "make room, and the same command goes on"
            return TransferFailed(f"no room is left for {self.target}; {remedy}")
        return TransferFailed(f"cannot write {self.target}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class _State:
    url: str
    version: Version
    done: Spans


def _read(octets: bytes) -> _State | None:
    """None if the bytes are not what `_save` writes."""
    try:
        state = msgspec.convert(json.loads(octets), _State)
    except (ValueError, msgspec.ValidationError):
        return None
    length = state.version.length
    sound = all(0 <= span.first <= span.last < length for span in state.done)
    return state if sound and length > 0 else None


class Here(NamedTuple):
    """A file; seconds since 1970."""

    length: int
    mtime: int


def look_at(file: Path) -> Here | None:
    """What is to be seen of a file, if there is one."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return Here(found.st_size, int(found.st_mtime))
