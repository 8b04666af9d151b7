"""Use one server for long, and see that it is afterwards what it was before.

`make soak`, or `PYTHONPATH=tests python -m crash.soak --seconds 60 --workers 2`. Load
runs twice: a tenth of the time to warm up, then all of it. After each, everything is
closed and the server measured; exit code 1 if the second time it has more.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from processes import Running, children, serving, started
from wire_client import Line, cancel, close, fetch, fragment, ping, until

CONFIG = """\
workers = {workers}
idle_timeout = "1h"

[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/in"
path = "in"
read = ["*"]
write = ["*"]
upload = true
overwrite = true
sessions_per_user = {sessions}
maximum_upload_size = "1GiB"
"""

#: Clients at the same time.
CLIENTS = 8

#: Sessions that clients may have at once: twice what they need, so that one that is
#: counted though it is gone is noticed.
SESSIONS = 2 * CLIENTS

#: Bytes that all processes together may have more than after the warm-up: pages that
#: the allocator keeps, about a buffer of each thread.
MORE_MEMORY = 16 << 20

#: The pool of asyncio starts a thread when it has none to spare, up to this many; with
#: them there is the main thread.
MOST_THREADS = min(32, (os.cpu_count() or 1) + 4) + 1

#: What is downloaded, in bytes.
OFFERED = 3_000_000

#: Largest upload, in bytes.
LARGEST = 400_000


class Wrong(Exception):
    """The server answered what it must not."""


@dataclass(frozen=True)
class Footprint:
    """What the processes of a server have, all together.

    Attributes:
        memory: resident, in bytes.
        sessions: folders and other things in BITS-Sessions, graves left out.
        graves: what is remembered of closed sessions, for an hour or two.
    """

    processes: int
    descriptors: int
    threads: int
    memory: int
    sessions: int
    graves: int

    @classmethod
    def of(cls, leader: int, sessions: Path) -> "Footprint":
        """As it is now."""
        pids = [leader, *children(leader)]
        names = [path.name for path in sessions.iterdir()]
        graves = sum(name.startswith("closed-") for name in names)
        return cls(
            processes=len(pids),
            descriptors=sum(_entries(pid, "fd") for pid in pids),
            threads=sum(_entries(pid, "task") for pid in pids),
            memory=sum(_resident(pid) for pid in pids),
            sessions=len(names) - graves,
            graves=graves,
        )

    def grown(self, before: "Footprint") -> list[str]:
        """What there is more of than there may be."""
        most = {
            "processes": before.processes,
            "descriptors": before.descriptors,
            "threads": max(before.threads, MOST_THREADS * before.processes),
            "memory": before.memory + MORE_MEMORY,
            "sessions": before.sessions,
        }
        return [name for name, limit in most.items() if getattr(self, name) > limit]


def _entries(pid: int, what: str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/{what}").iterdir())


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


class Guest:
    """One client; each of its visits leaves nothing open.

    Args:
        url: of the server.
        name: of its file.
        dice: what it does.
    """

    def __init__(self, url: str, name: str, dice: random.Random) -> None:
        self._url = url
        self._target = f"/in/{name}"
        self._dice = dice
        self._lines: list[Line] = []
        self.visits: Counter[str] = Counter()

    async def stay(self, until_time: float) -> None:
        """One visit after another."""
        visits: list[Callable[[], Awaitable[None]]] = [
            self._uploads,
            self._uploads_cut,
            self._superseded,
            self._cancelled,
            self._downloaded,
            self._download_left,
            self._nonsense,
        ]
        while time.monotonic() < until_time:
            visit = self._dice.choice(visits)
            try:
                await visit()
            finally:
                await self._leave()
            self.visits[visit.__name__.strip("_")] += 1

    async def _dial(self) -> Line:
        line = await Line.dial(self._url)
        self._lines.append(line)
        return line

    async def _leave(self) -> None:
        while self._lines:
            await self._lines.pop().hang_up()

    def _content(self) -> bytes:
        return self._dice.randbytes(self._dice.randint(1, LARGEST))

    async def _uploads(self) -> None:
        content = self._content()
        line = await self._dial()
        named = await line.create(self._target)
        await self._finish(line, named, content, 0)

    async def _finish(self, line: Line, named: str, content: bytes, at: int) -> None:
        """The rest of an upload, from where the server wants it."""
        while at < len(content):
            end = at + self._dice.randint(1, len(content) - at)
            body = content[at:end]
            packet = fragment(self._target, named, at, body, len(content))
            answer = await line.ask(packet)
            # 409: an older packet that waited for another worker knocked meanwhile.
            _expect(answer.status in (200, 409, 416), answer)
            at = at if answer.status == 409 else answer.received or 0
        answer = await line.ask(close(self._target, named))
        _expect(answer.status == 200, answer)

    async def _uploads_cut(self) -> None:
        """Each time the connection ends otherwise."""
        content = self._content()
        named = await (await self._dial()).create(self._target)
        for _ in range(self._dice.randint(1, 4)):
            line = await self._half_sent(named, content)
            how = self._dice.choice(["FIN", "RST", "silence"])
            if how == "FIN":
                await line.hang_up()
            elif how == "RST":
                line.reset()
        await self._finish(await self._dial(), named, content, 0)

    async def _half_sent(self, named: str, content: bytes) -> Line:
        line = await self._dial()
        packet = fragment(self._target, named, 0, content, len(content))
        await line.send(packet[: self._dice.randrange(len(packet))])
        return line

    async def _superseded(self) -> None:
        """A newer packet ends one that still waits for its body."""
        content = self._content()
        named = await (await self._dial()).create(self._target)
        for _ in range(3):
            await self._half_sent(named, content)
        await self._finish(await self._dial(), named, content, 0)

    async def _cancelled(self) -> None:
        content = self._content()
        line = await self._dial()
        named = await line.create(self._target)
        if self._dice.random() < 0.5:
            await self._half_sent(named, content)
        answer = await line.ask(cancel(self._target, named))
        _expect(answer.status == 200, answer)

    async def _downloaded(self) -> None:
        line = await self._dial()
        for _ in range(self._dice.randint(1, 5)):
            first = self._dice.randrange(OFFERED)
            last = self._dice.randrange(first, OFFERED)
            wanted = self._dice.choice(
                [
                    (("Range", f"bytes={first}-{last}"), 206),
                    (("Range", f"bytes=0-0, {first}-{last}"), 206),
                    (("Range", f"bytes={OFFERED}-"), 416),
                    (("X-Whole", "yes"), 200),
                ]
            )
            answer = await line.ask(fetch("/in/offered", wanted[0]))
            _expect(answer.status == wanted[1], (answer.status, answer.fields))
        answer = await line.ask(fetch("/in/offered", method="HEAD"), head=True)
        _expect(answer.status == 200, answer)

    async def _download_left(self) -> None:
        line = await self._dial()
        await line.send(fetch("/in/offered"))
        await line.reader.read(self._dice.randint(1, 100_000))
        if self._dice.random() < 0.5:
            line.reset()

    async def _nonsense(self) -> None:
        """A connection that says nothing, half a header, or what nobody reads."""
        line = await self._dial()
        octets = self._dice.choice(
            [b"", ping("/in/")[:30], b"\0\r\n\r\n", fetch("/in/../x"), ping("/in/") * 9]
        )
        if octets:
            await line.send(octets)
        if self._dice.random() < 0.5:
            line.reset()


def _expect(truth: object, otherwise: object) -> None:
    if not truth:
        raise Wrong(str(otherwise)[:500])


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    seconds: float = 600.0
    seed: int = 1
    workers: int = 1


@dataclass(frozen=True)
class Outcome:
    """What a run has seen."""

    before: Footprint
    after: Footprint
    visits: Counter[str]

    def table(self) -> str:
        """Before and after."""
        rows = [f"{'':12} {'before':>12} {'after':>12}"]
        for field in fields(Footprint):
            then, now = (getattr(it, field.name) for it in (self.before, self.after))
            rows.append(f"{field.name:12} {then:12,} {now:12,}")
        return "\n".join(rows)


class Soak:
    """A server, its guests, and what it has when they are gone."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._visits: Counter[str] = Counter()

    async def run(self) -> Outcome:
        """Warm up, measure, load, measure."""
        running = await self._start()
        try:
            await self._load(running, self._plan.seconds / 10, "warm-up")
            before = await self._settled(running, None)
            await self._load(running, self._plan.seconds, "load")
            after = await self._settled(running, before)
        finally:
            running.process.send_signal(signal.SIGTERM)
            await running.process.communicate()
        return Outcome(before, after, self._visits)

    async def _start(self) -> Running:
        (self._folder / "in").mkdir()
        with (self._folder / "in" / "offered").open("wb") as file:
            file.truncate(OFFERED)
        config = self._folder / "bitsd.toml"
        text = CONFIG.format(workers=self._plan.workers, sessions=SESSIONS)
        config.write_text(text, "utf-8")
        return await serving(self._run, config)

    async def _run(self, *arguments: str) -> Running:
        with (self._folder / "server.log").open("ab") as log:
            return Running(await started(*arguments, log=log))

    async def _load(self, running: Running, seconds: float, which: str) -> None:
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                dice = random.Random(f"{self._plan.seed} {which} {number}")
                guest = Guest(running.url, f"{number}.bin", dice)
                guest.visits = self._visits
                tasks.create_task(guest.stay(end))

    async def _settled(self, running: Running, before: Footprint | None) -> Footprint:
        """What it has, as soon as it has no more than before, or in the end."""
        pid, sessions = running.process.pid, self._folder / "in" / "BITS-Sessions"

        def idle() -> bool:
            now = Footprint.of(pid, sessions)
            if before is not None:
                return not now.grown(before)
            return not now.sessions and not _connections(pid)

        with suppress(TimeoutError):
            await until(idle)
        return Footprint.of(pid, sessions)


def _connections(leader: int) -> int:
    """Descriptors that clients could see: a listener and an event loop have a few."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        columns = line.split()
        if columns[3] != "0A":  # LISTEN
            inodes.add(f"socket:[{columns[9]}]")
    found = 0
    for pid in (leader, *children(leader)):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found += str(path.readlink()) in inodes
    return found


def main() -> int:
    """Run it: 0 as it was, 1 it has grown."""
    plan = _parsed()
    print(f"{plan.seconds:g} s, {plan.workers} workers, seed {plan.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        outcome = asyncio.run(Soak(plan, folder).run())
    except* (Wrong, AssertionError, OSError) as group:
        print(f"soak: {_innermost(group)!r}", file=sys.stderr)
        print(f"soak: the files are left in {folder}", file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(folder)
    print(", ".join(f"{what} {n}" for what, n in sorted(outcome.visits.items())))
    print(outcome.table())
    if grown := outcome.after.grown(outcome.before):
        print(f"soak: more than before: {', '.join(grown)}", file=sys.stderr)
        return 1
    return 0


def _innermost(error: BaseException) -> BaseException:
    """The first that is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _parsed() -> Plan:
    parser = argparse.ArgumentParser(
        prog="python -m crash.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="default: 600")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--workers", type=int, default=1, help="default: 1")
    return Plan(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
