"""The parts of a multipart/byteranges body, as it comes: RFC 9110 14.6.

How long a part is says its Content-Range, so a boundary is never looked for among
the bytes of a file, where it may be by chance.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

Field = tuple[str, str]

#: Fields of a part; BITS allows 180 bytes beside Content-Type and Content-Range.
_MAXIMUM_HEAD_BYTES = 8192

_BOUNDARY = re.compile(r'\bboundary=(?:"([^"]+)"|([^";,\s]+))', re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes +(\d{1,20})-(\d{1,20})/(\d{1,20}|\*)", re.ASCII)
_HEAD_END = re.compile(rb"\r?\n\r?\n")


class Span(NamedTuple):
    """Bytes `first..last` of `total`, which may be unknown."""

    first: int
    last: int
    total: int | None

    @property
    def length(self) -> int:
        """Bytes of it."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        total = "*" if self.total is None else self.total
        return f"{self.first}-{self.last}/{total}"


def content_range(value: str | None) -> Span | None:
    """A Content-Range that names bytes which are there, RFC 9110 14.4."""
    match = _CONTENT_RANGE.fullmatch(value.lower()) if value else None
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if first > last or (total is not None and last >= total):
        return None
    return Span(first, last, total)


def lines_of(head: bytes) -> tuple[str, tuple[Field, ...]]:
    """The first line of a head, and the fields in the others."""
    first, *lines = (line.rstrip("\r ") for line in head.decode("latin-1").split("\n"))
    fields = [line.partition(":") for line in lines]
    return first, tuple((name, value.strip(" \t")) for name, _, value in fields)


def boundary(fields: Iterable[Field]) -> str | None:
    """The boundary of a multipart/byteranges body, or None for another."""
    for name, value in fields:
        if name.lower() == "content-type":
            if not value.lower().startswith("multipart/byteranges"):
                return None
            match = _BOUNDARY.search(value)
            return None if match is None else match[1] or match[2]
    return None


@dataclass(slots=True)
class Part:
    """One part.

    Attributes:
        span: what its Content-Range says; None if there is none that can be read.
        remaining: bytes of it that did not come.
    """

    fields: tuple[Field, ...]
    span: Span | None
    remaining: int
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes that came."""
        return self._digest.hexdigest()

    def add(self, octets: bytes) -> bytes:
        """Take what is of this part; the rest."""
        mine = octets[: self.remaining]
        self._digest.update(mine)
        self.remaining -= len(mine)
        return octets[len(mine) :]


class Parts:
    """The parts of a body.

    Attributes:
        found: in the order of the body.
        broken: what follows makes no sense as a part.
        ended: the closing boundary came.
    """

    def __init__(self, boundary: str) -> None:
        self.found: list[Part] = []
        self.broken = False
        self.ended = False
        self._delimiter = b"--" + boundary.encode("latin-1")
        self._buffer = b""

    def add(self, octets: bytes) -> None:
        """The next bytes of the body."""
        while octets and not (self.broken or self.ended):
            if self.found and self.found[-1].remaining:
                octets = self.found[-1].add(octets)
                continue
            self._buffer += octets
            octets = self._next_part()

    def skip(self, count: int) -> None:
        """Bytes of the body are not known."""
        if self.found and self.found[-1].remaining >= count:
            self.found[-1].remaining -= count
        else:
            self.broken = True

    def _next_part(self) -> bytes:
        """Read the head of a part; what comes behind it, or nothing so far."""
        text = self._buffer.lstrip(b"\r\n")
        if text.startswith(self._delimiter + b"--"):
            self.ended = True
            return b""
        end = _HEAD_END.search(text)
        if end is None:
            self.broken = len(text) > _MAXIMUM_HEAD_BYTES
            return b""
        delimiter, fields = lines_of(text[: end.start()])
        headers = {name.lower(): value for name, value in fields}
        span = content_range(headers.get("content-range"))
        self.found.append(Part(fields, span, span.length if span else 0))
        self._buffer = b""
        self.broken = span is None or delimiter.encode("latin-1") != self._delimiter
        return text[end.end() :]
