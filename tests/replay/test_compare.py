"""Which answers are alike."""

import pytest
from captured import (
    ID,
    ack,
    answer,
    bits,
    create,
    created,
    fragment,
    head,
    received,
    request,
)

from bitsd.replay.compare import different
from bitsd.replay.mapping import Mapping
from bitsd.replay.message import Answer, Request
from bitsd.replay.messages import Answers, Requests
from bitsd.replay.streams import How

NEW = "{99999999-AAAA-4BBB-8CCC-DDDDDDDDDDDD}"
GET = request("GET", "/f")
FRAGMENT = fragment(0, b"abc", 9)


def asked(octets: bytes) -> Request:
    reader = Requests()
    reader.add(octets, 0.0)
    return reader.found[0]


def answered(*octets: bytes | int) -> Answer:
    reader = Answers(lambda answer: "GET")
    for each in octets:
        if isinstance(each, int):
            reader.gap(each, 0.0)
        else:
            reader.add(each, 0.0)
    reader.end(How.FIN)
    return reader.found[0]


def found(octets: bytes, captured: bytes, got: bytes | None) -> list[str]:
    mapping = Mapping("h", sessions={ID: NEW})
    other = None if got is None else answered(got)
    return [
        f"{field}: {old} / {new}"
        for field, old, new in different(
            asked(octets), answered(captured), other, mapping
        )
    ]


def multipart(boundary: str, *octets: bytes, end: str = "--") -> bytes:
    body = b"".join(
        head(f"--{boundary}", f"Content-Range: bytes 0-{len(each) - 1}/9")
        + each
        + b"\r\n"
        for each in octets
    )
    body += f"--{boundary}{end}".encode()
    kind = f"Content-Type: multipart/byteranges; boundary={boundary}"
    return answer(206, kind, f"Content-Length: {len(body)}", body=body)


def ok(*fields: str, body: bytes = b"abc") -> bytes:
    return answer(200, *fields, f"Content-Length: {len(body)}", body=body)


REPLY = "BITS-Reply-URL: "


@pytest.mark.parametrize(
    ("octets", "captured", "got"),
    [
        (FRAGMENT, received(3), received(3)),
        (create(), created(ID), created(NEW)),
        (create(), created(ID), created(NEW.lower()[1:-1])),
        (bits("Ping"), ack(200, "Date: a", "Server: b"), ack(200, "X: c")),
        (
            bits("Ping"),
            ack(400, "BITS-Error: 0x80070057"),
            ack(400, "BITS-Error: 0X80070057"),
        ),
        (
            FRAGMENT,
            ack(200, f"{REPLY}http://old/in/R/%7B{ID[1:-1]}%7D"),
            ack(200, f"{REPLY}https://new:1/in/R/%7B{NEW[1:-1].lower()}%7D"),
        ),
        (FRAGMENT, ack(200, f"{REPLY}/in/r"), ack(200, f"{REPLY}http://new/in/r")),
        (GET, ok('ETag: "a"', "Last-Modified: b"), ok('ETag: "c"', "Last-Modified: d")),
        (GET, ok(), ok('ETag: "c"', "Last-Modified: d")),
        (GET, multipart("b", b"abc"), multipart("other", b"abc")),
        (GET, answer(404, "Content-Length: 1", body=b"a"), answer(404, body=b"other")),
        (
            GET,
            answer(401, 'WWW-Authenticate: Basic realm="a"'),
            answer(401, 'WWW-Authenticate: BASIC realm="b"'),
        ),
    ],
)
def test_answers_are_alike(octets: bytes, captured: bytes, got: bytes):
    assert found(octets, captured, got) == []


@pytest.mark.parametrize(
    ("octets", "captured", "got", "told"),
    [
        (FRAGMENT, received(3), None, ["answer: 200 / nothing"]),
        (FRAGMENT, received(3), received(3, 416), ["status: 200 / 416"]),
        (
            FRAGMENT,
            received(3),
            received(4),
            ["bits-received-content-range: 3 / 4"],
        ),
        (
            FRAGMENT,
            received(3),
            answer(405, "Content-Length: 9", body=b"not found"),
            [
                "status: 200 / 405",
                "bits-packet-type: Ack / nothing",
                "bits-received-content-range: 3 / nothing",
            ],
        ),
        (
            bits("Ping"),
            ack(400),
            ack(400, "BITS-Error-Context: 0x5"),
            ["bits-error-context: nothing / 0x5"],
        ),
        (create(), created(ID), created(ID), [f"bits-session-id: {ID} / {ID}"]),
        (
            FRAGMENT,
            ack(200, f"{REPLY}http://h/a"),
            ack(200, f"{REPLY}http://h/b"),
            ["bits-reply-url: http://h/a / http://h/b"],
        ),
        (
            FRAGMENT,
            answer(100) + received(3),
            received(3),
            ["interim answers: 100 / nothing"],
        ),
        (GET, ok('ETag: "a"'), ok(), ['etag: "a" / nothing']),
        (
            GET,
            answer(401, "WWW-Authenticate: Basic"),
            answer(401, "WWW-Authenticate: Negotiate"),
            ["www-authenticate: Basic / Negotiate"],
        ),
        (
            GET,
            ok(),
            ok(body=b"abd"),
            [
                (
                    "body: 3 bytes with SHA-256 ba7816bf8f01... / "
                    "3 bytes with SHA-256 a52d159f262b..."
                )
            ],
        ),
        (GET, ok(), ok()[:-1], ["body: 3 bytes / a cut after 2"]),
        (
            GET,
            multipart("b", b"abc"),
            multipart("b", b"abd"),
            [("parts: 0-2/9 ba7816bf8f01 / 0-2/9 a52d159f262b")],
        ),
        (
            GET,
            multipart("b", b"abc"),
            multipart("b"),
            ["parts: 0-2/9 ba7816bf8f01 / nothing"],
        ),
    ],
)
def test_answers_differ(octets: bytes, captured: bytes, got: bytes | None, told):
    assert found(octets, captured, got) == told


def test_one_part_is_not_several():
    told = found(
        GET, multipart("b", b"abc"), answer(206, "Content-Length: 3", body=b"abc")
    )

    assert [each.split(":")[0] for each in told] == [
        "content-length",
        "content-type",
        "body",
    ]


@pytest.mark.parametrize(
    "captured",
    [(ok()[:-1],), (ok()[:-1], 1)],
    ids=["cut", "not captured whole"],
)
def test_a_body_that_is_not_known_is_not_compared(captured: tuple):
    got = answered(ok(body=b"xyz"))

    assert list(different(asked(GET), answered(*captured), got, Mapping("h"))) == []
