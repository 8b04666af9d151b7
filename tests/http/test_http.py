"""HTTP/1.1 as clients, proxies and strangers speak it (RFC 9110, RFC 9112)."""

import asyncio

import pytest
from sites import Serve, Site
from wire_client import (
    NOBODY,
    Answer,
    Line,
    close,
    create,
    fetch,
    fragment,
    packet,
    ping,
    ranged,
    request,
    until,
)

TARGET = "/in/report.dat"
ENTITY = bytes(range(250)) * 120

#: What a client may well wait for a server that is to hang up in a second.
SOON = 5.0


def is_ack(answer: Answer) -> bool:
    return (answer.get("BITS-Packet-Type"), answer.get("Content-Length")) == (
        "Ack",
        "0",
    )


def expecting(octets: bytes) -> tuple[bytes, bytes]:
    """Head and body of a packet whose client wants to be asked for the body."""
    head, _, body = octets.partition(b"\r\n\r\n")
    return head + b"\r\nExpect: 100-continue\r\n\r\n", body


# Connections.


async def test_packets_in_one_write_are_answered_in_order(site: Site, line: Line):
    named = await line.create(TARGET)
    pieces = [(first, ENTITY[first : first + 10000]) for first in (0, 10000, 20000)]
    octets = [fragment(TARGET, named, first, body, 30000) for first, body in pieces]
    await line.send(b"".join([*octets, close(TARGET, named), ping(TARGET)]))
    answers = [await line.receive() for _ in range(5)]

    assert [answer.status for answer in answers] == [200] * 5
    assert [answer.received for answer in answers[:3]] == [10000, 20000, 30000]
    assert (site.folder / "report.dat").read_bytes() == ENTITY


@pytest.mark.parametrize("piece", [37, 1000, 9999, 65536, 1000000])
async def test_packets_may_be_cut_into_any_pieces(site: Site, line: Line, piece: int):
    entity = ENTITY * max(1, piece // 10000)
    half, total = len(entity) // 2, len(entity)
    named = await line.create(TARGET)
    octets = [
        fragment(TARGET, named, 0, entity[:half], total),
        fragment(TARGET, NOBODY, 0, entity[:half], total),
        fragment(TARGET, named, half, entity[half:], total),
        close(TARGET, named),
        fetch(TARGET),
    ]
    stream = b"".join(octets)
    for first in range(0, len(stream), piece):
        await line.send(stream[first : first + piece])
        # Lets the server, in this same event loop, see every piece for itself.
        await asyncio.sleep(0)
    answers = [await line.receive() for _ in octets]

    assert [answer.status for answer in answers] == [200, 500, 200, 200, 200]
    assert answers[-1].body == entity


async def test_packet_behind_a_refused_one_is_answered(line: Line):
    refused = fragment(TARGET, NOBODY, 0, b"x" * 100000, 100000)
    await line.send(refused + ping(TARGET))
    answers = [await line.receive() for _ in range(2)]

    assert [answer.status for answer in answers] == [500, 200]


async def test_download_behind_an_upload_sees_the_file(line: Line):
    named = await line.create(TARGET)
    await line.send(fragment(TARGET, named, 0, ENTITY, 30000) + fetch(TARGET))
    answers = [await line.receive() for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[1].body == ENTITY


async def test_connection_is_kept(line: Line):
    answers = [await line.ask(ping(TARGET)) for _ in range(50)]

    assert {answer.status for answer in answers} == {200}
    assert all(is_ack(answer) for answer in answers)


async def test_connection_is_closed_when_the_client_asks(line: Line):
    octets = ping(TARGET).replace(b"Connection: Keep-Alive", b"Connection: close")
    answer = await line.ask(octets)

    assert answer.status == 200
    assert await line.ended() == b""


async def test_old_http_keeps_a_connection_that_it_asks_to_keep(line: Line):
    octets = ping(TARGET).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    for _ in range(2):
        await line.send(octets)
        answer = await line.receive()
        assert answer.status == 200
        assert answer.get("Connection") == "keep-alive"


async def test_proxy_that_speaks_http_1_0_is_answered(line: Line):
    """As nginx passes packets on by default."""
    octets = ping(TARGET).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    answer = await line.ask(octets.replace(b"Keep-Alive", b"close"))

    assert (answer.status, is_ack(answer)) == (200, True)
    assert await line.ended() == b""


# Expect: 100-continue, RFC 9110 10.1.1.


async def test_old_http_is_not_asked_for_a_body(line: Line):
    named = await line.create(TARGET)
    head, body = expecting(fragment(TARGET, named, 0, ENTITY, 30000))
    await line.send(head.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    await line.send(body)

    assert (await line.receive()).status == 200


async def test_body_that_is_wanted_is_asked_for(site: Site, line: Line):
    named = await line.create(TARGET)
    head, body = expecting(fragment(TARGET, named, 0, ENTITY, 30000))
    asked = await line.ask(head)
    answer = await line.ask(body)

    assert asked.status == 100
    assert (answer.status, answer.received) == (200, 30000)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


@pytest.mark.parametrize(
    ("target", "named", "content_range", "status"),
    [
        pytest.param(TARGET, NOBODY, "bytes 0-2/3", 500, id="unknown session"),
        pytest.param(TARGET, None, "bytes 5-7/9", 416, id="gap"),
        pytest.param(TARGET, None, "bytes 9-7/9", 400, id="broken range"),
        pytest.param(TARGET, None, "bytes 0-2/5000000", 500, id="over the limit"),
        pytest.param("/else/x", None, "bytes 0-2/3", 404, id="no directory"),
    ],
)
async def test_body_that_is_refused_is_not_asked_for(
    serve: Serve, target: str, named: str | None, content_range: str, status: int
):
    site = await serve(directory="maximum_upload_size = 1000000")
    line = await site.dial()
    named = named or await line.create(TARGET)
    head, _body = expecting(ranged(target, named, content_range, b"abc"))
    answer = await line.ask(head)

    assert (answer.status, is_ack(answer)) == (status, True)


async def test_chunked_packet_is_refused_for_its_length(line: Line):
    named = await line.create(TARGET)
    octets = request(
        "BITS_POST",
        TARGET,
        ("BITS-Packet-Type", "Fragment"),
        ("BITS-Session-Id", named),
        ("Content-Range", "bytes 0-2/3"),
        ("Transfer-Encoding", "chunked"),
        body=b"3\r\nabc\r\n0\r\n\r\n",
    )
    answer = await line.ask(octets)

    assert (answer.status, is_ack(answer)) == (411, True)


# Targets and names.


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "up.example.test", "[::1]:80"])
async def test_absolute_form_of_the_target_is_taken(site: Site, line: Line, host: str):
    target = f"http://{host}{TARGET}"
    await line.upload(target, ENTITY)
    answer = await line.ask(fetch(target))

    assert (site.folder / "report.dat").read_bytes() == ENTITY
    assert answer.body == ENTITY


async def test_session_may_change_between_absolute_and_origin_form(line: Line):
    named = await line.create(f"http://up.example.test{TARGET}")
    answer = await line.ask(fragment(TARGET, named, 0, b"abc", 3))

    assert answer.status == 200


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Größe.dat", "Größe.dat"),
        ("Gr%C3%B6%C3%9Fe.dat", "Größe.dat"),
        ("Gr%c3%b6%c3%9fe.dat", "Größe.dat"),
        ("日本.txt", "日本.txt"),
        ("%E6%97%A5%E6%9C%AC.txt", "日本.txt"),
        ("two%20words.txt", "two words.txt"),
        ("%7Bbraces%7D", "{braces}"),
        ("{braces}", "{braces}"),
        ("a+b.txt", "a+b.txt"),
        ("100%25.txt", "100%.txt"),
        ("%2541.txt", "%41.txt"),
        ("a;b=c,d@e.txt", "a;b=c,d@e.txt"),
        ("image.ckm.index", "image.ckm.index"),
    ],
)
async def test_name_is_stored_as_meant(
    site: Site, line: Line, spelling: str, name: str
):
    await line.upload(f"/in/{spelling}", b"abc")
    answer = await line.ask(fetch(f"/in/{spelling}"))

    published = [path.name for path in site.folder.iterdir() if path.is_file()]
    assert published == [name]
    assert answer.body == b"abc"


@pytest.mark.parametrize("spelling", ["%FF.dat", "%C3.dat", "\udcff.dat", "%.dat"])
async def test_name_that_is_not_utf_8_is_refused(site: Site, line: Line, spelling: str):
    answer = await line.ask(create(f"/in/{spelling}"))

    assert (answer.status, is_ack(answer)) == (400, True)
    assert answer.error == ("0x80070057", "0x80070057", "0x5")


@pytest.mark.parametrize(
    "query", ["?", "?a=b", "?../../x", "?a=%2f&b=%00", "?x?y", "?/in/other.dat"]
)
async def test_query_does_not_name_the_file(site: Site, line: Line, query: str):
    await line.upload(TARGET + query, b"abc")
    answer = await line.ask(fetch(TARGET + query))

    published = [path.name for path in site.folder.iterdir() if path.is_file()]
    assert published == ["report.dat"]
    assert answer.body == b"abc"


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
async def test_names_of_fields_are_read_in_any_case(line: Line, case):
    named = await line.create(TARGET)
    start, *lines = fragment(TARGET, named, 0, b"abc", 3).decode().split("\r\n")
    recased = []
    for text in lines[:-1]:
        name, colon, value = text.partition(":")
        recased.append(case(name) + colon + value)
    octets = "\r\n".join([start, *recased, lines[-1]]).encode()
    answer = await line.ask(octets)

    assert (answer.status, answer.received) == (200, 3)


async def test_unknown_and_non_ascii_fields_are_ignored(line: Line):
    named = await line.create(TARGET)
    octets = packet(
        TARGET,
        "Fragment",
        ("BITS-Session-Id", named),
        ("Content-Name", "Größe.dat"),
        ("X-Latin", "\udce4\udcf6"),
        ("BITS-Future", "1"),
        ("Content-Range", "bytes 0-2/3"),
        body=b"abc",
    )
    answer = await line.ask(octets)

    assert (answer.status, answer.received) == (200, 3)


async def test_content_encoding_does_not_shift_the_bytes(site: Site, line: Line):
    named = await line.create(TARGET)
    octets = fragment(TARGET, named, 0, b"\x1f\x8babc", 5)
    coded = octets.replace(b"\r\nHost:", b"\r\nContent-Encoding: identity\r\nHost:", 1)
    answer = await line.ask(coded)

    assert answer.status == 200
    assert (site.folder / "report.dat").read_bytes() == b"\x1f\x8babc"


# Strangers.


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FOO"])
async def test_other_method_is_answered_with_the_ones_there_are(
    line: Line, method: str
):
    octets = request(method, TARGET, ("Content-Length", "3"), body=b"abc")
    answer = await line.ask(octets)
    allowed = (answer.get("Allow") or "").replace(" ", "").split(",")

    assert answer.status == 405
    assert {"BITS_POST", "GET", "HEAD"} <= set(allowed)
    assert method not in allowed


@pytest.mark.parametrize("size", [5000, 8000, 9000, 20000, 100000])
async def test_oversized_field_is_answered_with_an_ack(line: Line, size: int):
    answer = await line.ask(packet(TARGET, "Ping", ("X-Long", "x" * size)))

    assert (answer.status, is_ack(answer)) == (400, True)
    assert answer.error == ("0x80070057", "0x80070057", "0x5")


async def test_unreadable_packet_is_answered_in_http_1_1(line: Line):
    """[MC-BUP] 2.2.1: there is no BITS over an older version."""
    answer = await line.ask(packet(TARGET, "Ping", ("X-Long", "x" * 100000)))

    assert answer.version == "HTTP/1.1"


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"HELO\r\n\r\n", id="one word"),
        pytest.param(b"BITS_POST\r\n\r\n", id="only a method"),
        pytest.param(b"BITS_POST /in/x HTTP/9.x\r\n\r\n", id="no such version"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", id="TLS"),
        pytest.param(b"BITS_POST /in/x HTTP/1.1\r\nno colon\r\n\r\n", id="no field"),
        pytest.param(
            b"BITS_POST /in/x HTTP/1.1\r\nHost: a\r\nBITS-Packet-Type: Ping\r\n"
            b"Content-Length: -5\r\n\r\n",
            id="length is negative",
        ),
        pytest.param(
            b"BITS_POST /in/x HTTP/1.1\r\nHost: a\r\nBITS-Packet-Type: Ping\r\n"
            b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde",
            id="two lengths",
        ),
        pytest.param(
            b"BITS_POST /in/x HTTP/1.1\r\nHost: a\r\nBITS-Packet-Type: Ping\r\n"
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunks",
        ),
    ],
)
async def test_garbage_is_answered_with_an_ack(site: Site, line: Line, octets: bytes):
    answer = await line.ask(octets)
    other = await site.dial()

    assert (answer.status, is_ack(answer)) == (400, True)
    assert (await other.ask(ping(TARGET))).status == 200


# Time. Each of these waits for the server's clock, one second.


async def test_silent_connection_is_closed(serve: Serve):
    site = await serve(top="idle_timeout = 1")
    line = await site.dial()
    await line.ask(ping(TARGET))
    async with asyncio.timeout(SOON):
        rest = await line.ended()

    assert rest == b""


async def test_connection_without_any_request_is_closed(serve: Serve):
    site = await serve(top="idle_timeout = 1\nheader_timeout = 1")
    line = await site.dial()
    async with asyncio.timeout(SOON):
        rest = await line.ended()

    assert b"200" not in rest


async def test_slow_header_is_cut_however_it_drips(serve: Serve):
    site = await serve(top="header_timeout = 1")
    line = await site.dial()
    slow = asyncio.create_task(line.drip(ping(TARGET), pause=0.1))
    async with asyncio.timeout(SOON):
        rest = await line.ended()
    slow.cancel()

    assert b"200" not in rest


async def test_slow_body_is_cut_however_it_drips_and_kept(serve: Serve):
    site = await serve(top="stall_timeout = 1\ndrain_timeout = 1")
    line = await site.dial()
    named = await line.create(TARGET)
    octets = fragment(TARGET, named, 0, ENTITY, 30000)
    await line.send(octets[:-29000])
    slow = asyncio.create_task(line.drip(octets[-29000:], pause=0.1))
    async with asyncio.timeout(SOON):
        answer = await line.receive()
    slow.cancel()
    again = await site.dial()
    resumed = await again.ask(fragment(TARGET, named, 0, ENTITY, 30000))

    assert (answer.status, is_ack(answer)) == (408, True)
    assert resumed.received == 30000
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_steady_body_may_take_longer_than_the_stall_timeout(serve: Serve):
    site = await serve(top="stall_timeout = 1")
    line = await site.dial()
    named = await line.create(TARGET)
    octets = fragment(TARGET, named, 0, ENTITY, 30000)
    await line.send(octets[:-30000])
    for first in range(0, 30000, 6000):
        await asyncio.sleep(0.3)
        await line.send(ENTITY[first : first + 6000])
    answer = await line.receive()

    assert (answer.status, answer.received) == (200, 30000)


# Number of connections.


async def test_connection_over_the_cap_is_turned_away_when_all_are_busy(serve: Serve):
    site = await serve(top="maximum_connections = 2")
    lines = [await site.dial() for _ in range(2)]
    targets = ["/in/a.dat", "/in/b.dat"]
    halves = [
        await half_a_fragment(site, *each) for each in zip(lines, targets, strict=True)
    ]
    third = await site.dial()
    rest = await turned_away(third)
    for line, half in zip(lines, halves, strict=True):
        await line.send(half)

    assert rest == b"" or rest.startswith(b"HTTP/1.1 503 ")
    assert [(await line.receive()).status for line in lines] == [200, 200]


async def test_connection_over_the_cap_ends_the_one_that_is_idle_for_longest(
    serve: Serve,
):
    site = await serve(top="maximum_connections = 3")
    lines = [await site.dial() for _ in range(3)]
    half = await half_a_fragment(site, lines[0], TARGET)
    for line in (lines[2], lines[1], lines[2]):
        await line.ask(ping(TARGET))
    fourth = await site.dial()
    answer = await fourth.ask(ping(TARGET))
    rest = await lines[1].ended()
    await lines[0].send(half)

    assert (answer.status, rest) == (200, b"")
    assert (await lines[0].receive()).status == 200
    assert (await lines[2].ask(ping(TARGET))).status == 200


async def half_a_fragment(site: Site, line: Line, target: str) -> bytes:
    """Send the first half of one that is a whole entity; returns the second."""
    named = await line.create(target)
    octets = fragment(target, named, 0, ENTITY, len(ENTITY))
    half = len(octets) - len(ENTITY) // 2
    await line.send(octets[:half])
    await until(lambda: site.held(named) == len(ENTITY) - len(ENTITY) // 2)
    return octets[half:]


async def test_closed_connection_makes_room_for_another(serve: Serve):
    site = await serve(top="maximum_connections = 1")
    first = await site.dial()
    await first.ask(ping(TARGET))
    first.finish()
    await first.ended()
    second = await site.dial()

    assert (await second.ask(ping(TARGET))).status == 200


async def turned_away(line: Line) -> bytes:
    try:
        await line.send(ping(TARGET))
    except ConnectionError:
        return b""
    return await line.ended()
