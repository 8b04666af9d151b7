"""Runs, one server after the other in turns, and what they took.

A run counts only if the machine did little else meanwhile. What others did is seen in
two ways: the clocks of all processes, which are exact, but not of those that begin and
end within a run; and /proc/stat, which misses nothing, but counts ticks.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from statistics import median

from .client import MIB, Clients, Load
from .servers import LeftOut, Server, Servers, Start, cpu_seconds, processes

#: CPU of others that disturbs a run: part of a core, and seconds beside it.
OTHERS_SHARE = 0.15
OTHERS_SECONDS = 0.005

#: /proc/stat has six sums of ticks of 10 ms, each rounded: so much is seen in an idle
#: machine, too.
STAT_ERROR_SECONDS = 0.03

#: Too many runs are disturbed: then the quietest count, and the report says so.
TRIES_PER_RUN = 2

_TICKS = os.sysconf("SC_CLK_TCK")


class Unit(Enum):
    """What amounts are counted in: its name, how many there are in it, the scale."""

    GIB = ("GiB", 1 << 30, "s")
    REQUEST = ("request", 1, "us")
    START = ("start", 1, "s")

    def per(self, seconds: float, amount: int) -> float:
        """Seconds per GiB or start, or microseconds per request."""
        _name, count, scale = self.value
        return seconds * count / amount * (1e6 if scale == "us" else 1)

    def __str__(self) -> str:
        name, _count, scale = self.value
        return f"{scale}/{name}"


class Measure(Enum):
    """What a target is about."""

    CPU = "CPU"
    WALL = "wall"
    PEAK = "peak"


class Kind(Enum):
    """What is done with the servers of a case."""

    WORK = "work"
    """They run, and clients work with them, in turns."""

    MEMORY = "memory"
    """One run on new servers: later ones find what a server has not given back."""

    START = "start"
    """They are started again and again; loads only say how much one start is."""


@dataclass(frozen=True)
class Target:
    """What the first contender shall take, beside `reference`.

    Attributes:
        reference: a contender; None where `limit` is absolute, in the unit of the
            case, or in MiB for a peak.
        limit: times what the reference takes, at most; None where that is only shown.
    """

    measure: Measure
    reference: str | None
    limit: float | None


@dataclass(frozen=True)
class Contender:
    """A server and what it is asked; `smaller` warms it up."""

    name: str
    start: Start
    load: Load
    smaller: Load


@dataclass(frozen=True)
class Case:
    """One piece of work, for several servers."""

    group: str
    name: str
    unit: Unit
    contenders: Sequence[Contender]
    target: Target | None = None
    kind: Kind = Kind.WORK


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

    def of(self, measure: Measure) -> float:
        """Seconds, or MiB."""
        match measure:
            case Measure.CPU:
                return self.cpu
            case Measure.WALL:
                return self.wall
            case Measure.PEAK:
                return self.peak / MIB


@dataclass
class Row:
    """What a contender took, turn by turn."""

    contender: Contender
    samples: list[Sample] = field(default_factory=list)

    @property
    def quiet(self) -> list[Sample]:
        """Runs that nobody disturbed."""
        return [sample for sample in self.samples if not sample.disturbed]

    def counted(self, runs: int) -> list[Sample]:
        """The runs that count; if too few were quiet, the quietest."""
        if self.trusted(runs):
            return self.quiet
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
        """Median CPU or wall time of a row in the unit of the case, or peak in MiB."""
        value = row.median(lambda sample: sample.of(measure), self.runs)
        if measure is Measure.PEAK:
            return value
        return self.case.unit.per(value, row.contender.load.amount)

    @property
    def measure(self) -> Measure:
        """What the case is about."""
        return Measure.CPU if self.case.target is None else self.case.target.measure

    @property
    def reference(self) -> Row | None:
        """What the first row is compared with."""
        if self.case.target is None:
            return None
        wanted = self.case.target.reference
        return next((r for r in self.rows if r.contender.name == wanted), None)

    def ratio(self, row: Row, measure: Measure) -> float | None:
        """To the reference; None where there is none, or of itself.

        The median of the ratios of each turn, whose runs were next to each other: what
        changes slowly on the machine is in both.
        """
        if self.reference is None or row is self.reference:
            return None
        amounts = row.contender.load.amount / self.reference.contender.load.amount
        return median(
            one.of(measure) / max(other.of(measure), 1e-9) / amounts
            for one, other in self._pairs(row, self.reference)
        )

    def _pairs(self, row: Row, reference: Row) -> list[tuple[Sample, Sample]]:
        """The runs of each turn that count; if too few were quiet, of all turns."""
        turns = list(zip(row.samples, reference.samples, strict=True))
        quiet = [p for p in turns if not p[0].disturbed and not p[1].disturbed]
        return quiet if len(quiet) >= (self.runs + 1) // 2 else turns

    @property
    def decisive(self) -> float | None:
        """What the limit of the target is about."""
        target = self.case.target
        if target is None:
            return None
        if target.reference is None:
            return self.value(self.rows[0], target.measure)
        return self.ratio(self.rows[0], target.measure)

    @property
    def verdict(self) -> str:
        """Whether the first contender meets the target; empty without a limit."""
        target = self.case.target
        if target is None or target.limit is None:
            return ""
        compared = [self.rows[0], *([self.reference] if self.reference else [])]
        steady = target.measure is Measure.PEAK
        if not steady and not all(row.trusted(self.runs) for row in compared):
            return "disturbed"
        met = self.decisive is not None and self.decisive <= target.limit
        return "met" if met else "missed"


def run(case: Case, servers: Servers, runs: int, until: float) -> Result | None:
    """Run a case, one contender after the other in turns.

    Args:
        case: what to do.
        servers: where.
        runs: undisturbed ones wanted of each contender.
        until: on the monotonic clock; no turn begins later, but the first.

    Returns:
        None if what shall be compared cannot run here.
    """
    rows = [Row(c) for c in case.contenders if _can_start(c, servers)]
    names = {row.contender.name for row in rows}
    needed = {case.contenders[0].name}
    if case.target is not None and case.target.reference is not None:
        needed.add(case.target.reference)
    if not needed <= names:
        return None
    for row in rows:
        _sampled(case, servers, row.contender, row.contender.smaller)
    for turn in range(1 if case.kind is Kind.MEMORY else runs * TRIES_PER_RUN):
        if turn and time.monotonic() > until:
            break
        # Now in this order, now in that: none always follows the same other.
        for row in rows if turn % 2 == 0 else rows[::-1]:
            contender = row.contender
            row.samples.append(_sampled(case, servers, contender, contender.load))
        if all(len(row.quiet) >= runs for row in rows):
            break
    return Result(case, rows, runs)


def _can_start(contender: Contender, servers: Servers) -> bool:
    try:
        servers.named(contender.name, contender.start)
    except LeftOut:
        return False
    return True


def _sampled(case: Case, servers: Servers, contender: Contender, load: Load) -> Sample:
    if case.kind is Kind.START:
        return start_sample(servers, contender)
    return sample(servers.named(contender.name, contender.start), load)


def start_sample(servers: Servers, contender: Contender) -> Sample:
    """One start, until the server listens."""
    servers.stop(contender.name)
    others, begun = Others(), time.monotonic()
    server = servers.named(contender.name, contender.start)
    wall, used = time.monotonic() - begun, server.usage()
    other_cpu = others.seconds(used.cpu)
    return Sample(used.cpu, wall, 0.0, other_cpu, used.resident, used.peak)


def sample(server: Server, load: Load) -> Sample:
    """One run."""
    server.forget_peak()
    idle = server.usage().resident
    with Clients(load, server.port) as clients:
        others = Others()
        used, begun = server.usage().cpu, time.monotonic()
        client_cpu = clients.go()
        wall = time.monotonic() - begun
        after = server.usage()
        cpu = after.cpu - used
        other_cpu = others.seconds(cpu + client_cpu)
        clients.leave()
    server.clean()
    return Sample(cpu, wall, client_cpu, other_cpu, idle, after.peak)


class Others:
    """What others than the benchmark do, from now on."""

    def __init__(self) -> None:
        self._stat, self._clocks = stat_seconds(), dict(clocks())

    def seconds(self, ours: float) -> float:
        """CPU of others.

        Args:
            ours: that of the server and the clients meanwhile.
        """
        unexplained = stat_seconds() - self._stat - ours - STAT_ERROR_SECONDS
        seen = 0.0
        mine = set(processes(os.getpid()))
        for pid, seconds in clocks():
            more = seconds - self._clocks.get(pid, 0.0)
            if more > 0 and pid not in mine and not is_of_the_kernel(pid):
                seen += more
        return max(0.0, unexplained, seen)


def clocks() -> Iterator[tuple[int, float]]:
    """The CPU seconds of every process so far."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):  # it has ended
                yield int(path.name), cpu_seconds(int(path.name))


def is_of_the_kernel(pid: int) -> bool:
    """It has no program; what it does may well be on our behalf."""
    try:
        Path(f"/proc/{pid}/exe").readlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def stat_seconds() -> float:
    """What all processors did so far, and what other machines took from this one."""
    line = Path("/proc/stat").read_text("ascii").split("\n", 1)[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal = line.split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS
