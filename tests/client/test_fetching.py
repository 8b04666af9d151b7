"""Downloads from a server that answers as it is told."""

import asyncio
import email.utils
import hashlib
import os
import random
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from scripted import HANG_UP, Asked, answer, in_turn, scripted

from bitsd.client import fetching, spans
from bitsd.client.download import destination, download
from bitsd.client.fetching import How
from bitsd.client.options import Options
from bitsd.client.partial import part_of, state_of
from bitsd.client.progress import Event, Kind, TransferFailed

CONTENT = random.Random(1).randbytes(100_000)
MODIFIED = ("Last-Modified", "Tue, 24 Nov 2026 10:00:00 GMT")
DATE = ("Date", "Tue, 24 Nov 2026 11:00:00 GMT")
ETAG = ("ETag", '"one"')
DAY = timedelta(days=1)

#: BITSD_LONG=1 runs many more.
SEEDS = 2000 if os.environ.get("BITSD_LONG") else 12

AT_ONCE = How(retry_for=timedelta(0))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch):
    """Waits are counted, and not waited for."""
    monkeypatch.setattr("bitsd.client.retry.FIRST_SECONDS", 0.0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Told(list[Event]):
    def __init__(self) -> None:
        self.something = asyncio.Event()

    def kinds(self) -> list[str]:
        """What was told, but for progress."""
        return [str(event.event) for event in self if event.event is not Kind.PROGRESS]

    def __call__(self, event: Event) -> None:
        self.append(event)
        self.something.set()

    def reasons(self, kind: Kind) -> list[str | None]:
        return [event.reason for event in self if event.event is kind]


@pytest.fixture
def told() -> Told:
    return Told()


def offered(content: bytes = CONTENT, *fields) -> Callable[[Asked], bytes]:
    """A server that knows ranges and If-Range, by RFC 9110."""
    marks = fields or (ETAG, MODIFIED, DATE)

    def script(asked: Asked) -> bytes:
        wanted, on = asked.get("Range"), asked.get("If-Range")
        known = [value for name, value in marks if name in ("ETag", "Last-Modified")]
        if wanted is None or (on is not None and on not in known):
            return answer(200, *marks, body=content)
        return part(content, wanted, *marks)

    return script


def part(content: bytes, wanted: str, *fields) -> bytes:
    first, last = map(int, wanted.removeprefix("bytes=").split("-"))
    body = content[first : last + 1]
    span = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
    return answer(206, ("Content-Range", span), *fields, body=body)


def chunked(span: str, body: bytes) -> bytes:
    """A range that does not say how long it is."""
    fields = f"Transfer-Encoding: chunked\r\nContent-Range: bytes {span}/100000\r\n"
    head = f"HTTP/1.1 206 P\r\n{ETAG[0]}: {ETAG[1]}\r\n{fields}\r\n"
    return head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def cut(said: bytes, *, after: int) -> bytes:
    """An answer whose connection ends after so many bytes of the body."""
    head, _, body = said.partition(b"\r\n\r\n")
    return head + b"\r\nConnection: close\r\n\r\n" + body[:after]


async def test_whole_file_is_asked_for_without_a_range(tmp_path: Path, told: Told):
    async with scripted(offered()) as server:
        done = await download(f"{server.url}/a/b%20c.ckm", tmp_path, progress=told)

    assert done.path == tmp_path / "b c.ckm"
    assert done.fetched
    assert done.path.read_bytes() == CONTENT
    assert (
        done.path.stat().st_mtime
        == email.utils.parsedate_to_datetime(MODIFIED[1]).timestamp()
    )
    assert names(tmp_path) == [done.path.name]
    assert [(asked.method, asked.get("Range")) for asked in server.asked] == [
        ("GET", None)
    ]
    assert server.asked[0].get("Accept-Encoding") == "identity"
    assert told.kinds() == ["started", "done"]
    assert [event.held for event in told][-1] == len(CONTENT)


@pytest.mark.parametrize(
    ("fields", "validator"),
    [
        ((ETAG, MODIFIED, DATE), ETAG[1]),
        ((MODIFIED, DATE), MODIFIED[1]),
        ((("ETag", 'W/"x"'), MODIFIED, DATE), MODIFIED[1]),
    ],
)
async def test_broken_connection_costs_nothing(
    tmp_path: Path, told: Told, fields, validator
):
    offer = offered(CONTENT, *fields)

    def script(asked: Asked) -> bytes:
        number = len(server.asked)
        said = offer(asked)
        return cut(said, after=30_000) if number <= 2 else said

    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [
        None,
        "bytes=30000-99999",
        "bytes=60000-99999",
    ]
    assert [asked.get("If-Range") for asked in server.asked] == [
        None,
        validator,
        validator,
    ]
    assert told.kinds() == ["started", "waiting", "waiting", "done"]


@pytest.mark.parametrize(
    "fields", [(("X", "y"),), (MODIFIED,), (("ETag", 'W/"x"'),), (MODIFIED, MODIFIED)]
)
async def test_file_of_no_version_is_started_over(tmp_path: Path, told: Told, fields):
    def script(asked: Asked) -> bytes:
        said = answer(200, *fields, body=CONTENT)
        return cut(said, after=70_000) if len(server.asked) == 1 else said

    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [None, None]
    assert told.kinds() == ["started", "waiting", "again", "started", "done"]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (lambda asked: answer(200, ETAG, MODIFIED, DATE, body=CONTENT), "no ranges"),
        (lambda asked: part(CONTENT[:-1], asked.get("Range"), ETAG), "changed"),
        (lambda asked: part(CONTENT, asked.get("Range"), ("ETag", '"b"')), "changed"),
        (lambda asked: part(CONTENT, asked.get("Range")), "changed"),
        (lambda asked: part(CONTENT, "bytes=2-9", ETAG), "another range"),
        (lambda asked: answer(206, ETAG, body=CONTENT), "which range"),
        (lambda asked: answer(416), "no such range"),
        (
            lambda asked: answer(
                206, ETAG, ("Content-Type", "multipart/byteranges; boundary=b")
            ),
            "which range",
        ),
    ],
)
async def test_what_would_not_fit_is_not_taken(
    tmp_path: Path, told: Told, second, said
):
    def script(asked: Asked) -> bytes:
        if len(server.asked) == 2:
            return second(asked)
        whole = offered()(asked)
        return cut(whole, after=70_000) if len(server.asked) == 1 else whole

    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    assert server.asked[2].get("Range") is None
    assert told.kinds() == ["started", "waiting", "again", "started", "done"]
    assert said in told.reasons(Kind.AGAIN)[0]


async def test_server_without_ranges_is_not_asked_for_them_twice(
    tmp_path: Path, told: Told
):
    def script(asked: Asked) -> bytes:
        said = answer(200, ETAG, body=CONTENT)
        return cut(said, after=70_000) if len(server.asked) in (1, 3) else said

    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [
        None,
        "bytes=70000-99999",
        None,
        None,
    ]


async def test_file_that_changes_all_the_time_is_fetched_in_one_piece(tmp_path: Path):
    """As from servers behind one name that have each an ETag of their own."""

    def script(asked: Asked) -> bytes:
        mine = ("ETag", f'"{len(server.asked)}"')
        said = answer(200, mine, body=CONTENT)
        return said if len(server.asked) == 7 else cut(said, after=70_000)

    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f")

    assert done.path.read_bytes() == CONTENT
    ranges = [asked.get("Range") is not None for asked in server.asked]
    assert ranges == [False, True, False, True, False, True, False]


@pytest.mark.parametrize("number", [1, 3])
async def test_empty_file_is_fetched(tmp_path: Path, number: int):
    def script(asked: Asked) -> bytes:
        if asked.get("Range") is not None:
            return answer(416, ("Content-Range", "bytes */0"))
        return answer(200, ETAG)

    async with scripted(script) as server:
        done = await download(
            f"{server.url}/a", tmp_path / "f", how=How(connections=number)
        )

    assert done.path.read_bytes() == b""
    assert names(tmp_path) == [done.path.name]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answer(404), "no such file"),
        (answer(403), "does not allow"),
        (answer(501), "501"),
        (answer(200, ("Content-Encoding", "gzip"), body=b"x"), "gzip"),
        (part(CONTENT, "bytes=0-9", ETAG), "a range though"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            "how long",
        ),
    ],
)
async def test_refusal_is_final_and_leaves_nothing(tmp_path: Path, said: bytes, reason):
    async with scripted(in_turn(said)) as server:
        with pytest.raises(TransferFailed, match=reason) as caught:
            await download(f"{server.url}/a", tmp_path / "f")

    assert not caught.value.resumable
    assert names(tmp_path) == []


async def test_busy_server_is_asked_again(tmp_path: Path, told: Told):
    script = in_turn(
        *(HANG_UP, HANG_UP),  # for aiohttp repeats a GET once by itself
        answer(503, ("Retry-After", "0")),
        answer(429),
        answer(200, ETAG, body=CONTENT),
    )
    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    assert told.kinds() == ["waiting", "waiting", "waiting", "started", "done"]


async def test_server_says_how_long_to_wait(tmp_path: Path, told: Told):
    async with scripted(in_turn(answer(503, ("Retry-After", "1000")))) as server:
        waiting = asyncio.create_task(
            download(f"{server.url}/a", tmp_path / "f", progress=told)
        )
        await told.something.wait()
        waiting.cancel()
        await asyncio.wait([waiting])

    assert told[0].seconds == 1000


async def test_no_progress_for_too_long_is_the_end_for_now(tmp_path: Path):
    async with scripted(lambda _asked: answer(503)) as server:
        with pytest.raises(TransferFailed, match="503") as caught:
            await download(f"{server.url}/a", tmp_path / "f", how=AT_ONCE)

    assert caught.value.resumable
    assert len(server.asked) == 1
    assert names(tmp_path) == []


async def test_another_download_goes_on_where_one_gave_up(tmp_path: Path, told: Told):
    async with scripted(lambda asked: cut(offered()(asked), after=30_000)) as server:
        url = f"{server.url}/a"
        with pytest.raises(TransferFailed):
            await download(url, tmp_path / "f", how=AT_ONCE)
        server.script = offered()
        done = await download(url, tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    assert told[0].held == 30_000
    assert server.asked[-1].get("Range") == "bytes=30000-99999"
    assert names(tmp_path) == [done.path.name]


@pytest.mark.parametrize("number", [1, 3])
async def test_file_that_changed_between_two_downloads_is_started_over(
    tmp_path: Path, told: Told, number: int
):
    new = CONTENT[::-1]
    how = How(connections=number, retry_for=timedelta(0))
    async with scripted(lambda asked: cut(offered()(asked), after=30_000)) as server:
        url = f"{server.url}/a"
        with pytest.raises(TransferFailed):
            await download(url, tmp_path / "f", how=how)
        server.script = offered(new, ("ETag", '"two"'))
        done = await download(url, tmp_path / "f", how=how, progress=told)

    assert done.path.read_bytes() == new
    assert told.reasons(Kind.AGAIN) == ["the file changed on the server"]


async def test_what_came_of_another_url_is_not_used(tmp_path: Path):
    async with scripted(lambda asked: cut(offered()(asked), after=30_000)) as server:
        with pytest.raises(TransferFailed):
            await download(f"{server.url}/a", tmp_path / "f", how=AT_ONCE)
        server.script = offered()
        await download(f"{server.url}/b", tmp_path / "f")

    assert server.asked[-1].get("Range") is None


async def test_last_byte_is_asked_for_even_if_all_came(tmp_path: Path, told: Told):
    """A crash between the last byte and the end; the file may have changed since."""
    async with scripted(lambda asked: cut(offered()(asked), after=99_999)) as server:
        url = f"{server.url}/a"
        with pytest.raises(TransferFailed):
            await download(url, tmp_path / "f", how=AT_ONCE)
        state = state_of(tmp_path / "f")
        text = state.read_text()
        assert "[[0, 99998]]" in text
        state.write_text(text.replace("[[0, 99998]]", "[[0, 99999]]"))
        server.script = offered()
        await download(url, tmp_path / "f")

    assert server.asked[-1].get("Range") == "bytes=99999-99999"


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ((MODIFIED,), True),
        ((("Last-Modified", "Tue, 24 Nov 2026 10:00:01 GMT"),), False),
        ((ETAG,), False),
    ],
)
async def test_file_that_is_here_is_left_alone(
    tmp_path: Path, told: Told, fields, *, same: bool
):
    def script(asked: Asked) -> bytes:
        said = answer(200, *fields, body=CONTENT)
        return said[: -len(CONTENT)] if asked.method == "HEAD" else said

    async with scripted(offered()) as server:
        await download(f"{server.url}/a", tmp_path / "f")
    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.fetched is not same
    assert [asked.method for asked in server.asked] == ["HEAD", "GET"][: 2 - same]
    what = "already there" if same else "fetched"
    assert told.reasons(Kind.DONE) == [f"{what}, {len(CONTENT)} bytes"]
    assert names(tmp_path) == ["f"]


async def test_file_that_is_here_is_fetched_by_force(tmp_path: Path):
    async with scripted(offered()) as server:
        await download(f"{server.url}/a", tmp_path / "f")
        await download(f"{server.url}/a", tmp_path / "f", how=How(force=True))

    assert [asked.method for asked in server.asked] == ["GET", "GET"]


@pytest.mark.parametrize("head", [405, 501, 404])
async def test_server_without_head_is_asked_by_get(tmp_path: Path, head: int):
    (tmp_path / "f").write_bytes(b"old")
    script = in_turn(answer(503), answer(head), answer(200, ETAG, body=CONTENT))
    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f")

    assert done.path.read_bytes() == CONTENT
    assert [asked.method for asked in server.asked] == ["HEAD", "HEAD", "GET"]


@pytest.mark.parametrize(
    "said",
    [
        chunked("30000-99999", b"x"),
        chunked("30000-30001", b"xyz"),
    ],
    ids=["less", "more"],
)
async def test_body_of_another_length_than_was_announced(
    tmp_path: Path, told: Told, said: bytes
):
    def script(asked: Asked) -> bytes:
        number = len(server.asked)
        if number == 1:
            return cut(offered()(asked), after=30_000)
        return (
            said.replace(b"x", CONTENT[30000:30001])
            if number == 2
            else offered()(asked)
        )

    async with scripted(script) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    assert "bytes came than were announced" in told.reasons(Kind.WAITING)[1]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spans, "SMALLEST_PIECE", 7_000)
    monkeypatch.setattr(fetching, "SMALLEST_PIECE", 7_000)


@pytest.mark.usefixtures("small_pieces")
async def test_connections_fetch_different_ranges(tmp_path: Path, told: Told):
    async with scripted(offered()) as server:
        how = How(connections=3)
        done = await download(f"{server.url}/a", tmp_path / "f", how=how, progress=told)

    assert done.path.read_bytes() == CONTENT
    assert server.asked[0].get("Range") == "bytes=0-6999"
    ranges = [asked.get("Range") for asked in server.asked]
    assert len(set(ranges)) == len(ranges) == 13
    assert 2 <= server.connections <= 4
    assert told.kinds() == ["started", "done"]


@pytest.mark.usefixtures("small_pieces")
async def test_server_without_versions_is_asked_for_one_piece(
    tmp_path: Path, told: Told
):
    async with scripted(offered(CONTENT, ("ETag", 'W/"x"'))) as server:
        how = How(connections=3)
        done = await download(f"{server.url}/a", tmp_path / "f", how=how, progress=told)

    assert done.path.read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == ["bytes=0-6999", None]


@pytest.mark.usefixtures("small_pieces")
async def test_server_without_ranges_is_asked_by_one_connection(tmp_path: Path):
    async with scripted(lambda _asked: answer(200, ETAG, body=CONTENT)) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", how=How(connections=3))

    assert done.path.read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_versions_are_never_mixed(tmp_path: Path, seed: int):
    """A file that is replaced at any time, over connections that break at any time."""
    dice = random.Random(seed)
    versions = [dice.randbytes(50_000) for _ in range(3)]
    all_versions = list(versions)
    obeys = dice.random() < 0.5

    def script(asked: Asked) -> bytes:
        if dice.random() < 0.2 and len(versions) > 1:
            versions.pop(0)
        etag = ("ETag", f'"{len(versions)}"')
        wanted, on = asked.get("Range"), asked.get("If-Range")
        if wanted is None or (obeys and on not in (None, etag[1])):
            said = answer(200, etag, body=versions[0])
        else:  # so does a server that has never heard of If-Range
            said = part(versions[0], wanted, etag)
        if dice.random() < 0.3:
            return cut(said, after=dice.randrange(20_000))
        return said if dice.random() < 0.9 else answer(503)

    how = How(connections=1 + seed % 4, retry_for=timedelta(0) if seed % 3 else DAY)
    async with scripted(script) as server:
        for _ in range(30):  # for it gives up in between, too
            with suppress(TransferFailed):
                await download(f"{server.url}/a", tmp_path / "f", how=how)
                break

    assert (tmp_path / "f").read_bytes() in all_versions


@pytest.mark.parametrize(
    ("url", "file", "expected"),
    [
        ("http://h/a/b.ckm", None, "b.ckm"),
        ("https://h/a/b%20c?x=y", None, "b c"),
        ("http://h/a/b", "c", "c"),
        ("http://h/a/b", ".", "b"),
    ],
)
def test_file_is_named_as_the_url(url: str, file: str | None, expected: str):
    assert destination(url, None if file is None else Path(file)) == Path(expected)


@pytest.mark.parametrize(
    "url",
    [
        *("http://h/", "http://h", "http://h/a/", "http://h/..", "http://h/%2e%2e"),
        *("http://h/a%2Fb", "http://h/a%00", "ftp://h/a", "a.ckm", "http:///a"),
    ],
)
def test_name_that_no_file_can_have_is_refused(url: str):
    with pytest.raises(ValueError, match=r"URL|FILE"):
        destination(url, None)


async def test_two_downloads_do_not_write_one_file(tmp_path: Path, told: Told):
    begun = cut(answer(200, ETAG, body=CONTENT), after=5)
    async with scripted(lambda _asked: answer(503) if told else begun) as server:
        url = f"{server.url}/a"
        first = asyncio.create_task(
            download(
                url, tmp_path / "f", progress=told, how=How(retry_for=timedelta(days=1))
            )
        )
        await told.something.wait()
        with pytest.raises(TransferFailed, match="another process"):
            await download(url, tmp_path / "f")
        assert part_of(tmp_path / "f").exists()
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize(
    ("place", "reason"),
    [("no/f", "No such file or directory"), ("pipe", "no plain file"), ("link", "sym")],
)
async def test_place_where_nothing_can_be_written(tmp_path: Path, place: str, reason):
    os.mkfifo(tmp_path / "pipe")
    part_of(tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(TransferFailed, match=reason):
        await download("http://127.0.0.1:1/a", tmp_path / place)


async def test_unfinished_file_of_another_program_is_left_alone(tmp_path: Path):
    """Browsers call theirs FILE.part, too."""
    for name in ("f.part", "f.part.state"):
        (tmp_path / name).write_text("thesis")
    async with scripted(lambda asked: cut(offered()(asked), after=30_000)) as server:
        with pytest.raises(TransferFailed):
            await download(f"{server.url}/a", tmp_path / "f", how=AT_ONCE)
        server.script = offered()
        await download(f"{server.url}/a", tmp_path / "f")

    assert names(tmp_path) == ["f", "f.part", "f.part.state"]
    assert (tmp_path / "f.part").read_text() == "thesis"
    assert (tmp_path / "f.part.state").read_text() == "thesis"


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "a" * 238])
async def test_file_may_have_the_longest_name(tmp_path: Path, name: str):
    async with scripted(lambda asked: cut(offered()(asked), after=30_000)) as server:
        with pytest.raises(TransferFailed):
            await download(f"{server.url}/a", tmp_path / name, how=AT_ONCE)
        server.script = offered()
        await download(f"{server.url}/a", tmp_path / name)

    assert server.asked[-1].get("Range") == "bytes=30000-99999"
    assert names(tmp_path) == [name]


async def test_unusable_certificates_are_told(tmp_path: Path):
    options = Options(ca=tmp_path / "none.pem")
    with pytest.raises(TransferFailed, match=r"none\.pem"):
        await download("https://127.0.0.1:1/a", tmp_path / "f", options=options)

    assert names(tmp_path) == []


async def test_large_file_is_written_block_by_block(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "SAVE_SECONDS", 0.0)
    content = random.Random(2).randbytes(5_000_000)
    async with scripted(offered(content)) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    found = hashlib.sha256(done.path.read_bytes()).digest()
    assert found == hashlib.sha256(content).digest()
    assert len([event for event in told if event.event is Kind.PROGRESS]) > 3


async def test_server_that_is_not_trusted_is_not_asked_again(tmp_path: Path):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with scripted(in_turn(), tls) as server:
        with pytest.raises(TransferFailed, match="not trusted") as caught:
            await download(f"{server.url}/a", tmp_path / "f")

    assert not caught.value.resumable


async def test_waits_do_not_grow_while_something_comes(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bitsd.client.retry.FIRST_SECONDS", 1e-6)
    async with scripted(lambda asked: cut(offered()(asked), after=4_000)) as server:
        done = await download(f"{server.url}/a", tmp_path / "f", progress=told)

    assert done.path.read_bytes() == CONTENT
    waits = [event.seconds for event in told if event.event is Kind.WAITING]
    assert len(waits) == 24
    assert max(waits) <= 1.25e-6


@pytest.mark.parametrize("marks", [(), (("ETag", 'W/"x"'),), "new"])
async def test_server_that_never_gets_to_the_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marks
):
    """It sends the same bytes each time, and nothing that tells versions apart."""
    monkeypatch.setattr("bitsd.client.retry.FIRST_SECONDS", 0.001)

    def script(_asked: Asked) -> bytes:
        fields = (("ETag", f'"{len(server.asked)}"'),) if marks == "new" else marks
        return cut(answer(200, *fields, body=CONTENT), after=1000)

    how = How(retry_for=timedelta(seconds=0.3))
    async with scripted(script) as server:
        with pytest.raises(TransferFailed, match="gave up") as caught:
            await download(f"{server.url}/a", tmp_path / "f", how=how)

    assert caught.value.resumable


async def test_all_of_a_new_version_is_progress(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
):
    """However much had come of the one before."""
    monkeypatch.setattr("bitsd.client.retry.FIRST_SECONDS", 1e-6)

    def script(asked: Asked) -> bytes:
        number = len(server.asked)
        mark = ("ETag", '"new"' if number > 1 else '"old"')
        said = offered(CONTENT, mark)(asked)
        return cut(said, after=90_000 if number == 1 else 1_000)

    async with scripted(script) as server:
        await download(f"{server.url}/a", tmp_path / "f", progress=told)

    waits = [event.seconds for event in told if event.event is Kind.WAITING]
    assert len(waits) == 100
    assert max(waits) <= 1.25e-6


async def test_failure_of_one_connection_is_known_when_all_have_ended():
    """For what they still write is of the version that is no longer wanted."""
    ended = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended.append("slow")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise TransferFailed("it failed")

    with pytest.raises(TransferFailed):
        await fetching._together([slow(), failing(), slow()])

    assert ended == ["slow", "slow"]
