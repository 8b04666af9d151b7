"""`python -m bitsd` as processes, and the servers among them."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from wire_client import Line, Lines, ping

#: Starting Python and stopping the server take less, on a busy machine, in seconds.
PROCESS_SECONDS = 30.0

#: A worker that is awake answers sooner, in seconds.
SOON = 0.5

CONFIG = """
workers = {workers}

[[listen]]
address = "{address}"

[[directory]]
url = "/in"
path = "in"
read = ["*"]
write = ["*"]
upload = true
maximum_upload_size = "1GiB"
"""


# What systemd does for a service; the number of the process is not known before.
PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


async def started(
    *arguments: str,
    log: IO[bytes] | int = PIPE,
    leads: bool = False,
    passed: int | None = None,
) -> Process:
    """A command.

    Args:
        arguments: of it.
        log: gets its stderr.
        leads: a process group of its own.
        passed: a handle that it gets as systemd passes a socket.
    """
    command = [sys.executable, "-m", "bitsd", *arguments]
    if passed is not None:
        command = [sys.executable, "-c", PASS, str(passed), *command]
    return await asyncio.create_subprocess_exec(
        *command,
        stdout=PIPE,
        stderr=log,
        start_new_session=leads,
        pass_fds=() if passed is None else (passed,),
    )


async def ran(*arguments: str, passed: int | None = None) -> tuple[int, str, str]:
    """A command that ends by itself: exit code, stdout, stderr."""
    process = await started(*arguments, passed=passed)
    async with asyncio.timeout(PROCESS_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def is_one_line(err: str) -> bool:
    """It tells, and is no traceback."""
    return len(err.strip().splitlines()) == 1 and "Traceback" not in err


@dataclass
class Running:
    """A server process that said where it listens."""

    process: Process
    said: list[str] = field(default_factory=list)
    lines: Lines = field(default_factory=Lines)

    @property
    def url(self) -> str:
        """The first address that it printed."""
        match = re.search(r"http://[\w.\[\]:]+", "\n".join(self.said))
        assert match is not None
        return match[0]

    async def hear(self, pattern: str) -> str:
        """Read its output up to a line with `pattern` in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PROCESS_SECONDS):
            while octets := await self.process.stdout.readline():
                self.said.append(octets.decode().rstrip())
                if re.search(pattern, self.said[-1]):
                    return self.said[-1]
        raise AssertionError(f"it ended after {self.said}")

    async def dial(self) -> Line:
        """A new connection."""
        return await self.lines.dial(self.url)

    @property
    def workers(self) -> list[int]:
        """Its child processes."""
        return children(self.process.pid)

    async def dial_worker(self, pid: int, anybodys: str = "/in/") -> Line:
        """A new connection that this worker accepts, and no other can.

        Args:
            pid: of the worker.
            anybodys: a URL to which everybody may upload.
        """
        others = [worker for worker in self.workers if worker != pid]
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            while True:
                line = await self.dial()
                with suppress(TimeoutError):
                    async with asyncio.timeout(SOON):
                        assert (await line.ask(ping(anybodys))).status == 200
                        return line
                await line.hang_up()  # it waits for one that has been stopped
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    async def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit code and stderr once the process has ended."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(PROCESS_SECONDS):
            _out, err = await self.process.communicate()
        await self.lines.hang_up()
        assert self.process.returncode is not None
        return self.process.returncode, (err or b"").decode()


Run = Callable[..., Awaitable[Running]]


async def serving(run: Run, config: Path) -> Running:
    """A server that serves."""
    running = await run("serve", "--config", str(config))
    await running.hear(r"^listening on http://127\.0\.0\.1:\d+$")
    return running


def rewrite(config: Path, old: str, new: str) -> None:
    """Change a configuration."""
    text = config.read_text("utf-8")
    assert old in text
    config.write_text(text.replace(old, new), "utf-8")


def held(config: Path, named: str) -> int:
    """Bytes of a session that are on disk; none if there is no such session."""
    request = config.parent / "in" / "BITS-Sessions" / named / "request"
    return request.stat().st_size if request.exists() else 0


def children(pid: int) -> list[int]:
    """The processes that a process forked and that have not been waited for."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(child) for child in found.split()]


def group(leader: int) -> list[int]:
    """The processes of a group that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            stat = (folder / "stat").read_text("ascii", "replace")
            status, _parent, its_group, *_rest = stat.rpartition(") ")[2].split()
            if int(its_group) == leader and status != "Z":
                found.append(int(folder.name))
    return found


def handles(pid: int) -> int:
    """How many a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def lives(pid: int) -> bool:
    """The process is there, and nobody's zombie."""
    try:
        return state(pid) != "Z"
    except FileNotFoundError:
        return False


def state(pid: int) -> str:
    """What a process does, as a letter of proc(5)."""
    stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    return stat.rpartition(") ")[2][0]
