"""Segments to the streams of bytes that both ends of a connection saw, RFC 9293.

A capture shows segments twice, late, in parts, or not at all. Of bytes that came
more than once the first win, as with the receivers that were captured, and bytes
that never come are told as a gap.
"""

from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from .segments import Endpoint, Segment

#: Bytes that wait for what is missing before them. No TCP window is larger on the
#: systems that are known.
MAXIMUM_WAITING_BYTES = 16 * 1024 * 1024

#: The same once the receiver acknowledged what is missing: it is not sent again, and
#: can only be late because packets changed places in the capture.
MAXIMUM_WAITING_ACKNOWLEDGED_BYTES = 256 * 1024

_HALF = 2**31


class Side(Enum):
    """Who sends."""

    CLIENT = "client"
    SERVER = "server"


class How(Enum):
    """How a direction of a connection came to its end."""

    FIN = "FIN"
    RST = "RST"
    CAPTURE = "end of capture"


class Listener(Protocol):
    """Who is told what a connection carries, each direction in the order of it."""

    def octets(self, side: Side, octets: bytes, time: float) -> None:
        """The next bytes."""

    def gap(self, side: Side, length: int, time: float) -> None:
        """So many bytes are not in the capture."""

    def end(self, side: Side, how: How, time: float) -> None:
        """Nothing follows from this side."""


class _Piece(NamedTuple):
    """Bytes that came before their turn; `start` counts from the first byte sent."""

    start: int
    octets: bytes
    time: float

    @property
    def end(self) -> int:
        return self.start + len(self.octets)


@dataclass(slots=True)
class Stream:
    """One direction of a connection.

    Attributes:
        base: sequence number of the first byte.
        next: bytes that were passed on or given up; what is wanted next.
        acknowledged: bytes that the other side said it has.
        fin: bytes in all, once that is known.
    """

    tell: Callable[[bytes, float], None]
    tell_gap: Callable[[int, float], None]
    base: int | None = None
    next: int = 0
    acknowledged: int = 0
    fin: int | None = None
    ended: bool = False
    _waiting: list[_Piece] = field(default_factory=list)
    _waiting_bytes: int = 0

    def offset(self, sequence: int) -> int:
        """The place of a sequence number, which begins anew after 4 GiB."""
        ahead = (sequence - (self.base or 0) - self.next + _HALF) % (2 * _HALF) - _HALF
        return self.next + ahead

    def add(self, start: int, octets: bytes, time: float) -> None:
        """Bytes of a segment, whatever was seen of them before."""
        if start <= self.next and not self._waiting:
            self._pass_on(octets[self.next - start :], time)
            return
        for piece in list(self._uncovered(_Piece(start, octets, time))):
            self._waiting.insert(bisect(self._waiting, piece.start, key=_start), piece)
            self._waiting_bytes += len(piece.octets)
        self._release()
        while self._waiting_bytes > self._patience():
            self._give_up(self._waiting[0].start, time)

    def _pass_on(self, octets: bytes, time: float) -> None:
        if octets:
            self.next += len(octets)
            self.tell(octets, time)

    def _uncovered(self, piece: _Piece) -> Iterator[_Piece]:
        """The parts of it that were not seen yet."""
        start = max(piece.start, self.next)
        first = max(bisect(self._waiting, start, key=_start) - 1, 0)
        for known in self._waiting[first:]:
            if known.start >= piece.end:
                break
            yield from _part(piece, start, known.start)
            start = max(start, known.end)
        yield from _part(piece, start, piece.end)

    def _release(self) -> None:
        """Pass on what waits no longer."""
        count = 0
        for piece in self._waiting:
            if piece.start > self.next:
                break
            self._pass_on(piece.octets, piece.time)
            self._waiting_bytes -= len(piece.octets)
            count += 1
        del self._waiting[:count]

    def _patience(self) -> int:
        if self._waiting and self._waiting[0].start <= self.acknowledged:
            return MAXIMUM_WAITING_ACKNOWLEDGED_BYTES
        return MAXIMUM_WAITING_BYTES

    def _give_up(self, until: int, time: float) -> None:
        """What is missing up to there does not come any more."""
        if until > self.next:
            self.tell_gap(until - self.next, time)
            self.next = until
        self._release()

    def finish(self, time: float) -> None:
        """Nothing more comes: pass on what waits, and tell what is missing at the end.

        What was acknowledged was sent, and a FIN has its place; but an
        acknowledgement counts the FIN as one byte more.
        """
        while self._waiting:
            self._give_up(self._waiting[0].start, time)
        self._give_up(self.acknowledged if self.fin is None else self.fin, time)


def _start(piece: _Piece) -> int:
    return piece.start


def _part(piece: _Piece, start: int, end: int) -> Iterator[_Piece]:
    if start < end:
        octets = piece.octets[start - piece.start : end - piece.start]
        yield _Piece(start, octets, piece.time)


class Conversing:
    """One TCP connection; its listener hears both directions."""

    def __init__(self, listener: Listener, client: Endpoint) -> None:
        self._client = client
        self._listener = listener
        self._streams = {side: self._stream(side) for side in Side}

    def _stream(self, side: Side) -> Stream:
        def tell(octets: bytes, time: float) -> None:
            self._listener.octets(side, octets, time)

        def tell_gap(length: int, time: float) -> None:
            self._listener.gap(side, length, time)

        return Stream(tell, tell_gap)

    def is_another(self, segment: Segment) -> bool:
        """The segment is of a new connection between the same two ports."""
        stream = self._streams[self._side(segment)]
        if segment.syn:
            first = (segment.sequence + 1) % (2 * _HALF)
            return stream.base not in (None, first)
        if stream.fin is None or not segment.payload:
            return False
        behind_fin = stream.offset(segment.sequence) - stream.fin
        return not -MAXIMUM_WAITING_BYTES <= behind_fin <= 0

    def _side(self, segment: Segment) -> Side:
        return Side.CLIENT if segment.source == self._client else Side.SERVER

    def add(self, segment: Segment) -> None:
        """The next segment in the order of the capture."""
        side = self._side(segment)
        stream = self._streams[side]
        if stream.ended:
            return
        if stream.base is None:
            stream.base = (segment.sequence + segment.syn) % (2 * _HALF)
        start = stream.offset(segment.sequence + segment.syn)
        self._acknowledge(side, segment)
        if segment.fin:
            stream.fin = start + segment.length
        if segment.payload:
            stream.add(start, segment.payload, segment.time)
        if segment.rst:
            self._end(side, How.RST, segment.time)
        elif stream.fin is not None and stream.next >= stream.fin:
            stream.ended = True
            self._listener.end(side, How.FIN, segment.time)

    def _acknowledge(self, side: Side, segment: Segment) -> None:
        other = self._streams[Side.SERVER if side is Side.CLIENT else Side.CLIENT]
        if segment.ack and other.base is not None:
            acknowledged = other.offset(segment.acknowledged)
            other.acknowledged = max(other.acknowledged, acknowledged)

    def _end(self, side: Side, how: How, time: float) -> None:
        """Both directions end, and `side` is the one who did it."""
        for which in sorted(Side, key=lambda other: other is not side):
            stream = self._streams[which]
            if not stream.ended:
                stream.finish(time)
                stream.ended = True
                by = how if which is side or stream.fin is None else How.FIN
                self._listener.end(which, by, time)

    def finish(self, time: float) -> None:
        """Nothing more of it is captured."""
        for side in Side:
            stream = self._streams[side]
            if not stream.ended:
                stream.finish(time)
                stream.ended = True
                how = How.CAPTURE if stream.fin is None else How.FIN
                self._listener.end(side, how, time)


class Ends(NamedTuple):
    """Who speaks with whom."""

    client: Endpoint
    server: Endpoint


Listen: TypeAlias = Callable[[Ends, Segment], Listener]
"""Makes the listener of a connection, given the first segment of it."""


class Connections:
    """All connections of a capture."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._known: dict[tuple[Endpoint, Endpoint], Conversing] = {}
        self._time = 0.0

    def add(self, segment: Segment) -> None:
        """The next segment in the order of the capture."""
        self._time = segment.time
        ends = (segment.source, segment.destination)
        key = ends if ends[0] <= ends[1] else (ends[1], ends[0])
        known = self._known.get(key)
        if known is not None and known.is_another(segment):
            known.finish(segment.time)
            known = None
        if known is None:
            if not (segment.syn or segment.payload):
                return  # the end of what came before the capture
            known = self._known[key] = self._opened(segment)
        known.add(segment)

    def _opened(self, segment: Segment) -> Conversing:
        ends = Ends(segment.source, segment.destination)
        if not _is_from_client(segment):
            ends = Ends(segment.destination, segment.source)
        return Conversing(self._listen(ends, segment), ends.client)

    def finish(self) -> None:
        """The capture ends."""
        for known in self._known.values():
            known.finish(self._time)


def _is_from_client(segment: Segment) -> bool:
    """Who opened the connection; a guess, if that was before the capture."""
    if segment.syn:
        return not segment.ack
    if segment.payload.startswith(b"HTTP/"):
        return False
    return segment.source.port >= segment.destination.port
