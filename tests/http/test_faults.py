"""Faults of the server's own and of its surroundings, seen over sockets."""

import asyncio
import logging
import shutil
from http import HTTPStatus
from pathlib import Path

import pytest
from aiohttp import web
from sites import CONFIG, EVERYBODY, Serve, Site
from store_kit import small_disk
from wire_client import Line, Lines, create, fetch, fragment, ping, until

from bitsd.body import FragmentBody
from bitsd.config import from_table
from bitsd.connection import MINIMUM_PROGRESS, HttpServer, Limits
from bitsd.listeners import CannotStart, Listeners
from bitsd.protocol.refusal import Reason
from bitsd.routes import _status_of
from bitsd.server import Server, self_test

TARGET = "/in/report.dat"
LIMITS = Limits(connections=10, per_address=10, header=5, idle=5, stall=5, drain=5)


async def test_directory_that_nobody_may_write_refuses_every_packet(serve: Serve):
    site = await serve()
    text = site.config.read_text().replace('write = ["*"]', "write = []")
    await site.stop()
    site.config.write_text(text)
    await site.start()
    line = await site.dial()
    answers = [await line.ask(octets) for octets in (ping(TARGET), create(TARGET))]

    assert [(a.status, a.error[0]) for a in answers] == [(403, "0x80070005")] * 2


async def test_directory_that_nobody_may_read_serves_no_file(serve: Serve):
    site = await serve()
    text = site.config.read_text().replace('read = ["*"]', "read = []")
    (site.folder / "report.dat").write_bytes(b"abc")
    await site.stop()
    site.config.write_text(text)
    await site.start()
    line = await site.dial()

    assert (await line.ask(fetch(TARGET))).status == 403


async def test_full_disk_is_told_and_the_connection_lives_on(serve: Serve, tmp_path):
    (tmp_path / "in").mkdir()
    with small_disk(tmp_path / "in", size="512k"):
        site = await serve()
        line = await site.dial()
        named = await line.create(TARGET)
        body = bytes(400_000)
        first = await line.ask(fragment(TARGET, named, 0, body, 900_000))
        second = fragment(TARGET, named, 400_000, body, 900_000)
        head = second.index(b"\r\n\r\n")
        await line.ask(second[:head] + b"\r\nExpect: 100-continue\r\n\r\n")
        refused = await line.ask(body)
        after = await line.ask(ping(TARGET))
        held = site.held(named)
        await site.lines.hang_up()
        await site.stop()

    assert (first.status, refused.status, after.status) == (200, 500, 200)
    assert refused.error == ("0x80070070", "0x80070070", "0x5")
    assert held >= 400_000


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (13, HTTPStatus.FORBIDDEN),
        (24, HTTPStatus.SERVICE_UNAVAILABLE),
        (5, HTTPStatus.SERVICE_UNAVAILABLE),
        (116, HTTPStatus.SERVICE_UNAVAILABLE),
        (2, HTTPStatus.NOT_FOUND),
        (40, HTTPStatus.NOT_FOUND),
    ],
    ids=["EACCES", "EMFILE", "EIO", "ESTALE", "ENOENT", "ELOOP"],
)
def test_error_of_a_download_has_its_status(code: int, status: HTTPStatus):
    assert _status_of(OSError(code, "")) is status


async def test_sweep_that_fails_is_logged_and_goes_on(serve: Serve, caplog):
    caplog.set_level(logging.WARNING, "bitsd")
    site = await serve(directory='session_timeout = "1s"')
    sessions = site.folder / "BITS-Sessions"
    shutil.rmtree(sessions)
    await until(lambda: "sweep" in caplog.text)
    sessions.mkdir()
    line = await site.dial()
    await line.create(TARGET)

    await until(lambda: site.sessions == [])


async def test_folder_that_cannot_hold_sessions_is_one_line(tmp_path: Path):
    config = tmp_path / "bitsd.toml"
    config.write_text(CONFIG.format(top="", directory="", who=EVERYBODY), "utf-8")
    (tmp_path / "in").mkdir()
    site = Site(config)
    await site.start()
    await site.stop()
    shutil.rmtree(site.folder)
    site.folder.mkdir()
    site.server = None
    table = {
        "listen": [{"address": "127.0.0.1:0"}],
        "directory": [{"url": "/in", "path": str(site.folder), "upload": True}],
    }
    server = Server(from_table(table, tmp_path), Listeners([]))
    (site.folder / "BITS-Sessions").write_text("a file")

    with pytest.raises(CannotStart, match="uploads need to write"):
        await server.start()


async def test_server_that_never_started_stops(tmp_path: Path):
    table = {"directory": [{"url": "/in", "path": str(tmp_path)}]}

    await Server(from_table(table, tmp_path), Listeners([])).stop()


async def bounced(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


async def silent(_request: web.BaseRequest) -> web.StreamResponse:
    raise ConnectionError


async def test_parser_that_bounces_the_method_is_noticed():
    with pytest.raises(CannotStart, match="does not take BITS_POST"):
        await self_test(web.Server(bounced))


async def test_server_that_hangs_up_is_noticed():
    with pytest.raises(CannotStart, match="does not take BITS_POST"):
        await self_test(HttpServer(silent, LIMITS))


async def served_by(handler, lines: Lines) -> tuple[asyncio.Server, Line]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(HttpServer(handler, LIMITS), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, await lines.dial(f"http://127.0.0.1:{port}")


async def test_fault_of_ours_is_an_ack_that_says_nothing(caplog):
    async def faulty(_request: web.BaseRequest) -> web.StreamResponse:
        raise RuntimeError("secret")

    lines = Lines()
    server, line = await served_by(faulty, lines)
    answer = await line.ask(ping(TARGET))
    rest = await line.ended()
    await lines.hang_up()
    server.close()

    assert (answer.status, answer.get("BITS-Packet-Type")) == (500, "Ack")
    assert (answer.error, answer.body, rest) == ((None,) * 3, b"", b"")
    assert "secret" in caplog.text


async def test_fault_in_the_middle_of_an_answer_ends_the_connection():
    async def faulty(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "10"})
        await answer.prepare(request)
        await answer.write(b"abc")
        raise RuntimeError

    lines = Lines()
    server, line = await served_by(faulty, lines)
    await line.send(ping(TARGET))
    octets = await line.ended()
    await lines.hang_up()
    server.close()

    assert octets.endswith(b"\r\n\r\nabc")


async def test_body_of_another_server_is_refused():
    told = []

    async def foreign(request: web.BaseRequest) -> web.StreamResponse:
        try:
            FragmentBody(request, 0, memoryview(bytearray(1)), 1)
        except TypeError as error:
            told.append(str(error))
        return web.Response()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(web.Server(foreign), "127.0.0.1", 0)
    lines = Lines()
    port = server.sockets[0].getsockname()[1]
    line = await lines.dial(f"http://127.0.0.1:{port}")
    await line.ask(fetch("/"))
    await lines.hang_up()
    server.close()

    assert told == ["only a Connection of ours lends its transport"]


async def test_client_that_left_before_its_turn_has_an_empty_body():
    ended = asyncio.get_running_loop().create_future()

    async def late(request: web.BaseRequest) -> web.StreamResponse:
        await until(lambda: request.protocol.transport is None)
        body = FragmentBody(request, 0, memoryview(bytearray(1)), 1)
        taken: list[bytes] = []
        await body.into(lambda chunk: taken.append(bytes(chunk)))
        ended.set_result((body.ended.name, taken))
        return web.Response()

    lines = Lines()
    server, line = await served_by(late, lines)
    await line.send(ping(TARGET))
    line.reset()
    result = await asyncio.wait_for(ended, 10)
    server.close()

    assert result == ("CUT_OFF", [])


async def test_body_that_still_flows_when_superseded_is_taken_on(site: Site):
    first, second = await site.dial(), await site.dial()
    named = await first.create(TARGET)
    total = 1_000_000
    octets = fragment(TARGET, named, 0, bytes(total), total)
    head = octets.index(b"\r\n\r\n") + 4
    await first.send(octets[: head + 5000])
    await until(lambda: site.held(named) == 5000)
    newer = asyncio.create_task(
        second.ask(fragment(TARGET, named, 900_000, bytes(100_000), total))
    )
    for start in range(head + 5000, head + 105_000, 1000):
        await first.send(octets[start : start + 1000])
        await asyncio.sleep(0.001)
    answer = await newer

    assert answer.status == 416
    assert answer.received is not None
    assert answer.received > 5000


async def told_by(handler) -> object:
    """What a handler of a request with a body of 10 bytes finds out."""
    told = asyncio.get_running_loop().create_future()

    async def served(request: web.BaseRequest) -> web.StreamResponse:
        body = FragmentBody(request, 10, memoryview(bytearray(16)), 5)
        told.set_result(await handler(request, body))
        return web.Response()

    lines = Lines()
    server, line = await served_by(served, lines)
    await line.send(ping(TARGET).replace(b"Length: 0", b"Length: 10"))
    result = await asyncio.wait_for(told, 10)
    await lines.hang_up()
    server.close()
    return result


async def test_body_of_a_connection_that_closes_has_ended():
    async def handler(request: web.BaseRequest, body: FragmentBody):
        request.transport.abort()
        await body.into(bytes)
        return body.ended

    assert await told_by(handler) is Reason.CUT_OFF


async def test_body_that_was_cut_stays_so_when_the_peer_leaves():
    async def handler(request: web.BaseRequest, body: FragmentBody):
        reading = asyncio.create_task(body.into(bytes))
        await asyncio.sleep(0)
        body.cut(Reason.STALLED)
        request.transport.abort()
        await reading
        return body.ended

    assert await told_by(handler) is Reason.STALLED


async def test_earlier_answer_is_told_when_the_client_does_not_read():
    async def handler(request: web.BaseRequest, body: FragmentBody):
        body.pause_writing()
        paused = request.protocol.writing_paused
        body.resume_writing()
        return paused, request.protocol.writing_paused

    assert await told_by(handler) == (True, False)


async def test_client_that_takes_a_little_of_its_answers_gets_more_time():
    async def handler(request: web.BaseRequest, body: FragmentBody):
        waiting = []
        connection = request.protocol
        for taken in (MINIMUM_PROGRESS - 1, MINIMUM_PROGRESS):
            connection._stop_waiting()
            connection._look(request.transport, taken)
            waiting.append(connection._unread_timer is not None)
        return waiting

    assert await told_by(handler) == [False, True]


async def test_client_that_left_is_not_waited_for():
    async def handler(request: web.BaseRequest, body: FragmentBody):
        connection = request.protocol
        request.transport.abort()
        await until(lambda: connection.transport is None)
        connection.pause_writing()
        connection.give_way()
        return connection._unread_timer

    assert await told_by(handler) is None


async def test_body_that_came_whole_from_a_client_that_left_is_no_error():
    async def handler(request: web.BaseRequest, body: FragmentBody):
        connection = request.protocol
        request.transport.abort()
        await until(lambda: connection.transport is None)
        connection.body_received()
        return connection.transport

    assert await told_by(handler) is None


async def test_unreadable_request_behind_one_in_progress_is_refused_after_it():
    began, free = asyncio.Event(), asyncio.Event()

    async def busy(_request: web.BaseRequest) -> web.StreamResponse:
        began.set()
        await free.wait()
        return web.Response()

    lines = Lines()
    server, line = await served_by(busy, lines)
    await line.send(ping(TARGET))
    await began.wait()
    await line.send(ping(TARGET).replace(b"Length: 0", b"Length: " + b"0" * 5000))
    free.set()
    answers = [await line.receive(), await line.receive()]
    rest = await line.ended()
    await lines.hang_up()
    server.close()

    assert [answer.status for answer in answers] == [200, 400]
    assert rest == b""
