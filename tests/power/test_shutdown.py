"""A real file system that stops at once, with what it had not synced lost."""

import asyncio
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from clients import FULL
from processes import CONFIG, Running
from store_kit import cannot_run
from wire_client import Line, close, fragment

#: Power cuts on each file system.
ROUNDS = 20 if FULL else 1

CLIENTS = 4
FRAGMENTS = 12
FRAGMENT = 50_000  # no multiple of a block

#: XFS asks for 300 MiB; it is a file of holes.
IMAGE = 320 * 2**20

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def root(*command: object) -> None:
    """A command that has to work; where it cannot, neither can the test."""
    words = list(map(str, command))
    if shutil.which(words[0]) is None:
        cannot_run(f"{words[0]} is not installed")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        cannot_run(f"{words[0]} needs root: {done.stderr.strip()}")


@dataclass(frozen=True)
class Machine:
    """A computer: its disk, and what it calls this boot."""

    image: Path
    disk: Path
    boot: Path
    config: Path

    @classmethod
    def new(cls, at: Path, kind: str) -> "Machine":
        """With an empty disk."""
        machine = cls(at / "image", at / "disk", at / "boot", at / "bitsd.toml")
        machine.disk.mkdir()
        machine.image.touch()
        os.truncate(machine.image, IMAGE)
        root(f"mkfs.{kind}", "-q", machine.image)
        text = CONFIG.format(address="127.0.0.1:0", workers=1)
        text = text.replace('path = "in"', f'path = "{machine.disk}/in"')
        machine.config.write_text(text, "utf-8")
        return machine

    @contextmanager
    def on(self) -> Iterator[None]:
        """Another boot: the file system reads its log."""
        self.boot.write_text(f"{uuid4()}\n", "ascii")
        root("mount", "-o", "loop", self.image, self.disk)
        try:
            yield
        finally:
            subprocess.run(["umount", self.disk], check=True)

    async def cut(self) -> None:
        """The disk takes nothing more, and what it holds in memory is gone."""
        command = ("xfs_io", "-x", "-c", "shutdown", str(self.disk))
        process = await asyncio.create_subprocess_exec(*command, stderr=PIPE)
        _, err = await process.communicate()
        assert process.returncode == 0, err

    async def serving(self) -> Running:
        """A server that believes in this boot."""
        serve = ("-m", "bitsd", "serve", "--config", str(self.config))
        script = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
        command = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
        process = await asyncio.create_subprocess_exec(
            *command,
            script,
            str(self.boot),
            sys.executable,
            *serve,
            stdout=PIPE,
            stderr=PIPE,
        )
        running = Running(process)
        await running.hear(r"^listening on http://127\.0\.0\.1:\d+$")
        return running

    def file(self, name: str) -> Path:
        """A published one."""
        return self.disk / "in" / name

    def request(self, named: str) -> Path:
        """Where bytes of a session are."""
        return self.disk / "in" / "BITS-Sessions" / named / "request"


class Cut(asyncio.Event):
    """A power cut, once so many fragments were acknowledged."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def count(self) -> None:
        """One more was."""
        self._left -= 1
        if not self._left:
            self.set()


def difference(kept: bytes, promised: bytes) -> int | None:
    """Where the first byte of what was promised is not there."""
    for at, octet in enumerate(promised):
        if kept[at : at + 1] != bytes((octet,)):
            return at
    return None


@dataclass
class Client:
    """One that uploads a file, and notes what it was promised."""

    name: str
    octets: bytes
    named: str = ""
    acked: int = 0

    @property
    def target(self) -> str:
        """Its URL."""
        return f"/in/{self.name}"

    @property
    def done(self) -> bool:
        """The last Ack has come."""
        return self.acked == len(self.octets)

    async def upload(self, line: Line, cut: Cut | None = None) -> None:
        """Go on from the last Ack; a failure of the server ends it."""
        while not self.done:
            octets = self.octets[self.acked : self.acked + FRAGMENT]
            packet = fragment(
                self.target, self.named, self.acked, octets, len(self.octets)
            )
            try:
                answer = await line.ask(packet)
            except (OSError, EOFError):
                assert cut is not None
                return
            if cut is not None:
                cut.count()
            assert (answer.status, answer.received) == (
                200,
                self.acked + len(octets),
            ), answer
            self.acked += len(octets)

    def check(self, machine: Machine) -> None:
        """Whatever it was promised is on the disk, before any server looks at it."""
        published = machine.file(self.name)
        if published.exists() or self.done:
            assert difference(published.read_bytes(), self.octets) is None
        if self.acked and not self.done:
            kept = machine.request(self.named).read_bytes()
            assert difference(kept, self.octets[: self.acked]) is None


def runs(pid: int) -> bool:
    """Some thread of it has not been stopped yet."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return any(" T " not in (each / "stat").read_text("ascii") for each in threads)


@contextmanager
def alone() -> Iterator[None]:
    """While no other test mounts: its server's namespace would keep our disk."""
    with Path(tempfile.gettempdir(), "bitsd-power.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def interrupted(machine: Machine, clients: list[Client], after: int) -> None:
    """Clients upload, and the power is cut in the midst of it."""
    running = await machine.serving()
    cut = Cut(after)
    try:
        lines = [await running.dial() for _ in clients]
        for client, line in zip(clients, lines, strict=True):
            client.named = await line.create(client.target)
        uploads = [
            asyncio.ensure_future(client.upload(line, cut))
            for client, line in zip(clients, lines, strict=True)
        ]
        await cut.wait()
        # First the processor, then the disk, as in a power cut: an fdatasync that is
        # under way when ext4 is shut down may return 0 (protocol-notes/publishing.md).
        stopped = [running.process.pid, *running.workers]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        # Nothing tells that another process has stopped.
        while any(map(runs, stopped)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await machine.cut()
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*uploads)
    finally:
        await running.end(signal.SIGKILL)


async def resumed(machine: Machine, clients: list[Client]) -> None:
    """The same clients go on after the reboot, and all come to an end."""
    running = await machine.serving()
    try:
        for client in clients:
            line = await running.dial()
            if not client.acked:  # a session without bytes need not survive
                client.named = await line.create(client.target)
            await client.upload(line)
            answer = await line.ask(close(client.target, client.named))
            assert answer.status == 200, answer
            assert machine.file(client.name).read_bytes() == client.octets
    finally:
        await running.end(signal.SIGTERM)


async def stopped_and_resumed(at: Path, kind: str, seed: int) -> None:
    """Upload, stop the disk, look at it, and go on."""
    chance = random.Random(f"{kind} {seed}")
    machine = Machine.new(at, kind)
    clients = [
        Client(f"file-{number}", chance.randbytes(FRAGMENTS * FRAGMENT - 7))
        for number in range(CLIENTS)
    ]
    with machine.on():
        machine.file(".").mkdir()
        after = chance.randrange(1, CLIENTS * FRAGMENTS)
        await interrupted(machine, clients, after)
    with machine.on():
        for client in clients:
            client.check(machine)
        acked = [client.acked for client in clients]
        # `make power` shows it.
        print(f"{kind}, {seed}: cut after {after}, acknowledged {acked}")  # noqa: T201
        await resumed(machine, clients)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("kind", ["xfs", "ext4"])
def test_what_was_acknowledged_survives_a_disk_that_stops(
    tmp_path: Path, kind: str, seed: int
):
    with alone():
        asyncio.run(stopped_and_resumed(tmp_path, kind, seed))
