"""The only place where the path of a URL becomes the path of a file.

A target is split at its slashes and percent-decoded once, as UTF-8. Names that
mean something else to Windows, to a shell or to this server are refused, and
whatever is opened is looked up again by the kernel's own name for it, so that no
link leads out of the folder (protocol-notes/names.md).
"""

import ctypes
import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from .cached import RESOLVE_NO_SYMLINKS, open_now
from .protocol.refusal import Reason, Refusal
from .protocol.session import Destination

#: The folder of the sessions, below a directory's own.
SESSIONS = "BITS-Sessions"

#: Where the replies of upload-reply jobs are fetched, below a directory's URL.
REPLIES = "BITS-Replies"

#: Longest name in bytes that Linux file systems take.
MAXIMUM_NAME = 255

_RESERVED = frozenset((SESSIONS.casefold(), REPLIES.casefold()))
_libc = ctypes.CDLL(None, use_errno=True)

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# What Windows forbids in names; `:` would also open an alternate stream there.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?",
    re.IGNORECASE,
)


# All packets of an upload have one target. Few are kept, for each may be long.
@lru_cache(maxsize=64)
def names(target: str) -> tuple[str, ...]:
    """The decoded names of a request target's path; the last is "" after a slash.

    Args:
        target: as on the wire, origin or absolute form (RFC 9112 3.2), with
            undecodable bytes as surrogates.

    Raises:
        Refusal: MALFORMED, the target is not UTF-8 or a percent escape is broken.
    """
    path = re.split(r"[?#]", target, maxsplit=1)[0]
    if not path.startswith("/"):
        _authority, slash, below = path.partition("://")[2].partition("/")
        path = slash + below
    decoded = [_decoded(name) for name in path.split("/")]
    return (*filter(None, decoded[:-1]), decoded[-1])


def _decoded(name: str) -> str:
    raw = name.encode("utf-8", "surrogateescape")
    if _BROKEN_ESCAPE.search(raw):
        raise Refusal(Reason.MALFORMED, f"a broken percent escape in {name[:80]!r}")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Refusal(Reason.MALFORMED, f"not UTF-8: {name[:80]!r}") from None


@lru_cache(maxsize=64)
def destination(path: tuple[str, ...]) -> Destination:
    """Check the names below a directory's URL.

    Raises:
        Refusal: IS_A_FOLDER (the path ends in a slash), MALFORMED (a name that no
            Windows client could store) or ACCESS_DENIED (our own folders).
    """
    if not path or not path[-1]:
        raise Refusal(Reason.IS_A_FOLDER, "the URL ends in a slash")
    for name in path:
        _check_name(name)
    if path[0].casefold() in _RESERVED:
        raise Refusal(Reason.ACCESS_DENIED, f"{path[0]} is the server's own")
    return Destination("/".join(path))


def _check_name(name: str) -> None:
    if (
        name in (".", "..")
        or name[-1] in ". "
        or _FORBIDDEN.search(name)
        or _DEVICE.fullmatch(name)
    ):
        raise Refusal(Reason.MALFORMED, f"not a name for a file: {name[:80]!r}")
    if len(name.encode()) > MAXIMUM_NAME:
        raise Refusal(Reason.MALFORMED, f"a name of over {MAXIMUM_NAME} bytes")


class Folder:
    """A directory's folder on disk, and the way to files in it that never leaves it.

    Every method blocks and belongs in a thread, but for `open_now`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve(strict=True)
        self.sessions = self.path / SESSIONS
        self._inside = f"{self.path}/".replace("//", "/")

    def open(self, wanted: Destination) -> BinaryIO:
        """Open a published file for unbuffered reading; the caller closes it.

        Raises:
            OSError: there is no such regular file inside the folder.
        """
        with self._found(self.path / wanted) as handle:
            return _reading(handle, wanted)

    def open_now(self, wanted: Destination) -> BinaryIO:
        """As `open`, but quicker, where nothing has to wait for a disk.

        Raises:
            BlockingIOError: it would, or links and such need a closer look.
            OSError: as `open`.
        """
        # Without these and without links, the path says where the file is.
        if ".." in wanted or wanted.startswith(SESSIONS):
            raise BlockingIOError(errno.EAGAIN, "needs a closer look", wanted)
        path = f"{self._inside}{wanted}"
        try:
            handle = open_now(path, os.O_PATH, RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BlockingIOError(errno.EAGAIN, "a link", wanted) from None
            raise
        try:
            return _reading(handle, wanted)
        finally:
            os.close(handle)

    @contextmanager
    def parent(self, wanted: Destination) -> Iterator[tuple[int, str]]:
        """The open folder where `wanted` is or will be, and its name in there.

        Raises:
            OSError: there is no such folder inside the folder, or it is on
                another file system, where a finished upload could not be linked.
        """
        path = self.path / wanted
        with self._found(path.parent) as handle:
            if os.fstat(handle).st_dev != self.path.stat().st_dev:
                raise OSError(errno.EXDEV, "on another file system", str(path.parent))
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            opened = os.open(f"/proc/self/fd/{handle}", flags)
        try:
            yield opened, path.name
        finally:
            os.close(opened)

    @contextmanager
    def _found(self, path: Path) -> Iterator[int]:
        """An O_PATH handle known to be inside the folder, wherever links led."""
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            real = Path(f"/proc/self/fd/{handle}").readlink()
            if not f"{real}/".startswith(self._inside) or real.is_relative_to(
                self.sessions
            ):
                raise FileNotFoundError(errno.ENOENT, "outside the folder", str(path))
            yield handle
        finally:
            os.close(handle)


def check_writable(folder: int) -> None:
    """Whether there may be new names in an open folder; blocks.

    `os.access` says the same and not why: a disk that is read-only for a while is no
    reason for a client to give up.

    Raises:
        OSError: there may not.
    """
    path = f"/proc/self/fd/{folder}"
    if _libc.access(path.encode(), os.W_OK):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _reading(handle: int, wanted: Destination) -> BinaryIO:
    """The file that an O_PATH handle found, which opened nothing yet.

    So a pipe does not wait and a device is not told.
    """
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a file", wanted)
    # All that could wait is in memory: the handle holds it there.
    file = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    return os.fdopen(file, "rb", buffering=0)
