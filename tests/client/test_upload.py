"""Uploads to a server, past what may happen to them."""

import asyncio
import os
import shutil
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import proxies
import pytest
from relay import relay
from scripted import HANG_UP, ack, answer, in_turn, scripted
from sites import Application, Serve, Site, write

import bitsd
from bitsd.client import upload as module
from bitsd.client.options import Options
from bitsd.client.progress import Event, Kind, TransferFailed
from bitsd.client.upload import Terms, Uploaded, cancel, destination, upload
from bitsd.protocol.wire import PROTOCOL

ENTITY = bytes(n % 251 for n in range(1_000_000))

#: Bytes by which a client finds out what a server holds.
SMALL = 5_120

#: A head of a packet has no more than so many bytes.
HEAD = 700

TERMS = Terms(fragment_size=200_000)

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "report.7z"
    path.write_bytes(ENTITY)
    return path


def notes(state: Path) -> list[str]:
    return [path.suffix for path in state.iterdir()] if state.exists() else []


async def failed(source: Path, url: str, terms: Terms = TERMS) -> TransferFailed:
    with pytest.raises(TransferFailed) as raised:
        await upload(source, url, terms=terms)
    return raised.value


# What is uploaded, and where to.


async def test_file_is_uploaded(site: Site, source: Path, state: Path):
    done = await bitsd.upload(source, f"{site.url}/in/")

    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert (done.url, done.size) == (f"{site.url}/in/report.7z", len(ENTITY))
    assert done.sent == len(ENTITY)
    assert done.seconds > 0
    assert done.reply_url is None
    assert site.sessions == []
    assert notes(state) == []


async def test_empty_file_is_uploaded(site: Site, tmp_path: Path):
    (tmp_path / "empty").touch()
    done = await upload(tmp_path / "empty", f"{site.url}/in/empty")

    assert (site.folder / "empty").read_bytes() == b""
    assert done.sent == 0


@pytest.mark.parametrize("name", ["a b%20c.7z", "größe ☃.7z", "q?x#y&z=1;+.7z"])
async def test_name_arrives_as_it_is(site: Site, tmp_path: Path, name: str):
    path = tmp_path / name
    write(str(path), b"12345")
    if "?" in name:  # which Windows does not allow
        failure = await failed(path, f"{site.url}/in/")
        assert failure.status == 400
    else:
        await upload(path, f"{site.url}/in/")
        assert (site.folder / name).read_bytes() == b"12345"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/in/", "http://h/in/a%20b%3F%25.7z"),
        ("HTTPS://h:81/in/?x=1", "https://h:81/in/a%20b%3F%25.7z?x=1"),
        ("http://h", "http://h/a%20b%3F%25.7z"),
        ("http://h/in/c d%20e#part", "http://h/in/c%20d%20e"),
        ("http://[::1]:81/in/é", "http://[::1]:81/in/%C3%A9"),
    ],
)
def test_url_that_ends_in_a_slash_gets_the_name(url: str, expected: str):
    assert str(destination(Path("/x/a b?%.7z"), url)) == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://h/", "is not http://HOST/PATH"),
        ("h/in/", "is not http://HOST/PATH"),
        ("http:///in/", "is not http://HOST/PATH"),
        ("http://h:x/", "port"),
        ("http://me@h/", "use --user"),
        ("http://me:secret@h/", "use --user"),
    ],
)
async def test_url_for_no_file_is_told(source: Path, url: str, said: str):
    with pytest.raises(ValueError, match=said):
        await upload(source, url)
    with pytest.raises(ValueError, match=said):
        await cancel(source, url)


@pytest.mark.parametrize("make", [None, Path.mkdir, os.mkfifo])
async def test_what_is_no_file_is_told(site: Site, tmp_path: Path, make):
    path = tmp_path / "thing"
    if make is not None:
        make(path)
    failure = await failed(path, f"{site.url}/in/")

    assert not failure.resumable
    assert str(path) in str(failure)


async def test_what_happens_is_told(source: Path):
    happened: list[Event] = []
    offsets = [(("BITS-Received-Content-Range", str(n))) for n in (600_000, 1_000_000)]
    acks = [ack(200, field) for field in offsets]
    script = in_turn(ack(503), created(), *acks, ack())
    async with scripted(script) as server:
        url = f"{server.url}/in/x"
        terms = Terms(fragment_size=600_000)
        await upload(source, url, terms=terms, progress=happened.append)

    started, waiting, *progress, done = happened
    of = partial(Event, file="report.7z", total=1_000_000)
    assert started == of(event=Kind.STARTED, held=0)
    assert waiting.seconds is not None
    assert waiting.seconds < 0.02
    assert waiting.reason is not None
    assert "HTTP 503" in waiting.reason
    said = {"reason": waiting.reason, "seconds": waiting.seconds}
    assert waiting == of(event=Kind.WAITING, held=0, **said)
    assert progress == [
        of(event=Kind.PROGRESS, held=offset)
        for offset in (262_144, 524_288, 600_000, 862_144, 1_000_000)
    ]
    reason = f"uploaded to {url}, 1000000 bytes"
    said = {"reason": reason, "seconds": done.seconds, "url": url}
    assert done == of(event=Kind.DONE, held=1_000_000, **said)


async def test_trouble_of_who_is_told_is_not_that_of_the_line(site: Site, source: Path):
    def full(event: Event) -> None:
        if event.event is Kind.PROGRESS:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await upload(source, f"{site.url}/in/", progress=full)


def created(named: str = "1") -> bytes:
    return ack(200, ("BITS-Session-Id", named), ("BITS-Protocol", PROTOCOL))


# Lines that break.


async def test_cut_connections_cost_few_bytes(site: Site, source: Path):
    budgets = [150_000, 1, 260_000, 70_000, 333_333]
    async with relay(site.url, *budgets) as line:
        done = await upload(source, f"{line.url}/in/", terms=TERMS)

    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert line.connections == 6
    # What was on its way when it broke, a small fragment each, and heads.
    again = line.carried - len(ENTITY)
    assert again < len(budgets) * (SMALL + 8 * HEAD)
    assert done.sent >= len(ENTITY)


async def test_line_that_is_down_is_given_up_and_gone_on_with(
    site: Site, source: Path, state: Path
):
    url = ""
    async with relay(site.url, 300_000, rest=iter([0] * 99)) as line:
        url = f"{line.url}/in/"
        terms = Terms(fragment_size=200_000, retry_for=timedelta(seconds=0.1))
        failure = await failed(source, url, terms)
        assert failure.resumable
        assert "broke" in str(failure)
        assert sorted(notes(state)) == [".json", ".lock"]

        before = line.carried
        line.budgets = iter([10**9])
        happened: list[Event] = []
        await upload(source, url, terms=TERMS, progress=happened.append)

    assert happened[0].held == 200_000
    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert line.carried - before < len(ENTITY) - 300_000 + SMALL + 16 * HEAD
    assert notes(state) == []


async def test_next_run_asks_from_the_last_acknowledged_byte_on(source: Path):
    """A server that had a power cut trusts no byte behind the first of a fragment."""
    received = [
        ack(200, ("BITS-Received-Content-Range", str(n))) for n in (600_000, 1_000_000)
    ]
    again = [ack(), received[0], received[1], ack()]
    script = in_turn(created(), received[0], answer(403), *again)
    terms = Terms(fragment_size=600_000)
    async with scripted(script) as server:
        await failed(source, f"{server.url}/in/", terms)
        await upload(source, f"{server.url}/in/", terms=terms)

    assert server.spans[1:] == [
        "bytes 600000-999999/1000000",
        "bytes 600000-605119/1000000",
        "bytes 600000-999999/1000000",
    ]


async def test_lost_session_is_begun_anew(site: Site, source: Path):
    await interrupted(site, source)
    write(str(site.folder / "BITS-Sessions" / site.sessions[0] / "session.json"), b"{")
    await upload(source, f"{site.url}/in/", terms=TERMS)

    assert (site.folder / "report.7z").read_bytes() == ENTITY


class Interrupted(Exception):
    """Stops an upload where a test wants it to."""


async def interrupted(site: Site, source: Path, at: int = 500_000) -> None:
    """Stop in the middle of a fragment."""

    def stop(event: Event) -> None:
        if event.event is Kind.PROGRESS and (event.held or 0) >= at:
            raise Interrupted

    with pytest.raises(Interrupted):
        await upload(source, f"{site.url}/in/", terms=TERMS, progress=stop)


def started(source: Path, url: str, begun: asyncio.Event) -> "asyncio.Task[Uploaded]":
    """An upload that tells when it sends."""

    def happened(event: Event) -> None:
        if event.event is Kind.PROGRESS:
            begun.set()

    return asyncio.create_task(upload(source, url, progress=happened))


async def stopped(task: "asyncio.Task[Uploaded]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_task_leaves_its_note(site: Site, source: Path, state: Path):
    begun = asyncio.Event()
    async with relay(site.url, limit=300_000) as line:
        task = started(source, f"{line.url}/in/", begun)
        await begun.wait()
        await stopped(task)

    assert sorted(notes(state)) == [".json", ".lock"]


# Files that change.


async def test_file_that_changed_since_is_not_gone_on_with(site: Site, source: Path):
    await interrupted(site, source)
    write(str(source), ENTITY[::-1])
    failure = await failed(source, f"{site.url}/in/")

    assert not failure.resumable
    assert str(failure).endswith("to upload it as it is now, say --restart")
    assert not (site.folder / "report.7z").exists()

    [old] = site.sessions
    terms = Terms(restart=True)
    await upload(source, f"{site.url}/in/", terms=terms)

    assert (site.folder / "report.7z").read_bytes() == ENTITY[::-1]
    assert old not in site.sessions


async def test_restart_does_not_need_the_old_session(site: Site, source: Path):
    await interrupted(site, source)
    [old] = site.sessions
    shutil.rmtree(site.folder / "BITS-Sessions" / old)
    await upload(source, f"{site.url}/in/", terms=Terms(restart=True))

    assert (site.folder / "report.7z").read_bytes() == ENTITY


async def test_restart_does_not_need_an_answer_about_the_old_session(source: Path):
    received = [("BITS-Received-Content-Range", "1000000")]
    again = [created("2"), ack(200, *received), ack()]
    script = in_turn(created(), answer(403), HANG_UP, *again)
    async with scripted(script) as server:
        await failed(source, f"{server.url}/in/")
        terms = Terms(fragment_size=len(ENTITY), restart=True)
        await upload(source, f"{server.url}/in/", terms=terms)

    assert server.packets[2:] == ["Ping", "Create-Session", "Fragment", "Close-Session"]


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def shorter(path: Path) -> None:
    os.truncate(path, 600_000)


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def gone(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    stat = path.stat()
    path.rename(path.with_suffix(".old"))
    path.write_bytes(ENTITY)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("at", [300_000, 1_000_000])
@pytest.mark.parametrize("change", [longer, shorter, touched, replaced, gone])
async def test_file_that_changes_meanwhile_is_not_published(
    site: Site, source: Path, change, at: int
):
    async with relay(site.url) as line:

        def happened(event: Event) -> None:
            if event.event is Kind.PROGRESS and event.held == at - at % 262_144:
                change(source)

        terms = Terms(fragment_size=1_000_000)
        with pytest.raises(TransferFailed) as raised:
            await upload(source, f"{line.url}/in/", terms=terms, progress=happened)

    assert not raised.value.resumable
    assert str(source) in str(raised.value)
    assert not (site.folder / "report.7z").exists()


async def test_empty_file_that_changes_meanwhile_is_not_published(
    site: Site, tmp_path: Path
):
    source = tmp_path / "empty"
    source.touch()

    def happened(_event: Event) -> None:
        source.write_bytes(b"more")

    with pytest.raises(TransferFailed, match="changed while it is uploaded; --restart"):
        await upload(source, f"{site.url}/in/", progress=happened)

    assert not (site.folder / "empty").exists()


# Two at once, and none any more.


async def test_second_upload_of_the_same_is_told(site: Site, source: Path):
    async with relay(site.url, limit=300_000) as line:
        begun = asyncio.Event()
        url = f"{line.url}/in/"
        first = started(source, url, begun)
        await begun.wait()
        failure = await failed(source, url)
        other = await upload(source, f"{site.url}/in/other")
        await stopped(first)

    assert str(failure).startswith(f"another bitsd uploads {source}")
    assert other.size == len(ENTITY)


async def test_upload_is_cancelled(site: Site, source: Path, state: Path):
    await interrupted(site, source)
    assert len(site.sessions) == 1
    await cancel(source, f"{site.url}/in/")

    assert site.sessions == []
    assert notes(state) == []
    with pytest.raises(TransferFailed, match="to that URL was begun here"):
        await cancel(source, f"{site.url}/in/")


async def test_upload_is_cancelled_without_its_file(site: Site, source: Path):
    await interrupted(site, source)
    gone(source)
    await cancel(source, f"{site.url}/in/")

    assert site.sessions == []


async def test_cancel_that_nobody_hears_is_told(
    site: Site, source: Path, state: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "CANCEL_FOR", timedelta(0))
    async with scripted(in_turn(created(), answer(403), HANG_UP)) as server:
        await failed(source, f"{server.url}/in/")
        with pytest.raises(TransferFailed, match="broke") as raised:
            await cancel(source, f"{server.url}/in/")

    assert raised.value.resumable
    assert sorted(notes(state)) == [".json", ".lock"]


async def test_unusable_certificate_is_told(site: Site, source: Path, tmp_path: Path):
    options = Options(ca=tmp_path / "none.pem")
    with pytest.raises(TransferFailed, match="cannot use --ca") as raised:
        await upload(source, f"{site.url}/in/", options=options)

    assert not raised.value.resumable


# What servers do.


async def test_large_fragments_shrink_until_nginx_passes_them(
    site: Site, source: Path, tmp_path: Path
):
    happened: list[Event] = []
    async with (
        proxies.nginx(site.host, tmp_path, largest="100k") as listening,
        relay(listening) as line,
    ):
        await upload(source, f"{line.url}/in/", progress=happened.append)

    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert not [event for event in happened if event.event is Kind.WAITING]


async def test_host_id_is_followed(serve: Serve, source: Path):
    site = await serve(directory='host_id = "localhost"')
    await upload(source, f"{site.url}/in/")

    assert (site.folder / "report.7z").read_bytes() == ENTITY


async def test_host_id_that_is_not_there_is_left(serve: Serve, source: Path):
    site = await serve(
        directory='host_id = "127.0.0.2"\nhost_id_fallback_timeout = "1s"'
    )
    await upload(source, f"{site.url}/in/", terms=TERMS)

    assert (site.folder / "report.7z").read_bytes() == ENTITY


@pytest.fixture
async def replying(serve: Serve, application: Application) -> Site:
    application.file = b"the reply"
    application.headers = {"BITS-Copy-File-To-Destination": "1"}
    return await serve(
        directory=f'notification = "by-reference"\n'
        f'notification_url = "{application.url}"'
    )


async def test_reply_of_the_application_is_stored(
    replying: Site, source: Path, tmp_path: Path
):
    terms = Terms(reply=tmp_path / "reply")
    done = await upload(source, f"{replying.url}/in/", terms=terms)

    assert (tmp_path / "reply").read_bytes() == b"the reply"
    assert done.reply_url is not None
    assert replying.sessions == []


async def test_reply_whose_place_is_lost_is_told_and_stays(
    replying: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bitsd.client.reply.check", lambda _path: None)
    url = f"{replying.url}/in/"
    terms = Terms(reply=tmp_path / "none" / "reply")
    with pytest.raises(TransferFailed, match="cannot store ") as raised:
        await upload(source, url, terms=terms)
    assert not raised.value.resumable

    await upload(source, url, terms=Terms(reply=tmp_path / "reply"))

    assert (tmp_path / "reply").read_bytes() == b"the reply"


def replies(*answers: bytes) -> list[bytes]:
    """What a server says of an empty file, up to its Close."""
    return [created(), ack(200, ("BITS-Reply-URL", "/reply")), *answers, ack()]


async def test_reply_that_breaks_off_is_fetched_again(tmp_path: Path):
    (tmp_path / "empty").touch()
    cut = answer(200, ("Content-Length", "9"), ("Connection", "close"), body=b"half")
    script = in_turn(*replies(cut, ack(), answer(200, body=b"the whole")))
    terms = Terms(reply=tmp_path / "reply")
    async with scripted(script) as server:
        await upload(tmp_path / "empty", f"{server.url}/x", terms=terms)

    assert (tmp_path / "reply").read_bytes() == b"the whole"
    assert [asked.method for asked in server.asked[-4:]] == [
        "GET",
        "BITS_POST",
        "GET",
        "BITS_POST",
    ]


async def test_reply_that_stands_still_is_fetched_again(tmp_path: Path):
    (tmp_path / "empty").touch()
    half = answer(200, ("Content-Length", "9"), body=b"half")
    script = in_turn(*replies(half, ack(), answer(200, body=b"the whole")))
    terms = Terms(reply=tmp_path / "reply")
    options = Options(timeout_seconds=0.5)
    async with scripted(script) as server:
        url = f"{server.url}/x"
        await upload(tmp_path / "empty", url, terms=terms, options=options)

    assert (tmp_path / "reply").read_bytes() == b"the whole"


async def test_reply_that_is_not_there_is_told(tmp_path: Path):
    (tmp_path / "empty").touch()
    terms = Terms(reply=tmp_path / "reply")
    async with scripted(in_turn(*replies(answer(404)))) as server:
        failure = await failed(tmp_path / "empty", f"{server.url}/x", terms)

    assert failure.status == 404
    assert not (tmp_path / "reply").exists()


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/else/where?token=secret#x", "{}/else/where"),
        ("https://me:pw@server.test/a b", "https://server.test/a%20b"),
        ("https://server.test/" + "x" * 300, "https://server.test/" + "x" * 180),
    ],
)
async def test_upload_that_is_redirected_tells_where_to(
    source: Path, location: str, shown: str
):
    script = in_turn(answer(302, ("Location", location)))
    async with scripted(script) as server:
        with pytest.raises(TransferFailed) as raised:
            await upload(source, f"{server.url}/in/")

    expected = f" redirects to {shown.format(server.url)}; use that URL"
    assert str(raised.value).endswith(expected)
    assert (raised.value.status, raised.value.resumable) == (302, False)


async def test_upload_forgets_what_had_no_progress_for_long(
    site: Site, source: Path, state: Path
):
    async with scripted(in_turn(created(), answer(403))) as server:
        with pytest.raises(TransferFailed):
            await upload(source, server.url)
    [note] = await asyncio.to_thread(lambda: list(state.glob("*.json")))
    await upload(source, f"{site.url}/in/a")
    assert note.exists()

    long_ago = time.time() - timedelta(days=31).total_seconds()
    os.utime(note, (long_ago, long_ago))
    await upload(source, f"{site.url}/in/b")
    assert not note.exists()
