"""What of a request changes for another server."""

import pytest
from captured import ID, ack, answer, create, created, head, request

from bitsd.replay.mapping import Mapping
from bitsd.replay.message import Answer, Request
from bitsd.replay.messages import Answers, Requests

NEW = "{99999999-AAAA-4BBB-8CCC-DDDDDDDDDDDD}"


def asked(octets: bytes) -> Request:
    reader = Requests()
    reader.add(octets, 0.0)
    return reader.found[0]


def answered(octets: bytes) -> Answer:
    reader = Answers(lambda answer: "GET")
    reader.add(octets, 0.0)
    return reader.found[0]


def learned(captured: str = ID, given: str = NEW, **how) -> Mapping:
    mapping = Mapping("new:1", **how)
    request = asked(create())
    mapping.learn(request, answered(created(captured)), answered(created(given)))
    return mapping


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("Host: old.example:80", "Host: new:1"),
        ("host:old", "Host: new:1"),
        ("Accept: */*", "Accept: */*"),
        (f"BITS-Session-Id: {ID}", f"BITS-Session-Id: {NEW}"),
        (f"BITS-Session-Id: {ID.lower()[1:-1]}", f"BITS-Session-Id: {NEW[1:-1]}"),
        ("BITS-Session-Id: {x}", "BITS-Session-Id: {x}"),
        ("BITS-Session-Id:", "BITS-Session-Id:"),
        (f"Referer: http://h/%7B{ID[1:-1]}%7D", f"Referer: http://h/%7B{NEW[1:-1]}%7D"),
        ("If-Range: x", "If-Range: x"),
    ],
)
def test_a_field_is_as_the_other_server_has_it(line: str, made: str):
    captured = head("GET /a HTTP/1.1", line)

    assert learned().head(captured) == head("GET /a HTTP/1.1", made)


@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("/in/a?b=c", "/in/a?b=c"),
        ("http://old.example/in/a?b=c", "/in/a?b=c"),
        ("HTTPS://old.example:443", "/"),
        (
            f"/in/BITS-Replies/%7B{ID[1:-1].lower()}%7D",
            f"/in/BITS-Replies/%7B{NEW[1:-1]}%7D",
        ),
        ("*", "*"),
    ],
)
def test_a_target_is_as_the_other_server_has_it(target: str, made: str):
    captured = head(f"GET {target} HTTP/1.1", "A: b")

    assert learned().head(captured) == head(f"GET {made} HTTP/1.1", "A: b")


@pytest.mark.parametrize(
    ("captured", "given", "value", "made"),
    [
        ("17", "18", "17", "18"),
        ("17", NEW, "17", NEW),
        (ID, "18", ID, "18"),
        (ID, "18", ID.lower(), ID.lower()),
        ("17", "18", "170", "170"),
    ],
)
def test_ids_of_servers_that_have_others_are_mapped_too(captured, given, value, made):
    octets = head("BITS_POST /17 HTTP/1.1", f"BITS-Session-Id: {value}", "A: 17")
    expected = head("BITS_POST /17 HTTP/1.1", f"BITS-Session-Id: {made}", "A: 17")

    assert learned(captured, given).head(octets) == expected


@pytest.mark.parametrize("octets", [ack(), ack(403)])
def test_nothing_is_learned_of_a_session_that_is_none(octets: bytes):
    mapping = Mapping("h")
    mapping.learn(asked(create()), answered(created()), answered(octets))
    mapping.learn(asked(request("GET", "/")), answered(created()), answered(created()))

    assert mapping.sessions == {}


LINES = (
    "Accept: */*",
    "Authorization: Basic b2xk",
    "Cookie: a",
    "proxy-authorization: b",
)


def test_captured_secrets_are_not_sent():
    captured = head("GET / HTTP/1.1", *LINES)

    assert Mapping("h").head(captured) == head("GET / HTTP/1.1", "Accept: */*")


def test_where_somebody_signed_in_somebody_else_does():
    mapping = Mapping("h", authorization="Basic bmV3")
    new = "Authorization: Basic bmV3"

    assert mapping.head(head("GET / HTTP/1.1", *LINES)) == (
        head("GET / HTTP/1.1", "Accept: */*", new)
    )
    assert mapping.head(head("GET / HTTP/1.1", "A: b")) == head(
        "GET / HTTP/1.1", "A: b"
    )


def test_fields_that_are_given_replace_captured_ones():
    mapping = Mapping("h", [("X-Key", "new"), ("Accept", "x/y")])
    captured = head("GET / HTTP/1.1", "accept: */*", "Range: bytes=0-1")

    assert mapping.head(captured) == head(
        "GET / HTTP/1.1", "Range: bytes=0-1", "X-Key: new", "Accept: x/y"
    )


OLD_TIME, NEW_TIME = "Sat, 01 Jan 2000 00:00:00 GMT", "Sun, 02 Jan 2000 00:00:00 GMT"


@pytest.mark.parametrize(
    ("target", "line", "made"),
    [
        ("/f", f"If-Unmodified-Since: {OLD_TIME}", f"If-Unmodified-Since: {NEW_TIME}"),
        ("/f", 'If-Range: "old"', 'If-Range: "new"'),
        ("/f", 'If-Match: "other"', 'If-Match: "other"'),
        ("/g", 'If-Match: "old"', 'If-Match: "old"'),
        ("/f", f"Date: {OLD_TIME}", f"Date: {OLD_TIME}"),
    ],
)
def test_versions_of_a_file_are_those_of_the_other_server(target, line, made):
    mapping = Mapping("h")
    captured = answer(200, f"Last-Modified: {OLD_TIME}", 'ETag: "old"')
    got = answer(200, f"Last-Modified: {NEW_TIME}", 'ETag: "new"')
    mapping.learn(asked(request("GET", "/f")), answered(captured), answered(got))
    first = f"GET {target} HTTP/1.1"

    assert mapping.head(head(first, line)) == head(first, made)


def test_line_ends_are_as_they_were():
    assert Mapping("h").head(b"GET / HTTP/1.1\nA: b\n\n") == b"GET / HTTP/1.1\nA: b\n\n"
