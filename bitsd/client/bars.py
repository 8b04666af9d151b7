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
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from .progress import Event, Kind, Tell, lines, writing


@contextmanager
def bars(out: TextIO, err: TextIO) -> Iterator[Tell]:
    """A bar for each file under way, and the lines that are there without a terminal.

    Args:
        out: gets what was done; above the bars, if it is a terminal.
        err: the terminal.
    """
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=err),
        transient=True,
        redirect_stdout=False,
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


def _move(progress: Progress, under_way: dict[str, TaskID], event: Event) -> None:
    bar, held, total = under_way.get(event.file), event.held or 0, event.total
    name = event.file
    if event.event is Kind.WAITING:
        name += f" (next try in {event.seconds:.0f} s)"
    if event.event in (Kind.DONE, Kind.FAILED):
        if bar is not None:
            progress.remove_task(under_way.pop(event.file))
    elif bar is None:
        under_way[event.file] = progress.add_task(name, total=total, completed=held)
    elif event.event is Kind.PROGRESS:
        progress.update(bar, description=name, total=total, completed=held)
    else:
        # What was held before says nothing about the speed.
        progress.reset(bar, description=name, total=total, completed=held)
