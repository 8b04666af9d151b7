"""What a transfer tells while it goes on, and how people and programs see it.

People at a terminal see a bar on stderr; without one, only what went otherwise than it
should. Programs get a line of JSON on stdout for each event.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TextIO, TypeAlias

#: A program that reads events has other things to do.
EVENT_SECONDS = 1.0


class Kind(StrEnum):
    """What happened."""

    STARTED = "started"
    PROGRESS = "progress"
    WAITING = "waiting"
    AGAIN = "again"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened to a file.

    Attributes:
        held: bytes on the side that receives.
        total: bytes of the file; None if that is not known.
        reason: why it waits, starts again from the start, failed or had nothing to do.
        seconds: that it waits.
    """

    event: Kind
    file: str
    held: int = 0
    total: int | None = None
    reason: str | None = None
    seconds: float | None = None


Tell: TypeAlias = Callable[[Event], None]
"""Gets the events of a transfer, on the event loop; must not take long."""


@contextmanager
def json_lines(out: TextIO, clock: Callable[[], float]) -> Iterator[Tell]:
    """Each event, but progress of a file at most once in `EVENT_SECONDS`."""
    told: dict[str, float] = {}

    def tell(event: Event) -> None:
        now = clock()
        if event.event is Kind.PROGRESS and now < told.get(event.file, now):
            return
        told[event.file] = now + EVENT_SECONDS
        facts = {name: fact for name, fact in asdict(event).items() if fact is not None}
        out.write(json.dumps(facts) + "\n")
        out.flush()

    yield tell


@contextmanager
def lines(err: TextIO) -> Iterator[Tell]:
    """A sentence for each event that has one; that it waits, once for each reason."""
    waiting: dict[str, str | None] = {}

    def tell(event: Event) -> None:
        before = waiting.get(event.file)
        waiting[event.file] = event.reason if event.event is Kind.WAITING else None
        if event.reason is not None and event.reason != before:
            err.write(f"bitsd: {sentence(event)}\n")
            err.flush()

    yield tell


def sentence(event: Event) -> str:
    """An event that has a reason, for people."""
    said = f"{event.file}: {event.reason}"
    if event.event is Kind.WAITING:
        return f"{said}; next try in {event.seconds:.0f} s"
    if event.event is Kind.AGAIN:
        return f"{said}; starting over"
    return said
