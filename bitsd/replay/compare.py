"""A captured answer and another server's, field by field.

`FIELDS` is what counts. All that is not in it may differ: Date, Server, Connection,
Cache-Control and whatever else a server likes to say.
"""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from .mapping import Mapping
from .message import Answer, Request
from .packets import comparable, is_packet


class Difference(NamedTuple):
    """Where the answers are not the same.

    Attributes:
        exchange: its number in the capture.
        request: in a few words.
        field: of the answer, or `status`, `body` and the like.
    """

    exchange: int
    request: str
    field: str
    captured: str
    got: str

    def __str__(self) -> str:
        where = f"exchange {self.exchange} ({self.request})"
        return f"{where}: {self.field}: captured {self.captured}, got {self.got}"


Alike: TypeAlias = Callable[[str, str, Mapping], bool]


def _equal(captured: str, got: str, _mapping: Mapping) -> bool:
    return captured == got


def _same_word(captured: str, got: str, _mapping: Mapping) -> bool:
    return captured.lower() == got.lower()


def _present(_captured: str, _got: str, _mapping: Mapping) -> bool:
    """Files have other times on another server, and it may tell more of them."""
    return True


def _schemes(captured: str, got: str, _mapping: Mapping) -> bool:
    return _scheme(captured) == _scheme(got)


def _scheme(challenge: str) -> str:
    return challenge.partition(" ")[0].lower()


def _session(captured: str, got: str, mapping: Mapping) -> bool:
    return comparable(mapping.session_id(captured)) == comparable(got)


def _url(captured: str, got: str, mapping: Mapping) -> bool:
    """The path of it; every server has a host of its own."""
    return _path(mapping.text(captured)).lower() == _path(got).lower()


def _path(url: str) -> str:
    _scheme, found, rest = url.partition("://")
    return rest.partition("/")[2] if found else url.lstrip("/")


def _kind(captured: str, got: str, _mapping: Mapping) -> bool:
    """A boundary is made up anew for every answer."""
    multipart = "multipart/byteranges"
    if captured.lower().startswith(multipart):
        return got.lower().startswith(multipart)
    return captured == got


FIELDS: dict[str, Alike] = {
    "accept-encoding": _same_word,
    "accept-ranges": _same_word,
    "bits-error": _same_word,
    "bits-error-code": _same_word,
    "bits-error-context": _same_word,
    "bits-host-id": _equal,
    "bits-host-id-fallback-timeout": _equal,
    "bits-packet-type": _same_word,
    "bits-protocol": _same_word,
    "bits-received-content-range": _equal,
    "bits-reply-url": _url,
    "bits-session-id": _session,
    "content-encoding": _same_word,
    "content-length": _equal,
    "content-range": _equal,
    "content-type": _kind,
    "etag": _present,
    "last-modified": _present,
    "location": _url,
    "transfer-encoding": _same_word,
    "www-authenticate": _schemes,
}

#: Of an error page only what BITS looks at counts: every server has its own.
_OF_A_PAGE = ("accept-ranges", "content-length", "content-type", "transfer-encoding")

_NOTHING = "nothing"

Found: TypeAlias = tuple[str, str, str]
"""A field, what was captured, and what came."""


def different(
    request: Request, captured: Answer, got: Answer | None, mapping: Mapping
) -> Iterator[Found]:
    """What is not alike in two answers to the same request."""
    if got is None:
        yield "answer", str(captured.status), _NOTHING
        return
    other = captured.status != got.status
    if other:
        yield "status", str(captured.status), str(got.status)
    if captured.interim != got.interim:
        yield "interim answers", _listed(captured.interim), _listed(got.interim)
    page = captured.status >= HTTPStatus.BAD_REQUEST and not is_packet(request)
    for name, alike in FIELDS.items():
        if (page and name in _OF_A_PAGE) or (other and not name.startswith("bits-")):
            continue
        if name == "content-length" and captured.parts and got.parts:
            continue  # boundaries have any length; the parts are compared
        yield from _field(name, alike, (captured, got), mapping)
    if not (page or other):
        yield from _body(captured, got)


def _listed(statuses: tuple[int, ...]) -> str:
    return ", ".join(map(str, statuses)) or _NOTHING


def _field(
    name: str, alike: Alike, answers: tuple[Answer, Answer], mapping: Mapping
) -> Iterator[Found]:
    captured, got = (answer.get(name) for answer in answers)
    if captured is None and (got is None or alike is _present):
        return
    if captured is None or got is None or not alike(captured, got, mapping):
        yield name, captured or _NOTHING, got or _NOTHING


def _body(captured: Answer, got: Answer) -> Iterator[Found]:
    """The bytes, as far as the capture has them all."""
    if not captured.complete or captured.missing:
        return
    if not got.complete:
        yield "body", f"{captured.length} bytes", f"a cut after {got.length}"
    elif captured.parts is not None and got.parts is not None:
        if _parts(captured) != _parts(got):
            yield "parts", _counted(captured), _counted(got)
    elif captured.digest != got.digest:
        yield "body", _digest(captured), _digest(got)


def _parts(answer: Answer) -> list[tuple[object, str]]:
    found = answer.parts.found if answer.parts else []
    return [(part.span, part.digest) for part in found]


def _counted(answer: Answer) -> str:
    shown = [f"{span} {digest[:12]}" for span, digest in _parts(answer)]
    return "; ".join(shown) or _NOTHING


def _digest(answer: Answer) -> str:
    return f"{answer.length} bytes with SHA-256 {answer.digest[:12]}..."
