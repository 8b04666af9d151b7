"""The parent of the processes that serve: it keeps them running, and counts for them.

It has no event loop and no thread, so it can fork at any time; all that it does is
short and nothing waits. Each worker has a line to it, a socket pair: over it come
questions about the owners of sessions, and its end is how one knows that the other is
no more.
"""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from . import journal
from .config import Config, ConfigError
from .listeners import CannotStart, Listeners
from .owners import Tables
from .worker import MAXIMUM_MESSAGE, SIGNALS, Failed, Message, Ready, serve_as_worker

#: A worker that lives shorter than this died at once, in seconds.
AT_ONCE = 10.0

#: Longest pause before a worker is replaced that dies at once each time, in seconds.
LONGEST_PAUSE = 30

#: Workers may take so much longer to stop than `stop_timeout`, in seconds.
STOP_MARGIN = 2.0

_HEEDED = (*SIGNALS, signal.SIGCHLD)

# What comes of a message that cannot be read, obeyed or answered.
_NONSENSE = (msgspec.MsgspecError, ValueError, RecursionError, IndexError, OSError)

#: The whole life of a worker, to its exit code.
Work = Callable[[Config, Listeners, socket.socket, int], int]


def pause(deaths: int) -> int:
    """Seconds until a worker is replaced.

    Args:
        deaths: how often in a row it died at once; the first time may be chance.
    """
    return min(2 ** (deaths - 2), LONGEST_PAUSE) if deaths > 1 else 0


@dataclass
class _Worker:
    """A process that serves.

    Attributes:
        number: its place among the workers; whoever replaces it has the same.
        line: to it.
        born: in seconds of the monotonic clock.
        ready: it accepts connections.
    """

    number: int
    pid: int
    line: socket.socket
    born: float
    ready: bool = False


class Supervisor:
    """Keeps workers running until a signal asks to stop.

    Args:
        config: what they serve.
        listeners: open; what they accept from.
        ready: called once clients are served by all of them.
        work: what a worker does.
        renew: reads again what workers have from here; blocks, and raises
            ConfigError if they go on as before.
    """

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        ready: Callable[[], None],
        work: Work = serve_as_worker,
        renew: Callable[[], object] = lambda: None,
    ) -> None:
        self._config = config
        self._listeners = listeners
        self._ready = ready
        self._work = work
        self._renew = renew
        self._tables = Tables.of(config.directory)
        self._decoder = msgspec.msgpack.Decoder(Message)
        # Not epoll, which a fork would share.
        self._selector = selectors.PollSelector()
        self._signals, self._wake = socket.socketpair()
        self._workers: dict[int, _Worker] = {}
        self._deaths = dict.fromkeys(range(config.workers), 0)
        self._due = dict.fromkeys(range(config.workers), 0.0)
        self._started = False
        self._failure: str | None = None
        self._overdue: float | None = None

    def run(self) -> None:
        """Supervise, from the first fork to the last worker's end.

        Raises:
            CannotStart: as the first of them that could not says.
        """
        with self._heeding():
            while self._workers or self._overdue is None:
                self._start_due()
                for key, _events in self._selector.select(self._patience()):
                    if key.data is None:
                        self._heed(self._signals.recv(4096))
                    else:
                        self._hear(key.data)
                if self._overdue is not None and time.monotonic() > self._overdue:
                    self._kill_all()
        if self._failure is not None:
            raise CannotStart(self._failure)

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        """Let signals wake the loop."""
        with ExitStack() as undo:
            for end in (self._signals, self._wake):
                undo.enter_context(end).settimeout(0)
            undo.callback(self._selector.close)
            self._selector.register(self._signals, selectors.EVENT_READ)
            undo.callback(signal.set_wakeup_fd, -1)
            signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            for number in _HEEDED:
                undo.callback(signal.signal, number, signal.getsignal(number))
                signal.signal(number, _do_nothing)
            # First of all in the end, which a signal would otherwise turn into death.
            undo.callback(signal.pthread_sigmask, signal.SIG_BLOCK, SIGNALS)
            yield

    def _patience(self) -> float | None:
        """Seconds until something has to be done, whatever comes."""
        moments = [*self._due.values()]
        if self._overdue is not None:
            moments.append(self._overdue)
        return max(min(moments) - time.monotonic(), 0) if moments else None

    # Workers begin

    def _start_due(self) -> None:
        for number, moment in [*self._due.items()]:
            # One that cannot be started may have stopped all.
            if moment <= time.monotonic() and number in self._due:
                del self._due[number]
                try:
                    self._start(number)
                except OSError as error:
                    how = f"cannot be started: {error.strerror}"
                    self._lost(number, how, time.monotonic())

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ExitStack() as undo:
            undo.enter_context(ours).settimeout(0)
            pid = self._fork(number, ours, theirs)
            undo.pop_all()
        worker = _Worker(number, pid, ours, time.monotonic())
        self._workers[number] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _fork(self, number: int, ours: socket.socket, theirs: socket.socket) -> int:
        # Until each has its own handlers: a signal to one would reach the other.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        try:
            return os.fork() or self._become(number, ours, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)

    def _become(
        self, number: int, ours: socket.socket, theirs: socket.socket
    ) -> NoReturn:
        """Be the worker; nothing of the supervisor's own may be done at the end."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for heeded in _HEEDED:
                signal.signal(heeded, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
            # Else a worker would not notice the end of the supervisor: the other
            # ends of all lines would live on in it.
            for line in (ours, *(worker.line for worker in self._workers.values())):
                line.close()
            self._signals.close()
            self._wake.close()
            code = self._work(self._config, self._listeners, theirs, number)
        # Whatever it was, the process ends here and somebody has to be told.
        except Exception:  # noqa: BLE001
            journal.log.exception("a worker failed")
        finally:
            os._exit(code)

    # What workers say

    def _hear(self, worker: _Worker) -> bool:
        """Take one message, if there is one, and do as it says."""
        if worker.line.fileno() < 0:  # its end was met together with this event
            return False
        try:
            octets = worker.line.recv(MAXIMUM_MESSAGE)
        except OSError:
            octets = b""
        if not octets:
            self._hang_up(worker)
            return False
        try:
            self._answer(worker, self._decoder.decode(octets))
        except _NONSENSE as error:
            journal.warn("worker-confused", worker=worker.number, detail=error)
            self._hang_up(worker)
            os.kill(worker.pid, signal.SIGKILL)
            return False
        return True

    def _answer(self, worker: _Worker, message: Message) -> None:
        match message:
            case Ready():
                worker.ready = True
                self._announce()
            case Failed(reason=reason) if not self._started:
                self._failure = self._failure or reason
            case Failed(reason=reason):
                journal.warn("worker-failed", worker=worker.number, detail=reason)
            case _:
                answer = self._tables.answer(message, worker.number)
                worker.line.send(msgspec.msgpack.encode(answer))

    def _announce(self) -> None:
        ready = [worker for worker in self._workers.values() if worker.ready]
        if len(ready) == self._config.workers and not self._started:
            self._started = True
            self._ready()

    def _hang_up(self, worker: _Worker) -> None:
        if worker.line.fileno() >= 0:
            self._selector.unregister(worker.line)
            worker.line.close()

    # Workers end

    def _heed(self, numbers: bytes) -> None:
        """Do as these signals say."""
        # In this order: workers that end because all shall are no surprise.
        for number in sorted(set(numbers)):
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP:
                # For those who come later; the others read it themselves, and tell.
                with suppress(ConfigError):
                    self._renew()
                self._pass_on(signal.SIGHUP)
            else:
                self._stop()

    def _reap(self) -> None:
        for worker in [*self._workers.values()]:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                while self._hear(worker):
                    pass
                self._hang_up(worker)
                del self._workers[worker.number]
                self._tables.died(worker.number)
                code = os.waitstatus_to_exitcode(status)
                self._lost(worker.number, f"ended with {code}", worker.born)

    def _lost(self, number: int, how: str, born: float) -> None:
        """Replace a worker, unless all shall end."""
        now = time.monotonic()
        if self._overdue is not None:
            return
        if not self._started:
            self._failure = self._failure or f"worker {number} {how}; see the log"
            self._stop()
            return
        journal.warn("worker-died", worker=number, detail=how)
        at_once = now - born < AT_ONCE
        self._deaths[number] = self._deaths[number] + 1 if at_once else 0
        self._due[number] = now + pause(self._deaths[number])

    def _stop(self) -> None:
        if self._overdue is None:
            timeout = self._config.stop_timeout.total_seconds()
            self._overdue = time.monotonic() + timeout + STOP_MARGIN
            self._due.clear()
            self._listeners.close()
        self._pass_on(signal.SIGTERM)

    def _kill_all(self) -> None:
        journal.warn("workers-killed", workers=len(self._workers))
        self._pass_on(signal.SIGKILL)
        self._overdue = time.monotonic() + STOP_MARGIN

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            os.kill(worker.pid, number)


def _do_nothing(*_signal: object) -> None:
    """Have a handler: only then is the loop woken."""
