"""From an answer to what is wrong with it."""

from http import HTTPStatus

from bitsd.protocol.refusal import Hresult

from .hops import Hop, author
from .line import Answer
from .verdicts import Symptom

_GATEWAY = (502, 503, 504)


#: What an Ack says by its status alone.
_ACKS = {
    400: Symptom.REQUEST_FIELDS,
    403: Symptom.NOT_ALLOWED,
    404: Symptom.NO_FOLDER,
    408: Symptom.BODY_CUT,
    411: Symptom.LENGTH_LOST,
    501: Symptom.UPLOADS_OFF,
    503: Symptom.BUSY,
}


def unwanted(answer: Answer) -> Symptom | None:
    """What is wrong with the answer to a packet that should have been done.

    None of an Ack with 200.
    """
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return Symptom.SIGN_IN
    return _of_ack(answer) if answer.is_ack else _of_page(answer)


def _of_ack(answer: Answer) -> Symptom | None:
    if answer.hresult == Hresult.TOO_LARGE:
        return Symptom.FILE_LIMIT
    if answer.status == HTTPStatus.OK:
        return None
    return _ACKS.get(answer.status, Symptom.SERVER_FAILED)


def _of_page(answer: Answer) -> Symptom:
    if answer.status in range(300, 400):
        return Symptom.REDIRECTED
    if _too_large(answer):
        return Symptom.BODY_LIMIT
    if answer.status in _GATEWAY:
        return Symptom.BACKEND_DOWN
    if _is_stripped(answer):
        return Symptom.RESPONSE_FIELDS
    return Symptom.NOT_PASSED_ON


def _too_large(answer: Answer) -> bool:
    """413, and the 404.13 by which IIS says it."""
    return (
        answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or b"404.13" in answer.body
    )


def _is_stripped(answer: Answer) -> bool:
    """An Ack that lost the field that says so, and not all others."""
    bits = any(name.lower().startswith("bits-") for name, _value in answer.fields)
    # Caddy answers so where it has nothing to serve.
    empty = answer.length == 0 and author(answer) is not Hop.CADDY
    untyped = answer.get("Content-Type") is None
    return bits or (answer.status == HTTPStatus.OK and empty and untyped)


def of_unknown_session(answer: Answer) -> Symptom | None:
    """What is wrong with the refusal of a packet whose session does not exist."""
    if answer.hresult == Hresult.SESSION_NOT_FOUND:
        return None
    if answer.is_ack and answer.hresult is None:
        return Symptom.RESPONSE_FIELDS
    if answer.is_ack:
        return Symptom.SERVER_FAILED
    return Symptom.ERRORS_REPLACED


def of_range(answer: Answer, span: tuple[int, int], size: int) -> Symptom | None:
    """What is wrong with the answer for one range.

    Args:
        answer: to a GET with it.
        span: first and last byte of it.
        size: of the file.
    """
    first, last = span
    told = answer.get("Content-Range")
    length = last - first + 1
    return _first(
        _of_file(answer),
        (answer.status != HTTPStatus.PARTIAL_CONTENT, Symptom.NO_RANGES),
        (told is None, Symptom.NO_CONTENT_RANGE),
        (told != f"bytes {first}-{last}/{size}", Symptom.WRONG_RANGES),
        (answer.length is None, Symptom.NO_LENGTH),
        (not answer.whole or len(answer.body) != length, Symptom.WRONG_RANGES),
    )


def of_ranges(
    answer: Answer, spans: list[tuple[int, int]], size: int
) -> Symptom | None:
    """What is wrong with the answer for several ranges (RFC 9110 14.6)."""
    kind = (answer.get("Content-Type") or "").lower()
    body = answer.body.lower()
    parts = (f"content-range: bytes {a}-{b}/{size}" for a, b in spans)
    return _first(
        _of_file(answer),
        (answer.status != HTTPStatus.PARTIAL_CONTENT, Symptom.NO_RANGES),
        (not kind.startswith("multipart/byteranges"), Symptom.WRONG_RANGES),
        (answer.length is None, Symptom.NO_LENGTH),
        (not all(part.encode() in body for part in parts), Symptom.WRONG_RANGES),
    )


def of_whole(answer: Answer, size: int) -> Symptom | None:
    """What is wrong with the whole file, of which little may have been read."""
    return _first(
        _of_file(answer),
        (answer.status != HTTPStatus.OK, Symptom.WRONG_RANGES),
        (answer.length is None, Symptom.NO_LENGTH),
        (answer.length != size, Symptom.WRONG_RANGES),
    )


def _first(found: Symptom | None, *checks: tuple[bool, Symptom]) -> Symptom | None:
    return found or next((symptom for wrong, symptom in checks if wrong), None)


def _of_file(answer: Answer) -> Symptom | None:
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return Symptom.SIGN_IN
    if answer.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return Symptom.NO_FILE
    encoding = (answer.get("Content-Encoding") or "identity").lower()
    return None if encoding == "identity" else Symptom.ENCODED
