"""Runs, one server after the other in turns, and what they took.

A run counts only if the machine did little else meanwhile: /proc/stat has the time
that all processes used, and what neither server nor clients used was somebody else's.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from statistics import median

from .client import Clients, Load
from .servers import Server, Servers, Start

#: CPU of others during a run: part of a core, and seconds (a tick or two) beside.
OTHERS_SHARE = 0.15
OTHERS_SECONDS = 0.03

#: Too many runs are disturbed: then the quietest count, and the report says so.
TRIES_PER_RUN = 2

_TICKS = os.sysconf("SC_CLK_TCK")


class Unit(Enum):
    """What amounts are counted in: its name, how many there are in it, the scale."""

    GIB = ("GiB", 1 << 30, "s")
    REQUEST = ("request", 1, "us")

    def per(self, seconds: float, amount: int) -> float:
        """Seconds per GiB, or microseconds per request."""
        _name, count, scale = self.value
        return seconds * count / amount * (1e6 if scale == "us" else 1)

    def __str__(self) -> str:
        name, _count, scale = self.value
        return f"{scale}/{name}"


class Measure(Enum):
    """What a target is about."""

    CPU = "cpu"
    WALL = "wall"


@dataclass(frozen=True)
class Target:
    """The first contender takes at most `limit` times what `reference` does."""

    measure: Measure
    reference: str
    limit: float


@dataclass(frozen=True)
class Contender:
    """A server and what it is asked; `smaller` warms it up."""

    name: str
    start: Start
    load: Load
    smaller: Load


@dataclass(frozen=True)
class Case:
    """One piece of work, for several servers.

    Attributes:
        timed: otherwise memory alone is of interest, and the first run that counts:
            later ones find what the server has not given back.
    """

    group: str
    name: str
    unit: Unit
    contenders: Sequence[Contender]
    target: Target | None = None
    timed: bool = True


@dataclass(frozen=True)
class Sample:
    """One run; times in seconds, memory in bytes.

    Attributes:
        cpu: of the server; `client_cpu` of the clients, `other_cpu` of all others.
        idle: memory before the run; `peak` the most during it.
    """

    cpu: float
    wall: float
    client_cpu: float
    other_cpu: float
    idle: int
    peak: int

    @property
    def disturbed(self) -> bool:
        """Others were at work, too."""
        return self.other_cpu > OTHERS_SHARE * self.wall + OTHERS_SECONDS


@dataclass
class Row:
    """What a contender took: amounts as the case's unit has them."""

    contender: Contender
    samples: list[Sample] = field(default_factory=list)

    @property
    def quiet(self) -> list[Sample]:
        """Runs that nobody disturbed."""
        return [sample for sample in self.samples if not sample.disturbed]

    def counted(self, runs: int) -> list[Sample]:
        """The runs that count, at most `runs`."""
        if self.trusted(runs):
            return self.quiet[:runs]
        return sorted(self.samples, key=lambda sample: sample.other_cpu)[:runs]

    def trusted(self, runs: int) -> bool:
        """Enough runs were undisturbed."""
        return len(self.quiet) >= (runs + 1) // 2

    def median(self, of: Callable[[Sample], float], runs: int) -> float:
        """The median over the runs that count."""
        return median(of(sample) for sample in self.counted(runs))


@dataclass(frozen=True)
class Result:
    """A case with its rows, in the order of its contenders."""

    case: Case
    rows: Sequence[Row]
    runs: int

    def value(self, row: Row, measure: Measure) -> float:
        """Median CPU or wall time of a row, in the unit of the case."""
        seconds = row.median(lambda sample: _of(sample, measure), self.runs)
        return self.case.unit.per(seconds, row.contender.load.amount)

    def ratio(self, row: Row, measure: Measure) -> float | None:
        """To the reference of the target; None where there is none, or of itself."""
        target = self.case.target
        if target is None or row.contender.name == target.reference:
            return None
        reference = self.value(self._reference(target), measure)
        return self.value(row, measure) / max(reference, 1e-9)

    def _reference(self, target: Target) -> Row:
        return next(r for r in self.rows if r.contender.name == target.reference)

    @property
    def verdict(self) -> str:
        """Whether the first contender meets the target; empty without a target."""
        target = self.case.target
        if target is None:
            return ""
        compared = (self.rows[0], self._reference(target))
        if not all(row.trusted(self.runs) for row in compared):
            return "disturbed"
        ratio = self.ratio(self.rows[0], target.measure)
        return "met" if ratio is not None and ratio <= target.limit else "missed"


def _of(sample: Sample, measure: Measure) -> float:
    return sample.cpu if measure is Measure.CPU else sample.wall


def run(case: Case, servers: Servers, runs: int, until: float) -> Result:
    """Run a case, one contender after the other in turns.

    Args:
        runs: undisturbed ones wanted of each contender.
        until: on the monotonic clock; no turn begins later, but the first.
    """
    started = [servers.named(c.name, c.start) for c in case.contenders]
    rows = [Row(contender) for contender in case.contenders]
    for row, server in zip(rows, started, strict=True):
        sample(server, row.contender.smaller)
    for turn in range(runs * TRIES_PER_RUN if case.timed else 1):
        if turn and time.monotonic() > until:
            break
        for row, server in zip(rows, started, strict=True):
            if len(row.quiet) < runs:
                row.samples.append(sample(server, row.contender.load))
    return Result(case, rows, runs)


def sample(server: Server, load: Load) -> Sample:
    """One run."""
    server.forget_peak()
    idle = server.usage().resident
    with Clients(load, server.port) as clients:
        used, busy, begun = server.usage().cpu, busy_seconds(), time.monotonic()
        client_cpu = clients.go()
        wall = time.monotonic() - begun
        after, busy = server.usage(), busy_seconds() - busy
        clients.leave()
    server.clean()
    cpu = after.cpu - used
    others = max(0.0, busy - cpu - client_cpu)
    return Sample(cpu, wall, client_cpu, others, idle, after.peak)


def busy_seconds() -> float:
    """What all processors did so far, and what other machines took from this one."""
    line = Path("/proc/stat").read_text("ascii").split("\n", 1)[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal = line.split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS
