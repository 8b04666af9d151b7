"""What [MC-BUP] 3.5.5 and RFC 9110 ask of a download."""

import re
from collections.abc import Iterator
from http import HTTPStatus

from .finding import Finding, client, server
from .message import Answer, Request
from .parts import Parts, Span, content_range

_RANGE_SET = re.compile(r"bytes=[ \t]*(.+)", re.IGNORECASE)
_RANGE = re.compile(r"(\d{0,20})-(\d{0,20})", re.ASCII)

Asked = list[tuple[int | None, int | None]]
"""First and last byte of each range; a range without a first is the file's end."""


def is_download(request: Request) -> bool:
    """It asks for a file."""
    return request.method in ("GET", "HEAD")


def asked_ranges(value: str) -> Asked | None:
    """The ranges of a Range field, RFC 9110 14.1.2; None if they make no sense."""
    whole = _RANGE_SET.fullmatch(value.strip())
    if whole is None:
        return None
    found: Asked = []
    for text in filter(None, (text.strip() for text in whole[1].split(","))):
        match = _RANGE.fullmatch(text)
        if match is None or text == "-":
            return None
        first, last = (int(digits) if digits else None for digits in match.groups())
        if first is not None and last is not None and last < first:
            return None
        found.append((first, last))
    return found or None


def broken(request: Request, answer: Answer | None) -> Iterator[Finding]:
    """The rules that a GET or HEAD and its answer break."""
    value = request.get("range")
    asked = None if value is None else asked_ranges(value)
    if value is not None and asked is None:
        yield client("the Range makes no sense", "RFC 9110 14.1.2")
    if answer is None:
        return
    if answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        yield from _successful(answer)
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        yield from _partial(request, asked, answer)


def _successful(answer: Answer) -> Iterator[Finding]:
    if answer.get("content-length") is None:
        yield server("no Content-Length, which BITS needs", "[MC-BUP] 3.5.5")
    if answer.get("last-modified") is None:
        yield server("no Last-Modified, which BITS compares", "[MC-BUP] 3.5.5.1")
    coding = answer.get("content-encoding") or "identity"
    if coding.lower() != "identity":
        sentence = f"the file is sent in the coding {coding[:60]!r}"
        yield server(sentence, "RFC 9110 12.5.3")


def _partial(
    request: Request, asked: Asked | None, answer: Answer
) -> Iterator[Finding]:
    if request.method == "HEAD":
        yield server("206 to a HEAD", "RFC 9110 14.2")
    elif asked is None:
        yield server("206, though no range was asked for", "RFC 9110 15.3.7")
    elif answer.parts is not None:
        yield from _several(asked, answer, answer.parts)
    else:
        yield from _single(asked, answer)


def _single(asked: Asked, answer: Answer) -> Iterator[Finding]:
    value = answer.get("content-range")
    span = content_range(value)
    if value is None:
        yield server("206 without Content-Range", "RFC 9110 15.3.7.1")
        return
    if span is None:
        yield server(f"Content-Range is {value[:60]!r}", "RFC 9110 14.4")
        return
    if not any(_answers(span, *one) for one in asked):
        sentence = f"bytes {span.first}-{span.last} were not asked for"
        yield server(sentence, "RFC 9110 15.3.7.1")
    if answer.declared not in (None, span.length):
        sentence = f"{span.length} bytes by Content-Range, {answer.declared} by length"
        yield server(sentence, "RFC 9110 14.4")


def _several(asked: Asked, answer: Answer, parts: Parts) -> Iterator[Finding]:
    if answer.get("content-range") is not None:
        yield server("several parts and a Content-Range", "RFC 9110 15.3.7.2")
    if any(part.span is None for part in parts.found):
        yield server("a part without a Content-Range", "RFC 9110 15.3.7.2")
        return
    if answer.complete and not answer.missing and not parts.ended:
        yield server("the parts have no end", "RFC 9110 14.6")
    spans = [part.span for part in parts.found if part.span is not None]
    wanted = [one for one in asked if _is_there(one[0], spans)]
    pairs = zip(spans, wanted, strict=False)
    if len(spans) > len(wanted) or not all(_answers(span, *one) for span, one in pairs):
        sentence = "the parts are not the ranges, in their order"
        yield server(sentence, "[MC-BUP] 3.5.5.1")
    elif parts.ended and len(spans) < len(wanted):
        sentence = f"{len(spans)} parts for {len(wanted)} ranges"
        yield server(sentence, "[MC-BUP] 3.5.5.1")


def _is_there(first: int | None, spans: list[Span]) -> bool:
    """A range does not begin behind the end of the file, RFC 9110 14.1.2."""
    totals = [span.total for span in spans if span.total is not None]
    return first is None or not totals or first < totals[0]


def _answers(span: Span, first: int | None, last: int | None) -> bool:
    """It is what a range asked for, or as much of it as the file has."""
    if first is None:
        at_end = span.total is None or span.last == span.total - 1
        return at_end and span.length <= (last or 0)
    if span.first != first:
        return False
    if span.last == last:
        return True
    shorter = last is None or span.last < last
    return shorter and (span.total is None or span.last == span.total - 1)
