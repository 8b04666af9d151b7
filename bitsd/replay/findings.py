"""What in a recording broke the rules, in the order in which it happened."""

from collections.abc import Iterator
from typing import NamedTuple

from . import download_rules, http_rules, packet_rules
from .download_rules import is_download
from .finding import Finding
from .packets import is_packet
from .recording import Connection, Exchange, Recording
from .session_rules import Session, Sessions
from .streams import Side


class Judged(NamedTuple):
    """A recording's sessions, and what is wrong in it."""

    sessions: list[Session]
    findings: list[Finding]


def judge(recording: Recording) -> Judged:
    """Hold every exchange against the rules."""
    sessions = Sessions()
    findings = []
    for exchange in recording.exchanges:
        found = [*_of_exchange(exchange), *sessions.add(exchange)]
        findings += [each._replace(exchange=exchange.number) for each in found]
    for connection in recording.connections:
        findings += _strange(connection)
    return Judged(list(sessions.known.values()), findings)


def _of_exchange(exchange: Exchange) -> Iterator[Finding]:
    yield from http_rules.broken(exchange)
    request, answer = exchange.request, exchange.answer
    if request is None:
        return
    if is_packet(request):
        yield from packet_rules.broken(request, answer)
    elif is_download(request):
        yield from download_rules.broken(request, answer)


def _strange(connection: Connection) -> Iterator[Finding]:
    """Bytes that are no message, told with the last exchange before the end."""
    if not connection.exchanges:
        return
    last = connection.exchanges[-1].number
    for side, reader in (
        (Side.CLIENT, connection.requests),
        (Side.SERVER, connection.answers),
    ):
        for octets in reader.strange:
            sentence = f"where a message should begin came {octets[:40]!r}"
            yield Finding(side, sentence, "RFC 9112 2.2", last)
