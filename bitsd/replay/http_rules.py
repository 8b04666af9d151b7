"""What HTTP asks of every request and answer: RFC 9110 and RFC 9112."""

from collections.abc import Iterator

from .finding import Finding, client, server
from .message import Framing, Message
from .recording import Exchange
from .streams import How, Side


def broken(exchange: Exchange) -> Iterator[Finding]:
    """The rules of HTTP that an exchange breaks."""
    request, answer = exchange.request, exchange.answer
    if request is not None:
        for sentence, section in _of_message(request):
            yield client(sentence, section)
        hosts = len(request.all("host"))
        if hosts != 1 and request.version != "1.0":
            yield client(f"{hosts} Host fields in place of one", "RFC 9112 3.2")
    if answer is not None:
        for sentence, section in _of_message(answer):
            yield server(sentence, section)
        yield from _short(exchange)


def _of_message(message: Message) -> Iterator[tuple[str, str]]:
    lengths = set(message.all("content-length"))
    if len(lengths) > 1:
        yield "several Content-Length fields that differ", "RFC 9112 6.3"
    elif lengths and message.declared is None:
        yield "Content-Length is no number", "RFC 9110 8.6"
    if lengths and message.get("transfer-encoding") is not None:
        yield "both Transfer-Encoding and Content-Length", "RFC 9112 6.2"
    if b"\n" in message.head.replace(b"\r\n", b""):
        yield "lines of the head end in a bare line feed", "RFC 9112 2.2"
    if any(name != name.strip() or not name for name, _value in message.fields):
        yield "a blank before the colon of a field, or no name", "RFC 9112 5.1"


def _short(exchange: Exchange) -> Iterator[Finding]:
    """An answer that its sender, and no one else, left unfinished."""
    answer = exchange.answer
    if answer is None or answer.complete or answer.framing is Framing.CLOSE:
        return
    ends = exchange.connection.ends
    if ends and ends[0].side is Side.SERVER and ends[0].how is not How.CAPTURE:
        promised = "" if answer.declared is None else f" of {answer.declared}"
        sentence = f"the connection was ended after {answer.length}{promised} bytes"
        yield server(f"{sentence} of the body", "RFC 9112 8")
