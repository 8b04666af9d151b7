"""A BITS client that follows [MC-BUP] through whatever happens to its connection."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

from wire_client import Answer, Line, cancel, close, create, fragment, ranged

from .evidence import Evidence, Stage, Upload, Violation, broken

#: What [MC-BUP] 2.2.1.2 says of a session that is unknown.
UNKNOWN = "0x8020001F"


class Moment(Enum):
    """What a client has just seen or done."""

    STARTED = auto()
    CREATE_SENT = auto()
    CREATED = auto()
    HALF_SENT = auto()
    FRAGMENT_SENT = auto()
    LAST_SENT = auto()
    ACKNOWLEDGED = auto()
    DELIVERED = auto()
    CLOSE_SENT = auto()
    CANCEL_SENT = auto()
    ENDED = auto()


class Dial(Protocol):
    """How a client gets a connection, once there is a server."""

    async def __call__(self) -> Line: ...


class Lost(Exception):
    """The connection ended before the answer came."""


class Client:
    """One client, which has one connection at a time.

    Args:
        dial: waits until there is a server.
        tell: called at each moment.

    Attributes:
        sent: bytes of bodies given to the network.
    """

    def __init__(
        self,
        dial: Dial,
        evidence: Evidence,
        dice: random.Random,
        tell: Callable[[Moment], None],
    ) -> None:
        self._dial = dial
        self._evidence = evidence
        self._dice = dice
        self._tell = tell
        self._line: Line | None = None
        self.sent = 0

    async def upload(self, upload: Upload, largest: int, patience: int | None) -> None:
        """From nothing to the end.

        Args:
            upload: what.
            largest: fragment, in bytes.
            patience: cancel once so many bytes are acknowledged; None for never.

        Raises:
            Violation: the server did what it must not do.
        """
        self._evidence.begun(upload)
        if not await self._create(upload):
            return
        first = 0
        while upload.stage is Stage.SENDING:
            if patience is not None and upload.acknowledged >= patience:
                break
            try:
                first = await self._fragment(upload, first, largest)
            except Lost:
                first = self._resumed(upload)
        tired = patience is not None and self._dice.random() < 0.5
        if upload.stage is Stage.DELIVERED and not tired:
            at_once = await self._end(upload, close, Moment.CLOSE_SENT)
        else:
            at_once = await self._end(upload, cancel, Moment.CANCEL_SENT)
        self._evidence.over(upload, at_once=at_once)
        self._tell(Moment.ENDED)

    async def hang_up(self) -> None:
        """Close the connection."""
        if self._line is not None:
            line, self._line = self._line, None
            await line.hang_up()

    async def _create(self, upload: Upload) -> bool:
        while True:
            try:
                answer = await self._ask(create(upload.target), Moment.CREATE_SENT)
            except Lost:
                self._evidence.lost_creates += 1
                continue
            if answer.status == 403:
                self._evidence.refused_at_once(upload)
                return False
            if answer.status != 200:
                broken(f"{upload.target}: Create-Session got {answer}")
            upload.named = answer.get("BITS-Session-Id")
            upload.stage = Stage.SENDING
            self._tell(Moment.CREATED)
            return True

    async def _fragment(self, upload: Upload, first: int, largest: int) -> int:
        """Send one; the offset from which to go on."""
        length = self._dice.randint(1, min(largest, upload.size - first or 1))
        end = min(first + length, upload.size)
        upload.sent = max(upload.sent, end)
        self.sent += end - first
        last = end == upload.size
        sent = Moment.LAST_SENT if last else Moment.FRAGMENT_SENT
        answer = await self._ask(_packet(upload, first, end), sent)
        # Not only to the last one: after a break more may be held than we know of.
        if answer.status == 403 and upload.sent == upload.size:
            self._evidence.refused_at_the_end(upload)
            upload.stage = Stage.ENDING
            return first
        received = answer.received
        if answer.status not in (200, 416) or received is None:
            broken(f"{upload.target}: {first}..{end} of {upload.size} got {answer}")
        _check_offset(upload, first, end, answer)
        upload.acknowledged = received
        if answer.status == 200 and received == upload.size:
            self._evidence.published(upload)
            self._tell(Moment.DELIVERED)
        else:
            self._tell(Moment.ACKNOWLEDGED)
        return received

    def _resumed(self, upload: Upload) -> int:
        """Where to go on after a break: where Windows does, or at a guess."""
        guess = upload.acknowledged
        if self._dice.random() < 0.5:
            guess = self._dice.randint(max(guess - 10, 0), upload.sent)
        return max(min(guess, upload.size - 1), 0)

    async def _end(
        self, upload: Upload, how: Callable[[str, str], bytes], sent: Moment
    ) -> bool:
        """Close or cancel; whether the first answer came."""
        upload.stage = Stage.ENDING
        assert upload.named is not None
        again = False
        while True:
            try:
                answer = await self._ask(how(upload.target, upload.named), sent)
            except Lost:
                again = True
                continue
            was_cancelled = again and how is cancel and answer.error[0] == UNKNOWN
            if answer.status != 200 and not was_cancelled:
                broken(f"{upload.target}: {sent.name} {again=} got {answer}")
            return not again

    async def _ask(self, octets: bytes, sent: Moment) -> Answer:
        """The answer to a packet, which may go out in two parts.

        Raises:
            Lost: none came.
        """
        try:
            if self._line is None:
                self._line = await self._dial()
            if self._dice.random() < 0.3:
                half = self._dice.randrange(len(octets))
                await self._line.send(octets[:half])
                self._tell(Moment.HALF_SENT)
                await asyncio.sleep(0)
                octets = octets[half:]
            await self._line.send(octets)
            self._tell(sent)
            return await self._line.receive()
        except (ConnectionError, asyncio.IncompleteReadError):
            with suppress(ConnectionError):
                await self.hang_up()
            raise Lost from None
        except TimeoutError:
            raise Violation(f"no answer to {octets[:400]!r}") from None


def _packet(upload: Upload, first: int, end: int) -> bytes:
    assert upload.named is not None
    if not upload.size:
        return ranged(upload.target, upload.named, "bytes */0", b"")
    body = upload.content[first:end]
    return fragment(upload.target, upload.named, first, body, upload.size)


def _check_offset(upload: Upload, first: int, end: int, answer: Answer) -> None:
    """It is neither less than was promised before, nor more than can be held."""
    received, lowest, highest = answer.received, upload.acknowledged, upload.sent
    assert received is not None
    if answer.status == 416:
        highest = first - 1
    else:
        lowest = max(lowest, end)
    if not lowest <= received <= highest:
        broken(
            f"{upload.target}: {first}..{end} of {upload.size} got {answer.status} and"
            f" {received}, which has to be in {lowest}..{highest}"
        )
