"""One connection, and whatever comes on it."""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from wire_client import until

from bitsd.doctor.line import Answer, Broken, Line

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve, patience: float = 10.0) -> AsyncIterator[Line]:
    """A connection to a server that does as `serve` says."""
    done = asyncio.Event()
    serving: list[asyncio.Task[None]] = []

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        await done.wait()
        writer.close()

    def begun(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(whole(reader, writer)))

    async with await asyncio.start_server(begun, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        line = await Line.dial("127.0.0.1", port, patience, None, "")
        try:
            yield line
        finally:
            line.close()
            done.set()
            await asyncio.gather(*serving)


def saying(octets: bytes, *, close: bool = False) -> Serve:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(octets)
        if close:
            writer.write_eof()

    return say


async def got(octets: bytes, *, close: bool = False, most: int = 1 << 20) -> Answer:
    async with served(saying(octets, close=close)) as line:
        return await line.ask("GET", "/", [("Host", "x")], most=most)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("octets", "body", "kept"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
        (OK + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"", False),
        (
            b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
            b"",
            True,
        ),
        (b"HTTP/1.1 204\r\n\r\n", b"", True),
        (
            OK
            + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
            True,
        ),
        (
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
            b"",
            True,
        ),
    ],
)
async def test_answer_is_read_to_its_end(octets: bytes, body: bytes, *, kept: bool):
    answer = await got(octets)

    assert (answer.body, answer.whole, answer.kept) == (body, True, kept)


async def test_answer_without_a_length_ends_with_its_connection():
    answer = await got(OK + b"\r\nabc", close=True)

    assert (answer.body, answer.whole, answer.kept) == (b"abc", True, False)


@pytest.mark.parametrize(
    "octets",
    [
        OK + b"Content-Length: 9\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n9",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_answer_that_breaks_off_is_not_whole(octets: bytes):
    answer = await got(octets, close=True)

    assert (answer.whole, answer.kept) == (False, False)


async def test_chunk_whose_size_comes_in_two_parts_is_read():
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in (OK + b"Transfer-Encoding: chunked\r\n\r\n0", b"3\r\nabc\r\n"):
            writer.write(part)
            await reader.readexactly(1)  # which says that the part has come
        writer.write(b"0\r\n\r\n")

    async with served(say) as line:
        asking = asyncio.create_task(line.ask("GET", "/", []))
        await until(lambda: line._buffer == b"0")
        line._transport.write(b"xx")
        answer = await asking

    assert (answer.body, answer.whole) == (b"abc", True)


async def test_body_that_is_taken_late_is_sent():
    late = asyncio.Event()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await late.wait()
        await reader.readexactly(1000 << 16)
        writer.write(OK + b"Content-Length: 0\r\n\r\n")

    async with served(count) as line:
        asking = asyncio.create_task(line.ask("POST", "/", [], zeros()))
        await until(lambda: line._paused)
        late.set()
        answer = await asking

    assert answer.status == 200


async def test_chunks_that_are_as_many_as_wanted_are_enough():
    answer = await got(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", most=5)

    assert (answer.body, answer.whole) == (b"12345", False)


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n"],
)
async def test_no_more_of_a_body_is_read_than_is_wanted(framing: bytes):
    answer = await got(OK + framing + b"123456789\r\n0\r\n\r\n", most=5)

    assert not answer.whole
    assert answer.body.startswith(b"12345")


async def test_answer_to_head_has_no_body():
    async with served(saying(OK + b"Content-Length: 9\r\n\r\n")) as line:
        answer = await line.ask("HEAD", "/", [])

    assert (answer.length, answer.body, answer.kept) == (9, b"", True)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "what came is no HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "what came is no HTTP"),
        (OK + b"a: " + b"b" * 70_000, "an endless header"),
    ],
)
async def test_what_is_no_answer_is_told(octets: bytes, why: str):
    with pytest.raises(Broken, match=why):
        await got(octets, close=True)


async def test_silence_is_told():
    async with served(saying(b""), patience=0.05) as line:
        with pytest.raises(Broken, match=r"no answer within 0\.05 s"):
            await line.ask("GET", "/", [])


def zeros() -> list[bytes]:
    return [bytes(1 << 16)] * 1000


async def test_answer_that_comes_before_the_body_is_over_is_read():
    octets = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with served(saying(octets)) as line:
        answer = await line.ask("POST", "/", [], zeros())

    assert answer.status == 413


async def test_answer_before_a_reset_is_read():
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0)
        reset_now(writer)

    async with served(reset) as line:
        answer = await line.ask("POST", "/", [])

    assert answer.status == 413


async def test_answer_before_a_reset_that_sending_meets_first_is_read():
    listening = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        connection, _address = listening.accept()
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()

    def body() -> Iterator[bytes]:
        while refusing.is_alive():  # the loop does not see that the answer is there
            os.sched_yield()
        yield b"a" * 100

    refusing = threading.Thread(target=refuse)
    refusing.start()
    line = await Line.dial(*listening.getsockname(), 5.0, None, "")
    answer = await line.ask("POST", "/", [], body())
    refusing.join()
    listening.close()
    line.close()

    assert answer.status == 413


def reset_now(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, linger
    )
    writer.transport.abort()


async def test_reset_without_an_answer_is_told():
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reset_now(writer)

    async with served(reset) as line:
        with pytest.raises(Broken, match="reset without an answer"):
            await line.ask("POST", "/", [], zeros())


async def test_body_that_nobody_takes_is_given_up():
    async def nothing(
        reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with served(nothing, patience=0.05) as line:
        with pytest.raises(Broken, match="no answer within"):
            await line.ask("POST", "/", [], zeros())


async def test_plain_connection_has_no_tls():
    async with served(saying(b"")) as line:
        assert line.tls_version is None
        assert line.peer_certificate == {}
