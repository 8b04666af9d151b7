"""Progress bars at a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
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

from .progress import Event, Kind, Tell, sentence


@contextmanager
def bars(err: TextIO) -> Iterator[Tell]:
    """A bar for each file under way, and a sentence for each event that has one."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=err),
    ) as progress:
        yield _Bars(progress)


class _Bars:
    """A bar for each file under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """What `Tell` asks for."""
        if event.reason is not None:
            self._progress.console.print(
                sentence(event), markup=False, highlight=False, soft_wrap=True
            )
        if event.event in (Kind.STARTED, Kind.PROGRESS, Kind.DONE):
            bar = self._bars.get(event.file)
            if bar is None or event.event is Kind.STARTED:
                bar = self._begin(event, bar)
            self._progress.update(bar, completed=event.held, total=event.total)

    def _begin(self, event: Event, old: TaskID | None) -> "TaskID":
        """What was held before it started says nothing about its speed."""
        if old is not None:
            self._progress.remove_task(old)
        bar = self._progress.add_task(
            event.file, completed=event.held, total=event.total
        )
        self._bars[event.file] = bar
        return bar
