"""What the answer to a GET or a HEAD means to a download.

RFC 9110 for the most part. Two versions of a file are never mixed: what an answer
brings is used only where it shows that it is of the version that is held.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from bitsd.ranges import ByteRange

from .retry import http_date, retry_after

Fields: TypeAlias = Mapping[str, str]
"""Header fields; whoever gives them sees to it that case does not matter."""

_CONTENT_RANGE = re.compile(
    r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII | re.IGNORECASE
)
_NUMBER = re.compile(r"\d{1,19}", re.ASCII)
_STRONG = re.compile(r'"[^"]*"')

_NOT_RETRIED = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}
_RETRIED = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

_MEANINGS = {
    401: "the server wants a sign-in: --user NAME",
    403: "the server does not allow it",
    404: "there is no such file on the server",
    405: "the server does not give files away under this URL",
    407: "the proxy wants a sign-in",
    410: "the file is gone from the server",
}

#: Nothing of what is held fits what the server has now.
CHANGED = "the file changed on the server"


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one version of a file from another.

    Attributes:
        length: bytes.
        etag: as the server sent it, weak or strong.
        modified: its Last-Modified, likewise.
        validator: what If-Range may carry; None if nothing tells for sure.
    """

    length: int
    etag: str | None
    modified: str | None
    validator: str | None

    @property
    def mtime(self) -> int | None:
        """Seconds since 1970."""
        return http_date(self.modified)

    def is_same(self, found: "Version") -> bool:
        """What a 206 shows is this version.

        RFC 9110 15.3.7: it repeats the ETag, but may leave Last-Modified out.
        """
        times = (found.modified, self.modified)
        return (
            found.length == self.length
            and found.etag == self.etag
            and (None in times or found.modified == self.modified)
        )


class Body(NamedTuple):
    """These bytes of that version follow."""

    version: Version
    first: int
    length: int


class Again(NamedTuple):
    """What is held is of no use.

    Attributes:
        plain: do not ask this server for ranges any more.
    """

    reason: str
    plain: bool


class Later(NamedTuple):
    """Nothing now.

    Attributes:
        seconds: that the server asks to wait.
    """

    reason: str
    seconds: float = 0.0


class Never(NamedTuple):
    """To ask once more would not help."""

    reason: str
    status: int


Reply: TypeAlias = Body | Again | Later | Never


def understood(
    status: int, fields: Fields, asked: ByteRange | None, held: Version | None
) -> Reply:
    """What an answer means.

    Args:
        status: of the answer.
        fields: of the answer.
        asked: the only range that was asked for; None for the whole file.
        held: the version that If-Range named, along with a range.
    """
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        coding = fields.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            return Never(
                f"the server sends {coding} though identity was asked for", status
            )
        return (
            _whole(fields, held)
            if status == HTTPStatus.OK
            else _part(fields, asked, held)
        )
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and asked is not None:
        # An empty file has no range; one that is held cannot have become shorter.
        return Again("the server has no such range", plain=True)
    if status in _RETRIED or (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NOT_RETRIED
    ):
        return Later(
            f"the server answers {_named(status)}", retry_after(fields.items())
        )
    return Never(_MEANINGS.get(status, f"the server answers {_named(status)}"), status)


def _whole(fields: Fields, held: Version | None) -> Reply:
    length = fields.get("Content-Length", "")
    if not _NUMBER.fullmatch(length):
        reason = "the server does not say how long the file is (no Content-Length)"
        return Never(reason, HTTPStatus.OK)
    version = _version(fields, int(length))
    if held is None:
        return Body(version, 0, version.length)
    if held.is_same(version):
        return Again("the server sends no ranges", plain=True)
    return Again(CHANGED, plain=False)


def _part(fields: Fields, asked: ByteRange | None, held: Version | None) -> Reply:
    if asked is None:
        reason = "the server sends a range though the whole file was asked for"
        return Never(reason, HTTPStatus.PARTIAL_CONTENT)
    match = _CONTENT_RANGE.fullmatch(fields.get("Content-Range", ""))
    if match is None:  # a multipart answer has none, either
        return Again("the server does not say which range it sends", plain=True)
    first, last, total = map(int, match.groups())
    version = _version(fields, total)
    if held is not None and not held.is_same(version):
        return Again(CHANGED, plain=False)
    if not _fits(fields, asked, ByteRange(first, last), total):
        return Again("the server sends another range than was asked for", plain=True)
    if version.validator is None and held is None:
        reason = "the server does not tell versions of the file apart"
        return Again(reason, plain=True)
    return Body(held or version, first, last - first + 1)


def _fits(fields: Fields, asked: ByteRange, sent: ByteRange, total: int) -> bool:
    """RFC 9110 15.3.7 lets a server send less than was asked for, from the start on."""
    return (
        sent.first == asked.first
        and sent.first <= sent.last <= min(asked.last, total - 1)
        and fields.get("Content-Length", str(sent.length)) == str(sent.length)
    )


def _version(fields: Fields, length: int) -> Version:
    etag, modified = fields.get("ETag"), fields.get("Last-Modified")
    if etag is not None and _STRONG.fullmatch(etag):
        return Version(length, etag, modified, etag)
    written, now = http_date(modified), http_date(fields.get("Date"))
    # RFC 9110 8.8.2.2: a file may be written twice within the second.
    strong = written is not None and now is not None and written + 1 <= now
    return Version(length, etag, modified, modified if strong else None)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
