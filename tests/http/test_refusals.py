"""What a client is told when a packet is refused ([MC-BUP] 2.2.1.2)."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from listening import listening
from sites import Application, Serve, Site
from wire_client import (
    NOBODY,
    PROTOCOL,
    Line,
    cancel,
    close,
    create,
    fragment,
    packet,
    ping,
    ranged,
    request,
)

TARGET = "/in/report.dat"

NONE = (None, None, None)
ACCESS_DENIED = ("0x80070005", "0x80070005", "0x5")
INVALID_ARGUMENT = ("0x80070057", "0x80070057", "0x5")
SESSION_NOT_FOUND = ("0x8020001F", "0x8020001F", "0x5")
TOO_LARGE = ("0x80200020", "0x80200020", "0x5")
REMOTE_PROGRAM = ("0x8020001E", "0x8020001E", "0x7")
APPLICATION_ARGUMENT = ("0x80070057", "0x80070057", "0x7")

DAY = 86400


def bare(*fields: tuple[str, str]) -> bytes:
    """A packet of these fields only."""
    return request("BITS_POST", TARGET, *fields)


def typed(packet_type: str, *fields: tuple[str, str]) -> bytes:
    return bare(("BITS-Packet-Type", packet_type), *fields, ("Content-Length", "0"))


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        pytest.param(bare(("Content-Length", "0")), 400, id="no packet type"),
        pytest.param(typed("Frobnicate"), 400, id="unknown packet type"),
        pytest.param(typed("Ack"), 400, id="an Ack"),
        pytest.param(typed("Create-Session"), 400, id="no list of protocols"),
        pytest.param(
            create(TARGET, "{11111111-2222-3333-4444-555555555555}"),
            400,
            id="no protocol in common",
        ),
        pytest.param(
            create(TARGET, " ".join(["{11111111-2222-3333-4444-555555555555}"] * 100)),
            400,
            id="a hundred unknown protocols",
        ),
        pytest.param(typed("Fragment"), 400, id="fragment without session"),
        pytest.param(typed("Close-Session"), 400, id="close without session"),
        pytest.param(typed("Cancel-Session"), 400, id="cancel without session"),
        pytest.param(
            typed("Fragment", ("BITS-Session-Id", NOBODY)),
            400,
            id="fragment without range",
        ),
        pytest.param(
            packet(TARGET, "Ping", ("X-Long", "x" * 4097)),
            400,
            id="a field over 4 KiB",
        ),
        pytest.param(packet(TARGET, "Ping", body=b"abc"), 400, id="ping with a body"),
        pytest.param(bare(("BITS-Packet-Type", "Ping")), 411, id="ping of no length"),
        pytest.param(
            bare(
                ("BITS-Packet-Type", "Create-Session"),
                ("BITS-Supported-Protocols", PROTOCOL),
            ),
            411,
            id="create of no length",
        ),
    ],
)
async def test_malformed_packet_is_refused(line: Line, octets: bytes, status: int):
    answer = await line.ask(octets)

    assert (answer.status, answer.error) == (status, INVALID_ARGUMENT)
    assert answer.get("BITS-Packet-Type") == "Ack"
    assert answer.get("Content-Length") == "0"
    assert answer.get("BITS-Session-Id") is None


async def test_field_of_4_kib_is_taken(line: Line):
    answer = await line.ask(packet(TARGET, "Ping", ("X-Long", "x" * 4096)))

    assert answer.status == 200


@pytest.mark.parametrize(
    "protocols",
    [
        PROTOCOL.upper(),
        f"{{11111111-2222-3333-4444-555555555555}} {PROTOCOL}",
        f"{{11111111-2222-3333-4444-555555555555}},{PROTOCOL}",
        f"{{11111111-2222-3333-4444-555555555555}}, {PROTOCOL}",
    ],
    ids=["upper case", "after a space", "after a comma", "after both"],
)
async def test_protocol_in_common_is_found(line: Line, protocols: str):
    answer = await line.ask(create(TARGET, protocols))

    assert answer.status == 200
    assert answer.get("BITS-Protocol") == PROTOCOL


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 10-9/10",
        "bytes 0-2/2",
        "bytes 0-3/10",
        "bytes 0-1/10",
        "bytes 0-2",
        "bytes 0-2/*",
        "bytes */10",
        "bytes -3/10",
        "bytes 0x0-0x2/10",
        "bytes 0-2/99999999999999999999",
        "lines 0-2/10",
        "0-2/10",
        "bytes 0-2/10, 0-2/10",
    ],
)
async def test_broken_content_range_is_refused(
    site: Site, line: Line, content_range: str
):
    named = await line.create(TARGET)
    answer = await line.ask(ranged(TARGET, named, content_range, b"abc"))

    assert (answer.status, answer.error) == (400, INVALID_ARGUMENT)
    assert site.held(named) == 0


@pytest.mark.parametrize("unit", ["bytes", "Bytes", "BYTES", "bytes  "])
async def test_unit_of_content_range_is_read_leniently(line: Line, unit: str):
    named = await line.create(TARGET)
    answer = await line.ask(ranged(TARGET, named, f"{unit} 0-2/10", b"abc"))

    assert (answer.status, answer.received) == (200, 3)


@pytest.mark.parametrize("target", ["/in/sub", "/in/sub/", "/in/", "/in"])
async def test_destination_that_is_a_folder_is_refused(
    site: Site, line: Line, target: str
):
    (site.folder / "sub").mkdir()
    answer = await line.ask(create(target))

    assert (answer.status, answer.error) == (400, INVALID_ARGUMENT)


async def test_missing_folder_is_refused(line: Line):
    answer = await line.ask(create("/in/none/report.dat"))

    assert (answer.status, answer.error) == (404, NONE)
    assert answer.get("BITS-Packet-Type") == "Ack"


async def test_url_of_no_directory_is_refused(line: Line):
    answer = await line.ask(create("/elsewhere/report.dat"))

    assert answer.status == 404
    assert answer.get("BITS-Packet-Type") == "Ack"


@pytest.mark.parametrize(
    "octets",
    [
        create("/off/report.dat"),
        fragment("/off/report.dat", NOBODY, 0, b"abc", 3),
        close("/off/report.dat", NOBODY),
    ],
    ids=["create", "fragment", "close"],
)
async def test_disabled_uploads_are_told(serve: Serve, tmp_path: Path, octets: bytes):
    (tmp_path / "off").mkdir()
    off = '[[directory]]\nurl = "/off"\npath = "off"\nread = ["*"]\n'
    site = await serve(directory=off)
    line = await site.dial()
    answer = await line.ask(octets)

    assert (answer.status, answer.error) == (501, ACCESS_DENIED)


@pytest.mark.parametrize(
    "named",
    [NOBODY, "17", "{", "../../etc", "{DEADBEEF-0000-4000-8000-00000000000G}"],
)
@pytest.mark.parametrize("verb", [close, cancel], ids=["close", "cancel"])
async def test_unknown_session_is_refused(line: Line, verb, named: str):
    answer = await line.ask(verb(TARGET, named))

    assert (answer.status, answer.error) == (500, SESSION_NOT_FOUND)


async def test_expired_session_is_as_unknown(site: Site, line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, b"abc", 6))
    # The age of a session is the age of what is stored of it.
    before = time.time() - 15 * DAY
    for path in (site.folder / "BITS-Sessions" / named).iterdir():
        os.utime(path, (before, before))
    answer = await line.ask(fragment(TARGET, named, 3, b"def", 6))

    assert (answer.status, answer.error) == (500, SESSION_NOT_FOUND)
    assert not (site.folder / "report.dat").exists()


async def test_session_is_known_at_its_own_url_only(site: Site, line: Line):
    named = await line.create(TARGET)
    answer = await line.ask(fragment("/in/other.dat", named, 0, b"abc", 3))
    own = await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert (answer.status, answer.error) == (500, SESSION_NOT_FOUND)
    assert own.status == 200
    assert not (site.folder / "other.dat").exists()


@pytest.mark.parametrize(
    "spelling",
    [str.lower, str.upper, lambda named: named.strip("{}")],
    ids=["lower case", "upper case", "no braces"],
)
async def test_session_id_is_known_in_any_spelling(line: Line, spelling):
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, spelling(named), 0, b"abc", 3))

    assert (answer.status, answer.received) == (200, 3)
    assert answer.get("BITS-Session-Id") == named


@pytest.mark.parametrize("packet_type", ["FRAGMENT", "fragment", "Fragment"])
async def test_packet_type_is_known_in_any_case(line: Line, packet_type: str):
    named = await line.create(TARGET)
    octets = fragment(TARGET, named, 0, b"abc", 3)
    answer = await line.ask(octets.replace(b"Fragment", packet_type.encode(), 1))

    assert (answer.status, answer.received) == (200, 3)


async def test_entity_over_the_limit_frees_its_session(serve: Serve):
    site = await serve(directory='maximum_upload_size = "1000"')
    line = await site.dial()
    named = await line.create(TARGET)
    refused = await line.ask(fragment(TARGET, named, 0, b"abc", 1001))
    after = await line.ask(fragment(TARGET, named, 0, b"abc", 1000))

    assert (refused.status, refused.error) == (500, TOO_LARGE)
    assert (after.status, after.error) == (500, SESSION_NOT_FOUND)


async def test_entity_of_the_limit_is_taken(serve: Serve):
    site = await serve(directory="maximum_upload_size = 1000")
    line = await site.dial()
    await line.upload(TARGET, b"x" * 1000)

    assert (site.folder / "report.dat").stat().st_size == 1000


async def test_overwrite_replaces_the_file_when_it_is_complete(serve: Serve):
    site = await serve(directory="overwrite = true")
    (site.folder / "report.dat").write_bytes(b"first")
    line = await site.dial()
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, b"sec", 6))

    assert (site.folder / "report.dat").read_bytes() == b"first"

    await line.ask(fragment(TARGET, named, 3, b"ond", 6))

    assert (site.folder / "report.dat").read_bytes() == b"second"


async def test_close_of_an_entity_that_vanished_is_told(site: Site, line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, b"abc", 6))
    (site.folder / "BITS-Sessions" / named / "request").unlink()
    answer = await line.ask(close(TARGET, named))

    assert (answer.status, answer.error) == (404, NONE)


@pytest.mark.parametrize(
    "setting", ["sessions_per_user = 2", 'minimum_free_space = "1000000GiB"']
)
async def test_new_session_over_a_limit_waits(serve: Serve, setting: str):
    site = await serve(directory=setting)
    line = await site.dial()
    answers = [await line.ask(create(f"/in/{number}.dat")) for number in range(3)]

    assert answers[-1].status == 503
    assert int(answers[-1].get("Retry-After") or "0") > 0
    assert answers[-1].get("BITS-Packet-Type") == "Ack"
    assert answers[-1].get("BITS-Session-Id") is None


async def test_closed_session_makes_room_for_another(serve: Serve):
    site = await serve(directory="sessions_per_user = 1")
    line = await site.dial()
    named = await line.create(TARGET)
    await line.ask(cancel(TARGET, named))
    answer = await line.ask(create(TARGET))

    assert answer.status == 200


# The connection lives on ([MC-BUP] 3.2.5.2: the peer must see the Ack, not a reset).

BODY = b"x" * 262144


@pytest.mark.parametrize(
    ("target", "content_range", "status"),
    [
        pytest.param(TARGET, "bytes 10-262153/300000", 416, id="gap"),
        pytest.param(TARGET, "bytes 0-262143/999999999", 500, id="over the limit"),
        pytest.param(TARGET, "bytes 0-1/300000", 400, id="range is not the body"),
        pytest.param(TARGET, "lines 0-262143/300000", 400, id="broken range"),
        pytest.param("/in/other.dat", "bytes 0-262143/300000", 500, id="other URL"),
        pytest.param("/else/other.dat", "bytes 0-262143/300000", 404, id="no place"),
        pytest.param("/in/..%2f..%2fx", "bytes 0-262143/300000", 400, id="bad name"),
    ],
)
async def test_connection_lives_on_after_a_refused_fragment(
    serve: Serve, target: str, content_range: str, status: int
):
    site = await serve(directory="maximum_upload_size = 1000000")
    line = await site.dial()
    named = await line.create(TARGET)
    refused = await line.ask(ranged(target, named, content_range, BODY))
    pinged = await line.ask(ping(TARGET))

    assert refused.status == status
    assert refused.get("BITS-Packet-Type") == "Ack"
    assert pinged.status == 200


async def test_connection_lives_on_after_a_changed_total(line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, b"abc", 300000))
    refused = await line.ask(fragment(TARGET, named, 3, BODY, 300001))
    after = await line.ask(fragment(TARGET, named, 3, BODY, 300000))

    assert (refused.status, refused.error) == (400, INVALID_ARGUMENT)
    assert (after.status, after.received) == (200, 262147)


# The application of an upload-reply job.


def notifying(url: str) -> str:
    return (
        'notification = "by-reference"\n'
        f'notification_url = "{url}"\n'
        "notification_timeout = 1\n"
    )


@pytest.fixture
async def raw_application() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An application that answers with these bytes, or keeps silent without any."""
    answers: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(answers)
        if not answers:
            await reader.read()

    async with listening(answer) as port:
        yield f"http://127.0.0.1:{port}/handle", answers


async def test_application_that_keeps_silent_is_told_as_a_timeout(
    serve: Serve, raw_application: tuple[str, list[bytes]]
):
    url, _answers = raw_application
    site = await serve(directory=notifying(url))
    line = await site.dial()
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert (answer.status, answer.error) == (408, REMOTE_PROGRAM)
    assert answer.received == 3
    assert site.held(named) == 3


@pytest.mark.parametrize(
    "reply",
    [b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
    ids=["no HTTP", "no length"],
)
async def test_application_whose_answer_is_broken_is_told(
    serve: Serve, raw_application: tuple[str, list[bytes]], reply: bytes
):
    url, answers = raw_application
    answers.append(reply)
    site = await serve(directory=notifying(url))
    line = await site.dial()
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert (answer.status, answer.error) == (411, APPLICATION_ARGUMENT)
    assert site.held(named) == 3


async def test_application_that_is_not_there_is_told(serve: Serve, unused_tcp_port):
    site = await serve(directory=notifying(f"http://127.0.0.1:{unused_tcp_port}/"))
    line = await site.dial()
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert answer.status in (500, 502, 503, 504)
    assert answer.error == REMOTE_PROGRAM
    assert answer.received == 3
    assert site.held(named) == 3


@pytest.mark.parametrize("status", [404, 409, 500, 503])
async def test_status_of_the_application_is_passed_on(
    serve: Serve, application: Application, status: int
):
    application.status = status
    site = await serve(directory=notifying(application.url))
    line = await site.dial()
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert (answer.status, answer.error) == (status, REMOTE_PROGRAM)


@pytest.mark.parametrize(("length", "status"), [(2200, 200), (2201, 400)])
async def test_reply_url_has_a_limit(
    serve: Serve, application: Application, length: int, status: int
):
    start = "http://cdn.example.test/"
    url = start + "x" * (length - len(start))
    application.headers = {"BITS-Static-Response-URL": url}
    site = await serve(directory=notifying(application.url))
    line = await site.dial()
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert answer.status == status
    assert answer.get("BITS-Reply-URL") == (url if status == 200 else None)
    assert answer.error == (NONE if status == 200 else APPLICATION_ARGUMENT)
