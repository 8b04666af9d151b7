"""Bodies, sessions and disks for tests that need no HTTP around them."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from msgspec import structs

from bitsd.caller import Caller
from bitsd.config import Directory
from bitsd.destination import Folder
from bitsd.disk import Disk
from bitsd.protocol.refusal import Reason, Refusal
from bitsd.protocol.session import Admission, Destination, Session
from bitsd.protocol.wire import Ack, CancelSession, CloseSession, Fragment, SessionId
from bitsd.record import BOOT, Keeping
from bitsd.sessions import Sessions
from bitsd.turns import Body

ID = SessionId("{11111111-2222-4333-8444-555555555555}")
OTHER = SessionId("{66666666-7777-4888-9999-AAAAAAAAAAAA}")
CREATED = datetime(2024, 2, 29, 12, 30, 15, 250, tzinfo=UTC)
URL = "http://test/in/report.dat"
NAME = Destination("report.dat")

#: How bytes are kept where nothing else is said.
KEPT = Keeping(BOOT, synced=True)

#: Nothing here takes as long as this, in seconds.
PATIENCE = 20.0


def cannot_run(reason: str) -> NoReturn:
    """Skip; where every test has to run, fail."""
    if os.environ.get("BITSD_ALL_TESTS") == "1":
        pytest.fail(reason)
    # Whoever calls this says why.
    pytest.skip(reason)


@contextmanager
def small_disk(at: Path, *, size: str = "64k", files: int = 1000) -> Iterator[Path]:
    """A file system of its own, with room for `size` bytes and `files` names."""
    at.mkdir(exist_ok=True)
    options = f"size={size},nr_inodes={files}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", at]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        cannot_run(f"mounting a disk needs root: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def remount(disk: Path, options: str) -> None:
    """Change a mounted disk: its size, or that it may be written."""
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """A file that takes all room of a disk, but for the bytes to leave."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, failed(errno.ENOSPC):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - leave)
    return filler


def use_up_names(disk: Path) -> list[Path]:
    """Files that take every name that a disk has room for."""
    made: list[Path] = []
    with failed(errno.ENOSPC):
        while True:
            path = disk / f"filler{len(made)}"
            path.touch()
            made.append(path)
    return made


def run_child(code: str, *arguments: object, under: tuple[str, ...] = ()) -> str:
    """What Python code prints in a process of its own."""
    command = [*under, sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def as_anybody() -> tuple[str, ...]:
    """A prefix for a command that then has the rights of its user and no others.

    Also if that is root, who without the capabilities is one user of many.
    """
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        cannot_run("setpriv is not installed")
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def failing(call: str, *, nth: str = "1+", error: str = "EIO") -> tuple[str, ...]:
    """A prefix for a command of whose threads a system call fails, or the nth one."""
    if shutil.which("strace") is None:
        cannot_run("strace is not installed")
    inject = f"inject={call}:error={error}:when={nth}"
    return ("strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)


def handles() -> set[int]:
    """What this process has open."""
    found = list(Path("/proc/self/fd").iterdir())
    # Without the one that the listing itself needed.
    return {int(handle.name) for handle in found if os.path.lexists(handle)}


class Chunks:
    """A `turns.Body` that brings these chunks, and then ends or stalls."""

    def __init__(self, *chunks: bytes, stalls: bool = False) -> None:
        self.ended: Reason | None = None
        self.arrived = asyncio.Event()
        self._chunks = chunks
        self._over = asyncio.Event()
        if not stalls:
            self._over.set()

    async def into(self, sink: Callable[[memoryview], None]) -> None:
        for chunk in self._chunks:
            sink(memoryview(chunk))
            await asyncio.sleep(0)
        self.arrived.set()
        await self._over.wait()

    def cut(self, reason: Reason) -> None:
        if self.ended is None:
            self.ended = reason
        self._over.set()


def new_session(named: SessionId = ID, **facts: object) -> Session:
    """A session as `Disk.create` takes it."""
    values = {
        "id": named,
        "destination": NAME,
        "url": URL,
        "created": CREATED,
        "touched": CREATED,
        "address": "192.0.2.1",
    }
    return Session(**(values | facts))


def disk_in(folder: Path, *, durable: bool = True) -> Disk:
    """The disk of a folder, ready for sessions."""
    disk = Disk(Folder(folder), durable=durable)
    disk.prepare()
    return disk


async def load(disk: Disk, named: SessionId) -> Session:
    """The session as a packet finds it."""
    entity = await disk.open(named)
    entity.close()
    return entity.session


async def append(disk: Disk, session: Session, admission: Admission, body: Body) -> int:
    """What a fragment does to the session of that id; the bytes that are held."""
    entity = await disk.open(session.id)
    try:
        return await entity.append(admission, body)
    finally:
        entity.close()


async def publish(disk: Disk, session: Session, *, overwrite: bool) -> None:
    """What the last fragment does to the session of that id."""
    entity = await disk.open(session.id)
    try:
        await disk.publish(entity, overwrite=overwrite)
    finally:
        entity.close()


async def save(disk: Disk, session: Session) -> None:
    """What a packet does that changes the record of that session."""
    entity = await disk.open(session.id)
    try:
        await disk.save(entity, session)
    finally:
        entity.close()


async def held(disk: Disk, octets: bytes, session: Session) -> Session:
    """The session, made on disk and holding these bytes."""
    disk.create(session)
    if octets:
        await append(disk, session, Admission(0, len(octets)), Chunks(octets))
    return await load(disk, session.id)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, time: timedelta) -> None:
        self.now += time


def caller(
    name: str = NAME, *, user: str | None = None, address: str = "192.0.2.1"
) -> Caller:
    """Somebody who sends packets to `/in/NAME`."""
    return Caller(user, address, Destination(name))


@dataclass
class Uploads:
    """The sessions of one directory `/in`, and the packets that tests send to it."""

    sessions: Sessions
    folder: Path
    clock: Clock

    @classmethod
    async def open(cls, folder, **settings: object) -> "Uploads":
        """As a server does at its start, on what the folder holds."""
        folder.mkdir(exist_ok=True)
        clock = Clock()
        values = {"url": "/in", "path": folder, "upload": True}
        sessions = Sessions(Directory(**(values | settings)), now=clock)
        uploads = cls(sessions, folder, clock)
        await uploads.sessions.open()
        await uploads.sessions.count()
        return uploads

    def home(self, named: SessionId) -> Path:
        """The folder of a session."""
        return self.folder / "BITS-Sessions" / named

    @property
    def homes(self) -> list[Path]:
        """What could be sessions."""
        return list((self.folder / "BITS-Sessions").glob("{*"))

    @property
    def on_disk(self) -> set[str]:
        """The names in the folder of the sessions, but for what closed ones left."""
        names = {path.name for path in (self.folder / "BITS-Sessions").iterdir()}
        return {name for name in names if not name.startswith("closed-")}

    @property
    def graves(self) -> list[Path]:
        """What closed sessions left."""
        return list((self.folder / "BITS-Sessions").glob("closed-*"))

    async def restart(self, *, boot: str = BOOT, **settings: object) -> None:
        """As a new process; in another boot, it is as after a power cut."""
        directory = structs.replace(self.sessions.directory, **settings)
        self.sessions = Sessions(directory, now=self.clock, boot=boot)
        await self.sessions.open()

    async def create(self, sender: Caller | None = None, url: str = URL) -> SessionId:
        """Create-Session that is expected to work."""
        ack = await self.sessions.create(sender or caller(), url)
        assert ack.session_id is not None
        return ack.session_id

    async def send(
        self,
        named: SessionId,
        octets: bytes,
        *,
        first: int = 0,
        total: int | None = None,
        sender: Caller | None = None,
        body: Chunks | None = None,
    ) -> Ack:
        """Fragment; the last one unless there is a total."""
        after = first + len(octets)
        packet = Fragment(named, first, after - 1, after if total is None else total)
        return await self.sessions.fragment(
            packet, sender or caller(), body or Chunks(octets)
        )

    async def close(self, named: SessionId, sender: Caller | None = None) -> Ack:
        """Close-Session."""
        return await self.sessions.close(CloseSession(named), sender or caller())

    async def cancel(self, named: SessionId, sender: Caller | None = None) -> Ack:
        """Cancel-Session."""
        return await self.sessions.cancel(CancelSession(named), sender or caller())


@contextmanager
def failed(*numbers: int) -> Iterator[None]:
    """The system says no, and for one of these reasons if there are any."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        yield
    assert not numbers or caught.value.errno in numbers, caught.value


@contextmanager
def refused(reason: Reason) -> Iterator[pytest.ExceptionInfo[Refusal]]:
    """The packet is refused, and for this reason."""
    with pytest.raises(Refusal) as caught:
        yield caught
    assert caught.value.reason is reason, caught.value
