"""The client in conversations whose every answer is written down.

They show each rule of [MC-BUP] 3.1.5, and where servers differ there is one of each
kind. What is compared is all that a server reads of a request.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from scripted import HANG_UP, Asked, Field, Scripted, ack, answer, in_turn, scripted

from bitsd.client.options import Options
from bitsd.client.progress import TransferFailed
from bitsd.client.upload import Terms, cancel, upload

PROTOCOL = "{7df0354d-249b-430f-820d-3d2a9bef4931}"
ID = "{0B5E6F14-77C2-4D0A-9C51-2F6B9A1D8E30}"
OTHER = "{5A0E6F14-77C2-4D0A-9C51-2F6B9A1D8E30}"
ENTITY = bytes(n % 251 for n in range(30_000))
PART = 12_288

#: Bytes by which a client finds out what a server holds.
SMALL = 5_120

TERMS = Terms(fragment_size=PART)

pytestmark = pytest.mark.usefixtures("impatient")

NAMED = ("BITS-Session-Id", ID)
PRAGMA = ("Pragma", "no-cache")


def created(named: str = ID, *more: Field) -> bytes:
    protocol = ("BITS-Protocol", PROTOCOL)
    fields = (PRAGMA, protocol, ("BITS-Session-Id", named), *more)
    return ack(200, *fields, ("Accept-Encoding", "identity"))


def received(offset: int, *more: Field, status: int = 200) -> bytes:
    fields = (PRAGMA, NAMED, *more)
    return ack(status, *fields, ("BITS-Received-Content-Range", str(offset)))


def error(status: int, code: str, *more: Field, context: str = "0x5") -> bytes:
    codes = (("BITS-Error-Code", code), ("BITS-Error", code))
    return ack(status, *more, *codes, ("BITS-Error-Context", context))


PONG = ack()
CLOSED = ack(200, NAMED)
CLOSED_BY_IIS = ack(200, PRAGMA)
LOST = error(500, "0x8020001F", NAMED)

CREATE = ("Create-Session", None, None)
PING = ("Ping", None, None)
CLOSE = ("Close-Session", ID, None)
CANCEL = ("Cancel-Session", ID, None)


def fragment(first: int, last: int, named: str = ID, total: int = 30_000):
    return ("Fragment", named, f"bytes {first}-{last}/{total}")


ALL = [fragment(0, 12_287), fragment(12_288, 24_575), fragment(24_576, 29_999)]


def said(server: Scripted) -> list[tuple[str | None, str | None, str | None]]:
    return [
        (asked.packet, asked.get("BITS-Session-Id"), asked.span)
        for asked in server.asked
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "report.dat"
    path.write_bytes(ENTITY)
    return path


async def told(source: Path, *answers: bytes | None, terms: Terms = TERMS) -> Scripted:
    """An upload that is answered so, and works."""
    async with scripted(in_turn(*answers)) as server:
        await upload(source, f"{server.url}/in/report.dat", terms=terms)
    return server


async def refused(
    source: Path, *answers: bytes | None
) -> tuple[TransferFailed, Scripted]:
    """An upload that is answered so, and does not."""
    async with scripted(in_turn(*answers)) as server:
        with pytest.raises(TransferFailed) as raised:
            await upload(source, f"{server.url}/in/report.dat", terms=TERMS)
    assert not raised.value.resumable
    return raised.value, server


def check(asked: Asked) -> None:
    """What every packet has."""
    fields = {name.lower(): value for name, value in asked.fields}
    assert (asked.method, asked.version) == ("BITS_POST", "HTTP/1.1")
    assert asked.target == "/in/report.dat"
    assert fields["accept"] == "*/*"
    assert fields["content-length"] == str(len(asked.body))
    assert fields["user-agent"].startswith("bitsd/")
    assert "transfer-encoding" not in fields
    assert "expect" not in fields


# Simple uploads.


@pytest.mark.parametrize("echoes", [True, False])
async def test_simple_upload(source: Path, *, echoes: bool):
    """IIS leaves the session id out of all Acks but the first."""
    answers = [received(offset) for offset in (12_288, 24_576, 30_000)]
    if not echoes:
        answers = [
            said.replace(f"BITS-Session-Id: {ID}\r\n".encode(), b"") for said in answers
        ]
    server = await told(
        source, created(), *answers, CLOSED if echoes else CLOSED_BY_IIS
    )

    assert said(server) == [CREATE, *ALL, CLOSE]
    assert b"".join(asked.body for asked in server.asked) == ENTITY
    assert server.asked[0].get("BITS-Supported-Protocols") == PROTOCOL
    assert server.connections == 1
    for asked in server.asked:
        check(asked)


@pytest.mark.parametrize("literal", [True, False])
async def test_resumed_after_a_disconnect(source: Path, *, literal: bool):
    """The connection died inside the second fragment; 20,000 bytes were stored."""
    held = received(20_000, status=416 if literal else 200)
    server = await told(
        source,
        created(),
        received(12_288),
        HANG_UP,
        PONG,
        held,
        received(30_000),
        CLOSED,
    )

    assert said(server) == [
        CREATE,
        ALL[0],
        ALL[1],
        PING,
        fragment(12_288, 12_288 + SMALL - 1),
        fragment(20_000, 29_999),
        CLOSE,
    ]
    assert [asked.connection for asked in server.asked] == [1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("status", [200, 416])
async def test_gap_is_filled_from_where_the_server_says(source: Path, status: int):
    server = await told(
        source,
        created(),
        received(20_000),
        received(12_288, status=status),
        received(24_576),
        received(30_000),
        CLOSED,
    )

    assert said(server) == [
        CREATE,
        ALL[0],
        fragment(20_000, 29_999),
        ALL[1],
        ALL[2],
        CLOSE,
    ]


async def test_overlap_is_taken_as_the_server_takes_it(source: Path):
    server = await told(
        source,
        created(),
        received(12_288),
        received(24_576),
        received(20_000),
        received(30_000),
        CLOSED,
    )

    assert said(server)[-3:] == [ALL[2], fragment(20_000, 29_999), CLOSE]


async def test_duplicate_of_what_was_lost_shows_that_it_was_not(source: Path):
    """All arrived and no Ack came; the last bytes again, which are already held."""
    server = await told(
        source,
        created(),
        received(12_288),
        received(24_576),
        HANG_UP,
        PONG,
        received(30_000),
        received(30_000),
        CLOSED,
    )

    assert said(server)[-4:] == [
        PING,
        fragment(24_576, 24_576 + SMALL - 1),
        fragment(30_000 - SMALL, 29_999),
        CLOSE,
    ]


async def test_unknown_session_is_replaced(source: Path):
    close = ack(200, ("BITS-Session-Id", OTHER))
    server = await told(
        source,
        created(),
        received(12_288),
        LOST,
        created(OTHER),
        received(12_288),
        received(24_576),
        received(30_000),
        close,
    )

    again = [(packet, OTHER, span) for packet, _named, span in [*ALL, CLOSE]]
    assert said(server) == [CREATE, *ALL[:2], CREATE, *again]


# Refusals.


async def test_file_over_the_limit_is_told(source: Path):
    failure, server = await refused(source, created(), error(500, "0x80200020", NAMED))

    assert (failure.status, failure.code) == (500, 0x80200020)
    assert "maximum_upload_size" in str(failure)
    assert said(server) == [CREATE, ALL[0]]


@pytest.mark.parametrize("by_proxy", [True, False])
async def test_fragment_over_the_limit_is_halved(source: Path, *, by_proxy: bool):
    page = ("Content-Type", "text/html")
    large = answer(413, page, body=b"<html>") if by_proxy else ack(413, NAMED)
    offsets = (6_144, 12_288, 18_432, 24_576, 30_000)
    server = await told(source, created(), large, *map(received, offsets), CLOSED)

    assert server.spans[:3] == [
        "bytes 0-12287/30000",
        "bytes 0-6143/30000",
        "bytes 6144-12287/30000",
    ]


@pytest.mark.parametrize("late", [True, False])
async def test_file_that_exists_is_told(source: Path, *, late: bool):
    exists = error(403, "0x80070005")
    before = [created(), received(12_288), received(24_576)] if late else []
    failure, _server = await refused(source, *before, exists)

    assert (failure.status, failure.code) == (403, 0x80070005)
    assert "the file exists" in str(failure)


async def test_malformed_packet_is_told(source: Path):
    failure, _server = await refused(source, error(400, "0x80070057"))

    assert (failure.status, failure.code) == (400, 0x80070057)


# Host ids.


async def test_node_that_has_the_session_is_asked(
    source: Path, monkeypatch: pytest.MonkeyPatch
):
    node = ("BITS-Host-Id", "node3.example.test")
    fallback = ("BITS-Host-Id-Fallback-Timeout", "86400")
    answers = [received(offset) for offset in (12_288, 24_576, 30_000)]
    script = in_turn(created(ID, node, fallback), PONG, *answers, CLOSED)
    async with scripted(script) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        url = "http://farm.example.test:8080/in/report.dat"
        await upload(source, url, terms=TERMS)

    assert said(proxy) == [CREATE, PING, *ALL, CLOSE]
    hosts = [asked.get("Host") for asked in proxy.asked]
    assert hosts == ["farm.example.test:8080", *["node3.example.test:8080"] * 5]


# Replies.


@dataclass
class Replying:
    """Whole files that are answered with a reply."""

    url: str
    fails: int = 0

    def __call__(self, asked: Asked) -> bytes:
        if asked.method == "GET":
            return answer(200, ("Accept-Ranges", "bytes"), body=b"done")
        if asked.packet == "Create-Session":
            return created()
        if asked.packet != "Fragment":
            return CLOSED
        last = int((asked.span or "").partition("-")[2].partition("/")[0])
        if last != 29_999:
            return received(last + 1)
        self.fails -= 1
        if self.fails >= 0:
            context = ("BITS-Received-Content-Range", "30000")
            return error(503, "0x8020001E", NAMED, context, context="0x7")
        return received(30_000, ("BITS-Reply-URL", self.url))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (
            "http://{}/in/bits-replies/%7B7C1D%7D",
            "/in/bits-replies/%7B7C1D%7D",
        ),
        (
            r"BITS-Sessions\Replies\{{7C1D}}\responsefile.bin",
            "/in/BITS-Sessions/Replies/%7B7C1D%7D/responsefile.bin",
        ),
        ("/other/reply?x=1", "/other/reply?x=1"),
    ],
)
async def test_reply_is_fetched_before_the_close(
    source: Path, tmp_path: Path, url: str, target: str
):
    replying = Replying("")
    async with scripted(replying) as server:
        replying.url = url.format(server.url.removeprefix("http://"))
        terms = Terms(fragment_size=PART, reply=tmp_path / "reply")
        done = await upload(source, f"{server.url}/in/report.dat", terms=terms)

    assert [asked.method for asked in server.asked[-2:]] == ["GET", "BITS_POST"]
    assert server.asked[-2].target == target
    assert server.asked[-2].get("Accept-Encoding") == "identity"
    assert (tmp_path / "reply").read_bytes() == b"done"
    assert done.reply_url == replying.url
    assert names(tmp_path) == ["reply", "report.dat", "state"]


async def test_reply_that_nobody_asked_for_is_told_of(source: Path):
    async with scripted(Replying("/reply")) as server:
        done = await upload(source, f"{server.url}/in/report.dat", terms=TERMS)

    assert done.reply_url == "/reply"
    assert {asked.method for asked in server.asked} == {"BITS_POST"}


async def test_reply_elsewhere_is_fetched_as_nobody(source: Path, tmp_path: Path):
    options = Options(user="alice", password="secret", headers=(("X-Token", "1"),))
    terms = Terms(fragment_size=PART, reply=tmp_path / "reply")
    static, replying = in_turn(answer(200, body=b"static")), Replying("")
    async with scripted(static) as other, scripted(replying) as server:
        replying.url = f"{other.url}/pkg.cab"
        url = f"{server.url}/in/report.dat"
        await upload(source, url, options=options, terms=terms)

    assert (tmp_path / "reply").read_bytes() == b"static"
    assert server.asked[0].get("X-Token") == "1"
    assert other.asked[0].get("X-Token") is None
    assert other.asked[0].get("Authorization") is None


async def test_application_that_fails_is_told_again(source: Path):
    async with scripted(Replying("/reply", fails=2)) as server:
        await upload(source, f"{server.url}/in/report.dat", terms=TERMS)

    last = fragment(30_000 - SMALL, 29_999)
    assert said(server) == [CREATE, *ALL, PING, last, PING, last, CLOSE]


# The rest.


async def test_interrupted_upload_is_cancelled(source: Path):
    script = in_turn(created(), error(403, "0x80070005"), PONG, CLOSED)
    async with scripted(script) as server:
        url = f"{server.url}/in/report.dat"
        with pytest.raises(TransferFailed):
            await upload(source, url, terms=TERMS)
        await cancel(source, url)

    assert said(server) == [CREATE, ALL[0], PING, CANCEL]


@pytest.mark.parametrize("resumed", [True, False])
async def test_challenge_is_answered_before_a_body_is_sent(
    source: Path, *, resumed: bool
):
    basic = ("WWW-Authenticate", 'Basic realm="bits"')
    challenge = ack(401, basic)
    options = Options(user="u", password="p")
    answers = [received(offset) for offset in (12_288, 24_576, 30_000)]
    begin = [created(), HANG_UP, challenge, PONG] if resumed else [challenge, created()]
    async with scripted(in_turn(*begin, *answers, CLOSED)) as server:
        url = f"{server.url}/in/report.dat"
        await upload(source, url, options=options, terms=TERMS)

    sent = [asked.get("Authorization") for asked in server.asked]
    unasked = 3 if resumed else 1
    assert sent[:unasked] == [None] * unasked
    assert set(sent[unasked:]) == {"Basic dTpw"}


async def test_server_of_another_protocol_is_told(source: Path):
    failure, server = await refused(source, error(400, "0x80070057"))

    assert failure.status == 400
    assert said(server) == [CREATE]
