"""`bitsd sessions`: what is in flight, and how to end it."""

import argparse
import asyncio
import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .caller import Caller
from .columns import columns
from .config import Config, Directory, load
from .destination import Folder
from .disk import Disk
from .inflight import Flight, flights, owner_uid, timed_out
from .plain import plain
from .protocol.refusal import Refusal
from .protocol.session import Destination
from .protocol.wire import CancelSession, SessionId
from .sessions import Sessions

#: A server lets go of a stalled body in less; an application may keep it for longer.
PATIENCE_SECONDS = 30.0

#: Hexadecimal digits of an id that the table shows, unless they are of two.
SHORT_ID = 8
_LENGTH = 36

_NUMBERS = (" HELD/TOTAL", " RATE", " AGE", " IDLE")
_HEAD = ("SESSION", "USER", "CLIENT", "FILE", *_NUMBERS, "STATE")
_SHRINKING = (("USER", 16), ("FILE", 24), ("CLIENT", 15), ("FILE", 12), ("USER", 8))

_UNITS = (("B", 1), ("kB", 10**3), ("MB", 10**6), ("GB", 10**9), ("TB", 10**12))
_TIMES = (("d", 86_400), ("h", 3600), ("m", 60))

Run = Callable[[argparse.Namespace, Config], int]


class Failed(Exception):
    """What was asked for cannot be done; says what to do."""


def define(sessions: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    verbs = sessions.add_subparsers(required=True, metavar="VERB").add_parser
    _add_verb(verbs, "list", "show all sessions", _list)
    for name, about, run in (
        ("show", "show all that is known of one", _show),
        ("cancel", "forget one and its bytes; a published file stays", _cancel),
    ):
        verb = _add_verb(verbs, name, about, run)
        verb.add_argument("id", metavar="ID", help="session id, or how it begins")
    about = "remove what has timed out, as a server does by itself"
    verb = _add_verb(verbs, "expire", about, _expire)
    verb.add_argument("--dry-run", action="store_true", help="only tell")


def _add_verb(
    make: Callable[..., argparse.ArgumentParser], name: str, about: str, run: Run
) -> argparse.ArgumentParser:
    verb = make(name, help=about, description=about)
    verb.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="of the server"
    )
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=lambda given: _ran(run, given))
    return verb


def _ran(run: Run, given: argparse.Namespace) -> int:
    try:
        return run(given, load(given.config))
    except Failed as error:
        print(f"bitsd: {plain(str(error))}", file=sys.stderr)
        return 1


@contextmanager
def _reading(directory: Directory) -> Iterator[None]:
    """What the disk refuses is a line that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise Failed(
            f"{error.filename}: {error.strerror}; run this as the server's user, "
            f"{_name(owner_uid(directory))}, or as root"
        ) from None
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"


def _all(config: Config) -> list[tuple[Directory, Flight]]:
    now = datetime.now(UTC)
    found: list[tuple[Directory, Flight]] = []
    for directory in config.directory:
        with _reading(directory):
            found += ((directory, flight) for flight in flights(directory, now))
    return found


def _one(config: Config, given: str) -> tuple[Directory, Flight]:
    """The session whose id begins so, in any case, with braces or without."""
    digits = _digits(given)
    found = [each for each in _all(config) if _digits(each[1].id).startswith(digits)]
    if not digits or not found:
        raise Failed(f"no session {given}; see: bitsd sessions list")
    if len(found) > 1:
        raise Failed(f"{given} is the beginning of {len(found)} ids; give more of it")
    return found[0]


def _digits(named: str) -> str:
    return named.strip("{}").upper()


def _say(text: str) -> None:
    """Print what may hold letters that the terminal has none for."""
    encoding = sys.stdout.encoding
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _say_json(value: object) -> None:
    """In ASCII, so that no client's text moves the cursor."""
    print(json.dumps(msgspec.to_builtins(value), indent=2))


def _list(given: argparse.Namespace, config: Config) -> int:
    found = [flight for _directory, flight in _all(config)]
    found.sort(key=lambda flight: flight.last_progress, reverse=True)
    if given.json:
        _say_json(found)
    elif not found:
        print("no sessions")
    else:
        length = _telling([_digits(flight.id) for flight in found])
        several = len(config.directory) > 1
        rows = [_row(flight, length, several=several) for flight in found]
        for line in columns(_HEAD, rows, _SHRINKING):
            _say(line)
    return 0


def _telling(ids: list[str]) -> int:
    """How many digits tell them all apart, and a few at least."""
    apart = (
        n for n in range(SHORT_ID, _LENGTH) if len({x[:n] for x in ids}) == len(ids)
    )
    return next(apart, _LENGTH)


def _row(flight: Flight, length: int, *, several: bool) -> list[str]:
    name = flight.file or "-"
    speed = flight.bytes_per_second
    return [
        _digits(flight.id)[:length],
        flight.user or "-",
        flight.client or "-",
        f"{flight.directory.rstrip('/')}/{name}" if several else name,
        _part(flight.held, flight.total),
        "-" if speed is None else f"{_amount(speed)}/s",
        "-" if flight.age_seconds is None else _time(flight.age_seconds),
        _time(flight.idle_seconds),
        flight.state,
    ]


def _part(held: int, total: int | None) -> str:
    """Both in the unit of the larger."""
    unit, size = _unit(held if total is None else total)
    if total is None:
        return f"{_number(held, size)}/? {unit}"
    return f"{_number(held, size)}/{_number(total, size)} {unit}"


def _amount(number: int) -> str:
    unit, size = _unit(number)
    return f"{_number(number, size)} {unit}"


def _unit(number: int) -> tuple[str, int]:
    """The largest unit of which there is one, and its bytes."""
    return next((unit for unit in reversed(_UNITS) if number >= unit[1]), _UNITS[0])


def _number(number: int, size: int) -> str:
    return f"{number / size:.{0 if size == 1 else 1}f}"


def _time(seconds: int) -> str:
    for unit, length in _TIMES:
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _show(given: argparse.Namespace, config: Config) -> int:
    _directory, flight = _one(config, given.id)
    if given.json:
        _say_json(flight)
        return 0
    for name, value in msgspec.structs.asdict(flight).items():
        if isinstance(value, datetime):
            value = value.isoformat(" ", "seconds")
        if value is not None:
            _say(f"{name.replace('_', ' '):17} {plain(str(value))}")
    return 0


def _cancel(given: argparse.Namespace, config: Config) -> int:
    directory, flight = _one(config, given.id)
    with _reading(directory):
        asyncio.run(end(directory, flight))
    with suppress(OSError):  # the session has gone, with word of it or without
        Disk(Folder(directory.path)).mark(flight.id)
    if given.json:
        _say_json({"cancelled": flight})
    else:
        _say(f"cancelled {flight.id}, {_part(flight.held, flight.total)}")
        if flight.state == "receiving":
            print("a client that goes on begins anew: cancel its job, too")
    return 0


async def end(
    directory: Directory, flight: Flight, patience: float = PATIENCE_SECONDS
) -> None:
    """As the client's own Cancel does, in the session's turn.

    Raises:
        Failed: there is nothing to end, or whoever serves it does not let go.
        OSError: as the system said.
    """
    destination = Destination(flight.file or "")
    caller = Caller(flight.user, flight.client or "", destination)
    try:
        async with asyncio.timeout(patience):
            await Sessions(directory).cancel(CancelSession(flight.id), caller)
    except TimeoutError:
        raise Failed(
            f"{flight.id} is in use, perhaps by an application that is told of it; "
            "try again later"
        ) from None
    except Refusal:
        if flight.state == "damaged":  # no packet of it is served
            await asyncio.to_thread(_remove, directory, flight.id)
        elif flight.state != "timed-out":  # of which that was the end
            raise Failed(f"{flight.id} has just ended by itself") from None


def _remove(directory: Directory, named: SessionId) -> None:
    Disk(Folder(directory.path)).remove(named)


def _expire(given: argparse.Namespace, config: Config) -> int:
    removed: list[SessionId] = []
    kept: list[SessionId] = []
    for directory in config.directory:
        if not directory.upload:  # no sweep of a server comes here
            continue
        with _reading(directory):
            found = timed_out(directory, datetime.now(UTC))
            if not given.dry_run:
                asyncio.run(_sweep(directory))
            disk = Disk(Folder(directory.path))
            for named in found:
                there = os.path.lexists(disk.request(named).parent)
                (kept if there else removed).append(named)
    if given.json:
        _say_json({"dry_run": given.dry_run, "removed": removed, "kept": kept})
    else:
        _tell(removed, kept, dry_run=given.dry_run)
    return 1 if kept and not given.dry_run else 0


async def _sweep(directory: Directory) -> None:
    with suppress(FileNotFoundError):  # nobody has uploaded here yet
        await Sessions(directory).expire()


def _tell(removed: list[SessionId], kept: list[SessionId], *, dry_run: bool) -> None:
    for named in removed:
        print(f"removed {named}")
    for named in kept:
        print(f"{'would remove' if dry_run else 'could not remove'} {named}")
    if not removed and not kept:
        print("nothing has timed out")
