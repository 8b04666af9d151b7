"""Downloads over real sockets: what is sent, and how a connection ends."""

import asyncio
import logging
import os
import random
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import BinaryIO

import pytest
from aiohttp import ClientSession, MultipartReader, web

from bitsd import pieces
from bitsd.cached import fill_now
from bitsd.downloads import respond
from bitsd.pieces import BLOCK

CONTENT = random.Random(1).randbytes(3 * BLOCK + 1)
LARGE = 64 * 1024 * 1024


class Offer:
    """A server of one file, and what became of its downloads."""

    def __init__(self, path, stall_timeout=30.0):
        self.path = path
        self.stall_timeout = stall_timeout
        self.opened: list[BinaryIO] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = asyncio.Event()
        self.begun = asyncio.Event()
        self.cut = asyncio.Event()
        self.before = lambda request: None
        self.mode = "rb"
        self.port = 0

    async def answer(self, request):
        self.begun.set()
        with suppress(OSError):  # a client that leaves before it sent its body
            await request.read()
        file = await asyncio.to_thread(open, self.path, self.mode)
        self.opened.append(file)
        self.before(request)
        try:
            response = await respond(
                request, file, "text/plain", stall_timeout=self.stall_timeout
            )
        finally:
            self.ended.set()
        if not response.keep_alive:
            self.cut.set()
        return response

    @asynccontextmanager
    async def served(
        self, tls=None, unix=None, runner=None
    ) -> AsyncIterator[web.BaseRunner]:
        runner = runner or web.ServerRunner(
            web.Server(self.answer), shutdown_timeout=0.1
        )
        await runner.setup()
        site = (
            web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            if unix is None
            else web.UnixSite(runner, unix)
        )
        try:
            await site.start()
            if unix is None:
                self.port = runner.addresses[0][1]
            yield runner
        finally:
            for writer in self.writers:
                writer.close()
            await runner.cleanup()

    async def dial(self, **kwargs):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **kwargs)
        self.writers.append(writer)
        return reader, writer


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, LARGE)
    return path


@pytest.fixture
async def offer(path):
    offer = Offer(path)
    async with offer.served():
        yield offer


@pytest.fixture
def tls(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key]
    subprocess.run([*command, "-out", certificate], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


async def ask(streams, method="GET", version="1.1", **fields):
    _, writer = streams
    lines = [f"{method} / HTTP/{version}", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await writer.drain()


async def head(streams):
    reader, _ = streams
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines if line)
    return int(status.split()[1]), fields


async def exchange(streams, method="GET", **fields):
    await ask(streams, method, **fields)
    status, told = await head(streams)
    length = 0 if method == "HEAD" else int(told.get("Content-Length", 0))
    return status, told, await streams[0].readexactly(length)


def stalled(offer, field="Accept: */*", requests=1):
    """A client that reads nothing, through a window as small as the system has."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", offer.port))
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"
    client.sendall(request.encode() * requests)
    return client


def reset(client):
    """Close with a RST instead of a FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def evict(path):
    """Out of memory; for that the temporary folder has to be on a disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        # Else to ask for a byte is to have the next megabytes read.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        with pytest.raises(BlockingIOError):
            fill_now(file.fileno(), memoryview(bytearray(1)), 0)


def read_to_end(client, enough=None):
    """Bytes that arrive in all, or more than enough; a reset is an end, too."""
    received = 0
    try:
        while (enough is None or received <= enough) and (data := client.recv(2**20)):
            received += len(data)
    except ConnectionResetError:
        pass
    return received


async def test_get_is_answered_with_the_file(offer):
    streams = await offer.dial()

    status, fields, body = await exchange(streams)

    assert (status, body) == (200, CONTENT)
    assert fields["Content-Type"] == "text/plain"
    assert fields["Accept-Ranges"] == "bytes"
    assert "Transfer-Encoding" not in fields
    assert "Content-Encoding" not in fields


async def test_head_has_the_fields_of_get(offer):
    streams = await offer.dial()

    status, fields, _ = await exchange(streams, "HEAD", Range="bytes=0-1")

    _, expected, _ = await exchange(streams)
    assert status == 200
    assert fields | {"Date": ""} == expected | {"Date": ""}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(f"bytes=1-{BLOCK}", CONTENT[1 : BLOCK + 1], id="closed"),
        pytest.param(f"bytes={BLOCK}-", CONTENT[BLOCK:], id="open"),
        pytest.param("bytes=-7", CONTENT[-7:], id="suffix"),
    ],
)
async def test_a_range_is_sent(offer, value, expected):
    status, _, body = await exchange(await offer.dial(), Range=value)

    assert (status, body) == (206, expected)


BITS_RANGES = [(first, first + 99) for first in range(2000, 0, -100)]


async def test_twenty_ranges_of_bits_are_twenty_parts_in_order(offer):
    asked = "bytes=" + ",".join(f"{first}-{last}" for first, last in BITS_RANGES)
    url = f"http://127.0.0.1:{offer.port}/"

    async with (
        ClientSession() as session,
        session.get(url, headers={"Range": asked}) as response,
    ):
        found = [
            (part.headers["Content-Range"], await part.read())
            async for part in MultipartReader.from_response(response)
        ]

    assert response.status == 206
    assert found == [
        (f"bytes {first}-{last}/{len(CONTENT)}", CONTENT[first : last + 1])
        for first, last in BITS_RANGES
    ]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"Range": "bytes=0-0,2-400000,-5"}, 206, id="multipart"),
        pytest.param({"Range": "bytes=99999999-"}, 416, id="unsatisfiable"),
        pytest.param({"If_None_Match": "*"}, 304, id="not modified"),
        pytest.param({"If_Match": '"other"'}, 412, id="precondition failed"),
    ],
)
async def test_connection_goes_on_after_an_answer(offer, fields, status):
    streams = await offer.dial()

    first, told, _ = await exchange(streams, **fields)

    assert first == status
    assert "Transfer-Encoding" not in told
    assert (await exchange(streams, Range="bytes=0-9"))[2] == CONTENT[:10]


async def test_empty_file_is_sent(offer):
    offer.path.write_bytes(b"")
    streams = await offer.dial()

    status, fields, _ = await exchange(streams)

    assert (status, fields["Content-Length"]) == (200, "0")
    assert (await exchange(streams, Range="bytes=0-"))[0] == 416


async def test_old_client_gets_the_file_and_the_end(offer):
    streams = await offer.dial()
    await ask(streams, version="1.0")
    _, fields = await head(streams)

    assert int(fields["Content-Length"]) == len(CONTENT)
    assert await streams[0].read(-1) == CONTENT


async def test_file_replaced_within_a_second_has_another_tag(offer):
    streams = await offer.dial()
    _, before, _ = await exchange(streams, "HEAD")
    status = offer.path.stat()
    other = offer.path.with_name("other")
    other.write_bytes(bytes(len(CONTENT)))
    os.utime(other, ns=(status.st_mtime_ns, status.st_mtime_ns))
    other.replace(offer.path)

    _, after, _ = await exchange(streams, "HEAD")

    assert after["Last-Modified"] == before["Last-Modified"]
    assert after["ETag"] != before["ETag"]


async def test_another_name_of_the_file_changes_no_validator(offer):
    streams = await offer.dial()
    _, before, _ = await exchange(streams, "HEAD")
    other = offer.path.with_name("other")
    other.hardlink_to(offer.path)
    other.unlink()

    _, after, _ = await exchange(streams, "HEAD")

    assert after | {"Date": ""} == before | {"Date": ""}


async def test_file_from_the_future_was_modified_by_now(offer):
    os.utime(offer.path, (4e9, 4e9))

    _, fields, _ = await exchange(await offer.dial(), "HEAD")

    modified, date = (
        parsedate_to_datetime(fields[name]) for name in ("Last-Modified", "Date")
    )
    assert modified <= date


async def test_every_file_is_closed(offer):
    streams = await offer.dial()
    for fields in ({}, {"Range": "bytes=0-1"}, {"If_Match": '"other"'}):
        await exchange(streams, **fields)

    await exchange(streams, "HEAD")

    assert [file.closed for file in offer.opened[:3]] == [True] * 3


async def test_tls_gets_the_same_bytes(path, tls):
    server, client = tls
    offer = Offer(path)
    async with offer.served(tls=server):
        streams = await offer.dial(ssl=client)

        assert (await exchange(streams))[2] == CONTENT
        assert (await exchange(streams, Range="bytes=5-9"))[2] == CONTENT[5:10]


class Readers(ThreadPoolExecutor):
    """The threads that read what is on the disk alone, and how often they did."""

    read = 0

    def submit(self, *args, **kwargs):
        self.read += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
def readers(monkeypatch):
    with Readers() as readers:
        monkeypatch.setattr(pieces, "_READERS", readers)
        yield readers


@pytest.mark.parametrize(
    ("value", "expected"),
    [("bytes=0-", CONTENT), (f"bytes={BLOCK - 9}-{BLOCK}", CONTENT[BLOCK - 9 :][:10])],
)
async def test_what_is_on_disk_alone_is_read_by_a_thread(
    path, readers, value, expected
):
    offer = Offer(path)
    async with offer.served():
        streams = await offer.dial()
        warm = await exchange(streams, Range=value)
        in_memory = readers.read
        offer.before = lambda request: evict(path)
        cold = await exchange(streams, Range=value)

    assert warm[2] == cold[2] == expected
    assert in_memory == 0
    assert readers.read > 0


async def test_bytes_that_are_in_memory_say_nothing_of_far_ones(path, readers):
    offer = Offer(path)

    def on_disk(request):
        evict(path)
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(file.fileno(), 1, BLOCK - 1)

    async with offer.served():
        streams = await offer.dial()
        offer.before = on_disk
        _, _, body = await exchange(streams, Range=f"bytes=0-{BLOCK - 1}")

    assert body == CONTENT[:BLOCK]
    assert readers.read > 0


async def test_tls_gets_what_is_on_disk_alone(path, tls, readers):
    server, client = tls
    offer = Offer(path)
    offer.before = lambda request: evict(path)
    async with offer.served(tls=server):
        streams = await offer.dial(ssl=client)

        assert (await exchange(streams))[2] == CONTENT
        assert readers.read > 0


async def test_unix_socket_gets_the_same_bytes(path, tmp_path):
    offer = Offer(path)
    async with offer.served(unix=tmp_path / "socket"):
        streams = await asyncio.open_unix_connection(tmp_path / "socket")

        offer.writers.append(streams[1])

        assert (await exchange(streams))[2] == CONTENT


class LoopWithoutSendfile(asyncio.SelectorEventLoop):
    """As uvloop, which leaves this method of the interface out."""

    async def sendfile(self, *args, **kwargs):
        raise NotImplementedError


def test_loop_without_sendfile_gets_the_same_bytes(path):
    async def download():
        offer = Offer(path)
        async with offer.served():
            streams = await offer.dial()
            return [
                await exchange(streams, Range=value)
                for value in ("bytes=0-", "bytes=9-")
            ]

    with asyncio.Runner(loop_factory=LoopWithoutSendfile) as runner:
        whole, rest = runner.run(download())

    assert (whole[2], rest[2]) == (CONTENT, CONTENT[9:])


async def test_client_that_never_reads_is_cut_off(large, caplog):
    offer = Offer(large, stall_timeout=0.1)
    async with offer.served():
        client = stalled(offer)

        await offer.ended.wait()

        assert 0 < await asyncio.to_thread(read_to_end, client) < LARGE
        assert offer.opened[0].closed
        client.close()
    assert [record.message for record in caplog.records] == [
        'download-cut client=127.0.0.1 detail="nothing taken for 0.1 seconds"'
    ]


async def test_tls_client_that_never_reads_is_cut_off(large, tls):
    server, context = tls
    offer = Offer(large, stall_timeout=0.1)
    async with offer.served(tls=server):
        streams = await offer.dial(ssl=context)
        await ask(streams)

        await offer.ended.wait()

        assert len(await streams[0].read(-1)) < LARGE
        assert offer.opened[0].closed


async def test_slow_client_gets_what_is_on_disk_alone(path):
    offer = Offer(path)

    def on_disk(request):
        evict(path)
        # So that the end of a block is met while it waits for the client.
        ours = request.transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        # The system reads no more than it is asked for.
        handle = offer.opened[-1].fileno()
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)

    offer.before = on_disk
    async with offer.served():
        client = stalled(offer)
        received = await asyncio.to_thread(read_to_end, client, len(CONTENT))
        client.close()

    assert received > len(CONTENT)


async def test_tls_client_that_pauses_gets_the_rest(large, tls):
    server, context = tls
    offer = Offer(large)
    transports = []
    offer.before = lambda request: transports.append(request.transport)
    async with offer.served(tls=server):
        streams = await offer.dial(ssl=context)
        await ask(streams)
        await head(streams)
        # Nothing tells a test that a transport is full.
        while not transports[0].get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(0)

        assert await streams[0].readexactly(LARGE) == bytes(LARGE)


async def test_client_that_reads_no_parts_is_cut_off(large):
    ranges = "Range: bytes=" + ",".join(["0-9"] * 900)
    offer = Offer(large, stall_timeout=0.1)
    async with offer.served():
        client = stalled(offer, ranges, requests=50)

        await offer.cut.wait()

        assert offer.opened[-1].closed
        client.close()


async def test_file_that_shrinks_ends_the_connection(large, caplog):
    offer = Offer(large)
    async with offer.served():
        client = stalled(offer)
        await asyncio.to_thread(client.recv, 1)
        os.truncate(large, LARGE // 4)

        received = await asyncio.to_thread(read_to_end, client)

        assert LARGE // 4 < received < LARGE // 4 + 1000
        client.close()
    detail = f"the file ends at {LARGE // 4}, not {LARGE}"
    assert [record.message for record in caplog.records] == [
        f'download-cut client=127.0.0.1 detail="{detail}"'
    ]


async def test_file_that_shrinks_under_tls_ends_the_connection(large, tls, caplog):
    server, context = tls
    offer = Offer(large)
    async with offer.served(tls=server):
        streams = await offer.dial(ssl=context)
        await ask(streams)
        await head(streams)
        os.truncate(large, 0)

        assert len(await streams[0].read(-1)) < LARGE
    assert "the file ends at" in caplog.text


async def test_file_that_cannot_be_read_ends_the_connection(offer, caplog):
    offer.mode = "ab"
    streams = await offer.dial()
    await ask(streams)
    await head(streams)

    assert await streams[0].read(-1) == b""
    assert "Bad file descriptor" in caplog.text


async def test_client_that_leaves_midway_is_no_error(large, caplog):
    caplog.set_level(logging.INFO)
    offer = Offer(large)
    async with offer.served():
        client = stalled(offer)
        await asyncio.to_thread(client.recv, 1)
        reset(client)

        await offer.ended.wait()

        assert offer.opened[0].closed
    assert [r for r in caplog.records if r.name != "aiohttp.access"] == []


async def test_connection_that_is_lost_while_nothing_is_taken_is_no_error(
    large, caplog
):
    offer = Offer(large, stall_timeout=0.1)
    transports = []
    offer.before = lambda request: transports.append(request.transport)
    async with offer.served():
        client = stalled(offer)
        await asyncio.to_thread(client.recv, 1)
        transports[0].abort()

        await offer.ended.wait()

        assert offer.opened[0].closed
        client.close()
    assert caplog.records == []


async def test_tls_client_that_leaves_midway_is_no_error(large, tls, caplog):
    server, context = tls
    offer = Offer(large)
    async with offer.served(tls=server):
        streams = await offer.dial(ssl=context)
        await ask(streams)
        await head(streams)
        streams[1].transport.abort()

        await offer.ended.wait()

        assert offer.opened[0].closed
    assert caplog.records == []


async def test_client_that_left_before_the_answer_is_no_error(offer, caplog):
    client = stalled(offer, "Content-Length: 1")
    await offer.begun.wait()
    reset(client)

    await offer.ended.wait()

    assert offer.opened[0].closed
    assert caplog.records == []


async def test_client_that_leaves_as_the_answer_begins_is_no_error(offer, caplog):
    def leave(request):
        request.transport.abort()

    offer.before = leave
    streams = await offer.dial()
    await ask(streams)

    assert await streams[0].read(-1) == b""
    assert offer.opened[0].closed
    assert caplog.records == []


async def test_rest_of_an_earlier_answer_comes_first(offer):
    earlier = bytes(LARGE)

    def write(request):
        request.transport.write(earlier)

    offer.before = write
    streams = await offer.dial()
    await ask(streams)

    assert await streams[0].readexactly(LARGE) == earlier
    assert (await head(streams))[0] == 200
    assert await streams[0].readexactly(len(CONTENT)) == CONTENT


async def test_server_that_stops_leaves_no_file_open(large):
    offer = Offer(large)
    async with offer.served() as runner:
        client = stalled(offer)
        await asyncio.to_thread(client.recv, 1)

        await runner.cleanup()

        await offer.ended.wait()
        assert offer.opened[0].closed
        client.close()
