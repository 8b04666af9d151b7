"""Sockets that listen, opened before there is an event loop.

Whoever is forked later accepts from the same sockets, so that what waits in their
queues is lost with no process but the last.
"""

import errno
import os
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from .config import Listen
from .tls import server_context

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
        tls: what those of them speak TLS with that do.
        urls: where they are, with the ports that the system chose.
    """

    def __init__(self, addresses: Iterable[Listen]) -> None:
        self._addresses = addresses
        self._paths: list[tuple[Path, int | None]] = []
        self.sockets: list[socket.socket] = []
        self.tls: dict[socket.socket, ssl.SSLContext] = {}
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
        tls = _tls(listen)
        try:
            if listen.path is not None:
                _clear(listen.path)
                found = [_listening(socket.AF_UNIX, str(listen.path))]
                self._paths.append((listen.path, _inode(listen.path)))
            else:
                found = list(_tcp(listen.host, listen.port))
        except OSError as error:
            # Those of getaddrinfo have numbers of their own.
            known = error.errno in errno.errorcode
            reason = os.strerror(error.errno or 0) if known else error.strerror
            detail = f"cannot listen on {listen.address}: {reason}"
            raise CannotStart(f"{detail}; choose another address") from None
        self.sockets += found
        self.urls += [_url(listening, tls) for listening in found]
        if tls is not None:
            self.tls |= dict.fromkeys(found, tls)


def _tls(listen: Listen) -> ssl.SSLContext | None:
    if listen.certificate is None:
        return None
    try:
        return server_context(listen.certificate, listen.key)
    except ValueError as error:
        raise CannotStart(f"{listen.address}: {error}") from None


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


def _url(listening: socket.socket, tls: ssl.SSLContext | None) -> str:
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
