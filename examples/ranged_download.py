"""A download in random ranges, as BITS asks for them ([MC-BUP] 3.6)."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import BinaryIO

from plain_http import MIB, Answer, Connection, expect

LARGEST_RANGE = 4 * MIB
RANGES_AT_ONCE = 20  # as BITS 7.0 asks for

Span = tuple[int, int]
"""First and last byte, inclusive."""


@dataclass
class Download:
    """The file in random pieces, one at a time or twenty, and in random order."""

    port: int
    copy: BinaryIO
    size: int
    dice: random.Random
    ranges: int = 0
    requests: int = 0

    def run(self) -> None:
        """Every byte once."""
        self.connection = Connection(self.port)
        self.connection.send_header("HEAD", {})
        head = self.connection.answer()
        expect(head.status == 200 and head.length == self.size, f"HEAD: {head}")
        self.unmodified = {"If-Unmodified-Since": head.fields["last-modified"]}
        pieces = list(self.pieces())
        self.dice.shuffle(pieces)
        counts = cycle((RANGES_AT_ONCE, 1, 1))
        while pieces:
            count = next(counts)
            batch, pieces = sorted(pieces[:count]), pieces[count:]
            self.fetch(batch)
        self.connection.close()

    def pieces(self) -> Iterator[Span]:
        """The file, cut at random; into enough pieces for several batches."""
        largest = min(LARGEST_RANGE, self.size // (2 * RANGES_AT_ONCE) + 1)
        first = 0
        while first < self.size:
            end = min(first + self.dice.randint(1, largest), self.size)
            yield first, end - 1
            first = end

    def fetch(self, spans: list[Span]) -> None:
        """One GET for these ranges."""
        wanted = ",".join(f"{first}-{last}" for first, last in spans)
        fields = {"Range": f"bytes={wanted}", **self.unmodified}
        self.connection.send_header("GET", fields)
        answer = self.connection.answer()
        expect(answer.status == 206, f"GET {wanted}: {answer}")
        if len(spans) == 1:
            self.receive(answer.fields, spans[0])
        else:
            self.receive_parts(answer, spans)
        self.requests += 1
        self.ranges += len(spans)

    def receive(self, fields: dict[str, str], span: Span) -> None:
        """The bytes of one range, once its fields say that it is the right one."""
        first, last = span
        said = fields.get("content-range")
        expect(said == f"bytes {first}-{last}/{self.size}", f"{span} came as {said}")
        self.connection.copy(self.copy, first, last - first + 1)

    def receive_parts(self, answer: Answer, spans: list[Span]) -> None:
        """multipart/byteranges, RFC 9110 14.6, in the order that was asked for.

        The length of a part is known from its Content-Range, so a boundary is never
        looked for in bytes of the file, where it may be by chance.
        """
        delimiter = b"--" + boundary(answer.fields["content-type"]).encode("ascii")
        for number, span in enumerate(spans):
            self.receive_delimiter(delimiter, first=number == 0)
            self.receive(self.connection.fields(), span)
        self.receive_delimiter(delimiter + b"--", first=False)

    def receive_delimiter(self, delimiter: bytes, *, first: bool) -> None:
        """A delimiter is a line; the line break before it is not the part's."""
        line = self.connection.line()
        if not line:
            line = self.connection.line()
        else:
            expect(first, f"{line[:80]!r} behind the end of a part")
        expect(line.rstrip() == delimiter, f"{line[:80]!r} is not {delimiter!r}")


def boundary(content_type: str) -> str:
    """The boundary of a multipart/byteranges, in quotes or not."""
    pattern = r'multipart/byteranges *;.*\bboundary=(?:"([^"]+)"|([^";, ]+)).*'
    match = re.fullmatch(pattern, content_type, re.IGNORECASE)
    expect(match, f"Content-Type is {content_type!r}")
    assert match is not None
    return match[1] or match[2]
