"""TLS handshakes under way, of which an event loop takes as many as there come.

Each has a handle and up to 0.6 MiB, and whoever begins one need not say a word. So
connections that speak TLS are accepted here, and the handshake that lasts longest gives
way to a new one: refusing the new one would let the silent ones keep everybody out.
"""

import asyncio
import socket
from contextlib import suppress

from . import tls
from .connection import HttpServer
from .crowd import Crowd, counted
from .tls import ServerContext

#: For a peer to say that it knows of the end of a TLS connection, which counts no more.
FAREWELL_SECONDS = 1.0

#: Nothing is accepted for so long when there are no handles left, in seconds.
PAUSE_SECONDS = 1.0


class Handshakes:
    """Those of a worker; ones that failed are among them until their farewell.

    There may be as many as connections, and as many of an address as those.

    Args:
        http: what connections are for.
    """

    def __init__(self, http: HttpServer) -> None:
        self._http = http
        self._crowd = Crowd(http.limits.per_address)
        # What began first is first.
        self._begun: dict[socket.socket, str | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self, accepted: socket.socket, address: str, context: ServerContext
    ) -> None:
        """Begin one, after having made room for it."""
        client = None if self._http.proxies.trusts(address) else counted(address)
        if not self._crowd.has_room(client):
            self._cut(next(each for each, of in self._begun.items() if of == client))
        elif len(self._begun) >= self._http.limits.connections:
            self._cut(next(iter(self._begun)))
        self._begun[accepted] = client
        self._crowd.enter(client)
        task = asyncio.create_task(self._shake(accepted, context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """End all."""
        for accepted in list(self._begun):
            self._cut(accepted)

    async def _shake(self, accepted: socket.socket, context: ServerContext) -> None:
        try:
            (
                transport,
                _connection,
            ) = await asyncio.get_running_loop().connect_accepted_socket(
                self._http,
                accepted,
                ssl=context,
                ssl_handshake_timeout=self._http.limits.header,
                ssl_shutdown_timeout=FAREWELL_SECONDS,
            )
            if tls.failure(transport) is not None:
                await asyncio.sleep(FAREWELL_SECONDS)
        except OSError as error:
            # Whoever goes away meanwhile is not told of. Its frames have the error, and
            # the buffers: in a ring, which would be there until rings are looked for.
            error.__traceback__ = None
        finally:
            self._forget(accepted)

    def _cut(self, accepted: socket.socket) -> None:
        """To the loop it looks as if the peer went away."""
        self._forget(accepted)
        with suppress(OSError):  # it has
            accepted.shutdown(socket.SHUT_RDWR)

    def _forget(self, accepted: socket.socket) -> None:
        if accepted in self._begun:
            self._crowd.leave(self._begun.pop(accepted))


class Door:
    """Accepts from a socket, from now until it is closed.

    Args:
        listening: the socket.
        context: the TLS of its connections.
        handshakes: get them.
    """

    def __init__(
        self, listening: socket.socket, context: ServerContext, handshakes: Handshakes
    ) -> None:
        self._listening = listening
        self._context = context
        self._handshakes = handshakes
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._open()

    def _open(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        try:
            accepted, peer = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker has it, or it is gone
        except OSError as error:
            # There are no handles left; the socket would say for ever that it waits.
            self.close()
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._open)
            self._loop.call_exception_handler(
                {
                    "message": "cannot accept",
                    "exception": error,
                    "socket": self._listening,
                }
            )
            return
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._handshakes.begin(accepted, address, self._context)

    def close(self) -> None:
        """Accept no more."""
        self._loop.remove_reader(self._listening)
        if self._pause is not None:
            self._pause.cancel()
