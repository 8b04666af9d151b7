"""Faults of a disk on demand, in a process of ours that works on it.

`injected.c` is loaded before the C library of that process and makes its system calls
fail below one folder, as this side says through shared memory: the nth of them, or all
from there on, with this error or another. So one server goes through thousands of
faults, each at a call that is known.
"""

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from store_kit import cannot_run

_SOURCE = Path(__file__).with_name("injected.c")
_LINES = 4096


class Class(IntEnum):
    """What a call wants of the disk; in the order of `injected.c`."""

    LOOK = 0
    OPEN = 1
    OPEN_TO_WRITE = 2
    READ = 3
    LOCK = 4
    MAKE = 5
    WRITE = 6
    SYNC = 7
    REMOVE = 8
    CHANGE = 9
    CLOSE = 10


class When(IntEnum):
    """Which calls fail."""

    NEVER = 0
    ONCE = 1
    FROM_ON = 2


class How(IntEnum):
    """What a call has done that fails."""

    INSTEAD = 0
    AFTERWARDS = 1
    IN_PART = 2


_OPENING = {Class.OPEN, Class.OPEN_TO_WRITE, Class.MAKE}
_ROOM = {Class.MAKE, Class.WRITE, Class.SYNC, Class.CLOSE}

#: Which calls an error makes sense for.
ERRORS: dict[int, set[Class]] = {
    errno.ENOSPC: _ROOM | {Class.REMOVE, Class.CHANGE},  # where files are never changed
    errno.EDQUOT: _ROOM,
    errno.EIO: set(Class),
    errno.EROFS: {Class.OPEN_TO_WRITE, Class.MAKE, Class.REMOVE, Class.CHANGE},
    errno.EMFILE: _OPENING,
    errno.ENOMEM: _OPENING | {Class.LOOK, Class.READ, Class.REMOVE},
    errno.EACCES: _OPENING | {Class.LOOK, Class.REMOVE, Class.CHANGE},
    errno.ENOLCK: {Class.LOCK},
}


class Call(NamedTuple):
    """A system call that was seen."""

    kind: Class
    what: str


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        nth: call below the folder that fails, from 1.
        error: what it says.
        classes: which calls can fail so.
    """

    nth: int
    error: int
    classes: frozenset[Class]
    when: When = When.ONCE
    how: How = How.INSTEAD

    def __str__(self) -> str:
        name = errno.errorcode.get(self.error, self.error)
        return f"{name} {self.when.name} {self.how.name} at {self.nth}"


class _Line(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("text", ctypes.c_char * 124))


class _Memory(ctypes.Structure):
    _fields_ = (
        ("when", ctypes.c_int32),
        ("nth", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("how", ctypes.c_int32),
        ("classes", ctypes.c_uint32),
        ("seen", ctypes.c_int32),
        ("failed", ctypes.c_int32),
        ("folder", ctypes.c_char * 256),
        ("lines", _Line * _LINES),
    )


class Injection:
    """The disk of processes that are started with `environment`, or of this one.

    Args:
        folder: calls concern what is below it.
        place: where the library is built and the memory is.
    """

    def __init__(self, folder: Path, place: Path) -> None:
        self._shared = place / "injected"
        self._library = place / "injected.so"
        if os.environ.get("INJECTED") != str(self._shared):
            self._shared.write_bytes(bytes(ctypes.sizeof(_Memory)))
            _build(self._library)
        with self._shared.open("r+b") as file:
            self._memory = _Memory.from_buffer(mmap.mmap(file.fileno(), 0))
        self._memory.folder = str(folder).encode()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a new process one that faults can be injected into."""
        return {"LD_PRELOAD": str(self._library), "INJECTED": str(self._shared)}

    @property
    def failed(self) -> int:
        """Calls that failed since `failing` or `watched` began."""
        return self._memory.failed

    @contextmanager
    def watched(self) -> Iterator[list[Call]]:
        """Note the calls of a `with` block; they are there when it ends."""
        calls: list[Call] = []
        self._begin(When.NEVER)
        yield calls
        lines = self._memory.lines[: self._memory.seen]
        calls += [Call(Class(line.kind), line.text.decode()) for line in lines]

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Inject a fault into a `with` block."""
        self._memory.nth, self._memory.error = fault.nth, fault.error
        self._memory.how = fault.how
        self._memory.classes = sum(1 << kind for kind in fault.classes)
        self._begin(fault.when)
        try:
            yield
        finally:
            self._memory.when = When.NEVER

    def _begin(self, when: When) -> None:
        self._memory.seen = self._memory.failed = 0
        self._memory.when = when


def faults(calls: list[Call]) -> Iterator[Fault]:
    """All that can go wrong at these calls."""
    for nth, call in enumerate(calls, 1):
        for error, kinds in ERRORS.items():
            if call.kind in kinds:
                classes = frozenset(kinds)
                yield Fault(nth, error, classes)
                yield Fault(nth, error, classes, When.FROM_ON)
        if call.kind in (Class.MAKE, Class.REMOVE, Class.CHANGE, Class.SYNC):
            once = frozenset({call.kind})
            yield Fault(nth, errno.EIO, once, how=How.AFTERWARDS)
        if call.kind is Class.WRITE:
            yield Fault(nth, 0, frozenset({Class.WRITE}), how=How.IN_PART)


def some(found: Iterator[Fault], *, one_in: int) -> Iterator[Fault]:
    """One in so many of the faults, or all (`make faults`).

    There are more ways in which a call can fail than that, so each of them does.
    """
    return islice(found, 0, None, 1 if os.environ.get("BITSD_FAULTS") else one_in)


def _build(library: Path) -> None:
    if shutil.which("gcc") is None:
        cannot_run("gcc is not installed")
    command = ["gcc", "-O1", "-shared", "-fPIC", "-Wall", "-Werror"]
    done = subprocess.run(
        [*command, "-o", library, _SOURCE, "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
