"""What [MC-BUP] asks of a session, over all connections that carry it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from bitsd.protocol.refusal import Hresult

from .finding import Finding, client, server
from .message import Answer, Request
from .packets import fragment, is_packet, packet_type, session_id
from .recording import Exchange

_OK, _OUT_OF_SYNC = 200, 416


@dataclass(slots=True)
class Session:
    """An upload as it was captured.

    Attributes:
        named: its id, in a form that can be compared.
        created: the capture shows its Create-Session.
        total: bytes of the file; None before the first fragment.
        received: the offset that the server asked for last.
        told: when it did, in seconds since 1970.
        sent: bytes that were sent, up to the last that was.
        lost: the server said that it does not know the session.
        end: how it ended, if it did.
    """

    named: str
    target: str
    created: bool = False
    total: int | None = None
    received: int | None = None
    told: float = 0.0
    sent: int = 0
    lost: bool = False
    end: str | None = None
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def connections(self) -> list[int]:
        """Numbers of the connections that it used."""
        used = {exchange.connection.number for exchange in self.exchanges}
        return sorted(used)

    def add(self, request: Request, answer: Answer | None) -> Iterator[Finding]:
        """The next packet of the session; what it breaks."""
        kind = packet_type(request)
        if kind == "fragment":
            yield from self._sent(request)
        if answer is None:
            return
        if kind == "fragment":
            yield from self._acknowledged(request, answer)
        self._ended(kind, answer)

    def _sent(self, request: Request) -> Iterator[Finding]:
        packet = fragment(request)
        if packet is None:
            return
        if self.lost:
            sentence = "goes on with a session that the server does not know"
            yield client(sentence, "[MC-BUP] 3.1.5.2.1")
        if self.total not in (None, packet.total):
            sentence = f"the file has {packet.total} bytes, before it had {self.total}"
            yield client(sentence, "[MC-BUP] 2.2.1.2")
        # A capture may show a proxy's two sides, and so every packet twice.
        knew = self.told <= request.started
        if knew and self.received not in (None, packet.first):
            sentence = f"sends from {packet.first} on, but was told {self.received}"
            yield client(sentence, "[MC-BUP] 3.1.5.1.4")
        self.total = packet.total
        self.sent = max(self.sent, packet.first + request.length)

    def _acknowledged(self, request: Request, answer: Answer) -> Iterator[Finding]:
        value = answer.get("bits-received-content-range") or ""
        if answer.status not in (_OK, _OUT_OF_SYNC) or not value.isdecimal():
            return
        received = int(value)
        if self.received is not None and received < self.received:
            sentence = f"wants {received} next, after it wanted {self.received}"
            yield server(sentence, "[MC-BUP] 3.2.5.2.6")
        if self.total is not None and received > self.total:
            sentence = f"wants {received} next, of a file of {self.total} bytes"
            yield server(sentence, "[MC-BUP] 3.2.5.2.6")
        elif self.created and received > self.sent:
            sentence = f"has {received} bytes, of which {self.sent} were sent"
            yield server(sentence, "[MC-BUP] 3.2.5.2.6")
        yield from self._jumped(request, received)
        self.received, self.told = received, answer.ended

    def _jumped(self, request: Request, received: int) -> Iterator[Finding]:
        """Nothing fills a gap later, so nothing behind one may count."""
        packet = fragment(request)
        if packet is None or self.received is None:
            return
        if packet.first > self.received and received > self.received:
            sentence = f"takes {packet.first} and on, though it lacks {self.received}"
            yield server(sentence, "[MC-BUP] 3.2.5.2.6")

    def _ended(self, kind: str, answer: Answer) -> None:
        codes = [*answer.all("bits-error"), *answer.all("bits-error-code")]
        if f"0x{Hresult.SESSION_NOT_FOUND:08x}" in (code.lower() for code in codes):
            self.lost = True
            self.end = self.end or "lost"
        elif answer.status == _OK and kind in _ENDS:
            self.end = _ENDS[kind]


_ENDS = {"close-session": "closed", "cancel-session": "cancelled"}


class Sessions:
    """The sessions of a capture, by their ids."""

    def __init__(self) -> None:
        self.known: dict[str, Session] = {}

    def add(self, exchange: Exchange) -> Iterator[Finding]:
        """The next packet of any session; what it breaks there."""
        request = exchange.request
        if request is None or not is_packet(request):
            return
        session = self._of(request, exchange.answer)
        if session is not None:
            session.exchanges.append(exchange)
            yield from session.add(request, exchange.answer)

    def _of(self, request: Request, answer: Answer | None) -> Session | None:
        created = packet_type(request) == "create-session"
        message = answer if created else request
        named = None if message is None else session_id(message)
        if named is None:
            return None
        fresh = Session(named, request.target, created=created)
        return self.known.setdefault(named, fresh)
