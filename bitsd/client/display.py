"""What a user sees of an upload: lines for a log, a bar, or JSON for a program.

Each is a context manager around what happens, for a bar has to leave the screen.
"""

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, assert_never

from rich import progress as bars
from rich.console import Console

from .outcome import Happening, Progress, Started, Uploaded, UploadFailed, Waiting

#: Events of progress come no faster.
EVENT_SECONDS = 1.0


class Lines:
    """For a log: that it waits, and why, once until it gets on again."""

    def __init__(self) -> None:
        self._why = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the screen."""

    def happened(self, happening: Happening) -> None:
        """Show that."""
        match happening:
            case Waiting(seconds, why) if why != self._why:
                self._why = why
                _say(f"{why}; trying again in {seconds:.0f} s")
            case Progress():
                self._why = ""
            case _:
                pass

    def uploaded(self, done: Uploaded, stored: str | None) -> None:
        """Show that the server has the file, and what became of the reply."""
        print(f"{done.url}: {done.size} bytes uploaded")
        if done.reply_url is None:
            return
        if stored is None:
            print(f"{done.reply_url}: the reply, not fetched without --reply")
        else:
            print(f"{stored}: the reply")

    def cancelled(self, url: str) -> None:
        """Show that the server is rid of it."""
        print(f"{url}: cancelled")

    def failed(self, failure: UploadFailed) -> None:
        """Show why."""
        if failure.resumable:
            _say(f"gave up: {failure}; the same command goes on")
        else:
            _say(str(failure))

    def interrupted(self) -> None:
        """Show how to go on."""
        _say("interrupted; the same command goes on where the server says")


class Bar(Lines):
    """For a terminal: a bar with rate and time left, on stderr."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.DownloadColumn(binary_units=True),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._name = name
        self._task = self._bars.add_task(name, total=None)
        self._moving = False

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the screen."""
        self._bars.stop()

    def happened(self, happening: Happening) -> None:
        """Show that."""
        match happening:
            case Started(size=size):
                self._bars.update(self._task, total=size)
            case Progress(offset) if self._moving:
                self._bars.update(self._task, completed=offset)
            case Progress(offset):
                # What the server had before says nothing about the line.
                self._bars.reset(self._task, completed=offset, description=self._name)
                self._moving = True
            case Waiting(seconds, why):
                waiting = f"{self._name}: {why}; trying again in {seconds:.0f} s"
                self._bars.update(self._task, description=waiting)
                self._moving = False
            case _:
                assert_never(happening)


class JsonLines(Lines):
    """For a program: one JSON object a line on stdout, with its kind as `event`.

    Args:
        clock: seconds that only go on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: tuple[float, int] | None = None

    def happened(self, happening: Happening) -> None:
        """Show that."""
        match happening:
            case Started(url, size, resumed):
                _event("started", url=url, size=size, resumed=resumed)
            case Waiting(seconds, why):
                _event("waiting", seconds=round(seconds, 1), reason=why)
                self._last = None
            case _:
                self._progress(happening.offset, happening.size)

    def _progress(self, offset: int, size: int) -> None:
        now = self._clock()
        before, start = self._last or (now, offset)
        if self._last is None or now - before >= EVENT_SECONDS:
            took = now - before
            rate = max(0, round((offset - start) / took)) if took else None
            _event("progress", sent=offset, size=size, bytes_per_second=rate)
            self._last = now, offset

    def uploaded(self, done: Uploaded, stored: str | None) -> None:
        """Show that the server has the file, and what became of the reply."""
        facts = {"url": done.url, "size": done.size, "sent": done.sent}
        took = round(done.seconds, 3)
        _event("done", **facts, seconds=took, reply_url=done.reply_url, reply=stored)

    def cancelled(self, url: str) -> None:
        """Show that the server is rid of it."""
        _event("cancelled", url=url)

    def failed(self, failure: UploadFailed) -> None:
        """Show why, to a person too."""
        code = None if failure.code is None else f"0x{failure.code:08X}"
        facts = {"status": failure.status, "code": code}
        again = failure.resumable
        _event("failed", reason=str(failure), **facts, resumable=again)
        super().failed(failure)

    def interrupted(self) -> None:
        """Show how to go on, to a person too."""
        _event("interrupted")
        super().interrupted()


def _event(kind: str, **facts: object) -> None:
    print(json.dumps({"event": kind, **facts}), flush=True)


def _say(line: str) -> None:
    print(f"bitsd: {line}", file=sys.stderr, flush=True)
