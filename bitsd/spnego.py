"""Tokens of SPNEGO (RFC 4178) and their framing (RFC 2743, 3.1), as octets.

They are DER. What they say is taken as it was sent: a mechanism is compared and never
decoded, and the list that is signed stays in the octets of the client.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from .outcome import Denied

#: 1.3.6.1.5.5.2
SPNEGO = bytes.fromhex("2b0601050502")

#: 1.3.6.1.4.1.311.2.2.10
NTLM = bytes.fromhex("2b06010401823702020a")

#: 1.2.840.113554.1.2.2, and the same of a Windows that knew only 16 bits.
KERBEROS = (bytes.fromhex("2a864886f712010202"), bytes.fromhex("2a864882f712010202"))

_FRAMED = 0x60
_OBJECT_IDENTIFIER = 0x06
_OCTET_STRING = 0x04
_SEQUENCE = 0x30
_FIELD = 0xA0

#: RFC 4178 4.2: which of the two kinds of token it is.
_INITIAL, _RESPONSE = 0xA0, 0xA1

#: How a token starts that follows the first.
FOLLOWING = bytes((_RESPONSE,))

#: A length up to this is one octet; of a longer one that tells how many follow.
_SHORT = 0x7F


class State(IntEnum):
    """`negState` of RFC 4178 4.2.2."""

    COMPLETED = 0
    INCOMPLETE = 1
    REJECT = 2
    REQUEST_MIC = 3


@dataclass(frozen=True, slots=True)
class Initial:
    """`NegTokenInit`: what a client begins with.

    Attributes:
        mechanisms: that the client knows, best first; at least one.
        listed: the same, in the octets that a `mechListMIC` is made of.
        token: of the first of them.
        mic: its `mechListMIC`.
    """

    mechanisms: tuple[bytes, ...]
    listed: bytes
    token: bytes | None
    mic: bytes | None


@dataclass(frozen=True, slots=True)
class Response:
    """`NegTokenResp`: what a client goes on with."""

    token: bytes | None
    mic: bytes | None


def mechanism(token: bytes) -> bytes:
    """Which mechanism a framed token is for.

    Raises:
        Denied: it is not framed.
    """
    return _unframed(token)[0]


def initial(token: bytes) -> Initial:
    """A framed token for SPNEGO.

    Raises:
        Denied: it is none.
    """
    fields = _fields(_only(_unframed(token)[1], _INITIAL))
    listed = fields.get(0, b"")
    mechanisms = tuple(octets for _tag, octets in _elements(_only(listed, _SEQUENCE)))
    if not mechanisms:
        raise Denied("SPNEGO token names no mechanism")
    return Initial(mechanisms, listed, _octets(fields, 2), _octets(fields, 3))


def response(token: bytes) -> Response:
    """A token that follows the first.

    Raises:
        Denied: it is none, or it says that the client gave up.
    """
    fields = _fields(_only(token, _RESPONSE))
    if fields.get(0) == _state(State.REJECT):
        raise Denied("client rejects the mechanism")
    said = Response(_octets(fields, 2), _octets(fields, 3))
    if said.token is None and said.mic is None:
        raise Denied("SPNEGO token says nothing")
    return said


def answer(
    state: State, mechanism: bytes | None, token: bytes | None, mic: bytes | None
) -> bytes:
    """`NegTokenResp` of a server; it names the mechanism in the first one only."""
    fields = [
        _state(state),
        mechanism and _element(_OBJECT_IDENTIFIER, mechanism),
        token and _element(_OCTET_STRING, token),
        mic and _element(_OCTET_STRING, mic),
    ]
    numbered = enumerate(fields)
    sent = b"".join(_element(_FIELD + at, field) for at, field in numbered if field)
    return _element(_RESPONSE, _element(_SEQUENCE, sent))


def _state(state: State) -> bytes:
    return bytes((0x0A, 1, state))


def _element(tag: int, octets: bytes) -> bytes:
    length = len(octets)
    if length <= _SHORT:
        return bytes((tag, length)) + octets
    digits = length.to_bytes(4, "big").lstrip(b"\0")
    return bytes((tag, _SHORT + 1 + len(digits))) + digits + octets


def _unframed(token: bytes) -> tuple[bytes, bytes]:
    """The mechanism, and what is its own."""
    octets = _only(token, _FRAMED)
    tag, first, last = _bounds(octets, 0)
    if tag != _OBJECT_IDENTIFIER:
        raise Denied("token names no mechanism")
    return octets[first:last], octets[last:]


def _fields(octets: bytes) -> dict[int, bytes]:
    """The fields of the one sequence, by number; of those sent twice the last."""
    return {tag - _FIELD: field for tag, field in _elements(_only(octets, _SEQUENCE))}


def _octets(fields: dict[int, bytes], number: int) -> bytes | None:
    field = fields.get(number)
    return None if field is None else _only(field, _OCTET_STRING)


def _only(octets: bytes, expected: int) -> bytes:
    """What is in the only element, which is of this kind."""
    tag, first, last = _bounds(octets, 0)
    if tag != expected:
        raise Denied(f"token has {tag:#04x} where {expected:#04x} belongs")
    if last != len(octets):
        raise Denied("token goes on after its end")
    return octets[first:]


def _elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(octets):
        tag, first, at = _bounds(octets, at)
        yield tag, octets[first:at]


def _bounds(octets: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the element that starts here, and from where to where its octets go.

    Raises:
        Denied: it does not end in here.
    """
    first = at + 2
    if len(octets) < first:
        raise Denied("token is cut")
    tag, size = octets[at], octets[at + 1]
    if size > _SHORT:
        digits = octets[first : first + size - _SHORT - 1]
        first += len(digits)
        size = int.from_bytes(digits, "big")
    if len(octets) < first + size:
        raise Denied("token is cut")
    return tag, first, first + size
