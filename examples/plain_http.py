"""HTTP/1.1 over a socket, as little of it as BITS needs."""

import socket
import struct
from dataclasses import dataclass
from typing import BinaryIO

TARGET = "/files/entity.bin"

#: Seconds in which the server has to say something.
PATIENCE = 60.0

MIB = 1 << 20


class Unexpected(Exception):
    """The server did what it must not do."""


def expect(truth: object, otherwise: str) -> None:
    """Say what went wrong, and end."""
    if not truth:
        raise Unexpected(otherwise)


@dataclass(frozen=True)
class Answer:
    """Status and header fields of a response, by lower-case name."""

    status: int
    fields: dict[str, str]

    @property
    def length(self) -> int:
        """Bytes of the body; BITS cannot do without it ([MC-BUP] 3.5.5)."""
        return int(self.fields["content-length"])

    @property
    def received(self) -> int:
        """The offset that the server wants next ([MC-BUP] 2.2.7)."""
        return int(self.fields["bits-received-content-range"])


class Connection:
    """One TCP connection to the server."""

    def __init__(self, port: int) -> None:
        address = ("127.0.0.1", port)
        self._host = f"127.0.0.1:{port}"
        self._socket = socket.create_connection(address, PATIENCE)
        self._reader = self._socket.makefile("rb")

    def send_header(self, method: str, fields: dict[str, str]) -> None:
        """All of a request but its body."""
        lines = [f"{method} {TARGET} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))

    def send_body(self, file: BinaryIO, offset: int, count: int) -> None:
        """`count` bytes of a file; fewer than were announced, if it must be."""
        if count:
            self._socket.sendfile(file, offset, count)

    def answer(self) -> Answer:
        """The header of the next response."""
        status_line = self.line()
        expect(status_line.startswith(b"HTTP/1.1 "), f"not HTTP: {status_line!r}")
        return Answer(int(status_line.split()[1]), self.fields())

    def line(self) -> bytes:
        """The next line, without its end."""
        line = self._reader.readline(1 << 16)
        expect(line.endswith(b"\r\n"), f"the connection ended after {line!r}")
        return line[:-2]

    def fields(self) -> dict[str, str]:
        """Header fields up to the empty line; of a response, or of a part of it."""
        found = {}
        while line := self.line().decode("latin-1"):
            name, _colon, value = line.partition(":")
            found[name.lower()] = value.strip()
        return found

    def copy(self, file: BinaryIO, offset: int, count: int) -> None:
        """The next `count` bytes into a file at `offset`."""
        file.seek(offset)
        while count:
            block = self._reader.read(min(count, MIB))
            expect(block, f"the connection ended {count} bytes early")
            file.write(block)
            count -= len(block)

    def close(self) -> None:
        """Say goodbye: what was sent still arrives."""
        self._reader.close()
        self._socket.close()

    def reset(self) -> None:
        """Send RST: what the other side did not read yet is lost."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()
