"""What of a captured request does not fit another server.

Its host, its session ids, the versions of files that it asks for, and its secrets.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .message import Answer, Request
from .packets import comparable, is_packet, packet_type
from .parts import Field

_LINE = re.compile(r"[^\n]*\n")

#: What signs a client in was meant for the server that was captured, and for no other.
SECRETS = ("authorization", "proxy-authorization", "cookie")


#: Fields that name the version of a file, RFC 9110 13.1, as an answer gave it before.
_CONDITIONS = (
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
)
_VALIDATORS = ("etag", "last-modified")


@dataclass(slots=True)
class Mapping:
    """How a captured request becomes one for another server.

    Attributes:
        host: of the other server, with its port.
        fields: that every request gets; they replace captured ones.
        authorization: in place of a captured one, where there was one.
        sessions: ids that the other server gave out, by the captured ones.
        versions: ETags and dates that it gave out, by target and captured value.
    """

    host: str
    fields: Sequence[Field] = ()
    authorization: str | None = None
    sessions: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)

    def learn(self, request: Request, captured: Answer, got: Answer) -> None:
        """What the other server calls a session or a version of a file."""
        for name in _VALIDATORS:
            old, new = captured.get(name), got.get(name)
            if old and new:
                self.versions[request.target, old] = new
        if is_packet(request) and packet_type(request) == "create-session":
            old, new = (each.get("bits-session-id") for each in (captured, got))
            if old and new:
                self.sessions[comparable(old)] = new

    def head(self, captured: bytes) -> bytes:
        """The head of a request, for the other server."""
        found: list[str] = _LINE.findall(captured.decode("latin-1"))
        first, *lines, end = found
        target = first.split(" ")[1]
        made = [self._first(first), *self._lines(target, lines)]
        made += [f"{name}: {value}\r\n" for name, value in self.fields]
        return ("".join(made) + end).encode("latin-1")

    def _first(self, line: str) -> str:
        """The request line; an absolute target was for a proxy."""
        method, target, rest = line.split(" ", 2)
        if target.lower().startswith(("http://", "https://")):
            target = urlsplit(target)._replace(scheme="", netloc="").geturl() or "/"
        return f"{method} {self.text(target)} {rest}"

    def _lines(self, target: str, lines: Sequence[str]) -> Iterator[str]:
        given = {name.lower() for name, _value in self.fields}
        for line in lines:
            name, _, value = line.partition(":")
            if name.lower() not in given:
                yield from self._line(target, line, name.lower(), value.strip())

    def _line(self, target: str, line: str, name: str, value: str) -> Iterator[str]:
        if name == "host":
            yield f"Host: {self.host}\r\n"
        elif name == "authorization" and self.authorization is not None:
            yield f"Authorization: {self.authorization}\r\n"
        elif name == "bits-session-id" and value:
            yield line.replace(value, self.session_id(value))
        elif name in _CONDITIONS and (target, value) in self.versions:
            yield line.replace(value, self.versions[target, value])
        elif name not in SECRETS:
            yield self.text(line)

    def session_id(self, captured: str) -> str:
        """The id of a session, for the other server."""
        if captured in self.sessions:
            return self.sessions[captured]
        return self.text(captured)

    def text(self, captured: str) -> str:
        """A URL, or anything else that a GUID may be a part of."""
        for old, new in self.sessions.items():
            bare = old.strip("{}")
            if bare != old and comparable(new).strip("{}") != comparable(new):
                found = re.compile(re.escape(bare), re.IGNORECASE)
                captured = found.sub(new.strip("{}"), captured)
        return captured
