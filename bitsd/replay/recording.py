"""A capture as exchanges: which answer is whose, over which connection."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .capture import Damaged, frames, opened
from .message import Answer, Request
from .messages import Answers, Requests
from .segments import Segment, Unread, segment
from .streams import Connections, Ends, How, Side

# The first records of a connection, and those of one that is open, RFC 8446 5.1.
_TLS = (b"\x16\x03", b"\x17\x03\x03")
_HTTP2 = b"PRI * HTTP/2.0"


@dataclass(slots=True)
class Exchange:
    """A request and its answer, either of which may not be there.

    Attributes:
        number: from 1, in the order in which requests were sent.
    """

    connection: "Connection"
    request: Request | None
    answer: Answer | None
    number: int = 0

    @property
    def started(self) -> float:
        """Seconds since 1970."""
        first = self.request or self.answer
        return first.started if first else 0.0


class End(NamedTuple):
    """How a direction ended."""

    side: Side
    how: How
    time: float


class Connection:
    """A connection as it was captured; the listener of `streams`.

    Attributes:
        number: from 1, in the order of the capture.
        begun: its first segment is in the capture.
        ends: of the directions; the first of them ended the connection.
        unreadable: what it is, if that is no HTTP/1.
        missing: bytes that are not in the capture.
        exchanges: set when the capture is read.
    """

    def __init__(
        self,
        number: int,
        ends: Ends,
        first: Segment,
        *,
        keep: BinaryIO | None,
    ) -> None:
        self.number = number
        self.client, self.server = ends
        self.started = self.ended = first.time
        self.begun = begun = first.syn
        self.ends: list[End] = []
        self.unreadable: str | None = None
        self.missing: Counter[Side] = Counter()
        self.exchanges: list[Exchange] = []
        self.requests = Requests(begun=begun, keep=keep)
        self.answers = Answers(self._method, begun=begun)
        self._pairing = Pairing(self.requests.found)
        self._heard: set[Side] = set()

    def _method(self, answer: Answer) -> str | None:
        request = self._pairing.take(answer)
        return None if request is None else request.method

    def octets(self, side: Side, octets: bytes, time: float) -> None:
        """What `side` says."""
        self.ended = time
        if side not in self._heard:
            self._heard.add(side)
            self._recognise(octets)
        reader = self.requests if side is Side.CLIENT else self.answers
        reader.add(octets, time)

    def _recognise(self, octets: bytes) -> None:
        if octets.startswith(_TLS):
            self.unreadable = "TLS"
        elif octets.startswith(_HTTP2):
            self.unreadable = "HTTP/2"
        if self.unreadable is not None:
            self.requests.ignore()
            self.answers.ignore()

    def gap(self, side: Side, length: int, time: float) -> None:
        """What `side` said is not in the capture."""
        self._heard.add(side)
        self.missing[side] += length
        reader = self.requests if side is Side.CLIENT else self.answers
        reader.gap(length, time)

    def end(self, side: Side, how: How, time: float) -> None:
        """`side` says no more."""
        self.ended = time
        self.ends.append(End(side, how, time))
        reader = self.requests if side is Side.CLIENT else self.answers
        reader.end(how)

    def pair(self) -> None:
        """Find out what belongs together, now that all is known."""
        self.exchanges = [
            Exchange(self, *found)
            for found in paired(self.requests.found, self.answers.found)
        ]
        if not self.exchanges and self.unreadable is None:
            self.unreadable = "no HTTP" if self._heard else "nothing"


class Pairing:
    """Whose answer it is: requests are answered in order, RFC 9112 9.3.2.

    A capture may miss messages. What came behind a gap belongs to the last request
    that was sent before it, and a request behind a gap cannot have been answered
    before it was sent.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._next = 0

    def take(self, answer: Answer) -> Request | None:
        """The request that is answered, if it is captured."""
        if answer.after_gap:
            while self._later(self._next + 1, answer):
                self._next += 1
        if self._next >= len(self._requests):
            return None
        request = self._requests[self._next]
        if request.after_gap and request.started > answer.started:
            return None
        self._next += 1
        return request

    def _later(self, index: int, answer: Answer) -> bool:
        requests = self._requests
        return index < len(requests) and requests[index].started <= answer.started


def paired(
    requests: Sequence[Request], answers: Sequence[Answer]
) -> list[tuple[Request | None, Answer | None]]:
    """Requests with their answers, in order; what has no partner stands alone."""
    pairing = Pairing(requests)
    found: list[tuple[Request | None, Answer | None]] = []
    alone: list[tuple[Request | None, Answer | None]] = []
    answered: dict[int, Answer] = {}
    for answer in answers:
        request = pairing.take(answer)
        if request is None:
            alone.append((None, answer))
        else:
            answered[id(request)] = answer
    found = [(request, answered.get(id(request))) for request in requests]
    return found + alone


@dataclass(slots=True)
class Recording:
    """What a capture shows.

    Attributes:
        exchanges: in the order in which requests were sent.
        packets: frames that were read.
        unread: frames that are no segments, by the reason.
        damage: why the file was not read to its end; None if it was.
    """

    path: Path
    connections: list[Connection] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    packets: int = 0
    unread: Counter[Unread] = field(default_factory=Counter)
    damage: str | None = None

    @property
    def started(self) -> float:
        """Seconds since 1970."""
        return min((each.started for each in self.connections), default=0.0)


def read(path: Path, *, keep: BinaryIO | None = None) -> Recording:
    """Read a capture.

    Args:
        path: of a pcap or pcapng file, packed by gzip or not.
        keep: a file for the bodies of requests; else they are not kept.

    Raises:
        NotACapture: the file is something else.
        OSError: the file cannot be read.
    """
    recording = Recording(path)

    def connected(ends: Ends, segment: Segment) -> Connection:
        number = len(recording.connections) + 1
        made = Connection(number, ends, segment, keep=keep)
        recording.connections.append(made)
        return made

    connections = Connections(connected)
    with opened(path) as file:
        try:
            for frame in frames(file):
                recording.packets += 1
                found = segment(frame)
                if isinstance(found, Unread):
                    recording.unread[found] += 1
                else:
                    connections.add(found)
        except Damaged as damage:
            recording.damage = str(damage)
    connections.finish()
    _gather(recording)
    return recording


def _gather(recording: Recording) -> None:
    for connection in recording.connections:
        connection.pair()
        recording.exchanges += connection.exchanges
    recording.exchanges.sort(key=lambda exchange: exchange.started)
    for number, exchange in enumerate(recording.exchanges, 1):
        exchange.number = number
