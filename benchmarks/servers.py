"""Servers that run: where each has its files, what it used, how it ends."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
UPLOADS = "up"
FILES = "files"

#: For a server to start or to end, on a busy machine.
PATIENCE_SECONDS = 30.0


class CannotRun(Exception):
    """The benchmarks cannot run here; one line that says what to do."""


class LeftOut(Exception):
    """One of the servers cannot run here, now; one line that says why."""


@dataclass(frozen=True)
class Usage:
    """What a server used so far.

    Attributes:
        cpu: seconds of user and system time, of all its processes.
        resident: bytes of memory now; pages that processes share count for each.
        peak: the most since `forget_peak`.
    """

    cpu: float
    resident: int
    peak: int


@dataclass
class Server:
    """One running server with a folder of its own."""

    process: subprocess.Popen[str]
    folder: Path
    port: int

    def usage(self) -> Usage:
        """What it used so far."""
        tree = list(processes(self.process.pid))
        return Usage(
            cpu=sum(map(cpu_seconds, tree)),
            resident=sum(_memory(pid, "VmRSS") for pid in tree),
            peak=sum(_memory(pid, "VmHWM") for pid in tree),
        )

    def forget_peak(self) -> None:
        """Let the peak of memory start anew (proc(5), clear_refs)."""
        for pid in processes(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")

    def clean(self) -> None:
        """Delete what was uploaded, before the kernel writes it to the disk."""
        for path in (self.folder / UPLOADS).iterdir():
            if path.is_file():
                path.unlink()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def processes(pid: int) -> Iterator[int]:
    """A process and those that it started and that have not ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
        yield pid
        for child in children.split():
            yield from processes(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, with its threads that have ended.

    /proc/PID/stat has the same in ticks of 10 ms, too coarse for short runs. The
    number of this clock is what clock_getcpuclockid(3) makes of a process id.
    """
    return time.clock_gettime((~pid << 3) | 2)


def _memory(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


Start = Callable[[Path, Path], Server]
"""Starts a server: its own folder, and that of the files to download."""


class Servers:
    """Servers that run, each started when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Server] = {}
        self._left_out: dict[str, LeftOut] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        while self._running:
            self._running.popitem()[1].stop()

    def named(self, name: str, start: Start) -> Server:
        """The server of that name.

        Raises:
            LeftOut: it cannot run here; that is printed, the first time.
        """
        if name in self._left_out:
            raise self._left_out[name]
        if name not in self._running:
            folder = self._folder / re.sub(r"[^\w-]+", "-", name)
            (folder / UPLOADS).mkdir(parents=True, exist_ok=True)
            try:
                self._running[name] = start(folder, self._folder / FILES)
            except LeftOut as why:
                print(f"left out: {name}: {why}", file=sys.stderr)
                self._left_out[name] = why
                raise
        return self._running[name]

    def stop(self, name: str) -> None:
        """End the server of that name; it is started when next asked for."""
        server = self._running.pop(name, None)
        if server is not None:
            server.stop()


def spawned(folder: Path, command: Sequence[str]) -> subprocess.Popen[str]:
    """A process whose log is in `folder`."""
    # `python -m benchmarks.…` finds this package wherever it was started from.
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (folder / "log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        )


def started(folder: Path, command: Sequence[str]) -> Server:
    """A server that prints, when it is ready, where it listens.

    Raises:
        CannotRun: it does not.
    """
    process = spawned(folder, command)
    server = Server(process, folder, port=0)
    said = process.stdout.readline() if process.stdout else ""
    found = re.fullmatch(r"listening on https?://127\.0\.0\.1:(\d+)\n", said)
    if found is None:
        raise _did_not_start(server)
    server.port = int(found[1])
    return server


def _did_not_start(server: Server) -> CannotRun:
    server.stop()
    log = (server.folder / "log").read_text("utf-8", "replace").strip()
    last = log.splitlines()[-1:] or ["it said nothing"]
    return CannotRun(f"{server.folder.name} did not start: {last[0]}")


def wait_for_port(server: Server) -> None:
    """Wait for a server that does not say when it is ready.

    Raises:
        CannotRun: it will not be.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while server.process.poll() is None and time.monotonic() < until:
        with suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", server.port)).close()
            return
        time.sleep(0.01)
    raise _did_not_start(server)
