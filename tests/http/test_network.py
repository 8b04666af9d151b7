"""What a bad network, a bad client or a proxy does, and that it costs little."""

import asyncio
import random
import resource
import socket
from contextlib import suppress
from pathlib import Path

import proxies
import pytest
from processes import Run, rewrite, serving
from sites import Serve, Site
from wire_client import (
    Line,
    cancel,
    close,
    create,
    fetch,
    fragment,
    ping,
    request,
    until,
)

TARGET = "/in/report.dat"
ENTITY = random.Random(5).randbytes(200_000)

#: No queue is so long, in bytes of requests, and no buffer so large.
MUCH = 4 << 20

#: A server that reads at all has read more by then, in seconds.
PAUSE = 1.0


# Clients that do not read.

unread = pytest.mark.parametrize(
    "octets",
    [
        pytest.param(ping(TARGET), id="ping"),
        pytest.param(fetch("/in/small"), id="file"),
        pytest.param(fetch("/in/small", ("Range", "bytes=0-9")), id="range"),
        pytest.param(fetch("/in/none"), id="missing"),
    ],
)


def small_buffers(connection: socket.socket) -> None:
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, buffer, 65_536)


@unread
async def test_requests_are_not_read_on_while_answers_wait(serve: Serve, octets: bytes):
    site = await serve()
    (site.folder / "small").write_bytes(ENTITY[:1000])
    host, _, port = site.host.rpartition(":")
    loop, taken = asyncio.get_running_loop(), 0
    with socket.socket() as client:
        small_buffers(client)
        client.settimeout(0)
        await loop.sock_connect(client, (host, int(port)))
        await until(lambda: site.connections)
        small_buffers(site.connections[0].transport.get_extra_info("socket"))
        with suppress(TimeoutError):
            while taken < MUCH:
                async with asyncio.timeout(PAUSE):
                    await loop.sock_sendall(client, octets * 100)
                taken += len(octets) * 100

    assert taken < MUCH


@unread
async def test_client_that_never_reads_is_cut_off(serve: Serve, octets: bytes):
    site = await serve(top="stall_timeout = 1")
    line = await site.dial()
    line.writer.transport.pause_reading()

    with pytest.raises(ConnectionError):
        await sent_on_and_on(line, octets * 1000)


async def sent_on_and_on(line: Line, octets: bytes) -> None:
    while True:
        await line.send(octets)


async def test_client_that_leaves_its_last_answer_is_cut_off_as_well(serve: Serve):
    site = await serve(top="stall_timeout = 1")
    host, _, port = site.host.rpartition(":")
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        small_buffers(client)
        client.settimeout(0)
        await loop.sock_connect(client, (host, int(port)))
        await until(lambda: site.connections)
        [connection] = site.connections
        transport = connection.transport
        small_buffers(transport.get_extra_info("socket"))
        sent = 0
        while not transport.get_write_buffer_size():
            sent += 10
            await loop.sock_sendall(client, ping(TARGET) * 10)
            await until(lambda sent=sent: connection._request_count == sent)
            await until(lambda: connection.idle or transport.get_write_buffer_size())
        await until(lambda: not site.connections)


async def test_client_that_reads_slowly_is_not(serve: Serve):
    site = await serve(top="stall_timeout = 1")
    number = 20_000
    line = await site.dial()
    line.writer.write(ping(TARGET) * number)
    for _ in range(number):
        assert (await line.receive()).status == 200


async def test_requests_in_one_segment_are_answered_in_order(line: Line):
    targets = [f"/in/{number}" for number in range(1000)]
    await line.send(b"".join(map(create, targets[:20])) + ping(TARGET) * 980)
    answers = [await line.receive() for _ in targets]

    named = {answer.get("BITS-Session-Id") for answer in answers[:20]}
    assert len(named) == 20
    assert {answer.status for answer in answers} == {200}


# Headers and bodies without end.


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"GET /" + b"a" * 100_000, id="line"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000, id="field"),
        pytest.param(
            b"GET / HTTP/1.1\r\n" + (b"A: " + b"a" * 60_000 + b"\r\n") * 5,
            id="long fields",
        ),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", id="fields"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000, id="never ends"),
    ],
)
async def test_header_beyond_all_measure_is_refused(line: Line, octets: bytes):
    sending = asyncio.create_task(line.send(octets))
    answer = await line.receive()
    await line.ended()
    await asyncio.gather(sending, return_exceptions=True)

    assert answer.status == 400


@pytest.mark.parametrize("method", ["GET", "BITS_POST"])
async def test_chunks_without_end_end_with_the_connection(serve: Serve, method: str):
    site = await serve(top="drain_timeout = 1")
    line = await site.dial()
    await line.send(request(method, TARGET, ("Transfer-Encoding", "chunked")))
    with pytest.raises(ConnectionError):
        await sent_on_and_on(line, b"10000\r\n" + bytes(0x10000) + b"\r\n")
    await line.hang_up()
    other = await site.dial()

    assert (await other.ask(ping(TARGET))).status == 200


# Many connections.


async def test_thousands_of_idle_connections_are_held(run: Run, config: Path):
    number = 2000
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rewrite(config, "workers = 1", f"maximum_connections = {number + 10}")
    running = await serving(run, config)
    lines = [await running.dial() for _ in range(number)]
    for line in lines[::100]:
        assert (await line.ask(ping(TARGET))).status == 200
    busy = await running.dial()
    await busy.upload(TARGET, ENTITY[:100_000], ENTITY[100_000:])

    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY


# Packets that come twice, late, or on another connection.


async def test_fragment_that_comes_twice_at_once_counts_once(site: Site):
    one, other = await site.dial(), await site.dial()
    named = await one.create(TARGET)
    first = fragment(TARGET, named, 0, ENTITY[:100_000], len(ENTITY))
    answers = await asyncio.gather(one.ask(first), other.ask(first))
    rest = fragment(TARGET, named, 100_000, ENTITY[100_000:], len(ENTITY))
    last = await one.ask(rest)

    # One may have superseded the other.
    assert {answer.status for answer in answers} <= {200, 409}
    assert (last.status, last.received) == (200, len(ENTITY))
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_fragment_that_comes_late_changes_nothing(site: Site):
    one, other = await site.dial(), await site.dial()
    named = await one.create(TARGET)
    first = fragment(TARGET, named, 0, ENTITY[:100_000], len(ENTITY))
    rest = fragment(TARGET, named, 100_000, ENTITY[100_000:], len(ENTITY))
    early = await other.ask(rest)
    await one.ask(first)
    await one.ask(rest)
    late = [await other.ask(octets) for octets in (first, rest)]
    closed = await one.ask(close(TARGET, named))
    dead = await other.ask(rest)

    assert (early.status, early.received) == (416, 0)
    assert [(each.status, each.received) for each in late] == [(200, 200_000)] * 2
    assert (closed.status, dead.status) == (200, 500)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_cancel_ends_a_fragment_that_still_comes(site: Site):
    one, other = await site.dial(), await site.dial()
    named = await one.create(TARGET)
    await one.send(fragment(TARGET, named, 0, ENTITY, len(ENTITY))[:-1000])
    await until(lambda: site.held(named) > 0)
    cancelled = await other.ask(cancel(TARGET, named))

    assert cancelled.status == 200
    assert site.sessions == []


# Proxies.


async def dial(path: Path) -> Line:
    return Line(*await asyncio.open_unix_connection(path))


async def test_proxy_that_collects_a_fragment_first_is_no_matter(site: Site, tmp_path):
    async with proxies.nginx(site.host, tmp_path, buffering="on") as listening:
        line = await dial(listening)
        await line.upload(TARGET, ENTITY[:100_000], ENTITY[100_000:])
        await line.hang_up()

    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_upload_goes_on_when_the_proxy_was_killed(site: Site, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with proxies.nginx(site.host, tmp_path / "one") as listening:
        line = await dial(listening)
        named = await line.create(TARGET)
        octets = fragment(TARGET, named, 0, ENTITY, len(ENTITY))
        await line.send(octets[:-100_000])
        await until(lambda: site.held(named) > 0)
    await line.hang_up()
    async with proxies.nginx(site.host, tmp_path / "other") as listening:
        line = await dial(listening)
        answer = await line.ask(octets)
        await line.hang_up()

    assert (answer.status, answer.received) == (200, len(ENTITY))
    assert (site.folder / "report.dat").read_bytes() == ENTITY
