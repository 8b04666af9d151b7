"""Sockets that listen, opened before there is an event loop.

Whoever is forked later accepts from the same sockets, so that what waits in their
queues is lost with no process but the last.
"""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from .config import Listen

#: Connections that may wait to be accepted.
BACKLOG = 1024


class CannotStart(Exception):
    """The server does not start; one line that says what to do."""


class Listeners:
    """What the server listens on: while it is entered, and not closed before.

    Args:
        addresses: all of them, or none.

    Attributes:
        sockets: for the event loops of every process that accepts.
        urls: where they are, with the ports that the system chose.
    """

    def __init__(self, addresses: Iterable[Listen]) -> None:
        self._addresses = addresses
        self._paths: list[tuple[Path, int | None]] = []
        self.sockets: list[socket.socket] = []
        self.urls: list[str] = []

    def __enter__(self) -> Self:
        """Listen; blocks.

        Raises:
            CannotStart: an address cannot be used.
        """
        with ExitStack() as undo:
            undo.push(self)
            for listen in self._addresses:
                self._open(listen)
            undo.pop_all()
        return self

    def close(self) -> None:
        """Let this process listen no more."""
        for listening in self.sockets:
            listening.close()

    def __exit__(self, *_error: object) -> None:
        """Listen no more, and remove the paths that are still ours."""
        self.close()
        for path, inode in self._paths:
            if _inode(path) == inode:
                path.unlink(missing_ok=True)

    def _open(self, listen: Listen) -> None:
        try:
            if listen.path is not None:
                self._open_path(listen.path)
                return
            for listening in _tcp(listen.host, listen.port):
                self.sockets.append(listening)
                self.urls.append(_url(listening))
        except OSError as error:
            # Those of getaddrinfo have numbers of their own.
            known = error.errno in errno.errorcode
            reason = os.strerror(error.errno or 0) if known else error.strerror
            detail = f"cannot listen on {listen.address}: {reason}"
            raise CannotStart(f"{detail}; choose another address") from None

    def _open_path(self, path: Path) -> None:
        _clear(path)
        listening = _listening(socket.AF_UNIX, str(path))
        self.sockets.append(listening)
        self._paths.append((path, _inode(path)))
        self.urls.append(f"unix:{path}")


def _tcp(host: str, port: int) -> Iterator[socket.socket]:
    """A socket for each address that a name has here."""
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, _type, _protocol, _name, address in dict.fromkeys(found):
        yield _listening(family, address)


def _listening(family: int, address: str | tuple[object, ...]) -> socket.socket:
    with ExitStack() as undo:
        listening = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listening.settimeout(0)
        if family != socket.AF_UNIX:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else [::] would take the port of 0.0.0.0 as well.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        undo.pop_all()
    return listening


def _clear(path: Path) -> None:
    """Remove the socket of a server that is gone, and of no other."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(0)
        try:
            asking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # it lives, and its queue is full
    raise OSError(errno.EADDRINUSE, "in use")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
