"""A process that serves: alone, or one of several that a supervisor started."""

import asyncio
import signal
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from . import loops
from .config import Config
from .latest import Latest
from .listeners import CannotStart, Listeners
from .owners import Answer, Question
from .server import Server

#: What a serving process heeds; its supervisor blocks them until it does.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: What a stop waits for files that are being read again, in seconds.
RELOAD_SECONDS = 1.0

#: Longest message on a line, in bytes: what the kernel has room for.
MAXIMUM_MESSAGE = 1 << 18


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker accepts connections."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The worker cannot start."""

    reason: str


#: From a worker to its supervisor, which answers questions and nothing else.
Message = Ready | Failed | Question


def serve_alone(
    config: Config,
    listeners: Listeners,
    ready: Callable[[], None],
    latest: Latest | None = None,
) -> None:
    """Serve from this process until a signal asks to stop.

    Args:
        config: what to serve.
        listeners: open.
        ready: called once clients are served.
        latest: what a signal lets it read again.

    Raises:
        CannotStart: as `Server.start`.
    """
    with asyncio.Runner(loop_factory=loops.factory()) as runner:
        server = Server(config, listeners, latest=latest)
        runner.run(_serve(server, ready, asyncio.Event()))


async def _serve(
    server: Server, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loops.Trouble())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        """A daemon's way to be told "read your files again"."""
        task = loop.create_task(server.reload())
        reloads.add(task)  # else nobody would hold it
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        await server.start()
        ready()
        await stop.wait()
        if reloads:  # what was asked for before is done and told
            await asyncio.wait(reloads, timeout=RELOAD_SECONDS)
        await server.stop()
    finally:
        # The loop is closed before its handlers are removed: what came in between
        # would be told on standard error. Nothing is left to stop but the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def serve_as_worker(
    config: Config,
    listeners: Listeners,
    line: socket.socket,
    number: int,
    latest: Latest | None = None,
) -> int:
    """Serve until a signal asks to stop or the supervisor is gone.

    Args:
        config: what to serve.
        listeners: those of all workers.
        line: to the supervisor; for whole messages (SOCK_SEQPACKET).
        number: from 0; the first one also looks after old sessions.
        latest: what a signal lets it read again.

    Returns:
        The exit code.
    """
    with asyncio.Runner(loop_factory=loops.factory()) as runner:
        return runner.run(_work(config, listeners, line, number, latest))


async def _work(
    config: Config,
    listeners: Listeners,
    line: socket.socket,
    number: int,
    latest: Latest | None,
) -> int:
    stop = asyncio.Event()
    supervisor = Supervising(line, stop.set)
    server = Server(config, listeners, supervisor.ask, number, latest)
    try:
        await _serve(server, lambda: supervisor.tell(Ready()), stop)
    except CannotStart as error:
        supervisor.tell(Failed(str(error)))
        return 1
    return 0


class Supervising:
    """The supervisor, as a worker sees it.

    Args:
        line: to it.
        gone: called when it is no more.
    """

    def __init__(self, line: socket.socket, gone: Callable[[], None]) -> None:
        self._line = line
        self._gone = gone
        self._turn = asyncio.Lock()
        self._waiting: deque[asyncio.Future[Answer]] = deque()
        self._loop = asyncio.get_running_loop()
        line.settimeout(0)
        self._loop.add_reader(line, self._hear)

    def tell(self, message: Message) -> None:
        """Say something.

        Raises:
            OSError: it is gone.
        """
        self._line.send(msgspec.msgpack.encode(message))

    async def ask(self, question: Question) -> Answer:
        """Its answer, from the tables of owners.

        Raises:
            OSError: it is gone.
        """
        # One question at a time, so that neither side can find the line full. The
        # answer to one that was given up comes all the same, and before the next.
        async with self._turn:
            self.tell(question)
            answer: asyncio.Future[Answer] = self._loop.create_future()
            self._waiting.append(answer)
            return await answer

    def _hear(self) -> None:
        try:
            octets = self._line.recv(MAXIMUM_MESSAGE)
        except ConnectionError:
            octets = b""
        if not octets:
            self._lose()
            return
        answer = self._waiting.popleft()
        if not answer.done():
            answer.set_result(msgspec.msgpack.decode(octets, type=Answer))

    def _lose(self) -> None:
        self._loop.remove_reader(self._line)
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ConnectionError("the supervisor is gone"))
        self._gone()
