import re
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.ranges import (
    ALLOWANCE,
    MAXIMUM_RANGES,
    Answer,
    ByteRange,
    Representation,
    decide,
    etag,
    last_modified,
)

NOW = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
MODIFIED = int(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp())
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
TAG = '"2a-3e8-1"'
LONGEST = 2**63 - 1
BOUNDARY = "5f2c"


def offered(size=1000):
    return Representation(
        size=size, etag=TAG, last_modified=MODIFIED, content_type="text/plain"
    )


def get(*fields, size=1000, method="GET", now=NOW):
    return decide(method, fields, offered(size), boundary=BOUNDARY, now=now)


def get_range(value, size=1000):
    return get(("Range", value), size=size)


def length(piece):
    return piece.length if isinstance(piece, ByteRange) else len(piece)


def body(answer, content):
    return b"".join(
        content[piece.first : piece.last + 1] if isinstance(piece, ByteRange) else piece
        for piece in answer.pieces
    )


WHOLE_FIELDS = (
    ("Content-Type", "text/plain"),
    ("Content-Length", "1000"),
    ("Accept-Ranges", "bytes"),
    ("ETag", TAG),
    ("Last-Modified", SAME),
    ("X-Content-Type-Options", "nosniff"),
)


def test_get_without_range_is_answered_with_all_bytes():
    assert get() == Answer(200, WHOLE_FIELDS, (ByteRange(0, 999),))


def test_head_has_the_fields_of_get_and_no_body():
    assert get(method="HEAD") == Answer(200, WHOLE_FIELDS, ())


def test_head_ignores_range():
    assert get(("Range", "bytes=0-1"), method="HEAD") == get(method="HEAD")


def test_empty_file_has_a_length_and_no_pieces():
    answer = get(size=0)

    assert answer.status == 200
    assert dict(answer.fields)["Content-Length"] == "0"
    assert answer.pieces == ()


ONE_RANGE = {
    "closed": ("bytes=0-9976", 10_000, (0, 9976)),
    "open": ("bytes=990-", 1000, (990, 999)),
    "suffix": ("bytes=-10", 1000, (990, 999)),
    "last byte": ("bytes=999-999", 1000, (999, 999)),
    "end is cut": ("bytes=500-5000", 1000, (500, 999)),
    "suffix longer than the file": ("bytes=-5000", 1000, (0, 999)),
    "all bytes": ("bytes=0-", 1000, (0, 999)),
    "unit in capitals": ("BYTES=1-2", 1000, (1, 2)),
    "blank after the sign": ("bytes= 1-2", 1000, (1, 2)),
    "blanks around the field": (" bytes=1-2\t", 1000, (1, 2)),
    "empty list elements": ("bytes=,,1-2 , ,", 1000, (1, 2)),
    "leading zeros": (f"bytes={'0' * 5000}1-2", 1000, (1, 2)),
    "end of 5000 digits": (f"bytes=1-{'9' * 5000}", 1000, (1, 999)),
    "suffix of 5000 digits": (f"bytes=-{'9' * 5000}", 1000, (0, 999)),
    "end past 19 digits": (f"bytes=9-1{'0' * 19}", 1000, (9, 999)),
    "end of the longest file": (
        f"bytes={LONGEST - 2}-",
        LONGEST,
        (LONGEST - 2, LONGEST - 1),
    ),
    "one left of three": ("bytes=5000-,1-2,-0", 1000, (1, 2)),
}


@pytest.mark.parametrize(
    ("value", "size", "expected"), ONE_RANGE.values(), ids=ONE_RANGE
)
def test_single_range_is_sent_plain(value, size, expected):
    answer = get_range(value, size)

    first, last = expected
    fields = dict(WHOLE_FIELDS) | {
        "Content-Length": str(last - first + 1),
        "Content-Range": f"bytes {first}-{last}/{size}",
    }
    assert answer == Answer(206, tuple(fields.items()), (ByteRange(first, last),))


IGNORED = {
    "other unit": "lines=0-1",
    "no unit": "0-1",
    "no sign": "bytes 0-1",
    "unit with a blank": "bytes =0-1",
    "nothing": "",
    "no range": "bytes=",
    "only commas": "bytes=,,",
    "a dash": "bytes=-",
    "two dashes": "bytes=0-1-2",
    "negative": "bytes=--1",
    "letters": "bytes=a-b",
    "signed": "bytes=+0-1",
    "hexadecimal": "bytes=0x0-1",
    "blank within": "bytes=0 - 1",
    "other digits": "bytes=\u0660-\u0661",
    "backwards": "bytes=2-1",
    "backwards past 19 digits": f"bytes={'9' * 30}-{'8' * 30}",
    "backwards from 5000 digits": f"bytes={'9' * 5000}-1",
    "one broken among good": "bytes=0-1,x,4-5",
}


@pytest.mark.parametrize("value", IGNORED.values(), ids=IGNORED)
def test_broken_range_is_ignored(value):
    assert get_range(value) == get()


def test_two_range_fields_are_ignored():
    assert get(("Range", "bytes=0-1"), ("range", "bytes=2-3")) == get()


UNSATISFIABLE = {
    "starts at the end": ("bytes=1000-", 1000),
    "starts past the end": ("bytes=1000-2000", 1000),
    "suffix of no bytes": ("bytes=-0", 1000),
    "suffix of 5000 zeros": (f"bytes=-{'0' * 5000}", 1000),
    "start of 5000 digits": (f"bytes={'9' * 5000}-", 1000),
    "none of several": ("bytes=1000-,2000-2001,-0", 1000),
    "start in an empty file": ("bytes=0-", 0),
    "range in an empty file": ("bytes=0-0", 0),
    "no bytes of an empty file": ("bytes=-0", 0),
}


@pytest.mark.parametrize(("value", "size"), UNSATISFIABLE.values(), ids=UNSATISFIABLE)
def test_range_past_the_end_is_told_the_size(value, size):
    answer = get_range(value, size)

    assert answer.status == 416
    assert answer.pieces == ()
    assert dict(answer.fields) == {
        "Content-Length": "0",
        "Content-Range": f"bytes */{size}",
        "Accept-Ranges": "bytes",
    }


@pytest.mark.parametrize("value", ["bytes=-1", "bytes=0-,-5"])
def test_suffix_of_an_empty_file_is_the_empty_file(value):
    assert get_range(value, size=0) == get(size=0)


def test_several_ranges_are_parts_in_the_order_asked_for():
    answer = get_range("bytes=4-5,0-1,2-3,1-4,-1", size=10)

    expected = "".join(
        f"{start}--5f2c\r\nContent-Type: text/plain\r\n"
        f"Content-Range: bytes {asked}/10\r\n\r\n{part}"
        for start, asked, part in [
            ("", "4-5", "45"),
            ("\r\n", "0-1", "01"),
            ("\r\n", "2-3", "23"),
            ("\r\n", "1-4", "1234"),
            ("\r\n", "9-9", "9"),
        ]
    )
    assert answer.status == 206
    assert body(answer, b"0123456789").decode() == expected + "\r\n--5f2c--\r\n"


def test_several_ranges_have_a_length_and_no_content_range():
    answer = get_range("bytes=4-5,0-1")

    fields = dict(answer.fields)
    assert fields["Content-Type"] == "multipart/byteranges; boundary=5f2c"
    assert fields["Content-Length"] == str(sum(map(length, answer.pieces)))
    assert fields["Last-Modified"] == SAME
    assert "Content-Range" not in fields


def test_ranges_past_the_end_are_left_out_of_the_parts():
    assert get_range("bytes=0-1,5000-,2-3").pieces == get_range("bytes=0-1,2-3").pieces


@pytest.mark.parametrize("count", [20, 40, MAXIMUM_RANGES])
def test_many_ranges_are_as_many_parts(count):
    asked = [ByteRange(first, first) for first in range(count)]

    answer = get_range("bytes=" + ",".join(f"{r.first}-{r.last}" for r in asked), 5000)

    assert [piece for piece in answer.pieces if isinstance(piece, ByteRange)] == asked


def test_more_ranges_than_anyone_needs_are_ignored():
    assert get_range("bytes=" + ",".join(["0-0"] * (MAXIMUM_RANGES + 1))) == get()


@pytest.mark.parametrize(
    ("size", "count", "status"),
    [
        pytest.param(ALLOWANCE // 10, 10, 206, id="small file within the allowance"),
        pytest.param(ALLOWANCE // 10, 11, 200, id="small file over the allowance"),
        pytest.param(ALLOWANCE, 2, 206, id="large file twice"),
        pytest.param(ALLOWANCE, 3, 200, id="large file three times"),
    ],
)
def test_ranges_of_more_bytes_than_the_file_is_worth_are_ignored(size, count, status):
    assert get_range("bytes=" + ",".join(["0-"] * count), size).status == status


PRECONDITIONS = {
    "If-Match same": ([("If-Match", TAG)], 200),
    "If-Match any": ([("If-Match", "*")], 200),
    "If-Match in a list": ([("If-Match", f'"a,b", W/"c" ,{TAG}')], 200),
    "If-Match in two fields": ([("If-Match", '"a"'), ("if-match", TAG)], 200),
    "If-Match other": ([("If-Match", '"other"')], 412),
    "If-Match is strong": ([("If-Match", f"W/{TAG}")], 412),
    "If-Match without quotes": ([("If-Match", TAG.strip('"'))], 412),
    "If-Match empty": ([("If-Match", "")], 412),
    "If-Unmodified-Since same": ([("If-Unmodified-Since", SAME)], 200),
    "If-Unmodified-Since after": ([("If-Unmodified-Since", AFTER)], 200),
    "If-Unmodified-Since before": ([("If-Unmodified-Since", BEFORE)], 412),
    "If-Unmodified-Since broken": ([("If-Unmodified-Since", "yesterday")], 200),
    "If-Unmodified-Since twice": ([("If-Unmodified-Since", BEFORE)] * 2, 200),
    "If-Match outranks a date": (
        [("If-Match", TAG), ("If-Unmodified-Since", BEFORE)],
        200,
    ),
    "If-None-Match same": ([("If-None-Match", TAG)], 304),
    "If-None-Match any": ([("If-None-Match", "*")], 304),
    "If-None-Match is weak": ([("If-None-Match", f"W/{TAG}")], 304),
    "If-None-Match in a list": ([("If-None-Match", f'"a", {TAG}')], 304),
    "If-None-Match other": ([("If-None-Match", '"other"')], 200),
    "If-Modified-Since same": ([("If-Modified-Since", SAME)], 304),
    "If-Modified-Since after": ([("If-Modified-Since", AFTER)], 304),
    "If-Modified-Since before": ([("If-Modified-Since", BEFORE)], 200),
    "If-Modified-Since broken": ([("If-Modified-Since", "0")], 200),
    "If-None-Match outranks a date": (
        [("If-None-Match", '"other"'), ("If-Modified-Since", SAME)],
        200,
    ),
    "failing comes before not modified": (
        [("If-None-Match", TAG), ("If-Match", '"other"')],
        412,
    ),
    "a date fails before a tag is not modified": (
        [("If-None-Match", TAG), ("If-Unmodified-Since", BEFORE)],
        412,
    ),
    "not modified comes before an unsatisfiable range": (
        [("Range", "bytes=5000-"), ("If-None-Match", TAG)],
        304,
    ),
    "failing comes before a range": (
        [("Range", "bytes=0-1"), ("If-Unmodified-Since", BEFORE)],
        412,
    ),
    "BITS 7.0 on an unchanged file": (
        [("Range", "bytes=0-1,2-3"), ("If-Unmodified-Since", SAME)],
        206,
    ),
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("fields", "status"), PRECONDITIONS.values(), ids=PRECONDITIONS
)
def test_preconditions(fields, status, method):
    expected = 200 if method == "HEAD" and status == 206 else status

    assert get(*fields, method=method).status == expected


def test_not_modified_carries_the_tag_alone():
    assert get(("If-None-Match", TAG)) == Answer(304, (("ETag", TAG),))


def test_failed_precondition_is_empty():
    assert get(("If-Match", '"x"')) == Answer(412, (("Content-Length", "0"),))


IF_RANGE = {
    "same tag": (TAG, 206),
    "same date": (SAME, 206),
    "same date, asctime": ("Sun Nov  6 08:49:37 1994", 206),
    "other tag": ('"other"', 200),
    "weak tag": (f"W/{TAG}", 200),
    "list of tags": (f'"a", {TAG}', 200),
    "any": ("*", 200),
    "earlier date": (BEFORE, 200),
    "later date": (AFTER, 200),
    "neither": ("?", 200),
    "empty": ("", 200),
}


@pytest.mark.parametrize(("value", "status"), IF_RANGE.values(), ids=IF_RANGE)
def test_if_range_sends_a_part_of_this_version_only(value, status):
    assert get(("Range", "bytes=0-1"), ("If-Range", value)).status == status


def test_if_range_spares_an_unsatisfiable_range_of_another_version():
    answer = get(("Range", "bytes=5000-"), ("If-Range", '"other"'))

    assert answer == get()


DATES = {
    "IMF-fixdate": (SAME, True),
    "RFC 850": ("Sunday, 06-Nov-94 08:49:37 GMT", True),
    "asctime": ("Sun Nov  6 08:49:37 1994", True),
    "asctime with two digits": ("Sun Nov 06 08:49:37 1994", True),
    "leap second": ("Sun, 06 Nov 1994 08:48:60 GMT", False),
    "other zone": ("Sun, 06 Nov 1994 08:49:37 CET", False),
    "no zone": ("Sun, 06 Nov 1994 08:49:37", False),
    "offset": ("Sun, 06 Nov 1994 08:49:37 +0000", False),
    "no such day": ("Wed, 31 Feb 1994 08:49:37 GMT", False),
    "day zero": ("Sun, 00 Nov 1994 08:49:37 GMT", False),
    "year zero": ("Sun, 06 Nov 0000 08:49:37 GMT", False),
    "hour 24": ("Sun, 06 Nov 1994 24:49:37 GMT", False),
    "second 61": ("Sun, 06 Nov 1994 08:49:61 GMT", False),
    "small letters": (SAME.lower(), False),
    "trailing text": (f"{SAME}; length=1000", False),
    "other digits": (SAME.replace("1994", "\u0661\u0669\u0669\u0664"), False),
    "empty": ("", False),
}


@pytest.mark.parametrize(("value", "equal"), DATES.values(), ids=DATES)
def test_date_forms(value, equal):
    part = get(("Range", "bytes=0-1"), ("If-Range", value)).status == 206

    assert part == equal


def test_leap_second_is_the_second_after():
    moment = int(datetime(1998, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()) + 1
    representation = Representation(
        size=9, etag=TAG, last_modified=moment, content_type="text/plain"
    )
    fields = [
        ("Range", "bytes=0-1"),
        ("If-Range", "Thu, 31 Dec 1998 23:59:60 GMT"),
    ]

    answer = decide("GET", fields, representation, boundary=BOUNDARY, now=NOW)

    assert answer.status == 206


@pytest.mark.parametrize(
    ("year", "short_year"),
    [(1977, "77"), (1999, "99"), (2000, "00"), (2026, "26"), (2076, "76")],
)
def test_year_of_two_digits_is_at_most_fifty_years_ahead(year, short_year):
    moment = datetime(year, 1, 1, tzinfo=UTC)
    representation = Representation(
        size=9,
        etag=TAG,
        last_modified=int(moment.timestamp()),
        content_type="text/plain",
    )
    fields = [
        ("Range", "bytes=0-1"),
        ("If-Range", f"Monday, 01-Jan-{short_year} 00:00:00 GMT"),
    ]

    answer = decide("GET", fields, representation, boundary=BOUNDARY, now=NOW)

    assert answer.status == 206


def test_tag_is_strong_and_quoted():
    assert etag(inode=42, size=1000, mtime_ns=1) == TAG


@pytest.mark.parametrize("changed", ["inode", "size", "mtime_ns"])
def test_tag_changes_with_the_file(changed):
    before = {"inode": 1, "size": 1, "mtime_ns": 1}

    assert etag(**before) != etag(**before | {changed: 2})


@pytest.mark.parametrize(
    ("mtime", "ctime", "now", "expected"),
    [
        pytest.param(5, 7, 9, 5, id="the modification"),
        pytest.param(99, 7, 9, 7, id="mtime was set ahead"),
        pytest.param(99, 98, 9, 9, id="clock was set back"),
        pytest.param(-5, 7, 9, 0, id="before 1970"),
    ],
)
def test_last_modified_is_never_in_the_future(mtime, ctime, now, expected):
    assert last_modified(mtime=mtime, ctime=ctime, now=now) == expected


PART = re.compile(
    rb"--5f2c\r\nContent-Type: text/plain\r\n"
    rb"Content-Range: bytes (\d+)-(\d+)/(\d+)\r\n\r\n"
)


def parts(answer, content):
    """The ranges of an answer, read as a client reads its body."""
    fields, sent = dict(answer.fields), body(answer, content)
    if answer.status == 200:
        return [sent]
    if "Content-Range" in fields:
        first, last = re.findall(r"\d+", fields["Content-Range"])[:2]
        assert int(last) - int(first) + 1 == len(sent)
        return [sent]
    found, at = [], 0
    while match := PART.match(sent, at):
        first, last, size = map(int, match.groups())
        assert size == len(content)
        end = match.end() + last - first + 1
        found.append(sent[match.end() : end])
        assert sent[end : end + 2] == b"\r\n"
        at = end + 2
    assert sent[at:] == b"--5f2c--\r\n"
    return found


def sliced(spec, content):
    first, last = spec
    if first is None:
        return content[-last:] if last else b""
    return content[first:] if last is None else content[first : last + 1]


POSITIONS = st.integers(0, 300)
SPECS = st.one_of(
    st.tuples(st.none(), POSITIONS),
    st.tuples(POSITIONS, st.none()),
    st.tuples(POSITIONS, POSITIONS).map(sorted).map(tuple),
)


@given(content=st.binary(min_size=1, max_size=200), specs=st.lists(SPECS, min_size=1))
def test_parts_are_the_slices_asked_for(content, specs):
    texts = (
        "-".join("" if end is None else str(end) for end in spec) for spec in specs
    )

    answer = get_range("bytes=" + ",".join(texts), len(content))

    expected = [found for spec in specs if (found := sliced(spec, content))]
    assert answer.status == (206 if expected else 416)
    assert not expected or parts(answer, content) == expected


NAMES = st.sampled_from(
    [
        "Range",
        "range",
        "If-Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "Accept",
    ]
)
RANGE_SETS = st.lists(st.from_regex(r"[0-9]{0,25}-[0-9]{0,25}", fullmatch=True))
VALUES = st.one_of(
    st.text(),
    st.text(st.sampled_from('bytes=0123456789-, \tW/"*')),
    RANGE_SETS.map(lambda found: "bytes=" + ",".join(found)),
    st.datetimes().map(
        lambda moment: format_datetime(moment.replace(tzinfo=UTC), usegmt=True)
    ),
    st.from_regex(
        r"[SMTWF][a-z]+day, [0-9]{2}-Feb-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    ),
    st.sampled_from([TAG, f"W/{TAG}", SAME, "bytes=0-1,4-"]),
)


@given(
    method=st.sampled_from(["GET", "HEAD"]),
    fields=st.lists(st.tuples(NAMES, VALUES)),
    size=st.one_of(st.integers(0, 50), st.just(LONGEST)),
)
def test_any_header_has_an_answer_as_long_as_it_says(method, fields, size):
    answer = get(*fields, size=size, method=method)

    told = dict(answer.fields)
    assert answer.status in {200, 206, 304, 412, 416}
    assert ("Content-Length" in told) == (answer.status != 304)
    if method == "GET" and answer.status != 304:
        assert int(told["Content-Length"]) == sum(map(length, answer.pieces))
