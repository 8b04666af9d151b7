"""Where requests end, read from RFC 9112 alone and as strictly as it allows.

What it takes has one reading; whatever a recipient may refuse is refused. So where a
server answers a request that is not found here, two readers of the same octets could
disagree, and a proxy in front of that server could be tricked.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%s) ([^\x00-\x20\x7f]+) HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%s):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)" % _TOKEN)
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class Ending(Enum):
    """Why there is no further request."""

    ALL = auto()  # nothing is left
    INCOMPLETE = auto()  # of the next one only a part is there
    REFUSED = auto()  # what follows is no request
    CLOSED = auto()  # the last one asked for the connection to be closed


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        whole: its body is there, and can be read.
    """

    method: bytes
    target: bytes
    whole: bool = True


class _Unfinished(Exception):
    """More octets are needed."""


class _Wrong(Exception):
    """RFC 9112 lets a recipient refuse it."""


def read(octets: bytes) -> tuple[list[Request], Ending]:
    """The requests in there, the last one perhaps not whole, and what ends them."""
    requests: list[Request] = []
    at = _behind_empty_lines(octets, 0)
    try:
        while at < len(octets):
            head, at = _head(octets, at)
            requests.append(Request(head.method, head.target, whole=False))
            at = _behind_empty_lines(octets, _body_end(octets, at, head.length))
            requests[-1] = Request(head.method, head.target)
            if not head.keeps:
                return requests, Ending.CLOSED
    except _Unfinished:
        return requests, Ending.INCOMPLETE
    except _Wrong:
        return requests, Ending.REFUSED
    return requests, Ending.ALL


def _behind_empty_lines(octets: bytes, at: int) -> int:
    """2.2: a server ignores them where a request is to begin."""
    while octets.startswith(b"\r\n", at):
        at += 2
    return at


@dataclass(frozen=True)
class _Head:
    """What a header says; the length of a body in chunks is None."""

    method: bytes
    target: bytes
    keeps: bool
    length: int | None


def _head(octets: bytes, at: int) -> tuple[_Head, int]:
    line, at = _line(octets, at)
    fields, at = _section(octets, at)
    method, target, minor = _request_line(line)
    head = _Head(method, target, _keeps(fields, minor), _framing(fields, minor))
    return head, at


def _line(octets: bytes, at: int) -> tuple[bytes, int]:
    """Up to the next CRLF, and where it ends."""
    end = octets.find(b"\r\n", at)
    if end < 0:
        raise _Unfinished
    return octets[at:end], end + 2


def _section(octets: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """Fields up to the empty line, before which nobody can judge them."""
    lines: list[bytes] = []
    while True:
        line, at = _line(octets, at)
        if not line:
            return [_field(line) for line in lines], at
        lines.append(line)


def _field(line: bytes) -> tuple[bytes, bytes]:
    """5.1 and 5.2: no space before the colon, no folded line."""
    match = _FIELD.fullmatch(line)
    if match is None:
        raise _Wrong
    return match[1].lower(), match[2].rstrip(b" \t")


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _Wrong
    method, target = match[1], match[2]
    origin = target.startswith(b"/")
    asterisk = (method, target) == (b"OPTIONS", b"*")
    if method == b"CONNECT" or not (origin or asterisk or _ABSOLUTE.match(target)):
        raise _Wrong
    return method, target, int(match[3])


def _keeps(fields: list[tuple[bytes, bytes]], minor: int) -> bool:
    """9.3: whether the connection goes on; 3.2: there is one Host."""
    values = [value for name, value in fields if name == b"connection"]
    options = {word.strip(b" \t").lower() for word in b",".join(values).split(b",")}
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (minor and not hosts):
        raise _Wrong
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def _framing(fields: list[tuple[bytes, bytes]], minor: int) -> int | None:
    """6.3: the length of the body; None if it is in chunks."""
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    if codings:
        # 6.1: never in HTTP/1.0, and with a length it "ought to be handled as error".
        if lengths or not minor or [each.lower() for each in codings] != [b"chunked"]:
            raise _Wrong
        return None
    if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]+", each) for each in lengths):
        raise _Wrong
    if lengths and len(lengths[0]) > 20:  # 6.3: more than 64 bits hold
        raise _Wrong
    return int(lengths[0]) if lengths else 0


def _body_end(octets: bytes, at: int, length: int | None) -> int:
    if length is not None:
        if at + length > len(octets):
            raise _Unfinished
        return at + length
    while True:  # 7.1
        line, at = _line(octets, at)
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise _Wrong
        size = int(match[1], 16)
        if not size:
            break
        end = at + size
        if end + 2 > len(octets):
            raise _Unfinished
        if octets[end : end + 2] != b"\r\n":
            raise _Wrong
        at = end + 2
    _fields, at = _section(octets, at)  # 7.1.2
    return at
