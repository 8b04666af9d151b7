"""Whole conversations, as real clients and IIS have them ([MC-BUP] 4)."""

import re

import pytest
from sites import Application, Serve, Site
from wire_client import (
    NOBODY,
    PROTOCOL,
    Answer,
    Line,
    cancel,
    close,
    create,
    fetch,
    fragment,
    packet,
    ping,
    ranged,
)

TARGET = "/in/report.dat"
ENTITY = bytes(range(250)) * 120
GUID = re.compile(r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}")
MALFORMED = ("0x80070057", "0x80070057", "0x5")

#: What any server may say of itself beside the protocol's fields.
FREE = {"date", "server", "cache-control"}


def shape(answer: Answer) -> dict[str, str]:
    """Every field of an Ack but the ones that any HTTP server may add."""
    fields = {name.lower(): value for name, value in answer.fields}
    return {name: value for name, value in fields.items() if name not in FREE}


def acked(**fields: object) -> dict[str, str]:
    """The fields of an Ack without more than these."""
    fixed = {
        "pragma": "no-cache",
        "bits-packet-type": "Ack",
        "content-length": "0",
    }
    return fixed | {
        name.replace("_", "-"): str(value) for name, value in fields.items()
    }


async def test_simple_upload_is_published_with_its_last_fragment(
    site: Site, line: Line
):
    created = await line.ask(create(TARGET))
    named = created.get("BITS-Session-Id")

    assert named is not None
    assert GUID.fullmatch(named)
    assert created.status == 200
    assert shape(created) == acked(
        bits_protocol=PROTOCOL, bits_session_id=named, accept_encoding="identity"
    )

    for first, after in ((0, 12288), (12288, 24576), (24576, 30000)):
        assert not (site.folder / "report.dat").exists()
        body = ENTITY[first:after]
        answer = await line.ask(fragment(TARGET, named, first, body, 30000))
        assert answer.status == 200
        assert shape(answer) == acked(
            bits_session_id=named, bits_received_content_range=after
        )

    assert (site.folder / "report.dat").read_bytes() == ENTITY

    closed = await line.ask(close(TARGET, named))

    assert closed.status == 200
    assert shape(closed) == acked(bits_session_id=named)
    assert site.sessions == []
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_content_name_of_old_clients_is_ignored(site: Site, line: Line):
    fields = (
        ("BITS-Supported-Protocols", PROTOCOL),
        ("Content-Name", "../elsewhere.dat"),
    )
    created = await line.ask(packet(TARGET, "Create-Session", *fields))
    named = created.get("BITS-Session-Id")
    assert named is not None
    await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert (site.folder / "report.dat").read_bytes() == b"abc"


async def test_upload_goes_on_after_a_disconnect(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:12288], 30000))
    cut = fragment(TARGET, named, 12288, ENTITY[12288:24576], 30000)
    await line.send(cut[: len(cut) - 4576])
    line.finish()
    await line.ended()

    again = await site.dial()
    pinged = await again.ask(ping(TARGET))
    answer = await again.ask(fragment(TARGET, named, 12288, ENTITY[12288:24576], 30000))
    await again.ask(fragment(TARGET, named, 24576, ENTITY[24576:], 30000))

    assert (pinged.status, shape(pinged)) == (200, acked())
    assert (answer.status, answer.received) == (200, 24576)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_gap_is_refused_with_the_offset_and_changes_nothing(
    site: Site, line: Line
):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:12288], 30000))
    answer = await line.ask(fragment(TARGET, named, 20000, ENTITY[20000:], 30000))

    assert answer.status == 416
    assert shape(answer) == acked(
        bits_session_id=named, bits_received_content_range=12288
    )
    assert site.held(named) == 12288


async def test_overlap_is_trimmed(site: Site, line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:24576], 30000))
    body = b"x" * 4576 + ENTITY[24576:]
    answer = await line.ask(fragment(TARGET, named, 20000, body, 30000))

    assert (answer.status, answer.received) == (200, 30000)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_pure_duplicate_writes_nothing(site: Site, line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:24576], 30000))
    answer = await line.ask(fragment(TARGET, named, 0, b"x" * 12288, 30000))
    await line.ask(fragment(TARGET, named, 24576, ENTITY[24576:], 30000))

    assert (answer.status, answer.received) == (200, 24576)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_unknown_session_tells_the_client_to_create_another(line: Line):
    answer = await line.ask(fragment(TARGET, NOBODY, 0, b"abc", 3))
    fields = shape(answer)
    fields.pop("bits-session-id", None)  # may be echoed

    assert answer.status == 500
    assert fields == acked(
        bits_error_code="0x8020001F", bits_error="0x8020001F", bits_error_context="0x5"
    )


async def test_entity_over_the_limit_is_refused_at_its_first_fragment(serve: Serve):
    site = await serve(directory="maximum_upload_size = 1000000")
    line = await site.dial()
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, b"x" * 65536, 2097152))

    assert answer.status == 500
    assert shape(answer) == acked(
        bits_session_id=named,
        bits_error_code="0x80200020",
        bits_error="0x80200020",
        bits_error_context="0x5",
    )
    assert site.sessions == []


async def test_existing_file_is_refused_when_the_session_is_created(
    site: Site, line: Line
):
    (site.folder / "report.dat").write_bytes(b"first")
    answer = await line.ask(create(TARGET))

    assert answer.status == 403
    assert shape(answer) == acked(
        bits_error_code="0x80070005", bits_error="0x80070005", bits_error_context="0x5"
    )


async def test_name_taken_meanwhile_is_refused_with_the_last_fragment(
    site: Site, line: Line
):
    named = await line.create(TARGET)
    (site.folder / "report.dat").write_bytes(b"first")
    answer = await line.ask(fragment(TARGET, named, 0, ENTITY, 30000))

    assert answer.status == 403
    assert answer.error == ("0x80070005", "0x80070005", "0x5")
    assert (site.folder / "report.dat").read_bytes() == b"first"


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(packet(TARGET, "Frobnicate"), id="unknown packet type"),
        pytest.param(ranged(TARGET, NOBODY, "bytes 10-9/10", b""), id="broken range"),
        pytest.param(
            create(TARGET, "{11111111-2222-3333-4444-555555555555}"),
            id="no protocol in common",
        ),
    ],
)
async def test_malformed_packet_is_refused(line: Line, octets: bytes):
    answer = await line.ask(octets)

    assert answer.status == 400
    assert answer.error == MALFORMED
    assert answer.get("BITS-Packet-Type") == "Ack"
    assert answer.get("Content-Length") == "0"
    assert answer.get("BITS-Protocol") is None


async def test_host_id_is_told_when_the_session_is_created(serve: Serve):
    site = await serve(
        directory='host_id = "node3.example.test"\nhost_id_fallback_timeout = "1d"'
    )
    line = await site.dial()
    created = await line.ask(create(TARGET))
    named = created.get("BITS-Session-Id")
    assert named is not None
    there = b"\r\nHost: node3.example.test\r\n"
    pinged = await line.ask(ping(TARGET).replace(b"\r\nHost: test\r\n", there))
    octets = fragment(TARGET, named, 0, b"abc", 3)
    answer = await line.ask(octets.replace(b"\r\nHost: test\r\n", there))

    assert shape(created) == acked(
        bits_protocol=PROTOCOL,
        bits_session_id=named,
        bits_host_id="node3.example.test",
        bits_host_id_fallback_timeout=86400,
        accept_encoding="identity",
    )
    assert (pinged.status, shape(pinged)) == (200, acked())
    assert (answer.status, answer.received) == (200, 3)


async def test_cancel_discards_the_upload(site: Site, line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:12288], 30000))
    answer = await line.ask(cancel(TARGET, named))

    assert (answer.status, shape(answer)) == (200, acked(bits_session_id=named))
    assert site.sessions == []
    assert not (site.folder / "report.dat").exists()


async def test_cancel_after_completion_keeps_the_file(site: Site, line: Line):
    named = await line.upload(TARGET, ENTITY)
    answer = await line.ask(cancel(TARGET, named))

    assert answer.status == 200
    assert site.sessions == []
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_early_close_discards_the_upload(site: Site, line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:12288], 30000))
    answer = await line.ask(close(TARGET, named))

    assert (answer.status, answer.error) == (400, MALFORMED)
    assert site.sessions == []
    assert not (site.folder / "report.dat").exists()


async def test_repeated_close_succeeds(line: Line):
    named = await line.upload(TARGET, ENTITY)
    answers = [await line.ask(close(TARGET, named)) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]


async def test_session_survives_a_restart(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:12288], 30000))
    await line.hang_up()
    await site.stop()
    await site.start()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, 12288, ENTITY[12288:], 30000))

    assert (answer.status, answer.received) == (200, 30000)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


# Upload-reply ([MC-BUP] 3.3 to 3.5).

ORDER = "/in/order.xml?ACCOUNT=42"


def notifying(application: Application, how: str) -> str:
    return f'notification = "{how}"\nnotification_url = "{application.url}"'


def order(site: Site, named: str, first: int = 0) -> bytes:
    """The completing fragment, by the name the server is really reached by."""
    octets = fragment(ORDER, named, first, ENTITY[first:], len(ENTITY))
    return here(site, octets)


def here(site: Site, octets: bytes) -> bytes:
    return octets.replace(b"\r\nHost: test\r\n", f"\r\nHost: {site.host}\r\n".encode())


async def ordered(site: Site, line: Line) -> str:
    created = await line.ask(here(site, create(ORDER)))
    named = created.get("BITS-Session-Id")
    assert named is not None
    return named


def reply_url(site: Site, named: str) -> str:
    quoted = named.replace("{", "%7B").replace("}", "%7D")
    return f"http://{site.host}/in/BITS-Replies/{quoted}"


async def test_by_reference_the_application_gets_names_and_leaves_a_reply(
    serve: Serve, application: Application
):
    application.file = b"confirmed" * 100
    site = await serve(directory=notifying(application, "by-reference"))
    line = await site.dial()
    named = await ordered(site, line)
    answer = await line.ask(order(site, named))

    assert answer.status == 200
    assert shape(answer) == acked(
        bits_session_id=named,
        bits_received_content_range=30000,
        bits_reply_url=reply_url(site, named),
    )
    [told] = application.told
    assert told.target == "/app/handle?ACCOUNT=42"
    assert (told.entity, told.body) == (ENTITY, b"")
    assert told.headers["content-length"] == "0"
    original = told.headers["bits-original-request-url"]
    assert original == f"http://{site.host}{ORDER}"
    assert not (site.folder / "order.xml").exists()

    target = reply_url(site, named).removeprefix(site.url)
    part = await line.ask(fetch(target, ("Range", "bytes=9-17")))
    whole = await line.ask(fetch(target))

    assert (part.status, part.body) == (206, b"confirmed")
    assert part.get("Content-Range") == "bytes 9-17/900"
    assert part.get("Accept-Ranges") == "bytes"
    assert part.get("ETag")
    assert part.get("Last-Modified") == whole.get("Last-Modified") is not None
    assert (whole.status, whole.body) == (200, application.file)

    closed = await line.ask(close(ORDER, named))
    gone = await line.ask(fetch(target))

    assert closed.status == 200
    assert gone.status == 404
    assert site.sessions == []
    assert not (site.folder / "order.xml").exists()


async def test_by_value_the_application_gets_the_entity_and_answers_the_reply(
    serve: Serve, application: Application
):
    application.body = b"confirmed"
    site = await serve(directory=notifying(application, "by-value"))
    line = await site.dial()
    named = await ordered(site, line)
    answer = await line.ask(order(site, named))
    target = reply_url(site, named).removeprefix(site.url)
    reply = await line.ask(fetch(target))

    assert answer.get("BITS-Reply-URL") == reply_url(site, named)
    assert (reply.status, reply.body) == (200, b"confirmed")
    [told] = application.told
    assert told.target == "/app/handle?ACCOUNT=42"
    assert told.body == ENTITY
    assert told.headers["content-length"] == "30000"
    assert "bits-request-datafile-name" not in told.headers
    assert "bits-response-datafile-name" not in told.headers


@pytest.mark.parametrize("how", ["by-reference", "by-value"])
async def test_copy_header_publishes_the_upload_too(
    serve: Serve, application: Application, how: str
):
    application.headers = {"BITS-Copy-File-To-Destination": "1"}
    site = await serve(directory=notifying(application, how))
    line = await site.dial()
    named = await ordered(site, line)
    answer = await line.ask(order(site, named))

    assert answer.status == 200
    assert answer.get("BITS-Reply-URL") is None
    assert (site.folder / "order.xml").read_bytes() == ENTITY


async def test_static_reply_url_is_passed_on(serve: Serve, application: Application):
    static = "http://cdn.example.test/pkg.cab"
    application.headers = {"BITS-Static-Response-URL": static}
    site = await serve(directory=notifying(application, "by-reference"))
    line = await site.dial()
    named = await ordered(site, line)
    answer = await line.ask(order(site, named))

    assert answer.get("BITS-Reply-URL") == static


async def test_application_that_fails_is_asked_again_with_the_kept_entity(
    serve: Serve, application: Application
):
    application.status = 503
    site = await serve(directory=notifying(application, "by-reference"))
    line = await site.dial()
    named = await ordered(site, line)
    failed = await line.ask(order(site, named))

    assert failed.status == 503
    assert failed.bits == {
        "bits-session-id": named,
        "bits-received-content-range": "30000",
        "bits-error-code": "0x8020001E",
        "bits-error": "0x8020001E",
        "bits-error-context": "0x7",
    }

    application.status = 200
    answer = await line.ask(order(site, named, first=24576))

    assert (answer.status, answer.received) == (200, 30000)
    assert [told.entity for told in application.told] == [ENTITY, ENTITY]


async def test_application_that_says_403_is_not_asked_again(
    serve: Serve, application: Application
):
    application.status = 403
    site = await serve(directory=notifying(application, "by-reference"))
    line = await site.dial()
    named = await ordered(site, line)
    answers = [await line.ask(order(site, named)) for _ in range(2)]

    assert [answer.status for answer in answers] == [403, 403]
    assert [answer.error[2] for answer in answers] == ["0x7", "0x7"]
    assert len(application.told) == 1


async def test_repeated_last_fragment_is_answered_without_asking_again(
    serve: Serve, application: Application
):
    application.file = b"confirmed"
    site = await serve(directory=notifying(application, "by-reference"))
    line = await site.dial()
    named = await ordered(site, line)
    answers = [await line.ask(order(site, named)) for _ in range(2)]

    assert shape(answers[0]) == shape(answers[1])
    assert len(application.told) == 1


@pytest.mark.parametrize("verb", [close, cancel], ids=["close", "cancel"])
async def test_reply_can_be_fetched_over_a_restart_until_the_session_ends(
    serve: Serve, application: Application, verb
):
    application.file = b"confirmed"
    site = await serve(directory=notifying(application, "by-reference"))
    line = await site.dial()
    named = await ordered(site, line)
    await line.ask(order(site, named))
    target = reply_url(site, named).removeprefix(site.url)
    await line.hang_up()
    await site.stop()
    await site.start()
    again = await site.dial()
    reply = await again.ask(fetch(target))
    ended = await again.ask(verb(ORDER, named))
    gone = await again.ask(fetch(target))

    assert (reply.status, reply.body) == (200, b"confirmed")
    assert ended.status == 200
    assert gone.status == 404
    assert site.sessions == []


async def test_reply_of_no_session_is_not_found(line: Line):
    quoted = NOBODY.replace("{", "%7B").replace("}", "%7D")
    answer = await line.ask(fetch(f"/in/BITS-Replies/{quoted}"))

    assert answer.status == 404
