"""Whether many sessions on the disk make one of them dearer."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

from bitsd.destination import Folder
from bitsd.disk import Disk
from bitsd.protocol.session import Destination, Session
from bitsd.protocol.wire import SessionId
from bitsd.record import BOOT

from .client import Line, Work, create, fragment, packet
from .measure import Case, Contender, Kind, Measure, Target, Unit
from .servers import UPLOADS, Server, Start
from .starts import bitsd

FEW = 10
_PART = 64 << 10

#: A server that uses less of a core than this, when it is looked at, is at rest.
_IDLE = 0.02
_LOOK_SECONDS = 1.0

#: Small uploads of a run; each takes a dozen syncs.
_UPLOADS = 64

#: What is measured of a small upload, in the order in which it happens.
STEPS = ("Create-Session", "first Fragment", "last Fragment", "Close-Session")


def growth(count: int) -> Iterator[Case]:
    """Steps of an upload, and a start.

    Args:
        count: sessions of the server that has many.
    """
    starts = {f"bitsd, {n:,} sessions": filled(bitsd(), n) for n in (count, FEW)}
    for step, name in enumerate(STEPS):
        load = SmallUploads(max(1, min(_UPLOADS, count // FEW)), step)
        smaller = replace(load, count=1)
        contenders = [
            Contender(n, settled(s), load, smaller) for n, s in starts.items()
        ]
        target = Target(Measure.CPU, list(starts)[1], 1.1)
        yield Case("growth", name, Unit.REQUEST, contenders, target)
    once = SmallUploads(1, 0)
    contenders = [Contender(n, s, once, once) for n, s in starts.items()]
    target = Target(Measure.WALL, None, 2)
    yield Case("growth", "start", Unit.START, contenders, target, Kind.START)
    name, start = f"bitsd, {count:,} leftovers", littered(bitsd(), count)
    contenders = [Contender(name, start, once, once)]
    yield Case("growth", "start, littered", Unit.START, contenders, target, Kind.START)


def filled(start: Start, count: int) -> Start:
    """A server that finds sessions of one address when it starts."""

    def start_filled(folder: Path, files: Path) -> Server:
        fill(folder / UPLOADS, count)
        return start(folder, files)

    return start_filled


def littered(start: Start, count: int) -> Start:
    """A server that finds what crashes and somebody's hands left when it starts."""

    def start_littered(folder: Path, files: Path) -> Server:
        litter(folder / UPLOADS, count)
        return start(folder, files)

    return start_littered


def settled(start: Start) -> Start:
    """A server that has counted what it found, which it does while it serves."""

    def start_settled(folder: Path, files: Path) -> Server:
        server = start(folder, files)
        used, quiet = -1.0, server.usage().cpu
        while quiet - used > _IDLE * _LOOK_SECONDS:
            time.sleep(_LOOK_SECONDS)
            used, quiet = quiet, server.usage().cpu
        return server

    return start_settled


def fill(uploads: Path, count: int) -> None:
    """Make sessions, without a byte each, unless there are some."""
    folder = Folder(uploads)
    if folder.sessions.exists():
        return
    disk, first = Disk(folder), _session()
    disk.prepare()
    disk.create(first)
    record = disk.request(first.id).with_name("session.json").read_bytes()
    for _ in range(count - 1):
        home = disk.request(_session().id).parent
        home.mkdir()
        (home / "request").touch()
        (home / "session.json").write_bytes(record)
    os.sync()  # now, and not during the runs


def litter(uploads: Path, count: int) -> None:
    """Leave as many of each `LEFTOVERS`, in all `count`, unless there are some."""
    sessions = Folder(uploads).sessions
    if sessions.exists():
        return
    fill(uploads, 1)
    [home] = sessions.iterdir()
    record = (home / "session.json").read_bytes()
    for number in range(count - 1):
        LEFTOVERS[number % len(LEFTOVERS)](sessions, record)
    os.sync()


def _unfinished(sessions: Path, _record: bytes) -> None:
    home = sessions / _session().id
    home.mkdir()
    (home / "request").touch()


def _closed(sessions: Path, record: bytes) -> None:
    (sessions / f"closed-{_session().id}").write_bytes(record)


def _damaged(sessions: Path, record: bytes) -> None:
    home = sessions / _session().id
    home.mkdir()
    (home / "session.json").write_bytes(record[:-1])


def _of_another_boot(sessions: Path, record: bytes) -> None:
    home = sessions / _session().id
    home.mkdir()
    (home / "request").touch()
    (home / "session.json").write_bytes(record.replace(BOOT.encode(), b"0" * 36))


def _strange(sessions: Path, _record: bytes) -> None:
    (sessions / f"notes-{uuid4()}").touch()


#: What there is in BITS-Sessions beside the sessions of this boot.
LEFTOVERS = (_unfinished, _closed, _damaged, _of_another_boot, _strange)


def _session() -> Session:
    now = datetime.now(UTC)
    return Session(
        id=SessionId(f"{{{str(uuid4()).upper()}}}"),
        destination=Destination("/many"),
        url="http://localhost/up/many",
        created=now,
        touched=now,
        user=None,
        address="127.0.0.2",
    )


@dataclass(frozen=True)
class SmallUploads:
    """One of `STEPS` of some uploads of two fragments; the others are not measured."""

    count: int
    step: int
    clients: int = 1

    @property
    def amount(self) -> int:
        """Requests."""
        return self.count

    @contextmanager
    def visit(self, port: int, _client: int) -> Iterator[Work]:
        """Step after step, each of all uploads."""
        with Line(port) as line:
            steps = list(self._steps(line))
            for step in steps[: self.step]:
                step()
            yield steps[self.step]
            for step in steps[self.step + 1 :]:
                step()

    def _steps(self, line: Line) -> Iterator[Callable[[], None]]:
        sessions: dict[str, str] = {}

        def create_all() -> None:
            for number in range(self.count):
                sessions[f"/up/small-{number}"] = create(line, f"/up/small-{number}")

        def send_all(first: int) -> None:
            for target, session in sessions.items():
                head = fragment(target, session, first, _PART, 2 * _PART)
                line.ask(head, _PART, expect=(200,))

        def close_all() -> None:
            for target, session in sessions.items():
                head = packet(target, "Close-Session", BITS_Session_Id=session)
                line.ask(head, expect=(200,))

        yield create_all
        yield partial(send_all, 0)
        yield partial(send_all, _PART)
        yield close_all
