"""Packets and Acks to header fields and back, for server, client and replay.

A packet is a `BITS_POST` request: its meaning is in header fields, and only a
Fragment has a body ([MC-BUP] 2.2.1). An Ack is a response without a body. What a
`Packet` or `Ack` holds has been checked; nothing after this module reads headers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NewType, TypeAlias

from .refusal import Reason, Refusal

METHOD = "BITS_POST"

#: The only protocol there is, [MC-BUP] 1.7.1.
PROTOCOL = "{7df0354d-249b-430f-820d-3d2a9bef4931}"

#: Windows reads no more of the client's list, [MC-BUP] note <6>.
MAXIMUM_PROTOCOLS = 100

#: Longest value of a header field, [MC-BUP] 2.2.1 and note <2>.
MAXIMUM_FIELD_BYTES = 4096

#: Largest number in a Content-Range: the fields are 64 bits wide.
MAXIMUM_NUMBER = 2**64 - 1

Field: TypeAlias = tuple[str, str]

SessionId = NewType("SessionId", str)
"""A GUID of ours: braces, upper-case digits. It cannot hold a path."""

_GUID = re.compile(
    r"\{?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}?",
    re.IGNORECASE | re.ASCII,
)
_CONTENT_RANGE = re.compile(
    r"bytes +(\d{1,20})-(\d{1,20})/(\d{1,20})", re.IGNORECASE | re.ASCII
)
# No source shows how Windows sends an empty file and the grammar of Content-Range
# cannot say it; these are the ways a client could try (protocol-notes/empty-files.md).
_EMPTY_RANGE = re.compile(
    r"bytes +(?:\*|0-0|0--1|0-18446744073709551615)/0", re.IGNORECASE | re.ASCII
)
_DIGITS = re.compile(r"\d{1,20}", re.ASCII)
_HRESULT = re.compile(r"0x[0-9a-f]{1,8}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class CreateSession:
    """The wish to upload a file to the request's URL, [MC-BUP] 2.2.2.

    Attributes:
        protocols: GUIDs the client speaks, best first, as it wrote them.
    """

    protocols: tuple[str, ...] = (PROTOCOL,)

    def fields(self) -> list[Field]:
        """The packet as its client sends it."""
        return [
            ("BITS-Packet-Type", "Create-Session"),
            ("BITS-Supported-Protocols", " ".join(self.protocols)),
            ("Content-Length", "0"),
        ]


@dataclass(frozen=True, slots=True)
class Ping:
    """A question whether the server is there, [MC-BUP] 2.2.4; it has no session."""

    def fields(self) -> list[Field]:
        """The packet as its client sends it."""
        return [("BITS-Packet-Type", "Ping"), ("Content-Length", "0")]


@dataclass(frozen=True, slots=True)
class Fragment:
    """Bytes `first..last` (inclusive) of an entity of `total` bytes, [MC-BUP] 2.2.6.

    An empty entity is `first=0, last=-1, total=0`.
    """

    session_id: SessionId
    first: int
    last: int
    total: int

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.last - self.first + 1

    def fields(self) -> list[Field]:
        """The packet as its client sends it."""
        span = f"{self.first}-{self.last}" if self.total else "*"
        return [
            ("BITS-Packet-Type", "Fragment"),
            ("BITS-Session-Id", self.session_id),
            ("Content-Range", f"bytes {span}/{self.total}"),
            ("Content-Length", str(self.length)),
        ]


@dataclass(frozen=True, slots=True)
class CloseSession:
    """The client has all it wants of the session, [MC-BUP] 2.2.8."""

    session_id: SessionId

    def fields(self) -> list[Field]:
        """The packet as its client sends it."""
        return _control("Close-Session", self.session_id)


@dataclass(frozen=True, slots=True)
class CancelSession:
    """The client gives the upload up, [MC-BUP] 2.2.10."""

    session_id: SessionId

    def fields(self) -> list[Field]:
        """The packet as its client sends it."""
        return _control("Cancel-Session", self.session_id)


Packet: TypeAlias = CreateSession | Ping | Fragment | CloseSession | CancelSession


def _control(packet_type: str, session_id: SessionId) -> list[Field]:
    return [
        ("BITS-Packet-Type", packet_type),
        ("BITS-Session-Id", session_id),
        ("Content-Length", "0"),
    ]


def parse(fields: Iterable[Field]) -> Packet:
    """Read the packet out of the header fields of a `BITS_POST` request.

    Names are compared without case, unknown fields are ignored, and Content-Name
    is never looked at: where a file goes is said by the URL ([MC-BUP] note <3>).

    Raises:
        Refusal: MALFORMED, LENGTH_REQUIRED or SESSION_NOT_FOUND (the id cannot be
            one of ours).
    """
    headers = _folded(fields)
    packet_type = _required(headers, "bits-packet-type").lower()
    read = _PACKETS.get(packet_type)
    if read is None:
        raise Refusal(Reason.MALFORMED, f"unknown packet type {packet_type[:60]!r}")
    length = _content_length(headers)
    if length and read is not _fragment:
        raise Refusal(Reason.MALFORMED, f"{packet_type} with a body of {length} bytes")
    return read(headers, length)


def session_id(value: str) -> SessionId:
    """The canonical form of an id that was written in any case, braces or not.

    Raises:
        Refusal: SESSION_NOT_FOUND, for we never gave out such an id.
    """
    match = _GUID.fullmatch(value.strip())
    if match is None:
        raise Refusal(Reason.SESSION_NOT_FOUND, f"not an id of ours: {value[:60]!r}")
    return SessionId("{" + match[1].upper() + "}")


def _folded(fields: Iterable[Field]) -> dict[str, str]:
    """Fields by lower-case name; the ones that rule a packet may not contradict."""
    headers: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        # A Kerberos ticket may be longer, and is not the protocol's.
        if len(value) > MAXIMUM_FIELD_BYTES // 4 and key != "authorization":
            _check_size(name, value)
        value = value.strip(" \t")
        if headers.setdefault(key, value) == value:
            continue
        if key in _SINGLE:
            raise Refusal(Reason.MALFORMED, f"two different {name} fields")
        headers[key] += f", {value}"  # RFC 9110 5.3
    return headers


_SINGLE = frozenset(
    (
        "bits-packet-type",
        "bits-session-id",
        "content-encoding",
        "content-length",
        "content-range",
    )
)


def _check_size(name: str, value: str) -> None:
    size = len(value.encode("utf-8", "replace"))
    if size > MAXIMUM_FIELD_BYTES:
        raise Refusal(Reason.MALFORMED, f"{name[:60]} has {size} bytes")


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise Refusal(Reason.MALFORMED, f"no {name}")
    return value


def _content_length(headers: Mapping[str, str]) -> int:
    """[MC-BUP] 3.2.5.2.3: a packet without Content-Length SHOULD get 411."""
    value = headers.get("content-length")
    if value is None:
        raise Refusal(Reason.LENGTH_REQUIRED, "no Content-Length")
    if _DIGITS.fullmatch(value) is None:
        raise Refusal(Reason.MALFORMED, f"Content-Length {value[:60]!r}")
    return int(value)


def _create_session(headers: Mapping[str, str], _length: int) -> CreateSession:
    offered = _required(headers, "bits-supported-protocols")
    words = filter(None, re.split(r"[\s,]+", offered))
    guids = tuple(islice(words, MAXIMUM_PROTOCOLS))
    if PROTOCOL not in (guid.lower() for guid in guids):
        raise Refusal(Reason.MALFORMED, f"no protocol in common: {offered[:120]!r}")
    return CreateSession(guids)


def _ping(_headers: Mapping[str, str], _length: int) -> Ping:
    return Ping()


def _fragment(headers: Mapping[str, str], length: int) -> Fragment:
    named = session_id(_required(headers, "bits-session-id"))
    coding = headers.get("content-encoding", "").lower()
    if coding not in ("", "identity"):  # [MC-BUP] note <12>: Windows knows no other
        raise Refusal(Reason.MALFORMED, f"Content-Encoding {coding[:60]!r}")
    first, last, total = _content_range(_required(headers, "content-range"))
    if last - first + 1 != length:
        detail = f"Content-Range {first}-{last}, but a body of {length} bytes"
        raise Refusal(Reason.MALFORMED, detail)
    return Fragment(named, first, last, total)


def _content_range(value: str) -> tuple[int, int, int]:
    """RFC 9110 14.4, as [MC-BUP] 3.2.5.2.6 asks: a broken one is a 400."""
    if _EMPTY_RANGE.fullmatch(value) is not None:
        return 0, -1, 0
    match = _CONTENT_RANGE.fullmatch(value)
    if match is None:
        raise Refusal(Reason.MALFORMED, f"Content-Range {value[:80]!r}")
    first, last, total = (int(group) for group in match.groups())
    if not first <= last < total <= MAXIMUM_NUMBER:
        raise Refusal(Reason.MALFORMED, f"Content-Range {value[:80]!r}")
    return first, last, total


def _close_session(headers: Mapping[str, str], _length: int) -> CloseSession:
    return CloseSession(session_id(_required(headers, "bits-session-id")))


def _cancel_session(headers: Mapping[str, str], _length: int) -> CancelSession:
    return CancelSession(session_id(_required(headers, "bits-session-id")))


_PACKETS: Mapping[str, Callable[[Mapping[str, str], int], Packet]] = {
    "create-session": _create_session,
    "ping": _ping,
    "fragment": _fragment,
    "close-session": _close_session,
    "cancel-session": _cancel_session,
}


class NotAnAck(ValueError):
    """An answer that a BITS client discards ([MC-BUP] 3.1.5.2); says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The answer to a packet ([MC-BUP] 2.2.3, 2.2.5, 2.2.7, 2.2.9, 2.2.11).

    Attributes:
        protocol: set on the Ack of a Create-Session that worked, and only there.
        received: BITS-Received-Content-Range, the next offset wanted.
        host_id_fallback_timeout: seconds; goes with `host_id` only.
        error: HRESULT, sent as both BITS-Error and BITS-Error-Code.
    """

    status: int = 200
    protocol: str | None = None
    session_id: str | None = None
    host_id: str | None = None
    host_id_fallback_timeout: int | None = None
    received: int | None = None
    reply_url: str | None = None
    error: int | None = None
    context: int | None = None

    @classmethod
    def refusing(cls, refusal: Refusal, named: SessionId | None = None) -> "Ack":
        """The Ack that tells a client of a refusal: the table's row, no detail."""
        hresult = refusal.reason.hresult
        return cls(
            status=refusal.status,
            session_id=named,
            received=refusal.received,
            error=hresult,
            context=None if hresult is None else refusal.reason.context,
        )

    def fields(self) -> list[Field]:
        """Header fields, in the order and case that IIS was seen to use."""
        code = None if self.error is None else f"0x{self.error:08X}"
        context = None if self.context is None else f"0x{self.context:X}"
        fields = (
            ("Pragma", "no-cache"),
            ("BITS-Packet-Type", "Ack"),
            ("BITS-Protocol", self.protocol),
            ("BITS-Session-Id", self.session_id),
            ("BITS-Host-Id", self.host_id),
            ("BITS-Host-Id-Fallback-Timeout", self.host_id_fallback_timeout),
            ("Content-Length", 0),
            ("Accept-Encoding", None if self.protocol is None else "identity"),
            ("BITS-Received-Content-Range", self.received),
            ("BITS-Reply-URL", self.reply_url),
            ("BITS-Error-Code", code),
            ("BITS-Error", code),
            ("BITS-Error-Context", context),
        )
        return [(name, str(value)) for name, value in fields if value is not None]

    @classmethod
    def parse(cls, status: int, fields: Iterable[Field]) -> "Ack":
        """Read an Ack as a client does; the inverse of `fields` and lenient beyond.

        An empty BITS-Reply-URL is none ([MC-BUP] 3.1.5.1.4).

        Raises:
            NotAnAck: the answer is not of this protocol, or a value is no value.
        """
        headers = {name.lower(): value.strip() for name, value in fields}
        packet_type = headers.get("bits-packet-type", "")
        if packet_type.lower() != "ack":
            raise NotAnAck(f"BITS-Packet-Type is {packet_type[:60]!r}, not 'Ack'")
        error = headers.get("bits-error-code", headers.get("bits-error"))
        return cls(
            status=status,
            protocol=headers.get("bits-protocol"),
            session_id=headers.get("bits-session-id"),
            host_id=headers.get("bits-host-id"),
            host_id_fallback_timeout=_number(headers, "bits-host-id-fallback-timeout"),
            received=_number(headers, "bits-received-content-range"),
            reply_url=headers.get("bits-reply-url") or None,
            error=_hexadecimal("bits-error", error),
            context=_hexadecimal(
                "bits-error-context", headers.get("bits-error-context")
            ),
        )


def _number(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name)
    if value is None:
        return None
    if _DIGITS.fullmatch(value) is None:
        raise NotAnAck(f"{name} is {value[:60]!r}, not a number")
    return int(value)


def _hexadecimal(name: str, value: str | None) -> int | None:
    if value is None:
        return None
    if _HRESULT.fullmatch(value) is None:
        raise NotAnAck(f"{name} is {value[:60]!r}, not a code such as 0x8020001F")
    return int(value, 16)
