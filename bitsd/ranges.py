"""What a GET or HEAD of a file is answered: conditions and byte ranges.

RFC 9110 13 and 14, with [MC-BUP] 3.5.5 on top: a BITS client gets its ranges in the
order it asked for them, and every answer has a Content-Length. The bytes themselves
never pass through here; an `Answer` names the ranges to send.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Field: TypeAlias = tuple[str, str]

#: BITS asks for 20 ranges at most; RFC 9110 14.2 lets a server ignore a Range whose
#: many or overlapping ranges cost it more than the file is worth. A 416 would be
#: fatal to a BITS job; a 200 makes it go on with single ranges.
MAXIMUM_RANGES = 1000

#: Bytes that any request may ask for, however small the file.
ALLOWANCE = 16 * 1024 * 1024

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>[0-5]\d|60)"  # 60: a leap second
_MONTH = f"(?P<month>{_MONTHS})"
_DAY_NAME = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY_NAME = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
#: RFC 9110 5.6.7: the form to send, and the two that must still be understood.
_DATES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"{_DAY_NAME}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY_NAME}, (?P<day>\d\d)-{_MONTH}-(?P<short_year>\d\d) {_TIME} GMT",
        rf"{_DAY_NAME} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: A file of 2**63 bytes, the longest there may be, has so many digits to its size.
_EXACT_DIGITS = 19

_RANGE_SPEC = re.compile(r"(\d*)-(\d*)", re.ASCII)
_ENTITY_TAG = re.compile(r'(W/)?("[^"]*")')


class ByteRange(NamedTuple):
    """Bytes `first..last` of a file, inclusive as on the wire."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Bytes of the range."""
        return self.last - self.first + 1

    def after(self, count: int) -> "ByteRange | None":
        """What is left when `count` bytes, of at most as many, are done."""
        first = self.first + count
        return ByteRange(first, self.last) if first <= self.last else None


Piece: TypeAlias = ByteRange | bytes
"""A part of a body: a range of the file, or bytes that are not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """A file as it is offered, RFC 9110 8.

    Attributes:
        size: bytes.
        etag: strong entity tag, quotes included.
        last_modified: seconds since 1970.
    """

    size: int
    etag: str
    last_modified: int
    content_type: str

    @property
    def whole(self) -> tuple[Piece, ...]:
        """All bytes; an empty file has no range of them."""
        return (ByteRange(0, self.size - 1),) if self.size else ()


class Answer(NamedTuple):
    """Status, header fields, and the body as pieces in the order to send them."""

    status: int
    fields: tuple[Field, ...]
    pieces: tuple[Piece, ...] = ()


def etag(*, inode: int, size: int, mtime_ns: int) -> str:
    """The strong entity tag of a file, RFC 9110 8.8.3.

    A file that replaces another of the same second and size has an inode of its
    own. The time of change is left out, for links of the file move it.
    """
    return f'"{inode:x}-{size:x}-{mtime_ns:x}"'


def last_modified(*, mtime: int, ctime: int, now: int) -> int:
    """When the file was modified, and never later than now (RFC 9110 8.8.2.1).

    Anyone may set an mtime in the future; the time of change shows when that was
    done. Both can only be ahead of the clock once the clock was set back.

    Args:
        mtime: like the others and the result, in whole seconds since 1970.
    """
    return max(0, min(mtime, ctime, now))


def decide(
    method: str,
    fields: Iterable[Field],
    representation: Representation,
    *,
    boundary: str,
    now: int,
) -> Answer:
    """The answer to a GET or HEAD, in the order of RFC 9110 13.2.2.

    Raises nothing, whatever the header fields are.

    Args:
        boundary: must not occur in the file; used when there are several ranges.
        now: seconds since 1970.
    """
    headers = _folded(fields)
    failed = _failed_precondition(headers, representation, now)
    if failed is not None:
        return failed
    if method == "HEAD":  # RFC 9110 14.2: Range is for GET alone
        return _ok(representation)._replace(pieces=())
    if "range" not in headers or not _if_range(headers, representation, now):
        return _ok(representation)
    return _ranges(headers["range"], representation, boundary)


def _folded(fields: Iterable[Field]) -> dict[str, str]:
    """Fields by lower-case name; the lines of one name joined, RFC 9110 5.3.

    A second line thus makes a list longer, and a date or a Range invalid.
    """
    headers: dict[str, str] = {}
    for name, value in fields:
        key, value = name.lower(), value.strip(" \t")
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _failed_precondition(
    headers: Mapping[str, str], representation: Representation, now: int
) -> Answer | None:
    """RFC 9110 13.2.2, steps 1 to 4: a tag, where there is one, outranks a date."""
    modified = representation.last_modified
    if "if-match" in headers:
        if not _matches(headers["if-match"], representation.etag, weak=False):
            return _precondition_failed()
    elif modified > _date(headers.get("if-unmodified-since"), now, default=modified):
        return _precondition_failed()
    if "if-none-match" in headers:
        if _matches(headers["if-none-match"], representation.etag, weak=True):
            return _not_modified(representation)
    elif modified <= _date(headers.get("if-modified-since"), now, default=-1):
        return _not_modified(representation)
    return None


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    """RFC 9110 8.8.3.2: a weak comparison alone overlooks the `W/`."""
    if value == "*":
        return True
    return any(
        tag == etag and (weak or not prefix)
        for prefix, tag in _ENTITY_TAG.findall(value)
    )


def _if_range(
    headers: Mapping[str, str], representation: Representation, now: int
) -> bool:
    """RFC 9110 13.1.5: a part is wanted only of this very version."""
    value = headers.get("if-range")
    if value is None or value == representation.etag:
        return True
    # "This comparison by exact match": an earlier or a later date will not do.
    return _date(value, now, default=-1) == representation.last_modified


def _date(value: str | None, now: int, *, default: int) -> int:
    """Seconds since 1970; `default` where RFC 9110 13.1 has the field ignored."""
    if value is None:
        return default
    for pattern in _DATES:
        match = pattern.fullmatch(value)
        if match is not None:
            return _seconds(match, now, default)
    return default


def _seconds(match: re.Match[str], now: int, default: int) -> int:
    part = match.groupdict()
    short = part.get("short_year")
    year = int(part["year"]) if short is None else _full_year(int(short), now)
    month = _MONTHS.split("|").index(part["month"]) + 1
    clock = int(part["hour"]), int(part["minute"])
    try:
        minute = datetime(year, month, int(part["day"]), *clock, tzinfo=UTC)
    except ValueError:
        return default
    return (minute - _EPOCH) // timedelta(seconds=1) + int(part["second"])


def _full_year(year: int, now: int) -> int:
    """RFC 9110 5.6.7: more than 50 years ahead means the century before."""
    this_year = (_EPOCH + timedelta(seconds=now)).year
    year += this_year - this_year % 100
    return year - 100 if year > this_year + 50 else year


def _ranges(value: str, representation: Representation, boundary: str) -> Answer:
    """RFC 9110 14.2: the ranges, or all bytes if `value` is not to be followed."""
    size = representation.size
    specs = _range_specs(value)
    ranges = [found for spec in specs if (found := _resolved(*spec, size))]
    asked = sum(found.length for found in ranges)
    if not specs or len(specs) > MAXIMUM_RANGES or asked > max(2 * size, ALLOWANCE):
        return _ok(representation)
    if not size and any(first is None and last for first, last in specs):
        # The last bytes of an empty file are none, which no Content-Range can say.
        return _ok(representation)
    if not ranges:
        return _not_satisfiable(representation)
    if len(ranges) == 1:
        return _single_part(ranges[0], representation)
    return _multipart(ranges, representation, boundary)


_RangeSpec: TypeAlias = tuple[int | None, int | None]


def _range_specs(value: str) -> list[_RangeSpec]:
    """`first, last` of each; no first is a suffix. Empty if it is no byte range.

    RFC 9110 14.1.2 writes `bytes= 0-999`, so blanks may stand at either side.
    """
    unit, _, range_set = value.partition("=")
    if unit.lower() != "bytes":
        return []
    specs: list[_RangeSpec] = []
    for text in filter(None, (text.strip(" \t") for text in range_set.split(","))):
        match = _RANGE_SPEC.fullmatch(text)
        if match is None:
            return []
        first, last = _position(match[1]), _position(match[2])
        if (first is None and last is None) or _backwards(first, last):
            return []
        specs.append((first, last))
    return specs


def _position(digits: str) -> int | None:
    """A number of any length; past 19 digits only its order is kept.

    `int` refuses thousands of decimal digits, which a header field may well hold;
    of hexadecimal ones it takes any number, and they compare alike.
    """
    if not digits:
        return None
    significant = digits.lstrip("0") or "0"
    return int(significant, 10 if len(significant) <= _EXACT_DIGITS else 16)


def _backwards(first: int | None, last: int | None) -> bool:
    return first is not None and last is not None and last < first


def _resolved(first: int | None, last: int | None, size: int) -> ByteRange | None:
    """The bytes there are of a range, RFC 9110 14.1.2; None if there are none."""
    if first is None:
        first, last = max(0, size - (last or 0)), None
    if first >= size:
        return None
    return ByteRange(first, size - 1 if last is None else min(last, size - 1))


def _ok(representation: Representation) -> Answer:
    fields = _success(representation, representation.content_type, representation.size)
    return Answer(200, fields, representation.whole)


def _single_part(found: ByteRange, representation: Representation) -> Answer:
    fields = _success(representation, representation.content_type, found.length)
    content_range = ("Content-Range", _content_range(found, representation))
    return Answer(206, (*fields, content_range), (found,))


def _multipart(
    ranges: Iterable[ByteRange], representation: Representation, boundary: str
) -> Answer:
    """RFC 9110 15.3.7.2. BITS allows 180 bytes of other fields in a part: none here.

    The boundary follows the header at once: BITS takes two line ends between them,
    one of which is the empty line.
    """
    opening = f"--{boundary}"
    pieces: list[Piece] = []
    for found in ranges:
        content_range = _content_range(found, representation)
        head = f"{opening}\r\nContent-Type: {representation.content_type}\r\n"
        head += f"Content-Range: {content_range}\r\n\r\n"
        pieces += (head.encode(), found)
        opening = f"\r\n--{boundary}"
    pieces.append(f"{opening}--\r\n".encode())
    length = sum(_length(piece) for piece in pieces)
    content_type = f"multipart/byteranges; boundary={boundary}"
    return Answer(206, _success(representation, content_type, length), tuple(pieces))


def _length(piece: Piece) -> int:
    return piece.length if isinstance(piece, ByteRange) else len(piece)


def _content_range(found: ByteRange, representation: Representation) -> str:
    return f"bytes {found.first}-{found.last}/{representation.size}"


def _success(
    representation: Representation, content_type: str, length: int
) -> tuple[Field, ...]:
    """[MC-BUP] 3.5.5.1: Last-Modified is the same on every range of one version."""
    return (
        ("Content-Type", content_type),
        ("Content-Length", str(length)),
        ("Accept-Ranges", "bytes"),
        ("ETag", representation.etag),
        ("Last-Modified", _http_date(representation.last_modified)),
        ("X-Content-Type-Options", "nosniff"),
    )


@lru_cache(maxsize=128)
def _http_date(seconds: int) -> str:
    """RFC 9110 5.6.7. A file is asked for again and again, range after range."""
    return formatdate(seconds, usegmt=True)


def _not_modified(representation: Representation) -> Answer:
    """RFC 9110 15.4.5: the tag alone; other fields would describe what is not sent."""
    return Answer(304, (("ETag", representation.etag),))


def _precondition_failed() -> Answer:
    return Answer(412, (("Content-Length", "0"),))


def _not_satisfiable(representation: Representation) -> Answer:
    """RFC 9110 15.5.17."""
    fields = (
        ("Content-Length", "0"),
        ("Content-Range", f"bytes */{representation.size}"),
        ("Accept-Ranges", "bytes"),
    )
    return Answer(416, fields)
