"""What [MC-BUP] asks of a packet and its Ack, each taken by itself."""

import re
from collections.abc import Iterator, Mapping

from bitsd.protocol.refusal import Hresult, Reason, Refusal
from bitsd.protocol.wire import MAXIMUM_FIELD_BYTES, PROTOCOL

from .finding import Finding, client, server
from .message import Answer, Framing, Request
from .packets import fragment, packet, packet_type, session_id

#: Longest reply URL, [MC-BUP] 2.2.1.2.
MAXIMUM_REPLY_URL = 2200

# Where a packet and its Ack are described.
_SECTIONS: Mapping[str, tuple[str, str]] = {
    "create-session": ("2.2.2", "2.2.3"),
    "ping": ("2.2.4", "2.2.5"),
    "fragment": ("2.2.6", "2.2.7"),
    "close-session": ("2.2.8", "2.2.9"),
    "cancel-session": ("2.2.10", "2.2.11"),
}
_ANY = ("2.2.1", "2.2.1")

# The statuses that go with a code, [MC-BUP] 2.2.1.2 and 3.2.5.2.3.
_STATUSES: Mapping[int, tuple[int, ...]] = {
    Hresult.ACCESS_DENIED: (403, 501),
    Hresult.INVALID_ARGUMENT: (400, 411),
    Hresult.SESSION_NOT_FOUND: (500,),
    Hresult.TOO_LARGE: (500,),
}
_HRESULT = re.compile(r"0x[0-9a-f]{8}", re.IGNORECASE)
_CONTEXTS = ("0x5", "0x7")
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_OK, _CREATED, _OUT_OF_SYNC = 200, 201, 416
#: Answers of HTTP itself, which need not be Acks ([MC-BUP] 2.1, 3.1.5.1.7).
_NOT_OF_BITS = (401, 407)


def broken(request: Request, answer: Answer | None) -> Iterator[Finding]:
    """The rules of the upload protocol that a packet or its Ack breaks."""
    yield from _packet(request)
    if answer is not None and answer.status not in _NOT_OF_BITS:
        yield from _ack(request, answer)


def _packet(request: Request) -> Iterator[Finding]:
    if request.version != "1.1":
        yield client(f"a packet in HTTP/{request.version}", "[MC-BUP] 2.2.1")
    try:
        packet(request)
    except Refusal as refusal:
        yield client(refusal.detail, f"[MC-BUP] {_section(request, refusal)}")


def _section(request: Request, refusal: Refusal) -> str:
    if refusal.reason is Reason.LENGTH_REQUIRED:
        return "3.2.5.2.3"
    if refusal.detail.startswith("Content-Range"):
        return "3.2.5.2.6"
    kind = packet_type(request)
    return f"{_SECTIONS[kind][0]}.2" if kind in _SECTIONS else "2.2.1.2"


def _ack(request: Request, answer: Answer) -> Iterator[Finding]:
    section = f"[MC-BUP] {_SECTIONS.get(packet_type(request), _ANY)[1]}"
    if answer.version != "1.1":
        yield server(f"an Ack in HTTP/{answer.version}", "[MC-BUP] 2.2.1")
    kind = answer.get("bits-packet-type")
    if kind is None or kind.lower() != "ack":
        said = "missing" if kind is None else repr(kind[:60])
        sentence = f"no Ack: BITS-Packet-Type is {said}, so a client drops it"
        yield server(sentence, f"{section}.2")
        return
    if answer.get("content-length") != "0" or answer.framing is not Framing.LENGTH:
        yield server("an Ack without Content-Length: 0", f"{section}.1")
    for name, value in answer.fields:
        if len(value) > MAXIMUM_FIELD_BYTES:
            sentence = f"{name} has {len(value)} characters"
            yield server(sentence, "[MC-BUP] 2.2.1")
    yield from _error(answer)
    yield from _session_id(request, answer)
    kind = packet_type(request)
    if kind == "create-session" and answer.status in (_OK, _CREATED):
        yield from _created(answer)
    if kind == "fragment":
        yield from _fragment_ack(request, answer)


def _error(answer: Answer) -> Iterator[Finding]:
    """BITS-Error and BITS-Error-Context; who sends BITS-Error-Code means the same."""
    table = "[MC-BUP] 2.2.1.2"
    found = {*answer.all("bits-error"), *answer.all("bits-error-code")}
    codes = {value.lower() for value in found}
    context = answer.get("bits-error-context")
    if len(codes) > 1:
        yield server("BITS-Error and BITS-Error-Code differ", table)
    if codes and not context:
        yield server("an error without BITS-Error-Context", table)
    if context and not codes:
        yield server("BITS-Error-Context without an error", table)
    if context and context.lower() not in _CONTEXTS:
        yield server(f"BITS-Error-Context is {context[:60]!r}", table)
    for code in codes:
        yield from _code(answer, code)


def _code(answer: Answer, code: str) -> Iterator[Finding]:
    table = "[MC-BUP] 2.2.1.2"
    if _HRESULT.fullmatch(code) is None:
        yield server(f"the error code {code[:60]!r} is no HRESULT", table)
    elif answer.status == _OUT_OF_SYNC:
        yield server("416 with an error code, though it says it all", "[MC-BUP] <4>")
    elif answer.status in (_OK, _CREATED):
        yield server(f"an error code in an Ack with {answer.status}", table)
    elif answer.status not in _STATUSES.get(int(code, 16), (answer.status,)):
        yield server(f"{code} does not go with {answer.status}", table)


def _session_id(request: Request, answer: Answer) -> Iterator[Finding]:
    """IIS echoes no id, so nothing is missing where there is none."""
    asked, echoed = session_id(request), session_id(answer)
    if asked is not None and echoed not in (None, asked):
        yield server("the Ack names another session", "[MC-BUP] 2.2.1.2")


def _created(answer: Answer) -> Iterator[Finding]:
    section = "[MC-BUP] 2.2.3.2"
    chosen = answer.get("bits-protocol")
    if chosen is None:
        yield server("a session without BITS-Protocol", section)
    elif chosen.lower() != PROTOCOL:
        yield server(f"BITS-Protocol is {chosen[:60]!r}", section)
    if session_id(answer) is None:
        yield server("a session without BITS-Session-Id", section)
    fallback = answer.get("bits-host-id-fallback-timeout")
    if fallback is None:
        return
    if answer.get("bits-host-id") is None:
        yield server("BITS-Host-Id-Fallback-Timeout without BITS-Host-Id", section)
    if _NUMBER.fullmatch(fallback) is None:
        sentence = f"BITS-Host-Id-Fallback-Timeout is {fallback[:60]!r}"
        yield server(sentence, section)


def _fragment_ack(request: Request, answer: Answer) -> Iterator[Finding]:
    section = "[MC-BUP] 2.2.7.2"
    received = answer.get("bits-received-content-range")
    if received is None and answer.status in (_OK, _OUT_OF_SYNC):
        sentence = f"{answer.status} without BITS-Received-Content-Range"
        yield server(sentence, section)
    if received is not None and _NUMBER.fullmatch(received) is None:
        sentence = f"BITS-Received-Content-Range is {received[:60]!r}"
        yield server(f"{sentence}, not a number", section)
    reply_url = answer.get("bits-reply-url")
    if not reply_url:
        return
    if len(reply_url) > MAXIMUM_REPLY_URL:
        sentence = f"BITS-Reply-URL has {len(reply_url)} characters"
        yield server(sentence, "[MC-BUP] 2.2.1.2")
    if not _is_last(request):
        yield server("BITS-Reply-URL before the last fragment", section)


def _is_last(request: Request) -> bool:
    """The fragment is the file's last, or nobody can say which it is."""
    found = fragment(request)
    return found is None or found.last + 1 == found.total
