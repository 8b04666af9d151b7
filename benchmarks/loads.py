"""What clients ask of servers; each class is a `client.Load`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .client import MIB, Line, Load, Work, create, fragment, packet, request
from .signing import Way, fields, sign_in


@dataclass(frozen=True)
class Upload:
    """Bytes sent in fragments: `size` in all, shared by the clients."""

    size: int
    fragment: int
    clients: int
    tls: bool = field(default=False, kw_only=True)

    @property
    def amount(self) -> int:
        """Bytes."""
        return self.clients * sum(self._fragments())

    def _fragments(self) -> list[int]:
        """Lengths, of each client; at least one, even if it is short."""
        share = self.size // self.clients
        length = min(self.fragment, share)
        return [length] * (share // length)


class BitsUpload(Upload):
    """Fragments of one session per client, which never becomes complete.

    So neither Create-Session nor publication is measured, which happen once per file
    and not once per fragment.
    """

    @contextmanager
    def visit(self, port: int, client: int) -> Iterator[Work]:
        """Create, fragments, Cancel."""
        target, fragments = f"/up/upload-{client}", self._fragments()
        total = sum(fragments) + 1
        with Line(port, tls=self.tls) as line:
            session = create(line, target)

            def work() -> None:
                first = 0
                for length in fragments:
                    head = fragment(target, session, first, length, total)
                    line.ask(head, length, expect=(200,))
                    first += length

            yield work
            head = packet(target, "Cancel-Session", BITS_Session_Id=session)
            line.ask(head, expect=(200,))


@dataclass(frozen=True)
class PutUpload(Upload):
    """The same bytes as PUT requests.

    Attributes:
        append: to one file per client; otherwise each fragment is a file.
    """

    append: bool

    @contextmanager
    def visit(self, port: int, client: int) -> Iterator[Work]:
        """PUT after PUT."""
        with Line(port, tls=self.tls) as line:

            def work() -> None:
                for number, length in enumerate(self._fragments()):
                    name = f"/up/{client}" if self.append else f"/up/{client}-{number}"
                    head = request("PUT", name, Content_Length=length)
                    line.ask(head, length, expect=(200, 201, 204))

            yield work


@dataclass(frozen=True)
class Download:
    """A file, from its first byte to its last.

    Attributes:
        range: bytes of each request; None for the whole file in one.
        size: of the file; each client fetches a share of it, or of `name` as a whole.
    """

    name: str
    size: int
    range: int | None
    clients: int
    tls: bool = field(default=False, kw_only=True)

    @property
    def amount(self) -> int:
        """Bytes."""
        if self.range is None:
            return self.size * self.clients
        return self.clients * len(self._ranges(0)) * self.range

    def _ranges(self, client: int) -> list[str]:
        share = self.size // self.clients
        step = self.range or share
        start = client * share
        firsts = range(start, start + share - step + 1, step)
        return [f"bytes={first}-{first + step - 1}" for first in firsts]

    @contextmanager
    def visit(self, port: int, client: int) -> Iterator[Work]:
        """GET after GET."""
        target = f"/files/{self.name}"
        heads = [request("GET", target)]
        if self.range is not None:
            heads = [request("GET", target, Range=r) for r in self._ranges(client)]
        expected = 200 if self.range is None else 206
        with Line(port, tls=self.tls) as line:

            def work() -> None:
                for head in heads:
                    line.ask(head, expect=(expected,))

            yield work


@dataclass(frozen=True)
class Ranges:
    """The same GET again and again, for `count` ranges of `length` bytes."""

    name: str
    count: int
    length: int
    times: int
    clients: int = 1

    @property
    def amount(self) -> int:
        """Bytes, without what is between the ranges."""
        return self.count * self.length * self.times

    @contextmanager
    def visit(self, port: int, _client: int) -> Iterator[Work]:
        """GET after GET."""
        # Gaps keep a server from making one range of them.
        firsts = range(0, 2 * self.count * self.length, 2 * self.length)
        ranges = ",".join(f"{first}-{first + self.length - 1}" for first in firsts)
        head = request("GET", f"/files/{self.name}", Range=f"bytes={ranges}")
        with Line(port) as line:

            def work() -> None:
                for _ in range(self.times):
                    line.ask(head, expect=(206,))

            yield work


@dataclass(frozen=True)
class Pings:
    """Ping packets over connections that stay open, one on each at a time.

    Attributes:
        way: by which the user signs in; None for nobody.
    """

    count: int
    connections: int
    target: str
    clients: int = 1
    way: Way | None = None

    @property
    def amount(self) -> int:
        """Requests."""
        return self.count

    @contextmanager
    def visit(self, port: int, _client: int) -> Iterator[Work]:
        """Ping after Ping."""
        head = packet(self.target, "Ping", **fields(self.way))
        lines = [Line(port) for _ in range(self.connections)]
        if self.way == "NTLM":
            for line in lines:
                sign_in(line, self.target)

        def work() -> None:
            for _ in range(self.count // self.connections):
                for line in lines:
                    line.send(head)
                for line in lines:
                    line.receive(200)

        yield work
        for line in lines:
            line.__exit__()


@dataclass(frozen=True)
class Pairs:
    """Create-Session and Close-Session, with an empty file between them."""

    count: int
    clients: int = 1

    @property
    def amount(self) -> int:
        """Pairs."""
        return self.count

    @contextmanager
    def visit(self, port: int, _client: int) -> Iterator[Work]:
        """Pair after pair."""
        with Line(port) as line:

            def work() -> None:
                for _ in range(self.count):
                    session = create(line, "/up/pair")
                    head = packet("/up/pair", "Close-Session", BITS_Session_Id=session)
                    # 400 is what an upload gets that ends before its bytes came.
                    line.ask(head, expect=(200, 400))

            yield work


@dataclass(frozen=True)
class Stalled:
    """Uploads that began and do not go on.

    Attributes:
        sent: bytes that came of each, of the 4 MiB that were announced.
    """

    count: int
    bits: bool
    sent: int = 64 * 1024
    clients: int = 1

    @property
    def amount(self) -> int:
        """Uploads."""
        return self.count

    @contextmanager
    def visit(self, port: int, _client: int) -> Iterator[Work]:
        """Begin all of them; they last until the server's memory was looked at."""
        lines = [Line(port) for _ in range(self.count)]
        sessions: list[tuple[str, str]] = []

        def work() -> None:
            for number, line in enumerate(lines):
                target, length = f"/up/stalled-{number}", 4 * MIB
                head = request("PUT", target, Content_Length=length)
                if self.bits:
                    session = create(line, target)
                    sessions.append((target, session))
                    head = fragment(target, session, 0, length, length)
                line.send(head, self.sent)
            # Nothing tells when the server has read the last of them.
            time.sleep(0.5)

        yield work
        for line in lines:
            line.__exit__()
        with Line(port) as line:
            for target, session in sessions:
                head = packet(target, "Cancel-Session", BITS_Session_Id=session)
                line.ask(head, expect=(200,))


@dataclass(frozen=True)
class Beside:
    """What one client does while others stall."""

    load: Load
    stalled: Stalled
    clients: int = 1

    @property
    def amount(self) -> int:
        """That of the client who does not stall."""
        return self.load.amount

    @contextmanager
    def visit(self, port: int, client: int) -> Iterator[Work]:
        """Let them stall, and then work."""
        with self.stalled.visit(port, client) as stall:
            stall()
            # Those that stall have taken the pages that were just now in use.
            for _ in range(2):
                with self.load.visit(port, client) as work:
                    work()
            with self.load.visit(port, client) as work:
                yield work
