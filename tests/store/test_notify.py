"""What the application is told, and what its answers come to."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from listening import listening
from sites import Application as Told
from store_kit import ID, PATIENCE, handles, new_session, refused

from bitsd.config import Directory
from bitsd.notify import Application, Outcome, notification_url
from bitsd.protocol.refusal import Reason

ENTITY = bytes(range(256)) * 2000
SESSION = new_session(received=len(ENTITY), total=len(ENTITY))


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    path = tmp_path / "request"
    path.write_bytes(ENTITY)
    return path


@pytest.fixture
def response_file(tmp_path: Path) -> Path:
    return tmp_path / "response"


# Which application there is.


def directory(tmp_path: Path, **settings: object) -> Directory:
    return Directory(url="/in", path=tmp_path, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="nothing set"),
        pytest.param({"notification_url": "http://app/"}, id="no notification"),
        pytest.param({"notification": "by-value"}, id="no URL"),
    ],
)
def test_directory_need_not_have_an_application(tmp_path: Path, settings):
    assert Application.of(directory(tmp_path, **settings)) is None


@pytest.mark.parametrize(
    ("notification", "by_value"), [("by-reference", False), ("by-value", True)]
)
def test_application_is_as_the_directory_says(
    tmp_path: Path, notification: str, *, by_value: bool
):
    settings = {
        "notification": notification,
        "notification_url": "http://app/",
        "notification_timeout": timedelta(seconds=90),
    }
    found = Application.of(directory(tmp_path, **settings))

    assert found == Application("http://app/", by_value, 90.0)


@pytest.mark.parametrize(
    ("configured", "upload", "url"),
    [
        pytest.param("http://app/x", "http://h/in/a", "http://app/x", id="absolute"),
        pytest.param("x", "http://h/in/a", "http://h/in/x", id="beside the upload"),
        pytest.param("/x", "http://h:81/in/a", "http://h:81/x", id="at the root"),
        pytest.param("../x", "http://h/in/s/a", "http://h/in/x", id="above"),
        pytest.param("//app/x", "https://h/in/a", "https://app/x", id="same scheme"),
        pytest.param("/x", "http://[::1]:81/in/a", "http://[::1]:81/x", id="IPv6"),
        pytest.param("/x", "http://h/in/a?j=1", "http://h/x?j=1", id="upload's query"),
        pytest.param("/x?k=2", "http://h/in/a", "http://h/x?k=2", id="its own query"),
        pytest.param(
            "/x?k=2", "http://h/in/a?j=1", "http://h/x?k=2&j=1", id="both queries"
        ),
        pytest.param("?k=2", "http://h/in/a?j=1", "http://h/in/a?k=2&j=1", id="query"),
        pytest.param("/x#y", "http://h/in/a#b", "http://h/x", id="no fragments"),
        pytest.param("/x", "http://h/in/%7Ba?%20", "http://h/x?%20", id="escapes"),
    ],
)
def test_application_is_found_from_the_upload(configured: str, upload: str, url: str):
    assert notification_url(configured, upload) == url


# What it says.


@pytest.fixture(params=[False, True], ids=["by reference", "by value"])
def asked(application: Told, request) -> Application:
    return Application(application.url, request.param, PATIENCE)


async def test_notification_names_the_upload(
    application: Told, asked: Application, request_file, response_file
):
    await asked.notify(SESSION, request_file, response_file)
    [told] = application.told
    names = {"bits-request-datafile-name", "bits-response-datafile-name"}

    assert told.headers["bits-original-request-url"] == SESSION.url
    assert told.headers["bits-session-id"] == ID
    assert told.body == (ENTITY if asked.by_value else b"")
    assert int(told.headers["content-length"]) == len(told.body)
    assert names.isdisjoint(told.headers) is asked.by_value


async def test_application_may_have_nothing_to_say(
    application: Told, asked: Application, request_file, response_file
):
    outcome = await asked.notify(SESSION, request_file, response_file)

    assert outcome == Outcome(publish=False, reply_url=None, replied=False)


@pytest.mark.parametrize(
    ("headers", "publish", "reply_url"),
    [
        ({"BITS-Copy-File-To-Destination": ""}, True, None),
        ({"bits-copy-file-to-destination": "false"}, True, None),
        ({"BITS-Static-Response-URL": "http://x/y"}, False, "http://x/y"),
        ({"BITS-Static-Response-URL": ""}, False, None),
    ],
    ids=str,
)
async def test_wish_of_the_application_is_understood(
    application: Told,
    asked: Application,
    request_file,
    response_file,
    headers: dict[str, str],
    *,
    publish: bool,
    reply_url: str | None,
):
    application.headers = headers
    outcome = await asked.notify(SESSION, request_file, response_file)

    assert outcome == Outcome(publish, reply_url, replied=False)


@pytest.mark.parametrize("reply", [b"", b"r", b"reply" * 300_000], ids=len)
async def test_reply_is_there_when_it_has_bytes(
    application: Told,
    asked: Application,
    request_file,
    response_file,
    reply: bytes,
):
    application.body = reply if asked.by_value else b"ignored"
    application.file = None if asked.by_value else reply
    outcome = await asked.notify(SESSION, request_file, response_file)

    assert outcome.replied is bool(reply)
    assert response_file.read_bytes() == reply


async def test_reply_of_an_earlier_try_does_not_count(
    asked: Application, request_file, response_file
):
    response_file.write_bytes(b"of an earlier try")
    outcome = await asked.notify(SESSION, request_file, response_file)

    assert not outcome.replied
    assert not response_file.exists() or response_file.read_bytes() == b""


# Failures.


@pytest.mark.parametrize(
    ("status", "passed_on"),
    [
        *((status, status) for status in (400, 403, 404, 405, 409, 429, 500, 503, 599)),
        # To a BITS client these would mean something else, or that all went well.
        *((status, 500) for status in (201, 204, 206, 301, 302, 304)),
        *((status, 500) for status in (401, 407, 413, 416)),
    ],
)
async def test_status_of_the_application_is_told(
    application: Told,
    asked: Application,
    request_file,
    response_file,
    status: int,
    passed_on: int,
):
    application.status = status
    application.headers = {"Location": "http://127.0.0.1:1/elsewhere"}
    with refused(Reason.APPLICATION_FAILED) as caught:
        await asked.notify(SESSION, request_file, response_file)

    assert caught.value.status == passed_on
    assert caught.value.received == len(ENTITY)
    assert len(application.told) == 1


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def answering(octets: bytes, *, hold: bool = False) -> AsyncIterator[str]:
    """An application that answers these octets, and then hangs up or keeps silent."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        # With a byte of it unread, hanging up would be a reset.
        await reader.readexactly(int(head.split(b"content-length: ")[1].split()[0]))
        writer.write(octets)
        await writer.drain()
        if hold:
            await over.wait()

    async with listening(answer) as port:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            over.set()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("octets", "reason", "status"),
    [
        pytest.param(b"", Reason.APPLICATION_FAILED, 503, id="hangs up"),
        pytest.param(b"Hello\r\n\r\n", Reason.REPLY_MALFORMED, 411, id="no HTTP"),
        pytest.param(
            OK + b"Content-Length: 9\r\n\r\nhalf",
            Reason.REPLY_MALFORMED,
            411,
            id="half",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
            Reason.REPLY_MALFORMED,
            411,
            id="broken chunk",
        ),
    ],
)
async def test_broken_answer_is_told(
    request_file, response_file, octets: bytes, reason: Reason, status: int
):
    async with answering(octets) as url:
        # By reference the body of the answer would not be looked at.
        with refused(reason) as caught:
            await Application(url, by_value=True, timeout=PATIENCE).notify(
                SESSION, request_file, response_file
            )

    assert caught.value.status == status
    assert caught.value.received == len(ENTITY)
    assert not response_file.exists()


@pytest.mark.parametrize(
    "octets", [b"", OK, OK + b"Content-Length: 9\r\n\r\nhalf"], ids=repr
)
async def test_silence_has_an_end(request_file, response_file, octets: bytes):
    async with answering(octets, hold=True) as url:
        with refused(Reason.APPLICATION_TIMEOUT) as caught:
            await Application(url, by_value=True, timeout=0.05).notify(
                SESSION, request_file, response_file
            )

    assert caught.value.received == len(ENTITY)
    assert not response_file.exists()


@pytest.mark.parametrize("by_value", [False, True], ids=["by reference", "by value"])
async def test_application_that_is_not_there_is_told_and_leaves_nothing_open(
    request_file, response_file, unused_tcp_port: int, *, by_value: bool
):
    url = f"http://127.0.0.1:{unused_tcp_port}/"
    before = handles()
    with refused(Reason.APPLICATION_FAILED) as caught:
        await Application(url, by_value, PATIENCE).notify(
            SESSION, request_file, response_file
        )
    gc.collect()

    assert caught.value.status == 503
    assert handles() == before


async def test_upload_whose_url_has_no_host_has_no_application_beside_it(
    request_file, response_file
):
    session = new_session(url="http:///in/report.dat", received=5, total=5)
    with refused(Reason.APPLICATION_FAILED) as caught:
        await Application("/x", by_value=False, timeout=PATIENCE).notify(
            session, request_file, response_file
        )

    assert caught.value.status == 503


async def test_entity_that_vanished_is_a_failure_of_the_storage(
    application: Told, request_file, response_file
):
    request_file.unlink()
    asked = Application(application.url, by_value=True, timeout=PATIENCE)
    with pytest.raises(FileNotFoundError):
        await asked.notify(SESSION, request_file, response_file)

    assert application.told == []


async def test_half_of_a_reply_is_followed_by_a_whole_one(
    application: Told, request_file, response_file
):
    async with answering(OK + b"Content-Length: 900\r\n\r\nhalf") as url:
        with refused(Reason.REPLY_MALFORMED):
            await Application(url, by_value=True, timeout=PATIENCE).notify(
                SESSION, request_file, response_file
            )
    application.body = b"all"
    asked = Application(application.url, by_value=True, timeout=PATIENCE)
    await asked.notify(SESSION, request_file, response_file)

    assert response_file.read_bytes() == b"all"
