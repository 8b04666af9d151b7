"""Streams to messages."""

import hashlib
import io
from itertools import pairwise

import pytest
from captured import answer, head, request
from hypothesis import given
from hypothesis import strategies as st

from bitsd.replay.message import Answer, Extent, Framing, Request
from bitsd.replay.messages import MAXIMUM_HEAD_BYTES, Answers, Requests
from bitsd.replay.streams import How


def requests(*octets: bytes | int, how: How = How.FIN) -> Requests:
    """A reader of these bytes; a number is a gap."""
    reader = Requests()
    feed(reader, *octets, how=how)
    return reader


def feed(reader: Requests | Answers, *octets: bytes | int, how: How = How.FIN) -> None:
    for time, each in enumerate(octets, 1):
        if isinstance(each, int):
            reader.gap(each, float(time))
        else:
            reader.add(each, float(time))
    reader.end(how)


def answers(*octets: bytes | int, method: str = "GET", how: How = How.FIN) -> Answers:
    reader = Answers(lambda answer: method)
    feed(reader, *octets, how=how)
    return reader


def sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


PUT = request("PUT", "/a", "Content-Length: 5", body=b"hello")
GET = request("GET", "/b")
CHUNKED = request(
    "POST",
    "/c",
    "Transfer-Encoding: gzip, Chunked",
    body=b"3;x=y\r\nabc\r\n2\nde\n0\r\nTrailer: x\r\n\r\n",
)


def summary(reader: Requests) -> list[tuple[str, int, bool]]:
    return [(each.target, each.length, each.complete) for each in reader.found]


def test_a_request_has_its_parts():
    (found,) = requests(PUT).found

    assert (found.method, found.target, found.version) == ("PUT", "/a", "1.1")
    assert found.fields == (("Content-Length", "5"), ("Host", "h"))
    assert found.head + b"hello" == PUT
    assert (found.framing, found.declared) == (Framing.LENGTH, 5)
    assert (found.length, found.digest) == (5, sha256(b"hello"))
    assert found.complete
    assert found.get("content-LENGTH") == "5"
    assert found.get("Range") is None
    assert found.all("host") == ["h"]


def test_a_message_has_the_times_of_its_first_and_last_byte():
    (found,) = requests(PUT[:5], PUT[5:20], PUT[20:-1], PUT[-1:]).found

    assert (found.started, found.ended) == (1.0, 4.0)


def test_requests_follow_each_other():
    found = requests(PUT + b"\r\n" + GET + CHUNKED + GET)

    assert summary(found) == [
        ("/a", 5, True),
        ("/b", 0, True),
        ("/c", 5, True),
        ("/b", 0, True),
    ]
    assert found.found[2].digest == sha256(b"abcde")


@given(st.lists(st.integers(0, len(PUT + CHUNKED + GET)), max_size=12))
def test_where_a_stream_is_cut_does_not_matter(cuts: list[int]):
    octets = PUT + CHUNKED + GET
    edges = sorted({0, len(octets), *cuts})
    found = requests(*(octets[start:end] for start, end in pairwise(edges)))

    assert summary(found) == [("/a", 5, True), ("/c", 5, True), ("/b", 0, True)]
    assert found.found[1].digest == sha256(b"abcde")


def test_line_feeds_alone_end_lines():
    found = requests(b"GET / HTTP/1.0\nHost: h\n\nGET /2 HTTP/1.1\r\n\n").found

    assert [each.target for each in found] == ["/", "/2"]
    assert found[0].version == "1.0"


def test_a_body_that_is_cut_is_not_complete():
    found = requests(PUT[:-2])

    assert summary(found) == [("/a", 3, False)]
    assert found.rest == b""


def test_a_head_that_is_cut_is_the_rest():
    found = requests(GET, b"GET /in HT")

    assert (len(found.found), found.rest) == (1, b"GET /in HT")


@pytest.mark.parametrize("cut", [-1, -9, -30])
def test_chunks_that_are_cut_are_not_complete(cut: int):
    found = requests(CHUNKED[:cut])

    assert [each.complete for each in found.found] == [False]
    assert found.rest == b""


def test_chunks_that_make_no_sense_are_strange():
    octets = CHUNKED.replace(b"2\nde", b"x\nde")
    found = requests(octets + GET)

    assert [(each.target, each.complete) for each in found.found] == [
        ("/c", False),
        ("/b", True),
    ]
    assert found.strange == [b"x"]


def test_the_framing_of_chunks_has_an_end():
    found = requests(CHUNKED[:-30], b"0" * (MAXIMUM_HEAD_BYTES + 1), GET)

    assert len(found.found) == 1


def test_something_else_is_no_message():
    found = requests(b"SSH-2.0-x\r\n\r\n" + GET)

    assert found.found == []
    assert found.strange == [b"SSH-2.0-x\r\n\r\n" + GET[:67]]


def test_something_else_between_messages_is_strange_and_passed_over():
    found = requests(GET + b"what?\r\n\r\n" + PUT)

    assert summary(found) == [("/b", 0, True), ("/a", 5, True)]
    assert found.strange[0].startswith(b"what?")
    assert found.found[1].after_gap


def test_a_head_has_a_longest_length():
    found = requests(b"GET / HTTP/1.1\r\nX: " + b"x" * MAXIMUM_HEAD_BYTES)

    assert found.found == []
    assert len(found.strange) == 1


def test_a_gap_inside_a_body_is_counted():
    found = requests(PUT[:-4], 3, PUT[-1:] + GET)

    assert summary(found) == [("/a", 5, True), ("/b", 0, True)]
    assert found.found[0].missing == 3
    assert found.found[0].digest == sha256(b"ho")


def test_a_gap_may_end_a_body():
    assert summary(requests(PUT[:-4], 4, GET)) == [("/a", 5, True), ("/b", 0, True)]


def test_a_gap_inside_a_chunk_is_counted():
    start = CHUNKED.index(b"abc")
    found = requests(CHUNKED[: start + 1], 2, CHUNKED[start + 3 :])

    assert summary(found) == [("/c", 5, True)]
    assert found.found[0].missing == 2


@pytest.mark.parametrize(
    "octets",
    [
        (PUT[:-4], 5, GET[1:] + PUT),
        (PUT[:30], 9, b"llo" + PUT),
        (3, b"body" + PUT),
        (CHUNKED[: CHUNKED.index(b"abc") + 4], 2, b"e\n" + PUT),
    ],
    ids=["behind a body", "in a head", "first", "in the framing"],
)
def test_after_any_other_gap_the_next_message_is_found(octets: tuple):
    found = requests(*octets).found[-1]

    assert (found.target, found.complete, found.after_gap) == ("/a", True, True)


def test_after_a_gap_a_start_line_is_found_in_pieces():
    found = requests(3, b"x" * 20_000, PUT[:7], PUT[7:])

    assert summary(found) == [("/a", 5, True)]


def test_after_a_gap_nothing_may_come():
    found = requests(PUT, 3, b"GET / HTT")

    assert (len(found.found), found.rest) == (1, b"")


def test_from_the_middle_of_a_stream_the_next_message_is_found():
    reader = Requests(begun=False)
    feed(reader, b"of a body\x00" + PUT)

    assert summary(reader) == [("/a", 5, True)]
    assert reader.found[0].after_gap


def test_bodies_are_kept_as_they_were_sent():
    file = io.BytesIO()
    one, two = Requests(keep=file), Requests(keep=file)
    one.add(PUT[:-3], 1.0)
    two.add(CHUNKED, 1.0)
    one.gap(1, 1.0)
    one.add(PUT[-2:-1], 1.0)
    one.add(PUT[-1:], 1.0)
    two.gap(1, 1.0)

    def kept(found: Request) -> list[bytes | int]:
        octets = file.getvalue()
        return [
            octets[offset : offset + length] if offset is not None else length
            for offset, length in found.kept
        ]

    assert kept(one.found[0]) == [b"he", 1, b"lo"]
    assert b"".join(kept(two.found[0])) == CHUNKED.partition(b"\r\n\r\n")[2]


def test_a_body_that_is_not_asked_for_is_not_kept():
    assert requests(PUT[:-4], 4).found[0].kept == []
    assert Extent(None, 1).offset is None


def statuses(reader: Answers) -> list[tuple[int, int, bool]]:
    return [(each.status, each.length, each.complete) for each in reader.found]


OK = answer(200, "Content-Length: 3", body=b"abc")


def test_an_answer_has_its_parts():
    (found,) = answers(OK).found

    assert (found.status, found.reason, found.version) == (200, "Whatever", "1.1")
    assert (found.length, found.digest) == (3, sha256(b"abc"))


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 200 X"])
def test_a_status_line_may_lack_its_phrase(line: bytes):
    assert statuses(answers(line + b"\r\nContent-Length: 0\r\n\r\n")) == [
        (200, 0, True)
    ]


def test_what_has_no_status_line_is_no_answer():
    assert answers(b"ICY 200 OK\r\n\r\n").strange == [b"ICY 200 OK\r\n\r\n"]


def test_an_answer_to_head_has_no_body():
    octets = answer(200, "Content-Length: 3") + answer(404, "Content-Length: 9")

    found = answers(octets, method="HEAD")
    assert statuses(found) == [(200, 0, True), (404, 0, True)]
    assert found.found[0].declared == 3


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int):
    found = answers(answer(status, "Content-Length: 3") + OK)

    assert statuses(found) == [(status, 0, True), (200, 3, True)]


def test_an_answer_without_length_ends_with_the_connection():
    octets = answer(200, body=b"abc"), 2, b"fgh"

    assert statuses(answers(*octets)) == [(200, 8, True)]
    assert statuses(answers(*octets, how=How.RST)) == [(200, 8, False)]
    assert answers(*octets).found[0].missing == 2


def test_chunks_count_more_than_a_length():
    octets = head("HTTP/1.1 200 OK", "Content-Length: 99", "Transfer-Encoding: chunked")
    found = answers(octets + b"3\r\nabc\r\n0\r\n\r\n" + OK)

    assert statuses(found) == [(200, 3, True), (200, 3, True)]


def test_interim_answers_belong_to_the_next():
    found = answers(answer(100) + answer(103) + OK + OK).found

    assert [each.interim for each in found] == [(100, 103), ()]


@pytest.mark.parametrize(
    ("octets", "method"), [(answer(101), "GET"), (answer(200), "CONNECT")]
)
def test_behind_a_tunnel_nothing_is_http(octets: bytes, method: str):
    found = answers(octets + b"\x16\x03\x01\r\n\r\n" + OK, method=method)

    assert len(found.found) == 1
    assert found.found[0].complete
    assert found.strange == []


def test_a_refused_tunnel_has_a_body():
    octets = answer(403, "Content-Length: 2", body=b"no") + OK

    assert len(answers(octets, method="CONNECT").found) == 2


def test_after_a_gap_the_next_answer_is_found():
    found = answers(OK[:-1], 9, b"rest" + OK).found

    assert [(each.after_gap, each.complete) for each in found] == [
        (False, False),
        (True, True),
    ]


# multipart/byteranges

FILE = bytes(range(100))


def part(first: int, last: int, name: str = "Content-Range") -> bytes:
    span = f"bytes {first}-{last}/100"
    return head("--b", f"{name}: {span}") + FILE[first : last + 1] + b"\r\n"


def multipart(*parts: bytes, boundary: str = "boundary=b") -> bytes:
    body = b"".join(parts)
    kind = f"Content-Type: multipart/byteranges; {boundary}"
    return answer(206, kind, f"Content-Length: {len(body)}", body=body)


MULTIPART = multipart(part(5, 9), part(0, 3), b"--b--\r\n")


def parts(*octets: bytes | int) -> list[tuple[int, int, int, str]]:
    (found,) = answers(*octets).found
    assert isinstance(found, Answer)
    assert found.parts is not None
    return [
        (each.span.first, each.span.last, each.remaining, each.digest)
        for each in found.parts.found
        if each.span is not None
    ]


WHOLE = [(5, 9, 0, sha256(FILE[5:10])), (0, 3, 0, sha256(FILE[:4]))]


@pytest.mark.parametrize("boundary", ["boundary=b", 'x=y; BOUNDARY="b"'])
def test_parts_are_found(boundary: str):
    octets = multipart(part(5, 9), part(0, 3), b"--b--\r\n", boundary=boundary)
    (found,) = answers(octets).found

    assert parts(octets) == WHOLE
    assert found.parts is not None
    assert (found.parts.ended, found.parts.broken) == (True, False)
    assert found.parts.found[0].fields == (("Content-Range", "bytes 5-9/100"),)


@given(st.lists(st.integers(0, len(MULTIPART)), max_size=12))
def test_where_parts_are_cut_does_not_matter(cuts: list[int]):
    edges = sorted({0, len(MULTIPART), *cuts})

    assert parts(*(MULTIPART[a:b] for a, b in pairwise(edges))) == WHOLE


def test_a_boundary_among_the_bytes_of_a_file_is_none():
    octets = b"\r\n--b--\r\n"
    text = head("--b", f"Content-Range: bytes 0-{len(octets) - 1}/99") + octets

    assert parts(multipart(text, b"\r\n--b--")) == [
        (0, len(octets) - 1, 0, sha256(octets))
    ]


def test_missing_bytes_of_a_part_are_counted():
    start = MULTIPART.index(FILE[5:10])
    octets = MULTIPART[: start + 1], 2, MULTIPART[start + 3 :]

    assert parts(*octets)[0] == (5, 9, 0, sha256(FILE[5:6] + FILE[8:10]))
    assert parts(*octets)[1] == WHOLE[1]


@pytest.mark.parametrize(
    "octets",
    [
        (multipart(part(5, 9), b"--other\r\n\r\n", part(0, 3)),),
        (multipart(part(5, 9), part(0, 3, "Content-Type")),),
        (multipart(part(5, 9), b"x" * 9000),),
        (MULTIPART[:-30], 20, MULTIPART[-10:]),
    ],
    ids=["another boundary", "no range", "no end of a head", "a gap in a head"],
)
def test_parts_that_make_no_sense_are_told(octets: tuple):
    (found,) = answers(*octets).found
    assert found.parts is not None

    assert found.parts.broken
    assert parts(*octets)[0] == WHOLE[0]


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/byteranges", "multipart/mixed; boundary=b"]
)
def test_another_body_has_no_parts(kind: str):
    (found,) = answers(
        answer(206, "X: y", f"Content-Type: {kind}", "Content-Length: 0")
    ).found

    assert found.parts is None
