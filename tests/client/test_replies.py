"""What answers mean, as tables."""

import pytest

from bitsd.client.replies import (
    CHANGED,
    Again,
    Body,
    Later,
    Never,
    Version,
    understood,
)
from bitsd.ranges import ByteRange

MODIFIED = "Tue, 24 Nov 2026 10:00:00 GMT"
SOON = "Tue, 24 Nov 2026 10:00:01 GMT"
OTHER = "Tue, 24 Nov 2026 09:00:00 GMT"
ETAG = {"ETag": '"a"'}
DATED = {"Last-Modified": MODIFIED, "Date": SOON}
BY_ETAG = Version(100, '"a"', None, '"a"')
BY_DATE = Version(100, None, MODIFIED, MODIFIED)
ASKED = ByteRange(10, 19)


def part(content_range="bytes 10-19/100", **fields):
    return {"Content-Range": content_range, "Content-Length": "10"} | ETAG | fields


@pytest.mark.parametrize(
    ("fields", "etag", "modified", "validator"),
    [
        ({}, None, None, None),
        (ETAG, '"a"', None, '"a"'),
        (ETAG | DATED, '"a"', MODIFIED, '"a"'),
        (DATED, None, MODIFIED, MODIFIED),
        ({"ETag": 'W/"a"'}, 'W/"a"', None, None),
        (DATED | {"ETag": 'W/"a"'}, 'W/"a"', MODIFIED, MODIFIED),
        (DATED | {"ETag": "a"}, "a", MODIFIED, MODIFIED),
        ({"Last-Modified": MODIFIED}, None, MODIFIED, None),
        (DATED | {"Date": MODIFIED}, None, MODIFIED, None),
        (DATED | {"Date": "now"}, None, MODIFIED, None),
        (DATED | {"Last-Modified": "0"}, None, "0", None),
    ],
)
def test_if_range_carries_what_is_strong(fields, etag, modified, validator):
    reply = understood(200, {"Content-Length": "5"} | fields, None, None)

    assert reply == Body(Version(5, etag, modified, validator), 0, 5)


@pytest.mark.parametrize(
    ("status", "fields", "held", "expected"),
    [
        (206, part(), BY_ETAG, Body(BY_ETAG, 10, 10)),
        (206, part(**DATED), BY_ETAG, Body(BY_ETAG, 10, 10)),
        (206, part(ETag='"b"'), BY_ETAG, Again(CHANGED, plain=False)),
        (206, part("bytes 10-19/101"), BY_ETAG, Again(CHANGED, plain=False)),
        (206, part(), BY_DATE, Again(CHANGED, plain=False)),
        (200, ETAG | {"Content-Length": "101"}, BY_ETAG, Again(CHANGED, plain=False)),
        (200, ETAG | {"Content-Length": "100"}, BY_ETAG, "the server sends no ranges"),
        (206, part("bytes 10-18/100"), BY_ETAG, "another range"),
        (206, part("bytes 10-18/100", **{"Content-Length": "9"}), BY_ETAG,
         Body(BY_ETAG, 10, 9)),
        (206, part("bytes 9-18/100"), BY_ETAG, "another range"),
        (206, part("bytes 10-20/100", **{"Content-Length": "11"}), BY_ETAG,
         "another range"),
        (206, part("bytes 10-9/100", **{"Content-Length": "0"}), BY_ETAG,
         "another range"),
        (206, part("bytes 10-19/*"), BY_ETAG, "which range"),
        (206, part("BYTES 10-19/100"), BY_ETAG, Body(BY_ETAG, 10, 10)),
        (206, ETAG, BY_ETAG, "which range"),
        (206, ETAG | {"Content-Type": "multipart/byteranges; boundary=x"}, BY_ETAG,
         "which range"),
        (416, {}, BY_ETAG, "no such range"),
        (416, {}, None, "no such range"),
    ],
)  # fmt: skip
def test_answer_to_a_range(status, fields, held, expected):
    reply = understood(status, fields, ASKED, held)

    if isinstance(expected, str):
        assert isinstance(reply, Again)
        assert reply.plain
        assert expected in reply.reason
    else:
        assert reply == expected


def test_range_of_the_same_date_is_taken():
    fields = part() | {"Last-Modified": MODIFIED}
    del fields["ETag"]

    assert understood(206, fields, ASKED, BY_DATE) == Body(BY_DATE, 10, 10)


def test_range_without_a_date_is_taken_for_if_range_had_it():
    fields = part()
    del fields["ETag"]

    assert understood(206, fields, ASKED, BY_DATE) == Body(BY_DATE, 10, 10)


def test_range_of_another_date_is_of_another_version():
    fields = part() | {"Last-Modified": OTHER}
    del fields["ETag"]

    assert understood(206, fields, ASKED, BY_DATE) == Again(CHANGED, plain=False)


def test_first_range_tells_the_version():
    fields = part("bytes 0-9/100")

    assert understood(206, fields, ByteRange(0, 9), None) == Body(BY_ETAG, 0, 10)


def test_first_range_of_no_version_is_not_taken():
    fields = part("bytes 0-9/100", ETag='W/"a"')
    reply = understood(206, fields, ByteRange(0, 9), None)

    assert reply == Again(
        "the server does not tell versions of the file apart", plain=True
    )


@pytest.mark.parametrize(
    ("status", "fields", "said"),
    [
        (200, {}, "how long the file is"),
        (200, {"Content-Length": "-1"}, "how long the file is"),
        (200, {"Content-Length": "5", "Content-Encoding": "gzip"}, "gzip"),
        (206, part(**{"Content-Encoding": "br"}), "br"),
        (206, part(), "a range"),
        (416, {}, "416"),
        (401, {}, "--user"),
        (403, {}, "not allow"),
        (404, {}, "no such file"),
        (501, {}, "501 Not Implemented"),
        (505, {}, "505 HTTP Version Not Supported"),
        (304, {}, "304 Not Modified"),
        (499, {}, "the server answers 499"),
    ],
)
def test_answer_that_will_not_become_better(status, fields, said):
    reply = understood(status, fields, None, None)

    assert isinstance(reply, Never)
    assert said in reply.reason
    assert reply.status == status


@pytest.mark.parametrize("coding", ["identity", "Identity ", ""])
def test_identity_is_no_coding(coding):
    fields = {"Content-Length": "0", "Content-Encoding": coding}

    assert understood(200, fields, None, None) == Body(Version(0, *[None] * 3), 0, 0)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 507, 599])
def test_answer_that_may_become_better(status):
    reply = understood(status, {}, None, None)

    assert isinstance(reply, Later)
    assert str(status) in reply.reason
    assert reply.seconds == 0


def test_server_may_say_when():
    reply = understood(503, {"Retry-After": "7"}, None, None)

    assert isinstance(reply, Later)
    assert reply.seconds == 7
