"""The server under fire: random uploads, and SIGKILL at random instants.

`__main__` is the command. All that is random comes from the seed: what is uploaded, in
which fragments, and when the server is killed. What two processes do at the same
time does not, so that a failure comes again soon, and not at once.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from processes import Running, group, serving, started
from wire_client import Line, until

from .client import Client, Moment
from .evidence import Evidence, Place, Upload, Violation, age, broken

CONFIG = """\
workers = {workers}

[[listen]]
address = "127.0.0.1:0"
"""

DIRECTORY = """
[[directory]]
url = "{url}"
path = "{folder}"
write = ["*"]
upload = true
sessions_per_user = 100000
maximum_upload_size = "1GiB"
{settings}
"""

#: Largest entity but for a few, in bytes: small ones end more often.
USUAL = 200_000
LARGEST = 4_000_000

#: So many moments later the server is killed, whether the wanted one came or not.
MOST_MOMENTS = 150

#: Longest time from a moment to the kill, in seconds.
LONGEST_DELAY = 0.15

#: asyncio does not sleep as short as this, in seconds.
SHORTEST_SLEEP = 0.002

#: Of the same server so many workers are killed: later ones are replaced late.
MOST_WORKERS = 2

#: Older than any session may be, in seconds.
AGES = 30 * 86400.0


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    kills: int = 200
    seed: int = 1
    workers: int = 1
    connections: int = 4


@dataclass
class Outcome:
    """What a run has seen."""

    plan: Plan
    evidence: Evidence
    kills: int = 0
    worker_kills: int = 0
    restarts: int = 0
    sent: int = 0
    needed: int = 0
    leftovers: str = ""
    violations: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line."""
        found = self.evidence
        return (
            f"kills {self.kills} ({self.worker_kills} of a worker alone),"
            f" restarts {self.restarts}, files {found.files}, bytes {self.needed},"
            f" resent bytes {self.sent - self.needed},"
            f" lost Creates {found.lost_creates}, left over {self.leftovers or '-'},"
            f" violations {len(self.violations)}"
        )


class Target:
    """The server, which is there or not.

    Attributes:
        waiting: clients that have no connection because there is no server.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.places = [
            Place("/keep", folder / "keep"),
            Place("/replace", folder / "replace", overwrite=True),
            Place("/late", folder / "late"),
        ]
        settings = ("", "overwrite = true", 'durability = "publish"')
        self._config = folder / "bitsd.toml"
        text = CONFIG.format(workers=workers)
        for place, setting in zip(self.places, settings, strict=True):
            place.folder.mkdir()
            text += DIRECTORY.format(
                url=place.url, folder=place.folder.name, settings=setting
            )
        self._config.write_text(text, "utf-8")
        self._log = folder / "server.log"
        self._running: Running | None = None
        self._serving = asyncio.Event()
        self._url = ""
        self.waiting = 0

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._running = await serving(self._run, self._config)
        self._url = self._running.url
        self._serving.set()

    async def _run(self, *arguments: str) -> Running:
        with self._log.open("ab") as log:
            return Running(await started(*arguments, log=log, leads=True))

    @property
    def killed(self) -> bool:
        """It was struck, and not started since."""
        return not self._serving.is_set()

    @property
    def workers(self) -> list[int]:
        """Its worker processes."""
        return [] if self._running is None else self._running.workers

    def strike(self) -> None:
        """Kill all its processes at once."""
        self._serving.clear()
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.process.pid, signal.SIGKILL)

    async def buried(self) -> None:
        """Wait until none of its processes can write any more."""
        if self._running is not None:
            leader = self._running.process.pid
            await self._running.process.communicate()
            await until(lambda: not group(leader))
            self._running = None

    async def dial(self) -> Line:
        """A connection, as soon as it serves."""
        while True:
            self.waiting += 1
            await self._serving.wait()
            self.waiting -= 1
            with suppress(ConnectionError):
                return await Line.dial(self._url)
            await asyncio.sleep(0)


class Trigger:
    """When to strike: some moment, and some time after it.

    Args:
        strike: what to do then.
    """

    def __init__(self, dice: random.Random, strike: Callable[[], None]) -> None:
        self._strike = strike
        self._moment = dice.choice([*Moment])
        self._left = dice.randint(1, 3)
        self._patience = MOST_MOMENTS
        # As often below a millisecond as above ten of them.
        self._delay = LONGEST_DELAY * 10 ** dice.uniform(-4, 0)
        if dice.random() < 0.1:
            self._delay = 0.0
        self.struck: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._due: asyncio.TimerHandle | None = None

    def tell(self, moment: Moment) -> None:
        """Something happened."""
        self._patience -= 1
        self._left -= moment is self._moment
        if self._due is not None or self.struck.done():
            return
        if self._left > 0 and self._patience > 0:
            return
        if self._delay < SHORTEST_SLEEP:
            # Meanwhile the server goes on with what clients gave it.
            time.sleep(self._delay)
            self._fire()
        else:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(self._delay, self._fire)

    def _fire(self) -> None:
        self._strike()
        self.struck.set_result(None)


class Run:
    """Clients, and one who kills what they talk to."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._target = Target(folder, plan.workers)
        self._evidence = Evidence(self._target.places)
        self._dice = random.Random(f"{plan.seed} kills")
        self._trigger: Trigger | None = None
        self._working = 0
        self._over = False
        self._spared = 0
        self.outcome = Outcome(plan, self._evidence)

    async def run(self) -> None:
        """All kills, then whatever uploads still need, then the last look."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._plan.connections):
                    self._working += 1
                    tasks.create_task(self._work(number))
                tasks.create_task(self._kill())
            await self._end()
        except* (Violation, TimeoutError, AssertionError) as group:
            self.outcome.violations = [*_told(group)]
        finally:
            self._target.strike()
            await self._target.buried()

    def _tell(self, moment: Moment) -> None:
        if self._trigger is not None:
            self._trigger.tell(moment)

    async def _work(self, number: int) -> None:
        """One client, from upload to upload."""
        dice = random.Random(f"{self._plan.seed} client {number}")
        client = Client(self._target.dial, self._evidence, dice, self._tell)
        job = 0
        try:
            while not self._over:
                upload, largest, patience = self._job(dice, number, job)
                size = upload.size
                await client.upload(upload, largest, patience)
                self.outcome.needed += size if upload.delivered else upload.acknowledged
                job += 1
        finally:
            self.outcome.sent += client.sent
            await client.hang_up()
            self._working -= 1

    def _job(
        self, dice: random.Random, number: int, job: int
    ) -> tuple[Upload, int, int | None]:
        """An upload, its largest fragment, and when to lose patience with it."""
        place = dice.choice(self._target.places)
        # Now and then a name that others upload to at the same time.
        whose = "all" if dice.random() < 0.3 else str(number)
        largest = dice.choice([7, 100, 4096, 65_536, 1_000_000])
        some = dice.choice([USUAL] * 9 + [LARGEST])
        edges = [0, 1, largest * 3, largest * 3 + 1]
        size = min(dice.choice([*edges, *dice.sample(range(some), 4)]), LARGEST)
        upload = Upload(place, f"{whose}-{job}.bin", dice.randbytes(size))
        patience = dice.randint(0, size) if dice.random() < 0.15 else None
        return upload, max(largest, size // 30), patience

    async def _kill(self) -> None:
        await self._target.start()
        for _ in range(self._plan.kills):
            self._trigger = Trigger(self._dice, self._strike)
            self._tell(Moment.STARTED)
            await self._trigger.struck
            self.outcome.kills += 1
            if not self._target.killed:
                self._evidence.check()
                continue
            await self._target.buried()
            # Each has read whatever the server said before it died.
            await until(lambda: self._target.waiting == self._working)
            self._evidence.note()
            self._evidence.check()
            await self._target.start()
            self.outcome.restarts += 1
        self._trigger = None
        self._over = True

    def _strike(self) -> None:
        workers = self._target.workers
        alone = len(workers) > 1 and self._dice.random() < 0.3
        if alone and self._spared < MOST_WORKERS:
            self._spared += 1
            self.outcome.worker_kills += 1
            os.kill(self._dice.choice(workers), signal.SIGKILL)
        else:
            self._spared = 0
            self._target.strike()

    async def _end(self) -> None:
        """What is left can be known to nobody, and expires."""
        self._evidence.check()
        self._target.strike()
        await self._target.buried()
        left = self._evidence.leftovers()
        self.outcome.leftovers = ", ".join(f"{n} {what}" for what, n in left.items())
        sessions = [place.sessions for place in self._target.places]
        for each in sessions:
            age(each, AGES)
        await self._target.start()
        try:
            await until(lambda: not any(any(each.iterdir()) for each in sessions))
        except TimeoutError:
            broken(f"there is still what had to expire in {sessions}")
        self._evidence.check_end()


def _told(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """What each of them says."""
    told = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            told += _told(error)
        else:
            told.append(f"{type(error).__name__}: {error}")
    return told
