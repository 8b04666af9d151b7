"""A recording, played to servers that answer well or badly."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from captured import (
    ID,
    Talk,
    ack,
    answer,
    create,
    created,
    fragment,
    received,
    request,
    write,
)
from listening import listening

from bitsd.replay.line import Target
from bitsd.replay.play import CannotPlay, Options, Result, replay, target

#: Long enough for a server of a few lines, in seconds.
PATIENCE = 20.0

#: For what never comes.
SOON = 0.2

GET = request("GET", "/get")
OK = answer(200, "Content-Length: 3", body=b"abc")
LARGE = bytes(range(250)) * 2000


class Server:
    """Answers each request with the next of these, and remembers what it heard.

    Attributes:
        heard: what came over each connection.
        ends: how each connection ended.
    """

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heard: list[bytearray] = []
        self.ends: list[str] = []

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        heard = bytearray()
        self.heard.append(heard)
        try:
            while octets := await reader.read(65536):
                heard += octets
                while self.complete(bytes(heard)) and self.answers:
                    writer.write(self.answers.pop(0))
                    self.done = len(heard)
        except ConnectionError:
            heard += reader._buffer  # came before the reset, and is not read any more
            self.ends.append("RST")
        else:
            self.ends.append("FIN")
        finally:
            writer.transport.abort()

    done = 0

    def complete(self, heard: bytes) -> bool:
        """A request came whole since the last answer."""
        head, end, body = heard[self.done :].partition(b"\r\n\r\n")
        _, _, length = head.partition(b"Content-Length: ")
        return bool(end) and len(body) >= int(length.split(b"\r\n")[0] or b"0")


@pytest.fixture
def play(tmp_path: Path):
    async def play(
        server: Callable,
        *talks: Talk,
        patience: float = PATIENCE,
        over: asyncio.Event | None = None,
        **options,
    ) -> Result:
        """Play to the server; `over` is set when that is done."""
        capture = await asyncio.to_thread(write, tmp_path / "x.pcap", *talks)
        how = Options(patience=patience, **options)
        async with listening(server) as port:
            url = f"http://127.0.0.1:{port}"
            result = await asyncio.to_thread(replay, capture, url, how)
            if over is not None:
                over.set()
        return result

    return play


def told(result: Result) -> list[str]:
    return [str(difference) for difference in result.differences]


async def test_answers_are_compared(play):
    server = Server(OK, answer(404, "Content-Length: 0"))
    talk = Talk().open().ask(GET).answer(OK).ask(GET).answer(OK).close()
    result = await play(server, talk)

    assert result.compared == 2
    assert told(result) == ["exchange 2 (GET /get): status: captured 200, got 404"]
    assert server.heard[0].count(b"GET /get HTTP/1.1\r\nHost: 127.0.0.1:") == 2


async def test_a_session_goes_on_under_the_id_that_the_server_gave(play):
    new = "{99999999-AAAA-4BBB-8CCC-DDDDDDDDDDDD}"
    server = Server(created(new), received(3))
    part = fragment(0, b"abc", 9)
    talk = Talk().open().ask(create()).answer(created()).ask(part).answer(received(3))

    assert told(await play(server, talk)) == []
    assert f"BITS-Session-Id: {new}".encode() in server.heard[0]
    assert ID.encode() not in server.heard[0]


async def test_fields_that_are_ignored_may_differ(play):
    talk = Talk().open().ask(create()).answer(created())
    server = Server(created("17"), created("17").replace(b"Ack", b"Nack"))

    assert told(await play(server, talk, ignored=["BITS-Packet-Type"])) == []


async def test_large_bodies_are_sent_as_they_were(play):
    put = request("PUT", "/put", f"Content-Length: {len(LARGE)}", body=LARGE)
    pieces = [put[start : start + 60_000] for start in range(0, len(put), 60_000)]
    server = Server(ack())

    assert told(await play(server, Talk().open().ask(*pieces).answer(ack()))) == []
    assert server.heard[0].endswith(LARGE)


async def test_bytes_that_are_not_captured_are_zeros(play):
    put = request("PUT", "/put", f"Content-Length: {len(LARGE)}", body=LARGE)
    talk = Talk().open().ask(put[:-499_990]).lose(0, 499_980).ask(put[-10:])
    server = Server(ack())
    result = await play(server, talk.answer(ack()))

    assert told(result) == []
    assert result.notes[0].endswith("not captured: sent as zeros")
    assert server.heard[0].endswith(LARGE[:10] + bytes(499_980) + LARGE[-10:])


EXPECTED = request("PUT", "/put", "Expect: 100-continue", "Content-Length: 5")
CONTINUE = answer(100)


async def test_a_body_waits_for_100_continue(play):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                early.append(await reader.read(1))
        writer.write(CONTINUE)
        assert await reader.readexactly(5) == b"hello"
        writer.write(ack())
        await reader.read()

    early: list[bytes] = []
    talk = Talk().open().ask(EXPECTED).answer(CONTINUE).ask(b"hello").answer(ack())

    assert told(await play(server, talk)) == []
    assert early == []


async def test_a_body_is_not_sent_after_another_answer(play):
    server = Server(answer(417, "Content-Length: 0"))
    server.complete = lambda heard: b"\r\n\r\n" in heard
    talk = Talk().open().ask(EXPECTED).answer(CONTINUE).ask(b"hello").answer(ack())

    assert told(await play(server, talk))[0].endswith("status: captured 200, got 417")
    assert server.heard[0].endswith(b"\r\n\r\n")


async def test_a_body_does_not_wait_forever(play):
    server = Server(ack())
    talk = Talk().open().ask(EXPECTED).answer(CONTINUE).ask(b"hello").answer(ack())

    assert told(await play(server, talk, patience=1.0)) == [
        "exchange 1 (PUT /put): interim answers: captured 100, got nothing"
    ]


@pytest.mark.parametrize("count", [1, 2])
async def test_an_answer_that_does_not_come_is_a_difference(play, count: int):
    talk = Talk().open()
    for _ in range(count):
        talk.ask(GET).answer(OK)
    result = await play(Server(), talk, patience=SOON)

    assert told(result) == [
        f"exchange {number} (GET /get): answer: captured 200, got nothing"
        for number in range(1, count + 1)
    ]


async def test_a_connection_that_ends_too_soon_is_a_difference(play):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    talk = Talk().open().ask(GET).answer(OK).ask(GET).answer(OK)

    assert told(await play(server, talk)) == [
        "exchange 2 (GET /get): answer: captured 200, got nothing"
    ]


async def test_an_answer_that_is_reset_is_not_whole(play):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200, body=b"abc"))
        connection = writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    whole = answer(200, body=b"abc")

    assert told(await play(server, Talk().open().ask(GET).answer(whole).close(1))) == [
        "exchange 1 (GET /get): body: captured 3 bytes, got a cut after 3"
    ]


async def test_a_server_that_does_not_read_on_can_be_answered_by(play):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(413, "Content-Length: 0"))
        await writer.drain()
        writer.transport.abort()

    body = LARGE * 8
    put = request("PUT", "/put", f"Content-Length: {len(body)}", body=body)
    pieces = [put[start : start + 60_000] for start in range(0, len(put), 60_000)]
    result = await play(server, Talk().open().ask(*pieces).answer(ack()))

    # What was not read may have the system throw the answer away.
    assert (result.differences[0].field, result.differences[0].got) in {
        ("status", "413"),
        ("answer", "nothing"),
    }


@pytest.mark.parametrize("cuts", [False, True])
# pytest gives it by its name.
async def test_a_server_that_stops_reading_is_not_waited_for(play, cuts: bool):  # noqa: FBT001
    async def server(reader, writer):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()
        await asyncio.wait_for(over.wait(), PATIENCE)

    over = asyncio.Event()
    body = LARGE * 12
    put = request("PUT", "/put", f"Content-Length: {len(body)}", body=body)
    pieces = [put[start : start + 60_000] for start in range(0, len(put), 60_000)]
    talk = Talk().open().ask(*pieces).answer(ack()).reset()
    result = await play(server, talk, patience=SOON, cuts=cuts, over=over)

    assert told(result) == ["exchange 1 (PUT /put): answer: captured 200, got nothing"]


async def test_answers_of_a_capture_without_them_are_awaited(play):
    server = Server(OK)
    result = await play(server, Talk().open().ask(GET).reset())

    assert (result.compared, told(result), server.answers) == (0, [], [])


async def test_pace_is_kept_when_asked_for(play):
    talk = Talk().open().ask(GET).answer(OK)
    talk.time += 0.3
    talk.ask(GET).answer(OK)
    loop = asyncio.get_running_loop()
    started = loop.time()
    result = await play(Server(OK, OK), talk, timing=True)

    assert told(result) == []
    assert loop.time() - started >= 0.3


# Where connections broke

PUT = request("PUT", "/put", "Content-Length: 50", body=bytes(40))


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_connection_breaks_at_the_byte_where_it_broke(play, how: str):
    server = Server()
    talk = Talk().open().ask(PUT)
    talk = talk.close() if how == "FIN" else talk.reset()
    result = await play(server, talk, cuts=True)

    assert (told(result), result.notes) == ([], [])
    assert server.heard[0].partition(b"\r\n\r\n")[2] == bytes(40)
    assert server.ends == [how]


async def test_all_bytes_arrive_before_a_connection_is_reset(play):
    body = LARGE * 8
    put = request("PUT", "/put", f"Content-Length: {len(body) + 1}", body=body)
    pieces = [put[start : start + 60_000] for start in range(0, len(put), 60_000)]
    server = Server()
    await play(server, Talk().open().ask(*pieces).reset(), cuts=True)

    assert len(server.heard[0].partition(b"\r\n\r\n")[2]) == len(body)
    assert server.ends == ["RST"]


async def test_a_connection_breaks_inside_a_head(play):
    server = Server(OK)
    talk = Talk().open().ask(GET).answer(OK).ask(b"GET /in").close()
    await play(server, talk, cuts=True)

    assert server.heard[0].endswith(b"\r\n\r\nGET /in")


async def test_a_client_may_say_that_it_is_done_and_be_answered(play):
    async def server(reader, writer):
        assert (await reader.read()).startswith(b"GET /get")
        writer.write(OK)

    talk = Talk().open().ask(GET).add(0, 0x11).answer(OK).add(1, 0x11)

    assert told(await play(server, talk, cuts=True)) == []


async def test_a_download_is_broken_off_where_it_was(play):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200, "Content-Length: 9", body=b"abc"))
        with suppress(ConnectionError):
            await reader.read()
            ended.append("FIN")

    ended: list[str] = []
    cut = answer(200, "Content-Length: 9", body=b"abc")
    talk = Talk().open().ask(GET).answer(cut).reset()

    assert told(await play(server, talk, cuts=True)) == []
    assert ended == []


async def test_a_connection_that_never_was_needs_no_end(play):
    result = await play(Server(), Talk().open().ask(b"\x16\x03\x01").reset(), cuts=True)

    assert result.notes == ["connection 1 is TLS: not sent"]
    result = await play(Server(), Talk().open().ask(PUT).reset())
    assert result.notes == ["exchange 1: its request broke off: not sent"]


# Who signs in

SIGNED = request("GET", "/get", "Authorization: Basic b2xkOnNlY3JldA==")


async def test_somebody_else_signs_in(play):
    server = Server(OK)
    talk = Talk().open().ask(SIGNED).answer(OK)
    await play(server, talk, user=("alice", "w:ord"))

    assert b"Authorization: Basic YWxpY2U6dzpvcmQ=\r\n" in server.heard[0]
    assert b"b2xkOnNlY3JldA==" not in server.heard[0]


async def test_a_given_field_may_sign_in(play):
    server = Server(OK)
    talk = Talk().open().ask(SIGNED).answer(OK)
    await play(server, talk, fields=[("authorization", "Bearer x")])

    assert b"authorization: Bearer x\r\n" in server.heard[0]
    assert b"b2xkOnNlY3JldA==" not in server.heard[0]


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ("Basic", r"give --user NAME:PASSWORD"),
        ("Negotiate", r"signs in by negotiate, which cannot be sent again"),
        ("\x1b[2J", r"signs in by \\x1b\[2j, which"),
    ],
)
async def test_without_somebody_to_sign_in_nothing_is_sent(play, scheme, told):
    server = Server()
    signed = request("GET", "/get", f"Authorization: {scheme} x")

    with pytest.raises(CannotPlay, match=told):
        await play(server, Talk().open().ask(signed))
    assert server.heard == []


# Where to

AUTHORITIES = {
    "http://127.0.0.1:8080": "127.0.0.1:8080",
    "http://example.org/": "example.org",
    "http://example.org:80": "example.org",
    "https://example.org": "example.org",
    "https://example.org:80": "example.org:80",
    "http://[::1]:8080": "[::1]:8080",
}


@pytest.mark.parametrize("url", AUTHORITIES)
def test_a_target_has_a_name_for_the_host_field(url: str):
    found = target(url)

    assert isinstance(found, Target)
    assert found.authority == AUTHORITIES[url]
    assert (found.tls is None) is url.startswith("http:")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org:80",
        "ftp://example.org",
        "http://",
        "http://h:x",
        "http://h/in",
        "http://h?x",
        "http://user@h",
    ],
)
def test_what_is_no_server_is_told(url: str):
    with pytest.raises(ValueError, match=r"give|port|Port"):
        target(url)


def test_nobody_there_is_told(tmp_path: Path):
    capture = write(tmp_path / "x.pcap", Talk().open().ask(GET))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        with pytest.raises(CannotPlay, match=f"127.0.0.1:{port}: Connection refused"):
            replay(capture, f"http://127.0.0.1:{port}")


async def test_a_server_that_goes_away_is_told(tmp_path: Path):
    async def serve_once(reader, writer):
        server.close()
        await Server(OK)(reader, writer)

    server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    one = Talk().open().ask(GET).answer(OK)
    two = Talk(client=one.client._replace(port=9), time=one.time).open().ask(GET)
    capture = write(tmp_path / "x.pcap", one, two)

    with pytest.raises(CannotPlay, match="cannot connect"):
        await asyncio.to_thread(replay, capture, url)


@pytest.mark.parametrize("trusted", [True, False])
# pytest gives it by its name.
async def test_a_server_may_speak_tls(tmp_path: Path, monkeypatch, trusted: bool):  # noqa: FBT001
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if trusted:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    talk = Talk().open().ask(GET).answer(OK).ask(PUT).reset()
    capture = write(tmp_path / "x.pcap", talk)
    server = await asyncio.start_server(Server(OK), "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        playing = asyncio.to_thread(replay, capture, url, Options(cuts=True))
        if trusted:
            assert told(await playing) == []
        else:
            with pytest.raises(CannotPlay, match="certificate verify failed"):
                await playing
