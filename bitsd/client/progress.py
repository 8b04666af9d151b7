"""What a transfer tells while it goes on, and how people and programs see it.

People read a line about each file that is done on stdout, and what went otherwise than
it should on stderr, where a terminal shows a bar, too (`bars`). Programs get an event a
line as JSON on stdout.
"""

import json
from collections.abc import Callable
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
    """Something happened to a file; what is None is not known, or does not matter.

    Attributes:
        file: its name on this side.
        held: bytes on the side that receives. Those of an upload were given to the
            network; after an interruption some come again.
        total: bytes of the file.
        reason: why it waits, starts again from the start or failed, or what was done.
        seconds: that it waits, or that it took.
        url: that an uploaded file has.
        reply: where the server application's reply to it is, a file or a URL.
        status: HTTP status of the answer by which it failed.
        code: HRESULT in that, as 0x and eight digits.
        resumable: trying again may help, and goes on where it was.
    """

    event: Kind
    file: str
    held: int | None = None
    total: int | None = None
    reason: str | None = None
    seconds: float | None = None
    url: str | None = None
    reply: str | None = None
    status: int | None = None
    code: str | None = None
    resumable: bool | None = None


Tell: TypeAlias = Callable[[Event], None]
"""Gets the events of a transfer, often, on the event loop; must not take long."""

Say: TypeAlias = Callable[[str], None]
"""Shows a line."""


class TransferFailed(Exception):
    """A file was not uploaded or not fetched; says why.

    Attributes:
        status: HTTP status of the answer that says so, if one does.
        code: HRESULT in it.
        resumable: trying again may help, and goes on where it was.
    """

    def __init__(
        self,
        why: str,
        *,
        status: int | None = None,
        code: int | None = None,
        resumable: bool = False,
    ) -> None:
        super().__init__(why)
        self.status = status
        self.code = code
        self.resumable = resumable

    def event(self, file: str) -> Event:
        """It, told of a file."""
        return Event(
            event=Kind.FAILED,
            file=file,
            reason=str(self),
            status=self.status,
            code=None if self.code is None else f"0x{self.code:08X}",
            resumable=self.resumable,
        )


def nobody(_event: Event) -> None:
    """Is told what happens."""


def writing(out: TextIO) -> Say:
    """Lines there, each at once."""

    def say(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    return say


def json_lines(out: Say, err: Say, clock: Callable[[], float]) -> Tell:
    """Each event, but progress of a file at most once in `EVENT_SECONDS`.

    Args:
        out: for the program.
        err: for people, who read of failures.
        clock: seconds that only go on.
    """
    told: dict[str, tuple[float, int | None]] = {}

    def tell(event: Event) -> None:
        now, rate = clock(), None
        moves = event.event is Kind.PROGRESS
        if moves and event.file in told:
            before, held = told[event.file]
            if now < before + EVENT_SECONDS:
                return
            if held is not None and event.held is not None:
                rate = max(0, round((event.held - held) / (now - before)))
        told[event.file] = now, event.held if moves else None
        facts = asdict(event) | {"bytes_per_second": rate}
        out(
            json.dumps({name: fact for name, fact in facts.items() if fact is not None})
        )
        if event.event is Kind.FAILED:
            err(sentence(event))

    return tell


def lines(out: Say, err: Say) -> Tell:
    """A sentence for each event that has one; that it waits, once for each reason."""
    waiting: dict[str, str | None] = {}

    def tell(event: Event) -> None:
        waits = event.event is Kind.WAITING
        before = waiting.get(event.file)
        waiting[event.file] = event.reason if waits else None
        if event.reason is not None and not (waits and event.reason == before):
            (out if event.event is Kind.DONE else err)(sentence(event))

    return tell


def sentence(event: Event) -> str:
    """An event that has a reason, for people."""
    said = f"{event.file}: {event.reason}"
    match event.event:
        case Kind.DONE:
            return said
        case Kind.WAITING:  # the reason may be long, and the number is not to be missed
            wait = f"trying again in {event.seconds:.0f} s"
            said = f"{event.file}: {wait}: {event.reason}"
        case Kind.AGAIN:
            said += "; starting over"
        case Kind.FAILED if event.resumable:
            said += "; the same command goes on"
        case _:
            pass
    return f"bitsd: {said}"
