"""Which bytes of a file are there, and which are still to be asked for.

Held spans are sorted, and neither overlap nor touch each other.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from bitsd.ranges import ByteRange

Spans: TypeAlias = tuple[ByteRange, ...]

#: What a connection asks for at once where there are several of them. Less would cost
#: speed to waiting for answers; more would leave the last connection working alone.
SMALLEST_PIECE = 8 * 1024 * 1024
LARGEST_PIECE = 64 * 1024 * 1024

#: So many pieces for each connection even out that some are faster than others.
_ROUNDS = 4


def joined(held: Iterable[ByteRange], more: ByteRange) -> Spans:
    """What is held once these bytes are there, too."""
    found: list[ByteRange] = []
    for span in sorted((*held, more)):
        if found and span.first <= found[-1].last + 1:
            found[-1] = ByteRange(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return tuple(found)


def missing(held: Spans, wanted: ByteRange) -> list[ByteRange]:
    """The bytes among those wanted that are not held."""
    found = []
    first = wanted.first
    for span in held:
        if first < span.first and first <= wanted.last:
            found.append(ByteRange(first, min(span.first - 1, wanted.last)))
        first = max(first, span.last + 1)
    if first <= wanted.last:
        found.append(ByteRange(first, wanted.last))
    return found


def before(held: Spans, end: int) -> Spans:
    """What is held of the bytes below `end`."""
    kept = (ByteRange(span.first, min(span.last, end - 1)) for span in held)
    return tuple(span for span in kept if span.first <= span.last)


def count(spans: Iterable[ByteRange]) -> int:
    """Bytes of them all."""
    return sum(span.length for span in spans)


def pieces(wanted: Sequence[ByteRange], connections: int) -> list[ByteRange]:
    """What to ask for, request by request, in order."""
    if connections == 1:
        return list(wanted)
    fair = count(wanted) // (connections * _ROUNDS)
    size = min(max(fair, SMALLEST_PIECE), LARGEST_PIECE)
    return [piece for span in wanted for piece in _cut(span, size)]


def _cut(span: ByteRange, size: int) -> Iterator[ByteRange]:
    for first in range(span.first, span.last + 1, size):
        yield ByteRange(first, min(first + size - 1, span.last))
