"""What broke the rules."""

from pathlib import Path

import pytest
from captured import (
    CLIENT,
    ID,
    PROTOCOL,
    Talk,
    ack,
    answer,
    bits,
    control,
    create,
    created,
    fragment,
    head,
    received,
    request,
    write,
)

from bitsd.replay.findings import Judged, judge
from bitsd.replay.recording import read

OTHER = "{11111111-2222-4333-8444-555555555555}"


@pytest.fixture
def judged(tmp_path: Path):
    def judged(*talks: Talk) -> Judged:
        return judge(read(write(tmp_path / "x.pcap", *talks)))

    return judged


def talk(*exchanges: bytes) -> Talk:
    """A connection with these requests and answers by turns."""
    found = Talk().open()
    for number, octets in enumerate(exchanges):
        found.answer(octets) if number % 2 else found.ask(octets)
    return found


def found(judged: Judged) -> list[tuple[str, str, str]]:
    return [(each.side.value, each.sentence, each.section) for each in judged.findings]


UPLOAD = (
    create(),
    created(),
    fragment(0, b"abc", 9),
    received(3),
    fragment(3, b"defghi", 9),
    received(9),
    control("Close-Session"),
    ack(),
)


def test_a_clean_upload_breaks_nothing(judged):
    done = judged(talk(*UPLOAD).close())

    assert done.findings == []
    (session,) = done.sessions
    assert (session.named, session.target, session.end) == (ID, "/in/a", "closed")
    assert (session.total, session.received, session.connections) == (9, 9, [1])
    assert len(session.exchanges) == 4


@pytest.mark.parametrize(
    ("exchange", "sentence", "section"),
    [
        ((bits("Ping"), ack()), None, None),
        ((bits("PING"), ack(500)), None, None),
        ((bits("Ping"), answer(401, "Content-Length: 0")), None, None),
        (
            (request("BITS_POST", "/in/a", "Content-Length: 0"), ack(400)),
            "no bits-packet-type",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (bits("Frobnicate"), ack(400)),
            "unknown packet type 'frobnicate'",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (request("BITS_POST", "/in/a", "BITS-Packet-Type: Ping"), ack()),
            "no Content-Length",
            "[MC-BUP] 3.2.5.2.3",
        ),
        (
            (bits("Ping").replace(b"HTTP/1.1", b"HTTP/1.0"), ack()),
            "a packet in HTTP/1.0",
            "[MC-BUP] 2.2.1",
        ),
        (
            (bits("Create-Session"), ack(400)),
            "no bits-supported-protocols",
            "[MC-BUP] 2.2.2.2",
        ),
        (
            (bits("Create-Session", f"BITS-Supported-Protocols: {ID}"), ack(400)),
            f"no protocol in common: '{ID}'",
            "[MC-BUP] 2.2.2.2",
        ),
        ((bits("Close-Session"), ack(400)), "no bits-session-id", "[MC-BUP] 2.2.8.2"),
        (
            (bits("Fragment", f"BITS-Session-Id: {ID}", body=b"x"), ack(400)),
            "no content-range",
            "[MC-BUP] 2.2.6.2",
        ),
        (
            (fragment(0, b"abc", 9).replace(b"0-2/9", b"0-3/9"), ack(400)),
            "Content-Range 0-3, but a body of 3 bytes",
            "[MC-BUP] 3.2.5.2.6",
        ),
        (
            (fragment(0, b"abc", 9).replace(b"0-2/9", b"2-0/9"), ack(400)),
            "Content-Range 'bytes 2-0/9'",
            "[MC-BUP] 3.2.5.2.6",
        ),
        (
            (bits("Cancel-Session", f"BITS-Session-Id: {ID}", body=b"x"), ack(400)),
            "cancel-session with a body of 1 bytes",
            "[MC-BUP] 2.2.10.2",
        ),
        (
            (bits("Ping", "X: " + "y" * 4097), ack(400)),
            "X has 4097 bytes",
            "[MC-BUP] 2.2.4.2",
        ),
    ],
)
def test_a_client_keeps_to_the_rules_of_packets(judged, exchange, sentence, section):
    expected = [] if sentence is None else [("client", sentence, section)]

    assert found(judged(talk(*exchange))) == expected


E57 = "0x80070057"


@pytest.mark.parametrize(
    ("exchange", "sentence", "section"),
    [
        (
            (bits("Ping"), answer(405, "Content-Length: 0")),
            "no Ack: BITS-Packet-Type is missing, so a client drops it",
            "[MC-BUP] 2.2.5.2",
        ),
        (
            (create(), created().replace(b": Ack", b": Nack")),
            "no Ack: BITS-Packet-Type is 'Nack', so a client drops it",
            "[MC-BUP] 2.2.3.2",
        ),
        (
            (bits("Ping"), ack().replace(b"HTTP/1.1", b"HTTP/1.0")),
            "an Ack in HTTP/1.0",
            "[MC-BUP] 2.2.1",
        ),
        (
            (
                control("Close-Session"),
                answer(200, "BITS-Packet-Type: Ack", "Content-Length: 2", body=b"ok"),
            ),
            "an Ack without Content-Length: 0",
            "[MC-BUP] 2.2.9.1",
        ),
        (
            (bits("Ping"), ack(200, "X: " + "y" * 4097)),
            "X has 4097 characters",
            "[MC-BUP] 2.2.1",
        ),
        (
            (bits("Ping"), ack(400, f"BITS-Error: {E57}")),
            "an error without BITS-Error-Context",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (bits("Ping"), ack(400, "BITS-Error-Context: 0x5")),
            "BITS-Error-Context without an error",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (bits("Ping"), ack(400, f"BITS-Error: {E57}", "BITS-Error-Context: 0x6")),
            "BITS-Error-Context is '0x6'",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (bits("Ping"), ack(400, "BITS-Error-Code: 1", "BITS-Error-Context: 0x7")),
            "the error code '1' is no HRESULT",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (bits("Ping"), ack(200, f"BITS-Error: {E57}", "BITS-Error-Context: 0x5")),
            "an error code in an Ack with 200",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (bits("Ping"), ack(404, f"BITS-Error: {E57}", "BITS-Error-Context: 0x5")),
            "0x80070057 does not go with 404",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (
                bits("Ping"),
                ack(500, "BITS-Error: 0x8020001E", "BITS-Error-Context: 0x7"),
            ),
            None,
            None,
        ),
        (
            (
                control("Cancel-Session"),
                ack(200, f"BITS-Session-Id: {OTHER}"),
            ),
            "the Ack names another session",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (
                control("Cancel-Session"),
                ack(200, f"BITS-Session-Id: {ID[1:-1].lower()}"),
            ),
            None,
            None,
        ),
        (
            (create(), ack(200, f"BITS-Session-Id: {ID}")),
            "a session without BITS-Protocol",
            "[MC-BUP] 2.2.3.2",
        ),
        (
            (create(), created().replace(PROTOCOL.encode(), ID.encode())),
            f"BITS-Protocol is '{ID}'",
            "[MC-BUP] 2.2.3.2",
        ),
        (
            (create(), ack(200, f"BITS-Protocol: {PROTOCOL}")),
            "a session without BITS-Session-Id",
            "[MC-BUP] 2.2.3.2",
        ),
        (
            (
                create(),
                ack(
                    200,
                    f"BITS-Protocol: {PROTOCOL}",
                    "BITS-Session-Id: 7",
                    "BITS-Host-Id-Fallback-Timeout: 110",
                ),
            ),
            "BITS-Host-Id-Fallback-Timeout without BITS-Host-Id",
            "[MC-BUP] 2.2.3.2",
        ),
        (
            (
                create(),
                ack(
                    201,
                    f"BITS-Protocol: {PROTOCOL}",
                    "BITS-Session-Id: 7",
                    "BITS-Host-Id: h",
                    "BITS-Host-Id-Fallback-Timeout: 1d",
                ),
            ),
            "BITS-Host-Id-Fallback-Timeout is '1d'",
            "[MC-BUP] 2.2.3.2",
        ),
        (
            (fragment(0, b"a", 9), ack()),
            "200 without BITS-Received-Content-Range",
            "[MC-BUP] 2.2.7.2",
        ),
        (
            (fragment(0, b"a", 9), ack(200, "BITS-Received-Content-Range: 0-1")),
            "BITS-Received-Content-Range is '0-1', not a number",
            "[MC-BUP] 2.2.7.2",
        ),
        (
            (
                fragment(0, b"a", 9),
                ack(200, "BITS-Received-Content-Range: 1", "BITS-Reply-URL: /r"),
            ),
            "BITS-Reply-URL before the last fragment",
            "[MC-BUP] 2.2.7.2",
        ),
        (
            (
                fragment(0, b"a", 1),
                ack(200, "BITS-Received-Content-Range: 1", "BITS-Reply-URL: /r"),
            ),
            None,
            None,
        ),
        (
            (
                fragment(0, b"a", 1),
                ack(
                    200,
                    "BITS-Received-Content-Range: 1",
                    "BITS-Reply-URL: /" + "r" * 2200,
                ),
            ),
            "BITS-Reply-URL has 2201 characters",
            "[MC-BUP] 2.2.1.2",
        ),
    ],
)
def test_a_server_keeps_to_the_rules_of_acks(judged, exchange, sentence, section):
    expected = [] if sentence is None else [("server", sentence, section)]

    assert found(judged(talk(*exchange))) == expected


def test_the_two_names_of_an_error_mean_the_same(judged):
    fields = f"BITS-Error: {E57}", "BITS-Error-Code: 0x80070005"
    done = judged(talk(bits("Ping"), ack(403, *fields, "BITS-Error-Context: 0x5")))

    assert ("server", "BITS-Error and BITS-Error-Code differ", "[MC-BUP] 2.2.1.2") in (
        found(done)
    )


def test_416_says_it_all(judged):
    fields = ("BITS-Received-Content-Range: 0", f"BITS-Error: {E57}")
    done = judged(
        talk(fragment(3, b"a", 9), ack(416, *fields, "BITS-Error-Context: 0x5"))
    )

    assert found(done) == [
        ("server", "416 with an error code, though it says it all", "[MC-BUP] <4>")
    ]


BACK = "[MC-BUP] 3.2.5.2.6"


@pytest.mark.parametrize(
    ("exchanges", "side", "sentence", "section"),
    [
        (
            (fragment(0, b"abc", 9), received(3), fragment(3, b"d", 9), received(1)),
            "server",
            "wants 1 next, after it wanted 3",
            BACK,
        ),
        (
            (fragment(0, b"abc", 9), received(10)),
            "server",
            "wants 10 next, of a file of 9 bytes",
            BACK,
        ),
        (
            (create(), created(), fragment(0, b"abc", 9), received(5)),
            "server",
            "has 5 bytes, of which 3 were sent",
            BACK,
        ),
        (
            (fragment(0, b"abc", 9), received(3), fragment(3, b"d", 8), received(4)),
            "client",
            "the file has 8 bytes, before it had 9",
            "[MC-BUP] 2.2.1.2",
        ),
        (
            (fragment(0, b"abc", 9), received(3), fragment(0, b"a", 9), received(3)),
            "client",
            "sends from 0 on, but was told 3",
            "[MC-BUP] 3.1.5.1.4",
        ),
    ],
)
def test_a_session_goes_on_as_the_rules_say(judged, exchanges, side, sentence, section):
    assert found(judged(talk(*exchanges))) == [(side, sentence, section)]


def test_nothing_behind_a_gap_may_count(judged):
    gap = fragment(0, b"abc", 9), received(3), fragment(5, b"f", 9), received(6)

    assert found(judged(talk(*gap)))[1] == (
        "server",
        "takes 5 and on, though it lacks 3",
        BACK,
    )


def test_a_gap_that_is_refused_is_the_clients_alone(judged):
    gap = fragment(0, b"abc", 9), received(3), fragment(5, b"f", 9), received(3, 416)

    assert [side for side, *_ in found(judged(talk(*gap)))] == ["client"]


def test_a_lost_session_is_not_gone_on_with(judged):
    lost = ack(500, "BITS-Error: 0x8020001F", "BITS-Error-Context: 0x5")
    done = judged(talk(fragment(0, b"a", 9), lost, fragment(0, b"a", 9), lost))

    assert found(done) == [
        (
            "client",
            "goes on with a session that the server does not know",
            "[MC-BUP] 3.1.5.2.1",
        )
    ]
    assert done.sessions[0].end == "lost"


def test_a_session_is_one_over_all_connections(judged):
    one = talk(create(), created("17"), fragment(0, b"abc", 9, "17")).reset()
    two = Talk(client=CLIENT._replace(port=50001), time=one.time).open()
    two.ask(fragment(0, b"abc", 9, "17")).answer(received(3))
    two.ask(control("Cancel-Session", "17")).answer(ack())
    done = judged(one, two)

    assert done.findings == []
    (session,) = done.sessions
    assert (session.named, session.end, session.connections) == (
        "17",
        "cancelled",
        [1, 2],
    )


def test_what_a_proxy_passes_on_breaks_nothing(judged):
    near = Talk().open()
    far = Talk(client=CLIENT._replace(port=50001), time=near.time).open()
    near.time = far.time
    for octets, answered in zip(UPLOAD[::2], UPLOAD[1::2], strict=True):
        near.ask(octets)
        far.time = near.time
        far.ask(octets).answer(answered)
        near.time = far.time
        near.answer(answered)
    done = judged(near, far)

    assert done.findings == []
    assert [session.connections for session in done.sessions] == [[1, 2]]


def test_a_refused_session_is_none(judged):
    fields = "BITS-Error: 0x80070005", "BITS-Error-Context: 0x5"

    assert judged(talk(create(), ack(403, *fields))).sessions == []
    assert judged(talk(create())).sessions == []


def test_an_empty_file_is_a_fragment(judged):
    empty = bits("Fragment", f"BITS-Session-Id: {ID}", "Content-Range: bytes */0")
    done = judged(talk(create(), created(), empty, received(0)))

    assert done.findings == []
    assert done.sessions[0].total == 0


def test_a_malformed_fragment_moves_nothing(judged):
    bad = fragment(0, b"abc", 9).replace(b"0-2/9", b"0-2/x")
    done = judged(talk(bad, received(0), fragment(0, b"abc", 9), received(3)))

    assert [side for side, *_ in found(done)] == ["client"]
    assert done.sessions[0].received == 3


# HTTP itself


@pytest.mark.parametrize(
    ("asked", "sentence", "section"),
    [
        (request("GET", "/", host=""), "0 Host fields in place of one", "RFC 9112 3.2"),
        (
            request("GET", "/", "Host: x"),
            "2 Host fields in place of one",
            "RFC 9112 3.2",
        ),
        (
            request("PUT", "/", "Content-Length: 0", "Content-Length: 1", body=b""),
            "several Content-Length fields that differ",
            "RFC 9112 6.3",
        ),
        (
            request("PUT", "/", "Content-Length: x"),
            "Content-Length is no number",
            "RFC 9110 8.6",
        ),
        (
            request(
                "PUT",
                "/",
                "Transfer-Encoding: chunked",
                "Content-Length: 0",
                body=b"0\r\n\r\n",
            ),
            "both Transfer-Encoding and Content-Length",
            "RFC 9112 6.2",
        ),
        (
            request("GET", "/").replace(b"1.1\r\n", b"1.1\n"),
            "lines of the head end in a bare line feed",
            "RFC 9112 2.2",
        ),
        (
            request("GET", "/", "X : y"),
            "a blank before the colon of a field, or no name",
            "RFC 9112 5.1",
        ),
    ],
)
def test_requests_keep_to_the_rules_of_http(judged, asked, sentence, section):
    assert found(judged(talk(asked))) == [("client", sentence, section)]


LM = "Last-Modified: Tue, 24 Nov 2026 00:00:00 GMT"


def got(
    status: int, *fields: str, body: bytes = b"", length: int | None = None
) -> bytes:
    count = len(body) if length is None else length
    return answer(status, LM, f"Content-Length: {count}", *fields, body=body)


def test_an_old_request_needs_no_host(judged):
    asked = request("GET", "/", host="").replace(b"1.1", b"1.0")

    assert found(judged(talk(asked, got(200)))) == []


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        (got(200, body=b"abc", length=9), "after 3 of 9 bytes of the body"),
        (
            answer(200, LM, "Transfer-Encoding: chunked", body=b"9\r\nabc"),
            "after 3 bytes of the body",
        ),
    ],
)
def test_an_answer_is_not_left_unfinished(judged, octets: bytes, sentence: str):
    exchange = talk(request("GET", "/"), octets).close(first=1)
    sentences = [sentence for _, sentence, _ in found(judged(exchange))]

    assert f"the connection was ended {sentence}" in sentences


def test_a_client_may_leave(judged):
    exchange = talk(request("GET", "/"), got(200, body=b"abc", length=9))

    assert found(judged(exchange)) == []
    assert found(judged(exchange.reset(0))) == []


def test_bytes_that_are_no_message_are_told(judged):
    exchange = talk(request("GET", "/"), got(200) + b"what?\r\n\r\n")

    assert found(judged(exchange)) == [
        (
            "server",
            "where a message should begin came b'what?\\r\\n\\r\\n'",
            "RFC 9112 2.2",
        )
    ]
    assert found(judged(talk(b"what?\r\n\r\n"))) == []


# Downloads


def ranged(*ranges: str, method: str = "GET") -> bytes:
    return request(method, "/f", f"Range: bytes={','.join(ranges)}")


def span(first: int, last: int, total: int = 100) -> bytes:
    field = f"Content-Range: bytes {first}-{last}/{total}"
    return got(206, field, body=bytes(last - first + 1))


def several(
    *spans: tuple[int, int], end: bytes = b"--b--", field: str = "X: y"
) -> bytes:
    body = b"".join(
        head("--b", f"Content-Range: bytes {first}-{last}/100")
        + bytes(last - first + 1)
        + b"\r\n"
        for first, last in spans
    )
    kind = "Content-Type: multipart/byteranges; boundary=b"
    return got(206, kind, field, body=body + end)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (ranged("0-9"), span(0, 9)),
        (ranged("90-199"), span(90, 99)),
        (ranged("90-"), span(90, 99)),
        (ranged("-10"), span(90, 99)),
        (ranged("-999"), span(0, 99)),
        (ranged("0-9"), got(200, body=bytes(100))),
        (ranged("0-9", "20-29"), several((0, 9), (20, 29))),
        (ranged("0-9", "20-29", ""), span(0, 9)),
        (ranged("0-9", "200-", "-5"), several((0, 9), (95, 99))),
        (ranged("200-"), got(416, "Content-Range: bytes */100")),
        (request("HEAD", "/f"), got(200, length=100)),
        (request("GET", "/f"), got(412)),
        (request("GET", "/f"), got(200, "Content-Encoding: identity")),
        (request("OPTIONS", "/f"), answer(200, "Content-Length: 0")),
    ],
)
def test_a_clean_download_breaks_nothing(judged, asked: bytes, answered: bytes):
    assert found(judged(talk(asked, answered))) == []


@pytest.mark.parametrize(
    "value", ["bytes", "bytes=", "bytes=x", "bytes=-", "bytes=9-0", "items=1-2"]
)
def test_a_range_makes_sense(judged, value: str):
    asked = request("GET", "/f", f"Range: {value}")

    assert found(judged(talk(asked))) == [
        ("client", "the Range makes no sense", "RFC 9110 14.1.2")
    ]


@pytest.mark.parametrize(
    ("asked", "answered", "sentence", "section"),
    [
        (
            request("GET", "/f"),
            answer(200, LM, body=b"x"),
            "no Content-Length, which BITS needs",
            "[MC-BUP] 3.5.5",
        ),
        (
            request("GET", "/f"),
            answer(200, "Content-Length: 0"),
            "no Last-Modified, which BITS compares",
            "[MC-BUP] 3.5.5.1",
        ),
        (
            request("GET", "/f"),
            got(200, "Content-Encoding: gzip"),
            "the file is sent in the coding 'gzip'",
            "RFC 9110 12.5.3",
        ),
        (
            ranged("0-9", method="HEAD"),
            got(206, length=10),
            "206 to a HEAD",
            "RFC 9110 14.2",
        ),
        (
            request("GET", "/f"),
            span(0, 9),
            "206, though no range was asked for",
            "RFC 9110 15.3.7",
        ),
        (
            ranged("0-9"),
            got(206, body=bytes(10)),
            "206 without Content-Range",
            "RFC 9110 15.3.7.1",
        ),
        (
            ranged("0-9"),
            got(206, "Content-Range: bytes 9-0/100"),
            "Content-Range is 'bytes 9-0/100'",
            "RFC 9110 14.4",
        ),
        (
            ranged("0-9"),
            got(206, "Content-Range: bytes 0-100/100"),
            "Content-Range is 'bytes 0-100/100'",
            "RFC 9110 14.4",
        ),
        (
            ranged("0-9"),
            span(10, 19),
            "bytes 10-19 were not asked for",
            "RFC 9110 15.3.7.1",
        ),
        (
            ranged("0-9"),
            span(0, 5),
            "bytes 0-5 were not asked for",
            "RFC 9110 15.3.7.1",
        ),
        (
            ranged("0-9"),
            span(0, 19),
            "bytes 0-19 were not asked for",
            "RFC 9110 15.3.7.1",
        ),
        (
            ranged("-9"),
            span(0, 5),
            "bytes 0-5 were not asked for",
            "RFC 9110 15.3.7.1",
        ),
        (
            ranged("0-9"),
            got(206, "Content-Range: bytes 0-9/*", body=bytes(3)),
            "10 bytes by Content-Range, 3 by length",
            "RFC 9110 14.4",
        ),
        (
            ranged("0-9", "20-29"),
            several((0, 9), (20, 29), field="Content-Range: bytes 0-29/100"),
            "several parts and a Content-Range",
            "RFC 9110 15.3.7.2",
        ),
        (
            ranged("0-9", "20-29"),
            several((0, 9), end=head("--b", "X: y")),
            "a part without a Content-Range",
            "RFC 9110 15.3.7.2",
        ),
        (
            ranged("0-9", "20-29"),
            several((0, 9), (20, 29), end=b""),
            "the parts have no end",
            "RFC 9110 14.6",
        ),
        (
            ranged("0-9", "20-29"),
            several((20, 29), (0, 9)),
            "the parts are not the ranges, in their order",
            "[MC-BUP] 3.5.5.1",
        ),
        (
            ranged("0-9", "20-29"),
            several((0, 9), (20, 29), (40, 49)),
            "the parts are not the ranges, in their order",
            "[MC-BUP] 3.5.5.1",
        ),
        (
            ranged("0-9", "20-29"),
            several((0, 9)),
            "1 parts for 2 ranges",
            "[MC-BUP] 3.5.5.1",
        ),
        (
            ranged("0-9", "20-29"),
            several(),
            "0 parts for 2 ranges",
            "[MC-BUP] 3.5.5.1",
        ),
    ],
)
def test_a_download_keeps_to_the_rules(judged, asked, answered, sentence, section):
    assert found(judged(talk(asked, answered))) == [("server", sentence, section)]


def test_an_answer_without_a_request_is_held_against_http_alone(judged):
    exchange = Talk().open().lose(0, 50).answer(got(206).replace(b"h: 0", b"h: x"))

    assert found(judged(exchange)) == [
        ("server", "Content-Length is no number", "RFC 9110 8.6")
    ]
