"""A file system that has not synced everything, and what a power cut makes of it."""

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path, PurePath

from calls import Call, Linked, Made, Removed, Renamed, Resized, Synced, Told, Written

_ROOT = 0

#: Of so many changes of names every subset can survive; of more, only some.
MOST_CHANGES = 6


@dataclass(frozen=True)
class Change:
    """A step of the file system with names: all of it survives or nothing."""

    added: tuple[int, str, int] | None = None
    removed: tuple[int, str, int] | None = None

    @property
    def folders(self) -> set[int]:
        """A sync of any of them keeps it: in a journal a step is one piece."""
        return {entry[0] for entry in (self.added, self.removed) if entry}

    def apply(self, names: dict[int, dict[str, int]]) -> None:
        if self.added:
            folder, name, number = self.added
            names[folder][name] = number
        if self.removed:
            folder, name, number = self.removed
            if names[folder].get(name) == number:
                del names[folder][name]


@dataclass(frozen=True)
class State:
    """What is there after a power cut.

    Attributes:
        names: path of each file and folder, and which of them it is.
        contents: bytes of each file; folders have none.
    """

    names: tuple[tuple[str, int], ...]
    contents: tuple[tuple[int, bytes], ...]

    def read(self, path: str) -> bytes | None:
        """Bytes of the file of that name, if there is one."""
        number = dict(self.names).get(path)
        return None if number is None else dict(self.contents)[number]

    def write(self, folder: Path) -> None:
        """Make a folder that is so."""
        folder.mkdir()
        contents, made = dict(self.contents), dict[int, Path]()
        for name, number in sorted(self.names):
            path = folder / name
            if number not in contents:
                path.mkdir()
            elif number in made:
                os.link(made[number], path)
            else:
                path.write_bytes(contents[number])
                made[number] = path


@dataclass
class Device:
    """What is on the disk, and what is in memory only."""

    # On the disk.
    names: dict[int, dict[str, int]] = field(default_factory=lambda: {_ROOT: {}})
    contents: dict[int, bytes] = field(default_factory=dict)
    # As programs see it.
    live_names: dict[int, dict[str, int]] = field(default_factory=lambda: {_ROOT: {}})
    live_contents: dict[int, bytes] = field(default_factory=dict)
    # What makes the second of the first, in order.
    changes: list[Change] = field(default_factory=list)
    writes: dict[int, list[Written | Resized]] = field(default_factory=dict)

    def apply(self, call: Call) -> None:
        """A program did this."""
        match call:
            case Made(path, folder):
                self._make(path, folder=folder)
            case Written(path) | Resized(path):
                number = self.number(path)
                _write(self.live_contents, number, call)
                self.writes.setdefault(number, []).append(call)
            case Synced(path):
                self._sync(self.number(path))
            case Linked(path, name):
                self._change(Change(added=(*self._entry(name), self.number(path))))
            case Renamed(path, name):
                self._rename(path, name)
            case Removed(path):
                removed = (*self._entry(path), self.number(path))
                self._change(Change(removed=removed))
            case Told():
                pass

    def number(self, path: str) -> int:
        """Which file or folder has that name."""
        number = _ROOT
        for part in PurePath(path).parts:
            number = self.live_names[number][part]
        return number

    def _entry(self, path: str) -> tuple[int, str]:
        parent = PurePath(path).parent
        return self.number(str(parent)), PurePath(path).name

    def _make(self, path: str, *, folder: bool) -> None:
        number = 1 + len(self.live_names) + len(self.live_contents)
        if folder:
            self.names[number], self.live_names[number] = {}, {}
        else:
            self.contents[number] = self.live_contents[number] = b""
        self._change(Change(added=(*self._entry(path), number)))

    def _rename(self, path: str, name: str) -> None:
        number = self.number(path)
        old, new = self._entry(path), self._entry(name)
        if self.live_names[new[0]].get(new[1]) == number:
            return  # rename() between two names of one file does nothing
        change = Change(added=(*new, number), removed=(*old, number))
        self._change(change)

    def _change(self, change: Change) -> None:
        change.apply(self.live_names)
        self.changes.append(change)

    def _sync(self, number: int) -> None:
        """What fsync(2) promises everywhere: a file's name needs its folder's sync."""
        for write in self.writes.pop(number, []):
            _write(self.contents, number, write)
        for change in [each for each in self.changes if number in each.folders]:
            change.apply(self.names)
            self.changes.remove(change)

    def states(self, most_changes: int = MOST_CHANGES) -> Iterator[State]:
        """What a power cut can leave; some of it more than once."""
        for kept in _kept(self.changes, most_changes):
            names = {number: dict(entries) for number, entries in self.names.items()}
            for change in kept:
                change.apply(names)
            paths = tuple(sorted(_walk(names, _ROOT, "")))
            files = sorted({number for _, number in paths} & set(self.contents))
            choices = [list(self._contents(number)) for number in files]
            for contents in product(*choices):
                yield State(paths, tuple(zip(files, contents, strict=True)))

    def _contents(self, number: int) -> Iterator[bytes]:
        durable, writes = self.contents[number], self.writes.get(number, [])
        for count in range(len(writes) + 1):
            yield _written(durable, writes[:count])
        if not writes:
            return
        live = self.live_contents[number]
        # The length came to the disk, and nothing of what was written.
        yield durable[: len(live)].ljust(len(live), b"\0")
        yield durable[: len(live)].ljust(len(live), b"\xff")
        for lost in range(len(writes)):
            yield _written(durable, writes, lost=lost)
        half = len(durable) + max(0, len(live) - len(durable)) // 2
        yield live[:half]
        yield live[:half].ljust(len(live), b"\0")


def _kept(changes: list[Change], most: int) -> Iterable[Iterable[Change]]:
    """Every subset of a few; of many: beginnings, single ones, all but one."""
    count = len(changes)
    if count <= most:
        for size in range(count + 1):
            yield from combinations(changes, size)
        return
    for at in range(count + 1):
        yield changes[:at]
    for at in range(count):
        yield changes[at : at + 1]
        yield [*changes[:at], *changes[at + 1 :]]


def _written(
    octets: bytes, writes: list[Written | Resized], lost: int | None = None
) -> bytes:
    contents = {0: octets}
    for at, write in enumerate(writes):
        if at != lost:
            _write(contents, 0, write)
        elif isinstance(write, Written):
            _write(contents, 0, Written("", bytes(len(write.octets))))
    return contents[0]


def _write(contents: dict[int, bytes], number: int, write: Written | Resized) -> None:
    match write:
        case Written(_, octets):
            contents[number] += octets
        case Resized(_, size):
            contents[number] = contents[number][:size].ljust(size, b"\0")


def _walk(
    names: dict[int, dict[str, int]], folder: int, path: str
) -> Iterator[tuple[str, int]]:
    for name, number in names[folder].items():
        yield f"{path}{name}", number
        if number in names:
            yield from _walk(names, number, f"{path}{name}/")


def _some(states: list[State], most: int | None) -> list[State]:
    """All, or the first, the last and a few between, the same ones each time."""
    if most is None or len(states) <= most:
        return states
    chance = random.Random(len(states))
    return [states[0], *chance.sample(states[1:-1], most - 2), states[-1]]


def crashes(
    recorded: Iterable[Call], *, most_changes: int = MOST_CHANGES, most: int | None
) -> Iterator[tuple[int, State, dict[str, object]]]:
    """Each state that a power cut after any call can leave, and what was told.

    Args:
        recorded: what was done, from an empty folder on.
        most_changes: as `Device.states`.
        most: states after each call; None for all.
    """
    device, told = Device(), dict[str, object]()
    seen: set[tuple[State, str]] = set()
    for at, call in enumerate(recorded):
        device.apply(call)
        if isinstance(call, Told):
            told |= call.facts
        for state in _some(list(device.states(most_changes)), most):
            if (state, repr(told)) not in seen:
                seen.add((state, repr(told)))
                yield at, state, dict(told)
