"""An HTTP message as it was captured."""

import hashlib
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from .parts import Field, Parts

_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


class Framing(Enum):
    """How the end of a body is found, RFC 9112 6.3."""

    NONE = "no body"
    LENGTH = "Content-Length"
    CHUNKED = "chunks"
    CLOSE = "until the connection closes"


class Extent(NamedTuple):
    """Bytes in the file for bodies; without an offset they are not captured."""

    offset: int | None
    length: int


@dataclass(slots=True, kw_only=True)
class Message:
    """What requests and answers have in common.

    Attributes:
        head: first line and fields as they were sent, with the empty line.
        started: time of the first byte, in seconds since 1970.
        ended: time of the last byte so far.
        after_gap: bytes before it are not in the capture.
        declared: bytes of the body, where Content-Length says so.
        length: bytes of the body that came, or are missing in the capture only.
        missing: bytes of the body, its framing included, that are not captured.
        complete: it came whole.
        kept: its body, framing included, as it is to be sent again.
    """

    head: bytes
    version: str
    fields: tuple[Field, ...]
    started: float
    ended: float
    after_gap: bool
    framing: Framing = Framing.NONE
    declared: int | None = None
    length: int = 0
    missing: int = 0
    complete: bool = False
    kept: list[Extent] = field(default_factory=list)
    parts: Parts | None = None
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """SHA-256 of the body as far as it came."""
        return self._digest.hexdigest()

    def get(self, name: str) -> str | None:
        """The first value of a field."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        """The values of a field."""
        lower = name.lower()
        return [value for key, value in self.fields if key.lower() == lower]

    def content(self, octets: bytes) -> None:
        """The next bytes of the body, without framing."""
        self.length += len(octets)
        self._digest.update(octets)
        if self.parts is not None:
            self.parts.add(octets)

    def skip(self, count: int) -> None:
        """Bytes of the body are not captured."""
        self.length += count
        self.missing += count
        if self.parts is not None:
            self.parts.skip(count)


@dataclass(slots=True, kw_only=True)
class Request(Message):
    """A request."""

    method: str
    target: str


@dataclass(slots=True, kw_only=True)
class Answer(Message):
    """A response.

    Attributes:
        interim: statuses of the responses with 1xx before it.
    """

    status: int
    reason: str
    interim: tuple[int, ...] = ()


def declared_length(message: Message) -> int | None:
    """What Content-Length says, if it is a number."""
    value = message.get("content-length")
    if value is None or _DIGITS.fullmatch(value) is None:
        return None
    return int(value)
