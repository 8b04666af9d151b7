"""A recording, played to another server."""

import asyncio
import ssl
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, assert_never
from urllib.parse import urlsplit

from bitsd.reasons import reason

from .compare import Difference, different
from .line import Line, Target
from .mapping import Mapping
from .message import Answer, Request
from .parts import Field
from .plan import End, Ending, Receive, Rest, Send, Step, planned
from .recording import Connection, Exchange, Recording, read
from .show import asked, safe

#: Once an answer did not come, the others are not waited for as long, in seconds.
_IMPATIENCE_SECONDS = 1.0

#: How long to wait for 100 Continue; curl waits one second.
_CONTINUE_SECONDS = 2.0

_PIECE_BYTES = 256 * 1024

#: Schemes of which a request can be sent again with other credentials.
_REPEATABLE = ("basic",)


class CannotPlay(Exception):
    """The recording cannot be played to that server; says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to play.

    Attributes:
        timing: keep the pace of the capture.
        cuts: break connections where they broke.
        fields: that every request gets.
        user: name and password, for requests that were signed in.
        ignored: fields of answers that may differ, too.
        patience: how long an answer is waited for, in seconds, and twice as long as
            in the capture beside that.
    """

    timing: bool = False
    cuts: bool = False
    fields: Sequence[Field] = ()
    user: tuple[str, str] | None = None
    ignored: Sequence[str] = ()
    patience: float = 30.0


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        compared: answers that were compared.
        notes: what was not sent or compared, and why.
    """

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def target(url: str) -> Target:
    """The server of a URL.

    Raises:
        ValueError: it is not `http(s)://HOST[:PORT]`.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give a URL such as http://127.0.0.1:8080")
    if parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise ValueError("give scheme, host and port alone: paths are captured")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return Target(parts.hostname, parts.port or (443 if tls else 80), tls)


def replay(capture: Path | str, url: str, options: Options | None = None) -> Result:
    """Play a capture to the server of a URL, and compare its answers.

    It has an event loop of its own. Code that runs in one calls it in a thread.

    Raises:
        CannotPlay: nobody answers there, or the capture signs in and `options` do
            not say as whom.
        NotACapture: the file is something else.
        OSError: the file cannot be read.
        ValueError: the URL is none.
    """
    where, how = target(url), options or Options()
    with tempfile.TemporaryFile() as bodies:
        recording = read(Path(capture), keep=bodies)
        return asyncio.run(_Player(recording, bodies, where, how).play())


def _authorization(recording: Recording, options: Options) -> str | None:
    """What is sent where the capture has credentials, which are never sent."""
    schemes = {
        (exchange.request.get("authorization") or "").split(" ")[0].lower()
        for exchange in recording.exchanges
        if exchange.request is not None
    } - {""}
    given = {name.lower() for name, _value in options.fields}
    if not schemes or "authorization" in given:
        return None
    if not schemes <= set(_REPEATABLE):
        named = safe(", ".join(sorted(schemes)))
        raise CannotPlay(
            f"the capture signs in by {named}, which cannot be sent again: give "
            "--header 'Authorization: ...' if the server takes something else"
        )
    if options.user is None:
        raise CannotPlay("the capture signs in: give --user NAME:PASSWORD")
    return "Basic " + b64encode(":".join(options.user).encode()).decode("ascii")


class _Player:
    """One run."""

    def __init__(
        self, recording: Recording, bodies: BinaryIO, where: Target, options: Options
    ) -> None:
        self._recording = recording
        self._bodies = bodies
        self._target = where
        self._options = options
        authorization = _authorization(recording, options)
        self._mapping = Mapping(where.authority, options.fields, authorization)
        self._lines: dict[int, Line] = {}
        self._places: dict[int, int] = {}
        self._patience = options.patience
        self._result = Result()

    async def play(self) -> Result:
        plan = planned(self._recording, cuts=self._options.cuts)
        self._result.notes += _damage(self._recording) + plan.notes
        start = asyncio.get_running_loop().time() - self._recording.started
        try:
            for step in plan.steps:
                if self._options.timing:
                    await _until(start + step.time)
                await self._take(step)
        finally:
            for line in self._lines.values():
                await line.close()
        return self._result

    async def _take(self, step: Step) -> None:
        match step:
            case Send(_, exchange, request):
                await self._send(exchange, request)
            case Rest(_, connection, octets):
                await (await self._line(connection)).send(_once(octets))
            case Receive(_, exchange, captured):
                await self._receive(exchange, captured)
            case End(_, connection, ending):
                await self._end(connection, ending)
            case _:
                assert_never(step)

    async def _line(self, connection: Connection) -> Line:
        line = self._lines.get(connection.number)
        if line is None:
            try:
                line = await Line.dial(self._target)
            except OSError as error:
                place = f"{self._target.host}:{self._target.port}"
                told = f"cannot connect to {place}: {reason(error)}"
                raise CannotPlay(told) from None
            self._lines[connection.number] = line
        return line

    async def _send(self, exchange: Exchange, request: Request) -> None:
        line = await self._line(exchange.connection)
        self._places[exchange.number] = len(line.methods)
        line.methods.append(request.method)
        patience = self._patience + 2 * (request.ended - request.started)
        with suppress(TimeoutError):  # there is no answer then, and that is told
            async with asyncio.timeout(patience):
                await line.send(_once(self._mapping.head(request.head)))
                if not _was_told_to_go_on(exchange) or await line.may_send_body(
                    min(self._patience / 2, _CONTINUE_SECONDS)
                ):
                    await line.send(self._body(request))

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        for offset, length in request.kept:
            for start in range(0, length, _PIECE_BYTES):
                count = min(_PIECE_BYTES, length - start)
                if offset is None:
                    yield bytes(count)
                else:
                    yield await asyncio.to_thread(self._kept, offset + start, count)

    def _kept(self, offset: int, count: int) -> bytes:
        self._bodies.seek(offset)
        return self._bodies.read(count)

    async def _receive(self, exchange: Exchange, captured: Answer | None) -> None:
        request, line = exchange.request, self._lines.get(exchange.connection.number)
        if request is None or line is None:
            return
        got = await self._answer(exchange, line, captured)
        if captured is None:
            return
        if got is not None:
            self._mapping.learn(request, captured, got)
        self._result.compared += 1
        ignored = {name.lower() for name in self._options.ignored}
        self._result.differences += [
            Difference(exchange.number, asked(request), *map(safe, found))
            for found in different(request, captured, got, self._mapping)
            if found[0] not in ignored
        ]

    async def _answer(
        self, exchange: Exchange, line: Line, captured: Answer | None
    ) -> Answer | None:
        enough, patience = None, self._patience
        if captured is not None:
            patience += 2 * (captured.ended - exchange.started)
            if self._options.cuts and not captured.complete:
                enough = captured.length
        place = self._places[exchange.number]
        try:
            async with asyncio.timeout(patience):
                return await line.answer(place, enough)
        except TimeoutError:
            self._patience = min(self._patience, _IMPATIENCE_SECONDS)
            return None

    async def _end(self, connection: Connection, ending: Ending) -> None:
        line = self._lines.get(connection.number)
        if line is None:
            return
        if ending is Ending.HALF:
            await line.half_close()
            return
        del self._lines[connection.number]
        if ending is Ending.RESET:
            await line.reset()
        else:
            await line.close()


def _damage(recording: Recording) -> list[str]:
    if recording.damage is None:
        return []
    return [f"{recording.damage}; {recording.packets} packets were read before"]


def _was_told_to_go_on(exchange: Exchange) -> bool:
    """The body followed 100 Continue, RFC 9110 10.1.1."""
    return (
        exchange.answer is not None and HTTPStatus.CONTINUE in exchange.answer.interim
    )


async def _once(octets: bytes) -> AsyncIterator[bytes]:
    yield octets


async def _until(time: float) -> None:
    """Wait for a time of the loop."""
    await asyncio.sleep(time - asyncio.get_running_loop().time())
