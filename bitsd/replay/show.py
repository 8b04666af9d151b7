"""A recording for people, as text.

Whatever came from the wire goes through `safe`: a terminal obeys some characters.
"""

from collections.abc import Iterator
from http import HTTPStatus
from textwrap import wrap

from bitsd.codes import HRESULTS, Entry

from .findings import Judged
from .message import Answer, Request
from .packets import is_packet, packet_type
from .recording import Connection, Exchange, Recording
from .session_rules import Session
from .streams import How

#: What fits into most windows, as far as it can be broken.
WIDTH = 80

_LONGEST = 100


def safe(text: str, longest: int = _LONGEST) -> str:
    """Text that a terminal shows and does not obey."""
    shown = "".join(
        letter if letter.isascii() and letter.isprintable() else _escaped(letter)
        for letter in text[: longest + 1]
    )
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def lines(recording: Recording, judged: Judged) -> Iterator[str]:
    """The whole recording."""
    yield from _connections(recording)
    yield from _exchanges(recording)
    yield from _codes(recording)
    if judged.sessions:
        yield "\nSessions"
        yield from map(session_line, judged.sessions)
    yield from _totals(recording, judged)
    yield "\nAgainst the rules"
    for finding in judged.findings:
        sentence = safe(finding.sentence, 2 * _LONGEST)
        side = finding.side.value
        yield f"  {finding.exchange:>4}  {side}: {sentence} ({finding.section})"
    if not judged.findings:
        yield "  nothing"


def _connections(recording: Recording) -> Iterator[str]:
    yield "Connections"
    for connection in recording.connections:
        at = connection.started - recording.started
        ends = f"{connection.client} > {connection.server}"
        yield f"  {connection.number:>4}  {at:>9.3f}  {ends}: {_fate(connection)}"


def _fate(connection: Connection) -> str:
    """What became of a connection."""
    if connection.unreadable is None:
        words = [f"{len(connection.exchanges)} exchanges"]
    else:
        words = [f"{connection.unreadable}, not read"]
    if not connection.begun:
        words.append("begun before the capture")
    if connection.missing:
        words.append(f"{sum(connection.missing.values())} bytes are not captured")
    words.append(ended(connection))
    return ", ".join(words)


def ended(connection: Connection) -> str:
    """Who ended a connection, and how."""
    first = connection.ends[0]
    if first.how is How.CAPTURE:
        return "open at the end of the capture"
    return f"ended by the {first.side.value} ({first.how.value})"


def _exchanges(recording: Recording) -> Iterator[str]:
    yield "\nExchanges"
    rows = [
        (
            f"  {exchange.number:>4}  {exchange.connection.number:>4}",
            f"{exchange.started - recording.started:>9.3f}",
            asked(exchange.request),
            answered(exchange),
        )
        for exchange in recording.exchanges
    ]
    width = max((len(request) for _, _, request, _ in rows), default=0)
    yield f"    no  conn       time  {'request':<{width}}  answer"
    for number, at, request, answer in rows:
        yield f"{number}  {at}  {request:<{width}}  {answer}"


def _codes(recording: Recording) -> Iterator[str]:
    """What the codes of the answers mean, each once."""
    answers = [each.answer for each in recording.exchanges if each.answer]
    codes = {code for answer in answers if (code := _code(answer)) is not None}
    # One code may be spelt in several ways.
    meanings = {entry.name: entry.meaning for code in codes if (entry := _entry(code))}
    if meanings:
        yield "\nCodes"
    for name, meaning in sorted(meanings.items()):
        yield from wrap(
            f"{name}: {meaning}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
        )


def asked(request: Request | None) -> str:
    """A request in a few words."""
    if request is None:
        return "(not captured)"
    target = safe(request.target, 60)
    words = [safe(request.method, 20), target]
    if is_packet(request):
        words = [safe(request.get("bits-packet-type") or "(no packet type)", 20)]
        span = request.get("content-range")
        words += [safe(span.removeprefix("bytes "), 50)] if span else []
        words += [] if span else [target]
    elif request.get("range") is not None:
        words.append(_range(request.get("range") or ""))
    if not request.complete:
        of = "" if request.declared is None else f" of {request.declared}"
        words.append(f"(cut after {request.length}{of} bytes)")
    return " ".join(words)


def _range(value: str) -> str:
    count = value.count(",") + 1
    return safe(value, 40) if count == 1 else f"{count} ranges"


def answered(exchange: Exchange) -> str:
    """An answer in a few words."""
    answer = exchange.answer
    if answer is None:
        return f"none, {ended(exchange.connection)}"
    words = [f"{status} then" for status in answer.interim]
    words.append(str(answer.status))
    request = exchange.request
    if request is not None and is_packet(request):
        words += _ack(request, answer)
    else:
        words.append(_phrase(answer.status))
        words.append(_amount(answer))
    return " ".join(word for word in words if word)


def _ack(request: Request, answer: Answer) -> Iterator[str]:
    received = answer.get("bits-received-content-range")
    if received is not None:
        yield f"received {safe(received, 20)}"
    named = answer.get("bits-session-id")
    if named is not None and packet_type(request) == "create-session":
        yield safe(named)
    code = _code(answer)
    if code is not None:
        yield _named(code)
    elif answer.status >= HTTPStatus.BAD_REQUEST and received is None:
        yield _phrase(answer.status)


def _code(answer: Answer) -> str | None:
    return answer.get("bits-error") or answer.get("bits-error-code")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _entry(code: str) -> Entry | None:
    """What is known of an HRESULT."""
    try:
        return HRESULTS.get(int(code, 16))
    except ValueError:
        return None


def _named(code: str) -> str:
    """An HRESULT with its name."""
    entry = _entry(code)
    if entry is None:
        return safe(code, 20)
    return f"{safe(code, 20)} {entry.name}"


def _amount(answer: Answer) -> str:
    """How much of a body came."""
    shown = f"{answer.length} bytes"
    if answer.parts is not None:
        shown += f" in {len(answer.parts.found)} parts"
    if answer.complete:
        return shown
    return f"(cut after {shown})"


def session_line(session: Session) -> str:
    """A session in a line."""
    packets = f"{len(session.exchanges)} packets"
    used = session.connections
    over = "connection " if len(used) == 1 else "connections "
    over += ", ".join(map(str, used))
    held = "?" if session.received is None else str(session.received)
    total = "?" if session.total is None else str(session.total)
    end = session.end or "not ended"
    return (
        f"  {safe(session.named)} {safe(session.target)}: {packets} over {over}, "
        f"{held} of {total} bytes, {end}"
    )


def _totals(recording: Recording, judged: Judged) -> Iterator[str]:
    exchanges = recording.exchanges
    sent = sum(each.request.length for each in exchanges if each.request)
    came = sum(each.answer.length for each in exchanges if each.answer)
    yield "\nTotals"
    yield (
        f"  {recording.packets} packets, {len(recording.connections)} connections, "
        f"{len(exchanges)} exchanges, {len(judged.sessions)} sessions, "
        f"{sent} bytes up, {came} bytes down"
    )
    for reason, count in recording.unread.items():
        yield f"  {count} packets were not read: {reason.value}"
