"""What the kernel has in memory, looked at without waiting for a disk.

A hop to a thread costs more than a small file that is cached, so the event loop
tries here first; `BlockingIOError` says that a thread has to do it after all.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_OPENAT2 = 437  # on every architecture, linux/openat2.h
_AT_FDCWD = -100
_RESOLVE_CACHED = 0x20

#: For `open_now`: a symbolic link anywhere in the path is refused with ELOOP.
RESOLVE_NO_SYMLINKS = 0x04

# An older kernel does not know the call or the flag, a sandbox may forbid the call;
# a file system may have no way to say whether a page is there.
_CANNOT = frozenset((errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP))


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW_BYTES = ctypes.sizeof(_OpenHow)
# It does not wait, so it may keep the interpreter's lock.
_libc = ctypes.PyDLL(None, use_errno=True)


def open_now(path: Path | str, flags: int, resolve: int = 0) -> int:
    """Open a file whose names are all in memory (openat2(2), RESOLVE_CACHED).

    Args:
        path: of a file that exists; nothing is created.
        flags: as for `os.open`; O_CLOEXEC is added, as there.
        resolve: more of openat2(2)'s rules for the names.

    Raises:
        BlockingIOError: it would have to wait, or cannot know.
        OSError: as `os.open`.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_CACHED | resolve)
    name = os.fsencode(path)
    handle: int = _libc.syscall(
        _OPENAT2, _AT_FDCWD, name, ctypes.byref(how), _HOW_BYTES
    )
    if handle < 0:
        raise _refusal(ctypes.get_errno(), path)
    return handle


def fill_now(file: int, buffer: memoryview, offset: int) -> int:
    """Read from `offset` on; how many bytes were there (preadv2(2), RWF_NOWAIT).

    Raises:
        BlockingIOError: it would have to wait, or cannot know.
        OSError: as `os.preadv`.
    """
    try:
        return os.preadv(file, (buffer,), offset, os.RWF_NOWAIT)
    except OSError as error:
        raise _refusal(error.errno, file) from None


def read_now(file: int, size: int) -> bytes:
    """All of an open file, which has `size` bytes (preadv2(2), RWF_NOWAIT).

    Raises:
        BlockingIOError: it would have to wait, or cannot know.
        OSError: as `os.pread`.
    """
    buffer = bytearray(size)
    held = fill_now(file, memoryview(buffer), 0)
    if held < size:  # the next page is not in memory
        raise _refusal(errno.EAGAIN, file)
    return bytes(buffer)


class Access(NamedTuple):
    """How to open a file, and to read all of an open one, given its size."""

    open: Callable[[Path | str, int], int]
    read: Callable[[int, int], bytes]


def _pread(file: int, size: int) -> bytes:
    return os.pread(file, size, 0)


#: For the event loop: may raise `BlockingIOError`.
AT_ONCE = Access(open_now, read_now)

#: For threads: waits for the disk.
WAITING = Access(os.open, _pread)


def _refusal(number: int | None, what: Path | str | int) -> OSError:
    if number is None or number in _CANNOT:
        number = errno.EAGAIN
    return OSError(number, os.strerror(number), str(what))
