"""No octets are two requests to one reader and one to another (RFC 9112 11.2)."""

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest
from conversations import (
    CODINGS,
    LENGTHS,
    SMUGGLED,
    check,
    converse,
    made,
    put_files,
    replies,
)
from proxies import nginx
from sites import Serve, Site
from strict_http import Ending, Request, read

GET = b"GET /in/a.dat HTTP/1.1\r\nHost: test\r\n"
CHUNKS = b"0\r\n\r\n"


@pytest.fixture
async def site(serve: Serve) -> Site:
    """A server in whose limits nobody gets, with a few files."""
    site = await serve(directory="sessions_per_user = 100000")
    put_files(site.folder)
    return site


async def refused(site: Site, octets: bytes) -> bool:
    """One refusal and nothing else, and the connection is closed."""
    answer, hung_up = await converse(site.url, [octets])
    found, rest = replies(answer, [])
    return hung_up and not rest and [reply.status for reply in found] == [400]


@pytest.mark.parametrize("batch", range(4))
async def test_every_request_has_one_reading(site: Site, batch: int):
    for seed in range(batch * 500, (batch + 1) * 500):
        await check(site.url, made(seed), seed)


@pytest.mark.parametrize("length", LENGTHS, ids=lambda length: repr(length[:20]))
@pytest.mark.parametrize("other", [None, "5", "6"])
async def test_length_has_one_reading(site: Site, length: str, other: str | None):
    fields = [length] if other is None else [length, other]
    head = "".join(f"Content-Length: {value}\r\n" for value in fields).encode()

    await check(site.url, [GET + head + b"\r\nhello" + SMUGGLED], fields)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"], ids=["", "length"])
async def test_coding_has_one_reading(
    site: Site, coding: str, version: bytes, length: bytes
):
    start = GET.replace(b"HTTP/1.1", version) + b"Connection: keep-alive\r\n"
    head = start + length + f"Transfer-Encoding: {coding}\r\n\r\n".encode()

    await check(site.url, [head + CHUNKS + SMUGGLED], coding)


# What aiohttp's parser alone would take.


@pytest.mark.parametrize(
    "method", [b"get", b"Get", b"head", b"bits_post", b"Bits_Post"]
)
async def test_method_in_another_case_is_another_method(site: Site, method: bytes):
    octets = GET.replace(b"GET", method) + b"Content-Length: 0\r\n\r\n"
    answer, _hung_up = await converse(site.url, [octets])

    assert [reply.status for reply in replies(answer, [])[0]] == [405]


@pytest.mark.parametrize("version", ["2.0", "0.9", "1.2", "1.9", "3.0", "9.9"])
async def test_other_version_is_refused(site: Site, version: str):
    octets = GET.replace(b"1.1", version.encode()) + b"\r\n"

    assert await refused(site, octets + SMUGGLED)


async def test_chunks_in_old_http_are_refused(site: Site):
    start = GET.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n"

    assert await refused(site, start + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS)


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"chunked, chunked", b",chunked"])
async def test_only_one_coding_is_taken(site: Site, coding: bytes):
    octets = GET + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + CHUNKS

    assert await refused(site, octets + SMUGGLED)


async def test_tunnel_is_refused_at_once(site: Site):
    assert await refused(
        site, b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n" + SMUGGLED
    )


@pytest.mark.parametrize(
    "host", [b"t\xa8st", b"\xff", b"xn--a", b"[::1", b"a@b:c", b"%"]
)
async def test_odd_host_in_a_target_is_answered(site: Site, host: bytes):
    """aiohttp reads it where an exception would leave the connection open for ever."""
    octets = b"GET http://" + host + b"/in/a.dat HTTP/1.1\r\nHost: test\r\n\r\n"

    await check(site.url, [octets], host)


async def test_length_of_thousands_of_digits_gets_its_refusal(site: Site):
    """Even where an answer to another request is under way."""
    odd = GET + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"

    assert await refused(site, GET + b"\r\n" + odd)


# What it does not take, and is not to take.


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(GET.replace(b"\r\n", b"\n") + b"\n", id="bare line feeds"),
        pytest.param(GET + b"X: a\rGET / HTTP/1.1\r\n\r\n", id="bare carriage return"),
        pytest.param(
            GET + b"X: a\nContent-Length: 5\r\n\r\n", id="line feed in a value"
        ),
        pytest.param(GET + b" folded: x\r\n\r\n", id="folded line"),
        pytest.param(GET + b"X: a\r\n\tb\r\n\r\n", id="folded value"),
        pytest.param(GET + b"X: a\x00b\r\n\r\n", id="NUL"),
        pytest.param(GET + b"X\x00: a\r\n\r\n", id="NUL in a name"),
        pytest.param(GET + b"Content-Length : 5\r\n\r\nhello", id="space before colon"),
        pytest.param(GET + b"Host: test\r\n\r\n", id="two hosts"),
        pytest.param(b"GET /in/a.dat HTTP/1.1\r\nX: y\r\n\r\n", id="no host"),
        pytest.param(b"GET /in/a.dat\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b"GET  /in/a.dat HTTP/1.1\r\nHost: t\r\n\r\n", id="two spaces"),
        pytest.param(b"GET\t/in/a.dat\tHTTP/1.1\r\nHost: t\r\n\r\n", id="tabs"),
        pytest.param(
            b"GET in/a.dat HTTP/1.1\r\nHost: t\r\n\r\n", id="no form of target"
        ),
        pytest.param(b"GET * HTTP/1.1\r\nHost: t\r\n\r\n", id="asterisk"),
        pytest.param(b"GET test:80 HTTP/1.1\r\nHost: t\r\n\r\n", id="authority"),
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused(site: Site, octets: bytes):
    assert await refused(site, octets + SMUGGLED)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n", id="too many trailers"),
        pytest.param(
            b"0\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", id="too long a trailer"
        ),
        pytest.param(
            b"5;" + b"x" * 70_000 + b"\r\nhello\r\n", id="too long an extension"
        ),
        pytest.param(b"0\r\nno colon\r\n\r\n", id="no trailer"),
        pytest.param(b"5\r\nhelloX", id="no end of a chunk"),
    ],
)
async def test_nothing_behind_broken_chunks_is_a_request(
    site: Site, body: bytes, caplog: pytest.LogCaptureFixture
):
    """In whatever segments it comes; and it is no fault of ours."""
    head = GET + b"Transfer-Encoding: chunked\r\n\r\n"
    answer, _hung_up = await converse(site.url, [head, body, SMUGGLED, SMUGGLED])

    assert b"smuggled" not in answer
    assert not [each for each in caplog.records if each.exc_info]


async def test_fault_of_ours_is_logged_with_its_traceback(
    site: Site, caplog: pytest.LogCaptureFixture
):
    http = site.server and site.server._http
    assert http is not None
    error = RuntimeError("of ours")
    http().log_exception("Unhandled exception", exc_info=error)

    assert [each.exc_info and each.exc_info[1] for each in caplog.records] == [error]


async def test_declined_upgrade_hides_no_request(site: Site):
    start = GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    answer, _hung_up = await converse(site.url, [start + SMUGGLED])
    found, _rest = replies(answer, [])

    assert [reply.body for reply in found] == [b"a.dat", b"smuggled.dat"]


# The same through a proxy.


async def test_proxy_and_server_count_the_same_requests(site: Site, tmp_path: Path):
    """Each answer of bitsd is to a request that nginx meant."""
    settings = f"""
        log_format sent "$upstream_bytes_sent";
        access_log {tmp_path}/access.log sent;
        proxy_ignore_client_abort on;
    """
    async with nginx(site.host, tmp_path, settings) as listening:
        for seed in range(400):
            reader, writer = await asyncio.open_unix_connection(listening)
            with suppress(ConnectionError):
                writer.write(b"".join(made(seed)))
                writer.write_eof()
                await reader.read()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    logged = (tmp_path / "access.log").read_text()
    # One line for each request; a second connection for it is a second number there.
    forwarded = sum(int(number) > 0 for number in re.findall(r"\d+", logged))
    http = site.server and site.server._http

    assert http is not None
    assert forwarded == http.requests_count
    assert forwarded > 100


# The reader that is compared with.


@pytest.mark.parametrize(
    ("octets", "requests", "ending"),
    [
        (b"", 0, Ending.ALL),
        (b"\r\n\r\n" + SMUGGLED, 1, Ending.ALL),
        (SMUGGLED * 2, 2, Ending.ALL),
        (SMUGGLED[:-1], 0, Ending.INCOMPLETE),
        (GET + b"Content-Length: 5\r\n\r\nhello" + SMUGGLED, 2, Ending.ALL),
        (GET + b"Content-Length: 5\r\n\r\nhell", 1, Ending.INCOMPLETE),
        (GET + b"Content-Length: 5, 5\r\n\r\nhello", 0, Ending.REFUSED),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1, Ending.ALL),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab", 1, Ending.INCOMPLETE),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabcd", 1, Ending.REFUSED),
        (GET + b"Connection: close\r\n\r\n" + SMUGGLED, 1, Ending.CLOSED),
        (GET + b"Host: b\r\n\r\n", 0, Ending.REFUSED),
    ],
)
def test_reader_finds_the_ends(octets: bytes, requests: int, ending: Ending):
    found, why = read(octets)

    assert (len(found), why) == (requests, ending)


def test_reader_knows_what_is_asked_for():
    assert read(SMUGGLED)[0] == [Request(b"GET", b"/in/smuggled.dat")]
