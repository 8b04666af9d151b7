"""What a captured request says as a packet of BITS, whoever it was meant for.

Session ids are those of any server: a GUID, or up to 100 other characters (Win32,
"Ack for Create-Session").
"""

import re
from collections.abc import Iterable

from bitsd.protocol.refusal import Refusal
from bitsd.protocol.wire import METHOD, Field, Fragment, Packet, parse

from .message import Message, Request

_GUID = re.compile(
    r"\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?", re.IGNORECASE
)
_STAND_IN = "{00000000-0000-0000-0000-000000000000}"


def is_packet(request: Request) -> bool:
    """It is of the upload protocol, [MC-BUP] 2.2.1."""
    return request.method == METHOD


def packet_type(request: Request) -> str:
    """BITS-Packet-Type, in lower case for comparing."""
    return (request.get("bits-packet-type") or "").lower()


def session_id(message: Message) -> str | None:
    """BITS-Session-Id in a form that can be compared."""
    value = message.get("bits-session-id")
    return None if not value else comparable(value)


def comparable(session_id: str) -> str:
    """Clients write a GUID in any case, with braces or without."""
    match = _GUID.fullmatch(session_id)
    return session_id if match is None else "{" + match[1].upper() + "}"


def packet(request: Request) -> Packet:
    """The packet of a request.

    Raises:
        Refusal: it is none; `detail` says why.
    """
    return parse(_with_an_id_of_ours(request.fields))


def _with_an_id_of_ours(fields: Iterable[Field]) -> Iterable[Field]:
    for name, value in fields:
        is_id = name.lower() == "bits-session-id" and value
        yield name, _STAND_IN if is_id else value


def fragment(request: Request) -> Fragment | None:
    """The Fragment that a packet is, if it is one that makes sense."""
    try:
        found = packet(request)
    except Refusal:
        return None
    return found if isinstance(found, Fragment) else None
