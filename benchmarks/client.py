"""Clients: bare sockets and reused buffers, each in a process of its own.

As Windows does, a request's header and its body are sent in separate writes, and
the next request waits for the answer.
"""

import multiprocessing
import re
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol, Self

PROTOCOL = "{7df0354d-249b-430f-820d-3d2a9bef4931}"  # [MC-BUP] 1.7.1
MIB = 1 << 20

#: What all servers here choose with TLS 1.3 if they are not told otherwise.
CIPHER = "TLS_AES_256_GCM_SHA384"

#: No answer takes as long as this, in seconds, not even a sync of 64 MiB.
PATIENCE_SECONDS = 120

_BODY = memoryview(bytes(range(256)) * (MIB // 256))

# Of all lines of a process: an answer is read as a whole before the next.
_BUFFER = bytearray(MIB)
_VIEW = memoryview(_BUFFER)

_LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)", re.IGNORECASE)
_SESSION = re.compile(rb"\r\nBITS-Session-Id: *(\S+)", re.IGNORECASE)


class Unexpected(Exception):
    """A server answered what no benchmark is about."""


Work = Callable[[], None]


class Load(Protocol):
    """What is asked of a server, by one or several clients at once."""

    @property
    def clients(self) -> int:
        """Processes."""

    @property
    def amount(self) -> int:
        """Bytes or requests, of all clients together."""

    def visit(self, port: int, client: int, /) -> AbstractContextManager[Work]:
        """Prepare, give the work that is measured, and tidy up."""


class Line:
    """One connection."""

    def __init__(self, port: int, *, tls: bool = False) -> None:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A timeout of Python's would cost a poll(2) with every call.
        patience = struct.pack("ll", PATIENCE_SECONDS, 0)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        self._socket = _encrypted(plain) if tls else plain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def send(self, head: bytes, body: int = 0) -> None:
        """A header, and then that many bytes."""
        self._socket.sendall(head)
        while body:
            part = min(body, len(_BODY))
            self._socket.sendall(_BODY[:part])
            body -= part

    def receive(self, *expected: int) -> bytes:
        """The header of an answer whose body is read and forgotten."""
        head, held = self._header(expected)
        length = _LENGTH.search(head)
        remaining = (int(length[1]) if length else 0) - held
        while remaining:
            remaining -= self._read(0, min(remaining, MIB))
        return head

    def receive_last(self, *expected: int) -> bytes:
        """The header of an answer; of its body nobody knows where it ends."""
        return self._header(expected)[0]

    def _header(self, expected: Sequence[int]) -> tuple[bytes, int]:
        """A header, and how much of the body came with it."""
        held, end = 0, -1
        while end < 0:
            held += self._read(held, MIB)
            end = _BUFFER.find(b"\r\n\r\n", 0, held)
        head = bytes(_VIEW[: end + 4])
        if int(head[9:12]) not in expected:
            raise Unexpected(head.decode("latin-1").strip())
        return head, held - len(head)

    def ask(self, head: bytes, body: int = 0, *, expect: Sequence[int]) -> bytes:
        """Send a request and receive its answer."""
        self.send(head, body)
        return self.receive(*expect)

    def _read(self, first: int, end: int) -> int:
        got = self._socket.recv_into(_VIEW[first:end])
        if not got:
            raise Unexpected("the server hung up")
        return got


def _encrypted(plain: socket.socket) -> ssl.SSLSocket:
    """TLS without a look at the certificate, which is ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    encrypted = context.wrap_socket(plain)
    chosen = encrypted.cipher()
    if chosen is None or chosen[0] != CIPHER:
        raise Unexpected(f"not {CIPHER} but {chosen}")
    return encrypted


def request(method: str, target: str, **fields: object) -> bytes:
    """A header; `_` in names of fields is `-`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def packet(target: str, packet_type: str, **fields: object) -> bytes:
    """A packet of [MC-BUP] without a body."""
    fields = {"Accept": "*/*", "BITS_Packet_Type": packet_type} | fields
    fields |= {"User_Agent": "Microsoft BITS/7.8"}
    fields.setdefault("Content_Length", 0)
    return request("BITS_POST", target, **fields, Connection="Keep-Alive")


def create(line: Line, target: str) -> str:
    """A new session."""
    head = packet(target, "Create-Session", BITS_Supported_Protocols=PROTOCOL)
    found = _SESSION.search(line.ask(head, expect=(200,)))
    if found is None:
        raise Unexpected("no session id")
    return found[1].decode()


def fragment(target: str, session: str, first: int, length: int, total: int) -> bytes:
    """The header of a fragment."""
    return packet(
        target,
        "Fragment",
        BITS_Session_Id=session,
        Content_Name=target.rpartition("/")[2],
        Content_Range=f"bytes {first}-{first + length - 1}/{total}",
        Content_Length=length,
    )


@dataclass(frozen=True)
class Worked:
    """What one client's work took: its own CPU, in seconds, or what went wrong."""

    cpu: float = 0.0
    problem: str = ""


class Clients:
    """The processes of a load: they prepare, then wait for `go`, then for `leave`."""

    def __init__(self, load: Load, port: int) -> None:
        # A fork is ready at once; this process has one thread.
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes = []
        for client in range(load.clients):
            ours, theirs = context.Pipe()
            arguments = (load, port, client, theirs)
            process = context.Process(target=_run, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        self._hear()
        return self

    def __exit__(self, *_error: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(PATIENCE_SECONDS)
            process.kill()

    def go(self) -> float:
        """Let them work; the CPU that they used together, in seconds."""
        for pipe in self._pipes:
            pipe.send("go")
        return sum(worked.cpu for worked in self._hear())

    def leave(self) -> None:
        """Let them tidy up."""
        for pipe in self._pipes:
            pipe.send("leave")
        self._hear()

    def _hear(self) -> list[Worked]:
        try:
            heard: list[Worked] = [pipe.recv() for pipe in self._pipes]
        except EOFError:
            raise Unexpected("a client ended") from None
        for worked in heard:
            if worked.problem:
                raise Unexpected(worked.problem)
        return heard


def _run(load: Load, port: int, client: int, pipe: Connection) -> None:
    """The life of a client process."""
    # Ctrl-C reaches all of a terminal's processes; this one ends with its pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with load.visit(port, client) as work:
            pipe.send(Worked())
            pipe.recv()
            before = time.process_time()
            work()
            pipe.send(Worked(time.process_time() - before))
            pipe.recv()
        pipe.send(Worked())
    except (Unexpected, OSError) as error:
        pipe.send(Worked(problem=f"{type(error).__name__}: {error}"))
    except EOFError:
        return  # the benchmark was stopped
