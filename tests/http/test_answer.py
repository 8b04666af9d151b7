"""Heads of answers over a real socket, and how a connection goes on after them."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bitsd.answer import Answer

FIELDS = (("Content-Length", "0"), ("ETag", '"1"'))


@asynccontextmanager
async def answered_with(answer):
    """A connection to a server that has one answer."""

    async def handler(request):
        return answer

    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    try:
        yield reader, writer
    finally:
        writer.close()
        await runner.cleanup()


async def ask(streams, version="1.1", *fields):
    reader, writer = streams
    lines = [f"HEAD / HTTP/{version}", "Host: localhost", *fields, "", ""]
    writer.write("\r\n".join(lines).encode())
    status, *told = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    return status, dict(line.split(": ") for line in told if line)


@pytest.mark.parametrize("status", ["206 Partial Content", "404 Not Found"])
async def test_head_has_the_fields_and_those_of_every_answer(status):
    async with answered_with(Answer(int(status[:3]), FIELDS)) as streams:
        line, fields = await ask(streams)

    assert line == f"HTTP/1.1 {status}"
    assert list(fields) == ["Content-Length", "ETag", "Server", "Date"]
    assert fields["ETag"] == '"1"'


@pytest.mark.parametrize(
    ("version", "asked", "told"),
    [
        pytest.param("1.1", (), None, id="1.1"),
        pytest.param("1.1", ("Connection: close",), "close", id="1.1, close"),
        pytest.param("1.0", (), "close", id="1.0"),
        pytest.param("1.0", ("Connection: keep-alive",), "keep-alive", id="1.0, kept"),
    ],
)
async def test_connection_lasts_as_the_client_wants(version, asked, told):
    async with answered_with(Answer(304, FIELDS)) as streams:
        line, fields = await ask(streams, version, *asked)

        assert line.startswith(f"HTTP/{version} 304 ")
        assert fields.get("Connection") == told
        if told == "close":
            assert await streams[0].read(-1) == b""


async def test_connection_ends_when_the_answer_says_so():
    async with answered_with(Answer(304, FIELDS, close=True)) as streams:
        _, fields = await ask(streams)

        assert fields["Connection"] == "close"
        assert await streams[0].read(-1) == b""
