"""Sockets that listen, opened before there is an event loop.

Several workers have a socket each at one TCP address, between which the kernel deals
connections out evenly; with one for all, whoever wakes first takes all of a burst. They
are opened before the workers and stay open when one dies, so that what waits in its
queue waits for whoever replaces it. A path has one socket for all, and so has an
address that somebody else listens on for us, who keeps it open while we restart.
"""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Self, TypeAlias

from . import systemd
from .config import Listen
from .tls import ServerContext
from .tls_files import TlsFiles, Unusable

#: Connections that may wait to be accepted.
BACKLOG = 1024


_Address: TypeAlias = str | tuple[object, ...]


class CannotStart(Exception):
    """The server does not start; one line that says what to do."""


class Listeners:
    """What the server listens on: while it is entered, and not closed before.

    Args:
        addresses: all of them, or none.
        workers: how many processes accept.

    Attributes:
        sockets: what each worker accepts from.
        tls: what those of them speak TLS with that do.
        urls: where they are, with the ports that the system chose.
    """

    def __init__(self, addresses: Iterable[Listen], workers: int = 1) -> None:
        self._addresses = addresses
        self._workers = workers
        self._paths: list[tuple[Path, int | None]] = []
        self._passed: list[socket.socket] = []
        self.sockets: list[list[socket.socket]] = [[] for _ in range(workers)]
        self.tls: dict[socket.socket, ServerContext] = {}
        self.urls: list[str] = []

    def __enter__(self) -> Self:
        """Listen; blocks.

        Raises:
            CannotStart: an address cannot be used.
        """
        with ExitStack() as undo:
            undo.push(self)
            try:
                self._passed = systemd.passed()
            except ValueError as error:
                detail = f"the sockets that were passed (LISTEN_FDS): {error}"
                raise CannotStart(detail) from None
            for listen in self._addresses:
                self._open(listen)
            for left in self._passed:
                detail = f"a socket at {_where(left)} was passed (LISTEN_FDS)"
                raise CannotStart(f"{detail}; add a [[listen]] with that address")
            undo.pop_all()
        return self

    def close(self) -> None:
        """Let this process listen no more."""
        for listening in chain(self._passed, *self.sockets):
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
            for sockets in self._found(listen):
                self._add(sockets, tls)
        except OSError as error:
            # Those of getaddrinfo have numbers of their own.
            known = error.errno in errno.errorcode
            reason = os.strerror(error.errno or 0) if known else error.strerror
            detail = f"cannot listen on {listen.address}: {reason}"
            raise CannotStart(f"{detail}; choose another address") from None

    def _add(self, sockets: list[socket.socket], tls: ServerContext | None) -> None:
        self.urls.append(_url(sockets[0], tls))
        for mine, listening in zip(self.sockets, sockets, strict=True):
            mine.append(listening)
            if tls is not None:
                self.tls[listening] = tls

    def _found(self, listen: Listen) -> Iterator[list[socket.socket]]:
        """For each address the sockets of all workers."""
        if listen.path is not None:
            found = self._passed_at(socket.AF_UNIX, str(listen.path))
            if found is not None:
                yield [found] * self._workers
                return
            _clear(listen.path)
            listening = _listening(socket.AF_UNIX, str(listen.path))
            self._paths.append((listen.path, _inode(listen.path)))
            yield [listening] * self._workers
            return
        for family, address in _resolved(listen.host, listen.port):
            found = self._passed_at(family, address)
            if found is not None:
                yield [found] * self._workers
                continue
            # Without it, so that another server's port is seen as taken.
            first = _listening(family, address)
            if self._workers == 1:
                yield [first]
            else:
                with first:
                    address = first.getsockname()
                yield [
                    _listening(family, address, shared=True)
                    for _ in range(self._workers)
                ]

    def _passed_at(self, family: int, address: _Address) -> socket.socket | None:
        """The socket that was passed to us for an address."""
        for each in self._passed:
            if each.family == family and _same(each.getsockname(), address):
                self._passed.remove(each)
                return each
        return None


def _tls(listen: Listen) -> ServerContext | None:
    files = TlsFiles.of(listen)
    if files is None:
        return None
    try:
        return ServerContext(files)
    except Unusable as error:
        raise CannotStart(f"{listen.address}: {error}") from None


def _resolved(host: str, port: int) -> Iterator[tuple[int, _Address]]:
    """The family and the address of everything that a name means here."""
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, _type, _protocol, _name, address in dict.fromkeys(found):
        yield family, address


def _listening(
    family: int, address: _Address, *, shared: bool = False
) -> socket.socket:
    with ExitStack() as undo:
        listening = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listening.settimeout(0)
        if family != socket.AF_UNIX:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
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


def _same(one: _Address, other: _Address) -> bool:
    """Two addresses are one; those of IPv6 have more to them than host and port."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one[:2] == other[:2]


def _where(listening: socket.socket) -> str:
    return _url(listening, None).removeprefix("http://")


def _url(listening: socket.socket, tls: ServerContext | None) -> str:
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
