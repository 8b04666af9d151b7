"""A stream of bytes to the HTTP/1.1 messages in it, RFC 9112.

Nothing is refused that can be understood: a reader of captures has to show what was
said, right or wrong. Of a body its length and SHA-256 are kept, and its bytes only
where they are asked for.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from http import HTTPStatus
from typing import BinaryIO, Generic, TypeAlias, TypeVar

from .message import Answer, Extent, Framing, Message, Request, declared_length
from .parts import Parts, boundary, lines_of
from .streams import How

#: A head that is longer is none.
MAXIMUM_HEAD_BYTES = 256 * 1024

#: After a gap a start line is looked for; one that is longer is not found.
_MAXIMUM_START_BYTES = 8192

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(1\.[0-9])")
_STATUS_LINE = re.compile(r"HTTP/(1\.[0-9]) ([1-9][0-9]{2})(?: (.*))?")
_LATER_REQUEST = re.compile(
    rb"(?:BITS_POST|GET|HEAD|POST|PUT|OPTIONS|DELETE) \S+ HTTP/1\.[01]\r?\n"
)
_LATER_ANSWER = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [^\r\n]*)?\r?\n")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,15}")

_BODILESS = (
    HTTPStatus.SWITCHING_PROTOCOLS,
    HTTPStatus.NO_CONTENT,
    HTTPStatus.NOT_MODIFIED,
)

_M = TypeVar("_M", bound=Message)

_State: TypeAlias = Callable[[bytes], bytes]
"""Takes what it wants of the bytes; the rest is for the next state."""


class Reader(ABC, Generic[_M]):
    """One direction of a connection, request after request or answer after answer.

    Attributes:
        found: complete or cut off, in order.
        strange: beginnings of what came where a message should.
        rest: what came behind the last message and is not a whole head.
    """

    def __init__(self, *, begun: bool = True, keep: BinaryIO | None = None) -> None:
        self.found: list[_M] = []
        self.strange: list[bytes] = []
        self.rest = b""
        self._keep = keep
        self._after_gap = not begun
        self._time = self._head_time = 0.0
        self._remaining = 0
        self._state: _State = self._head if begun else self._search

    @property
    def _message(self) -> _M:
        """The one whose body is read."""
        return self.found[-1]

    def add(self, octets: bytes, time: float) -> None:
        """The next bytes."""
        self._time = time
        while octets:
            octets = self._state(octets)

    def gap(self, count: int, time: float) -> None:
        """The next bytes are not known; their number is, and may be all it takes."""
        self._time = time
        if self._state == self._body and count <= self._remaining:
            self._skip(count)
            self._count(count)
        elif self._state == self._until_close:
            self._skip(count)
        elif self._state != self._ignore:
            self.rest = b""
            self._after_gap = True
            self._state = self._search

    def _skip(self, count: int) -> None:
        self._message.skip(count)
        if self._keep is not None:
            self._message.kept.append(Extent(None, count))

    def end(self, how: How) -> None:
        """Nothing follows."""
        if self._state == self._until_close and how is How.FIN:
            self._message.complete = True
        if self._state != self._head:
            self.rest = b""
        self._state = self._ignore

    def ignore(self) -> None:
        """What follows is not HTTP any more."""
        self._state = self._ignore

    # The states

    def _ignore(self, _octets: bytes) -> bytes:
        return b""

    def _head(self, octets: bytes) -> bytes:
        if not self.rest:
            self._head_time = self._time
            octets = octets.lstrip(b"\r\n")  # RFC 9112 2.2
        # What was searched already is not searched again, but for a line end.
        searched = max(len(self.rest) - 3, 0)
        self.rest += octets
        end = _HEAD_END.search(self.rest, searched)
        if end is None and len(self.rest) <= MAXIMUM_HEAD_BYTES:
            return b""
        octets, self.rest = self.rest, b""
        message = None if end is None else self._parsed(octets[: end.end()])
        if end is None or message is None:
            return self._not_a_head(octets)
        self._after_gap = False
        self._begin(message)
        return octets[end.end() :]

    def _not_a_head(self, octets: bytes) -> bytes:
        self.strange.append(octets[:80])
        self._after_gap = True
        self._state = self._search if self.found else self._ignore
        return octets[1:]

    def _search(self, octets: bytes) -> bytes:
        """Look for a message, from the middle of something else on."""
        self.rest += octets
        start = self._later.search(self.rest)
        if start is None:
            self.rest = self.rest[-_MAXIMUM_START_BYTES:]
            return b""
        octets, self.rest = self.rest[start.start() :], b""
        self._state = self._head
        return octets

    def _body(self, octets: bytes) -> bytes:
        mine = octets[: self._remaining]
        self._message.content(mine)
        self._hold(mine)
        self._count(len(mine))
        return octets[len(mine) :]

    def _count(self, count: int) -> None:
        """So much of the body, or of the chunk, is done."""
        self._message.ended = self._time
        self._remaining -= count
        if self._remaining:
            return
        if self._message.framing is Framing.CHUNKED:
            self._state = self._chunk_end
        else:
            self._done()

    def _done(self) -> None:
        self._message.complete = True
        self._state = self._head

    def _until_close(self, octets: bytes) -> bytes:
        self._message.ended = self._time
        self._message.content(octets)
        self._hold(octets)
        return b""

    def _chunk_size(self, octets: bytes) -> bytes:
        line, octets = self._line(octets)
        if line is None:
            return octets
        size = _CHUNK.match(line)
        if size is None:
            self.strange.append(line[:80])
            self._after_gap = True
            self._state = self._search
            return octets
        self._remaining = int(size[0], 16)
        self._state = self._body if self._remaining else self._trailer
        return octets

    def _chunk_end(self, octets: bytes) -> bytes:
        line, octets = self._line(octets)
        if line is not None:
            self._state = self._chunk_size
        return octets

    def _trailer(self, octets: bytes) -> bytes:
        line, octets = self._line(octets)
        if line == b"":
            self._message.ended = self._time
            self._done()
        return octets

    def _line(self, octets: bytes) -> tuple[bytes | None, bytes]:
        """A line of the framing, once it is whole, and what is behind it."""
        line, end, behind = octets.partition(b"\n")
        self._hold(line + end)
        self.rest += line
        if not end:
            if len(self.rest) > MAXIMUM_HEAD_BYTES:
                self.ignore()
            return None, b""
        line, self.rest = self.rest.removesuffix(b"\r"), b""
        return line, behind

    def _hold(self, octets: bytes) -> None:
        """Keep bytes of the message as they were sent."""
        if self._keep is None or not octets:
            return
        offset = self._keep.tell()
        self._keep.write(octets)
        kept = self._message.kept
        last = kept[-1] if kept else Extent(None, 0)
        if last.offset is not None and last.offset + last.length == offset:
            offset, octets_before = last.offset, last.length
            kept[-1] = Extent(offset, octets_before + len(octets))
        else:
            kept.append(Extent(offset, len(octets)))

    # What differs between the two directions

    @property
    @abstractmethod
    def _later(self) -> re.Pattern[bytes]:
        """A start line that is worth to go on from, after a gap."""

    @abstractmethod
    def _parsed(self, head: bytes) -> _M | None:
        """The message of a head, or None if it is no head."""

    def _begin(self, message: _M) -> None:
        """Go on with the body of a message."""
        self.found.append(message)
        message.declared = declared_length(message)
        match message.framing:
            case Framing.LENGTH if message.declared:
                self._remaining = message.declared
                self._state = self._body
            case Framing.CHUNKED:
                self._state = self._chunk_size
            case Framing.CLOSE:
                self._state = self._until_close
            case _:
                self._done()


def _is_chunked(message: Message) -> bool:
    codings = ",".join(message.all("transfer-encoding")).lower()
    return codings.rpartition(",")[2].strip() == "chunked"


class Requests(Reader[Request]):
    """What a client sends."""

    @property
    def _later(self) -> re.Pattern[bytes]:
        return _LATER_REQUEST

    def _parsed(self, head: bytes) -> Request | None:
        start, fields = lines_of(head.rstrip(b"\r\n"))
        match = _REQUEST_LINE.fullmatch(start)
        if match is None:
            return None
        request = Request(
            head=head,
            method=match[1],
            target=match[2],
            version=match[3],
            fields=fields,
            started=self._head_time,
            ended=self._time,
            after_gap=self._after_gap,
        )
        if _is_chunked(request):
            request.framing = Framing.CHUNKED
        elif request.get("content-length") is not None:
            request.framing = Framing.LENGTH
        return request


Asked: TypeAlias = Callable[[Answer], str | None]
"""The method of the request that is answered, if that is known."""


class Answers(Reader[Answer]):
    """What a server sends.

    Attributes:
        interim: statuses that came before an answer which is still to come.
    """

    def __init__(self, asked: Asked, *, begun: bool = True) -> None:
        super().__init__(begun=begun)
        self.interim: tuple[int, ...] = ()
        self._asked = asked

    @property
    def _later(self) -> re.Pattern[bytes]:
        return _LATER_ANSWER

    def _parsed(self, head: bytes) -> Answer | None:
        start, fields = lines_of(head.rstrip(b"\r\n"))
        match = _STATUS_LINE.fullmatch(start)
        if match is None:
            return None
        return Answer(
            head=head,
            status=int(match[2]),
            reason=match[3] or "",
            version=match[1],
            fields=fields,
            started=self._head_time,
            ended=self._time,
            after_gap=self._after_gap,
        )

    def _begin(self, message: Answer) -> None:
        tunnel = message.status == HTTPStatus.SWITCHING_PROTOCOLS
        if HTTPStatus.CONTINUE <= message.status < HTTPStatus.OK and not tunnel:
            self.interim += (message.status,)
            return
        message.interim, self.interim = self.interim, ()
        method = self._asked(message)
        tunnel |= method == "CONNECT" and message.status < HTTPStatus.MULTIPLE_CHOICES
        message.framing = Framing.NONE if tunnel else _framing(message, method)
        found = boundary(message.fields)
        if found is not None and message.framing is not Framing.NONE:
            message.parts = Parts(found)
        super()._begin(message)
        if tunnel:
            self.ignore()


def _framing(answer: Answer, method: str | None) -> Framing:
    """RFC 9112 6.3, which also says that the order of these counts."""
    if method == "HEAD" or answer.status in _BODILESS:
        return Framing.NONE
    if _is_chunked(answer):
        return Framing.CHUNKED
    if declared_length(answer) is not None:
        return Framing.LENGTH
    return Framing.CLOSE
