"""Progress bars at a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from .progress import Event, Kind, Tell, lines, writing

_KIB = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

#: At most: `1,023.9/1,023.9 MiB`, `1,023.9 MiB/s`, `0:00:00`, and four gaps.
_NUMBERS = 19 + 13 + 7 + 4

#: Less is left for a name and a bar, and there is none.
_SMALLEST_ROOM = 30

#: At most: `100 %`, `1,023.9 MiB/s`, and two gaps.
_FEW_NUMBERS = 5 + 13 + 2

_SHORTEST_NAME = 8


@contextmanager
def bars(out: TextIO, err: TextIO) -> Iterator[Tell]:
    """A bar for each file under way, and the lines that are there without a terminal.

    Args:
        out: gets what was done; above the bars, if it is a terminal.
        err: the terminal.
    """
    console = Console(file=err)
    columns = _columns(console.width)
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False
    ) as progress:
        say = partial(
            progress.console.print, markup=False, highlight=False, soft_wrap=True
        )
        tell = lines(say if out.isatty() else writing(out), say)
        under_way: dict[str, TaskID] = {}

        def both(event: Event) -> None:
            tell(event)
            _move(progress, under_way, event)

        yield both


def _columns(width: int) -> list[ProgressColumn]:
    """What fits into one line; nothing is ever wrapped."""
    room = width - _NUMBERS
    if room < _SMALLEST_ROOM:
        name = max(width - _FEW_NUMBERS, _SHORTEST_NAME)
        share = TextColumn("{task.percentage:.0f} %", table_column=_line())
        return [_Name(name), share, _Pace(_line())]
    name = room * 3 // 5
    return [
        _Name(name),
        BarColumn(room - name, table_column=_line()),
        DownloadColumn(binary_units=True, table_column=_line()),
        _Pace(_line()),
        TimeRemainingColumn(table_column=_line()),
    ]


def _line() -> Column:
    return Column(no_wrap=True)


class _Name(ProgressColumn):
    """A file's name, as much of it as there is room for."""

    def __init__(self, width: int) -> None:
        super().__init__(_line())
        self._width = width

    def render(self, task: Task) -> Text:
        return Text(shortened(task.description, self._width))


class _Pace(ProgressColumn):
    """How fast it goes, or how long it waits."""

    def render(self, task: Task) -> Text:
        seconds: float | None = task.fields["waits"]
        if seconds is not None:
            return Text(f"waits {seconds:.0f} s", "progress.data.speed")
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{amount(speed)}/s", "progress.data.speed"
        )


def shortened(name: str, width: int) -> str:
    """A name without its middle, for its start and its end tell the most."""
    if Text(name).cell_len <= width:
        return name
    # Some letters are two columns wide.
    for kept in range(width - 1, 0, -1):
        start, end = name[: kept - kept // 2], name[len(name) - kept // 2 :]
        short = f"{start}…{end}"
        if Text(short).cell_len <= width:
            return short
    return "…"


def amount(octets: float) -> str:
    """Bytes in the largest unit of which there is one."""
    unit = 0
    while octets >= _KIB and unit < len(_UNITS) - 1:
        octets /= _KIB
        unit += 1
    return f"{octets:,.{1 if unit else 0}f} {_UNITS[unit]}"


def _move(progress: Progress, under_way: dict[str, TaskID], event: Event) -> None:
    bar, held, total = under_way.get(event.file), event.held or 0, event.total
    waits = event.seconds if event.event is Kind.WAITING else None
    if event.event in (Kind.DONE, Kind.FAILED):
        if bar is not None:
            progress.remove_task(under_way.pop(event.file))
    elif bar is None:
        under_way[event.file] = progress.add_task(
            event.file, total=total, completed=held, waits=waits
        )
    elif event.event is Kind.PROGRESS:
        progress.update(bar, total=total, completed=held, waits=waits)
    else:
        # What was held before says nothing about the speed.
        progress.reset(bar, total=total, completed=held, waits=waits)
