import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitsd.protocol.refusal import Reason, Refusal
from bitsd.protocol.wire import (
    MAXIMUM_NUMBER,
    PROTOCOL,
    Ack,
    CancelSession,
    CloseSession,
    CreateSession,
    Fragment,
    NotAnAck,
    Packet,
    Ping,
    SessionId,
    parse,
    session_id,
)

GUID = "0B5E6F14-77C2-4D0A-9C51-2F6B9A1D8E30"
ID = SessionId("{0B5E6F14-77C2-4D0A-9C51-2F6B9A1D8E30}")
NOBODY = SessionId("{DEADBEEF-0000-4000-8000-000000000001}")
OTHER = "{11111111-2222-3333-4444-555555555555}"
OURS = "{7df0354d-249b-430f-820d-3d2a9bef4931}"


def packet(packet_type, *fields, length=0):
    """A packet in the order of fields of BITS 6.7 ([MC-BUP] 4.1)."""
    return [
        ("Accept", "*/*"),
        ("BITS-Packet-Type", packet_type),
        *fields,
        ("User-Agent", "Microsoft BITS/7.8"),
        ("Host", "up.example.test"),
        ("Content-Length", str(length)),
        ("Connection", "Keep-Alive"),
    ]


def create(protocols):
    return packet("Create-Session", ("BITS-Supported-Protocols", protocols))


def fragment(content_range, length, *fields, named=ID):
    return packet(
        "Fragment",
        ("BITS-Session-Id", named),
        ("Content-Name", "report.dat"),
        ("Content-Range", content_range),
        *fields,
        length=length,
    )


def close(named):
    return packet("Close-Session", ("BITS-Session-Id", named))


def without(name, fields):
    return [(key, value) for key, value in fields if key != name]


def reason(fields):
    with pytest.raises(Refusal) as caught:
        parse(fields)
    return caught.value.reason


SENT = {
    "create": (create(OURS), CreateSession((OURS,))),
    "create of an old client": (
        packet(
            "Create-Session",
            ("BITS-Supported-Protocols", OURS),
            ("Content-Name", "report.dat"),
        ),
        CreateSession((OURS,)),
    ),
    "ping": (packet("Ping"), Ping()),
    "ping that names a session": (packet("Ping", ("BITS-Session-Id", "7")), Ping()),
    "first fragment": (
        fragment("bytes 0-12287/30000", 12288),
        Fragment(ID, 0, 12287, 30000),
    ),
    "fragment in the middle": (
        fragment("bytes 12288-24575/30000", 12288),
        Fragment(ID, 12288, 24575, 30000),
    ),
    "last fragment": (
        fragment("bytes 24576-29999/30000", 5424),
        Fragment(ID, 24576, 29999, 30000),
    ),
    "fragment of one byte": (fragment("bytes 0-0/1", 1), Fragment(ID, 0, 0, 1)),
    "fragment of another session": (
        fragment("bytes 0-1048575/2097152", 1048576, named=NOBODY),
        Fragment(NOBODY, 0, 1048575, 2097152),
    ),
    "close": (
        packet(
            "Close-Session",
            ("BITS-Session-Id", ID),
            ("Content-Name", "report.dat"),
        ),
        CloseSession(ID),
    ),
    "cancel": (
        packet("Cancel-Session", ("BITS-Session-Id", ID)),
        CancelSession(ID),
    ),
}
every_packet = pytest.mark.parametrize(
    ("fields", "expected"), SENT.values(), ids=SENT.keys()
)


@every_packet
def test_packet_of_windows_is_read(fields, expected):
    assert parse(fields) == expected


@every_packet
@pytest.mark.parametrize("write", [str.lower, str.upper, str.title, str.swapcase])
def test_names_of_fields_are_compared_without_case(fields, expected, write):
    assert parse([(write(name), value) for name, value in fields]) == expected


@every_packet
@pytest.mark.parametrize("write", [str.lower, str.upper, str.title, str.swapcase])
def test_packet_types_are_compared_without_case(fields, expected, write):
    written = [
        (name, write(value) if name == "BITS-Packet-Type" else value)
        for name, value in fields
    ]

    assert parse(written) == expected


@every_packet
def test_order_of_fields_does_not_matter(fields, expected):
    assert parse(reversed(fields)) == expected


@every_packet
def test_space_around_values_does_not_matter(fields, expected):
    assert parse([(name, f" \t{value} ") for name, value in fields]) == expected


@every_packet
def test_unknown_fields_are_ignored(fields, expected):
    unknown = [
        ("BITS-Package-Type", "Fragment"),
        ("X-Anything", "\udcff{}\x7f"),
        ("X-Anything", "another"),
        ("Expect", "100-continue"),
        ("", ""),
    ]

    assert parse([*unknown, *fields, *unknown]) == expected


@every_packet
@pytest.mark.parametrize("name", ["..\\..\\boot.ini", "\udcff\udcfe", "/etc/passwd"])
def test_content_name_is_never_looked_at(fields, expected, name):
    assert parse([("Content-Name", name), *fields]) == expected


@every_packet
def test_same_field_twice_with_the_same_value_is_harmless(fields, expected):
    assert parse([*fields, *fields]) == expected


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        (OURS.upper(), (OURS.upper(),)),
        (f"{OTHER} {OURS}", (OTHER, OURS)),
        (f"{OTHER},{OURS}", (OTHER, OURS)),
        (f"{OTHER}, {OURS}", (OTHER, OURS)),
        (f"{OTHER} , {OURS}", (OTHER, OURS)),
        (f"{OURS}\t{OTHER}", (OURS, OTHER)),
        (f", {OURS} {OTHER},", (OURS, OTHER)),
    ],
    ids=[
        "upper-case digits",
        "space",
        "comma",
        "comma and space",
        "space around comma",
        "tab",
        "separators at the ends",
    ],
)
def test_list_of_protocols_is_split_at_spaces_and_commas(protocols, expected):
    assert parse(create(protocols)) == CreateSession(expected)


def test_list_of_protocols_may_come_in_several_fields():
    sent = [("BITS-Supported-Protocols", OTHER), *create(OURS)]

    assert parse(sent) == CreateSession((OTHER, OURS))


def test_hundredth_protocol_is_read():
    assert parse(create(" ".join([OTHER] * 99 + [OURS]))).protocols[-1] == OURS


def test_no_more_than_a_hundred_protocols_are_read():
    assert len(parse(create(" ".join([OURS] * 101))).protocols) == 100


def test_protocol_after_the_hundredth_is_not_in_common():
    assert reason(create(" ".join([OTHER] * 100 + [OURS]))) is Reason.MALFORMED


@pytest.mark.parametrize(
    "protocols",
    ["", " ", ",", OTHER, OURS.strip("{}"), OURS + OTHER, f"{OTHER};{OURS}"],
    ids=["empty", "space", "comma", "another", "no braces", "glued", "semicolon"],
)
def test_no_protocol_in_common_is_refused(protocols):
    assert reason(create(protocols)) is Reason.MALFORMED


def test_create_without_protocols_is_refused():
    assert reason(packet("Create-Session")) is Reason.MALFORMED


@pytest.mark.parametrize(
    "packet_type", ["Frobnicate", "", " ", "Ack", "Create", "Close_Session", "Ping2"]
)
def test_unknown_packet_type_is_refused(packet_type):
    assert reason(packet(packet_type)) is Reason.MALFORMED


@pytest.mark.parametrize(
    "sent",
    [
        packet("x" * 4096),
        packet("Ping", length="x" * 4096),
        create("x" * 4096),
        close("x" * 4096),
        fragment("x" * 4096, 10),
        fragment("bytes 0-9/10", 10, ("Content-Encoding", "x" * 4096)),
        [*packet("Ping"), ("X" * 4096, "x" * 4097)],
    ],
    ids=["type", "length", "protocols", "id", "range", "coding", "name"],
)
def test_long_value_does_not_fill_the_log(sent):
    with pytest.raises(Refusal) as caught:
        parse(sent)

    assert len(caught.value.detail) < 200


@every_packet
def test_packet_without_a_type_is_refused(fields, expected):
    assert reason(without("BITS-Packet-Type", fields)) is Reason.MALFORMED


@every_packet
def test_packet_without_content_length_is_refused(fields, expected):
    assert reason(without("Content-Length", fields)) is Reason.LENGTH_REQUIRED


@every_packet
@pytest.mark.parametrize(
    "length",
    [
        "",
        "-1",
        "+1",
        "1.0",
        "0x1",
        "1e3",
        "1_0",
        "1 0",
        "0, 0",
        "\u0661",
        "0\xa0",
        "9" * 21,
    ],
)
def test_content_length_that_is_no_number_is_refused(fields, expected, length):
    broken = without("Content-Length", fields)

    assert reason([*broken, ("Content-Length", length)]) is Reason.MALFORMED


@pytest.mark.parametrize(
    "packet_type", ["Create-Session", "Ping", "Close-Session", "Cancel-Session"]
)
def test_body_of_a_packet_that_has_none_is_refused(packet_type):
    fields = (("BITS-Session-Id", ID), ("BITS-Supported-Protocols", OURS))

    assert reason(packet(packet_type, *fields, length=1)) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BITS-Packet-Type", "Close-Session"),
        ("BITS-Session-Id", NOBODY),
        ("Content-Range", "bytes 1-10/11"),
        ("Content-Length", "11"),
    ],
)
@pytest.mark.parametrize("write", [str.lower, str.upper])
def test_fields_that_contradict_each_other_are_refused(name, value, write):
    fields = fragment("bytes 0-9/10", 10)

    assert reason([*fields, (write(name), value)]) is Reason.MALFORMED
    assert reason([(write(name), value), *fields]) is Reason.MALFORMED


@pytest.mark.parametrize(
    "value",
    ["x" * 4096, "\u00e9" * 2048, "\udcff" * 4096, "\U0001f600" * 1024],
    ids=["ascii", "two bytes each", "bytes that are no text", "four bytes each"],
)
def test_value_of_4096_bytes_is_read(value):
    assert parse([*packet("Ping"), ("X-Custom", value)]) == Ping()


@pytest.mark.parametrize("name", ["X-Custom", "Content-Name", "BITS-Session-Id"])
@pytest.mark.parametrize(
    "value",
    ["x" * 4097, "\u00e9" * 2049, "\udcff" * 4097, "\U0001f600" * 1025],
    ids=["ascii", "two bytes each", "bytes that are no text", "four bytes each"],
)
def test_value_over_4096_bytes_is_refused(name, value):
    assert reason([*packet("Ping"), (name, value)]) is Reason.MALFORMED


def test_value_that_no_encoding_holds_is_measured_too():
    assert parse([*packet("Ping"), ("X-Custom", "\ud800" * 1025)]) == Ping()
    assert reason([*packet("Ping"), ("X-Custom", "\ud800" * 4097)]) is Reason.MALFORMED


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_authorization_may_be_longer(name):
    assert parse([(name, "Negotiate " + "A" * 8000), *packet("Ping")]) == Ping()


@pytest.mark.parametrize(
    "written",
    [ID, ID.lower(), GUID, GUID.lower(), GUID.title(), f" {ID}\t"],
    ids=["as given", "lower", "no braces", "bare lower", "mixed", "spaces"],
)
def test_session_id_is_read_in_any_case_with_braces_or_not(written):
    assert session_id(written) == ID
    assert parse(close(written)) == CloseSession(ID)


@pytest.mark.parametrize(
    "written",
    [
        "1",
        "x",
        "..",
        "{../../../../../../../../etc/passwd}",
        ID[:-2] + "}",
        ID.replace("0", "G"),
        ID.replace("-", ""),
        ID.replace("0", "\uff10"),
        ID + ID,
        "{" + ID + "}",
        ID + "\n/../x",
    ],
)
def test_session_id_that_cannot_be_ours_is_not_found(written):
    assert reason(close(written)) is Reason.SESSION_NOT_FOUND


@pytest.mark.parametrize("packet_type", ["Fragment", "Close-Session", "Cancel-Session"])
@pytest.mark.parametrize("fields", [(), (("BITS-Session-Id", ""),)])
def test_packet_of_a_session_without_its_id_is_refused(packet_type, fields):
    content_range = ("Content-Range", "bytes 0-0/1")
    length = 1 if packet_type == "Fragment" else 0
    sent = packet(packet_type, content_range, *fields, length=length)

    assert reason(sent) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("content_range", "length", "expected"),
    [
        ("bytes 0-9/10", 10, (0, 9, 10)),
        ("Bytes 0-9/10", 10, (0, 9, 10)),
        ("BYTES   0-9/10", 10, (0, 9, 10)),
        ("bytes 000-009/010", 10, (0, 9, 10)),
        (f"bytes 0-{2**63 - 1}/{2**63}", 2**63, (0, 2**63 - 1, 2**63)),
        (
            f"bytes {2**64 - 3}-{2**64 - 2}/{2**64 - 1}",
            2,
            (2**64 - 3, 2**64 - 2, 2**64 - 1),
        ),
        (f"bytes 0-{2**64 - 2}/{2**64 - 1}", 2**64 - 1, (0, 2**64 - 2, 2**64 - 1)),
    ],
    ids=["plain", "Win32 case", "spaces", "zeros", "signed", "end", "all 64 bits"],
)
def test_content_range_is_read(content_range, length, expected):
    assert parse(fragment(content_range, length)) == Fragment(ID, *expected)


@pytest.mark.parametrize(
    ("content_range", "length"),
    [
        ("", 10),
        ("0-9/10", 10),
        ("bytes", 10),
        ("bytes0-9/10", 10),
        ("bytes=0-9/10", 10),
        ("octets 0-9/10", 10),
        ("bytes 0-9", 10),
        ("bytes 0-9/*", 10),
        ("bytes 0-/10", 10),
        ("bytes -9/10", 10),
        ("bytes */10", 10),
        ("bytes */10", 0),
        ("bytes 0 - 9/10", 10),
        ("bytes 0-9 /10", 10),
        ("bytes -1-8/10", 10),
        ("bytes 0x0-9/10", 10),
        ("bytes 0-9/10, 0-9/10", 10),
        ("bytes 0-9/10\n", 9),
        ("bytes \u0660-\u0669/10", 10),
        ("bytes 10-9/10", 0),
        ("bytes 5-4/10", 0),
        ("bytes 0--1/10", 0),
        ("bytes 9-5/10", 5),
        ("bytes 0-10/10", 11),
        ("bytes 0-9/9", 10),
        ("bytes 0-9/10", 9),
        ("bytes 0-9/10", 11),
        ("bytes 0-9/10", 0),
        (f"bytes 0-9/{2**64}", 10),
        (f"bytes {2**64 - 1}-{2**64 - 1}/{2**64}", 1),
        (f"bytes 0-9/{'9' * 20}", 10),
        (f"bytes 0-9/{'9' * 21}", 10),
        (f"bytes {'0' * 21}-9/10", 10),
        (f"bytes 0-{'9' * 4000}/10", 10),
    ],
)
def test_content_range_that_is_broken_is_refused(content_range, length):
    assert reason(fragment(content_range, length)) is Reason.MALFORMED


def test_fragment_without_content_range_is_refused():
    sent = without("Content-Range", fragment("bytes 0-9/10", 10))

    assert reason(sent) is Reason.MALFORMED


EMPTY = ["bytes */0", "bytes 0-0/0", "bytes 0--1/0", "bytes 0-18446744073709551615/0"]


@pytest.mark.parametrize("content_range", EMPTY)
@pytest.mark.parametrize("write", [str, str.upper])
def test_empty_file_may_be_written_in_four_ways(content_range, write):
    assert parse(fragment(write(content_range), 0)) == Fragment(ID, 0, -1, 0)


@pytest.mark.parametrize("content_range", EMPTY)
def test_empty_file_with_a_body_is_refused(content_range):
    assert reason(fragment(content_range, 1)) is Reason.MALFORMED


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-1/0", "bytes 1-0/0", "bytes 0-18446744073709551614/0", "bytes */00"],
)
def test_other_ranges_of_an_empty_file_are_refused(content_range):
    assert reason(fragment(content_range, 0)) is Reason.MALFORMED


def test_empty_fragment_has_no_bytes():
    assert Fragment(ID, 0, -1, 0).length == 0


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_identity_is_the_content_encoding_of_fragments(coding):
    sent = fragment("bytes 0-9/10", 10, ("Content-Encoding", coding))

    assert parse(sent) == Fragment(ID, 0, 9, 10)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip"])
def test_other_content_encodings_are_refused(coding):
    sent = fragment("bytes 0-9/10", 10, ("Content-Encoding", coding))

    assert reason(sent) is Reason.MALFORMED


@pytest.mark.parametrize("codings", [("identity", "gzip"), ("gzip", "identity")])
def test_second_content_encoding_is_not_overlooked(codings):
    more = [("Content-Encoding", coding) for coding in codings]

    assert reason(fragment("bytes 0-9/10", 10, *more)) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            CreateSession(),
            [
                ("BITS-Packet-Type", "Create-Session"),
                ("BITS-Supported-Protocols", OURS),
                ("Content-Length", "0"),
            ],
        ),
        (Ping(), [("BITS-Packet-Type", "Ping"), ("Content-Length", "0")]),
        (
            Fragment(ID, 12288, 24575, 30000),
            [
                ("BITS-Packet-Type", "Fragment"),
                ("BITS-Session-Id", ID),
                ("Content-Range", "bytes 12288-24575/30000"),
                ("Content-Length", "12288"),
            ],
        ),
        (
            Fragment(ID, 0, -1, 0),
            [
                ("BITS-Packet-Type", "Fragment"),
                ("BITS-Session-Id", ID),
                ("Content-Range", "bytes */0"),
                ("Content-Length", "0"),
            ],
        ),
        (
            CloseSession(ID),
            [
                ("BITS-Packet-Type", "Close-Session"),
                ("BITS-Session-Id", ID),
                ("Content-Length", "0"),
            ],
        ),
        (
            CancelSession(ID),
            [
                ("BITS-Packet-Type", "Cancel-Session"),
                ("BITS-Session-Id", ID),
                ("Content-Length", "0"),
            ],
        ),
    ],
    ids=["create", "ping", "fragment", "empty fragment", "close", "cancel"],
)
def test_packet_is_sent_with_these_fields(sent, expected):
    assert sent.fields() == expected


HEX = "0123456789abcdef"
guids = st.builds(
    "{{{}-{}-{}-{}-{}}}".format,
    *(st.text(HEX, min_size=size, max_size=size) for size in (8, 4, 4, 4, 12)),
)
session_ids = guids.map(lambda guid: SessionId(guid.upper()))
spellings_of_ours = st.sampled_from([OURS, OURS.upper(), OURS.title()])


@st.composite
def creates(draw):
    before = draw(st.lists(guids, max_size=50))
    after = draw(st.lists(guids, max_size=49))
    return CreateSession((*before, draw(spellings_of_ours), *after))


@st.composite
def fragments(draw):
    total = draw(st.integers(1, MAXIMUM_NUMBER))
    last = draw(st.integers(0, total - 1))
    return Fragment(draw(session_ids), draw(st.integers(0, last)), last, total)


packets = st.one_of(
    creates(),
    st.just(Ping()),
    fragments(),
    st.builds(Fragment, session_ids, st.just(0), st.just(-1), st.just(0)),
    st.builds(CloseSession, session_ids),
    st.builds(CancelSession, session_ids),
)


@given(packets)
def test_packet_survives_the_wire(sent):
    assert parse(sent.fields()) == sent


@given(fragments())
def test_length_of_a_fragment_is_its_content_length(sent):
    assert dict(sent.fields())["Content-Length"] == str(sent.length)


#: What a parser of HTTP hands on: any bytes but line ends and NUL.
on_the_wire = st.binary(max_size=60).map(
    lambda value: re.sub(rb"[\r\n\0]", b" ", value).decode("utf-8", "surrogateescape")
)
known_names = st.sampled_from(
    [
        "Accept",
        "Authorization",
        "BITS-Packet-Type",
        "BITS-Session-Id",
        "BITS-Supported-Protocols",
        "Content-Encoding",
        "Content-Length",
        "Content-Range",
        "content-length",
    ]
)
known_values = st.sampled_from(
    [
        "",
        "0",
        "10",
        ID,
        OURS,
        f"{OTHER}, {OURS}",
        "bytes 0-9/10",
        "bytes */0",
        "identity",
        "Create-Session",
        "Ping",
        "Fragment",
        "Close-Session",
        "Cancel-Session",
        "x" * 5000,
    ]
)
anything = st.lists(
    st.tuples(known_names | on_the_wire, known_values | on_the_wire | st.text())
)
almost_packets = st.builds(
    lambda sent, more, drop: [
        field for i, field in enumerate([*sent.fields(), *more]) if i != drop
    ],
    packets,
    anything,
    st.integers(0, 5),
)


@given(anything | almost_packets)
@example([("BITS-Packet-Type", "Ping"), ("Content-Length", "\xb2")])
@example([("BITS-Packet-Type", "P\u0130ng"), ("Content-Length", "0")])
def test_fields_are_a_packet_or_refused_and_nothing_else(fields):
    try:
        read = parse(fields)
    except Refusal as refusal:
        allowed = {Reason.MALFORMED, Reason.LENGTH_REQUIRED, Reason.SESSION_NOT_FOUND}
        assert refusal.reason in allowed
    else:
        assert isinstance(read, Packet)


@given(
    st.builds(
        lambda packet_type, fields: [("BITS-Packet-Type", packet_type), *fields],
        st.sampled_from(["Fragment", "Close-Session", "Cancel-Session"]),
        almost_packets,
    )
)
def test_session_id_of_a_packet_is_one_plain_name(fields):
    try:
        named = getattr(parse(fields), "session_id", ID)
    except Refusal:
        return
    assert re.fullmatch(r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}", named)


def ack(*fields):
    """Fields that every Ack has, in either direction, and some more."""
    return [
        ("Pragma", "no-cache"),
        ("BITS-Packet-Type", "Ack"),
        *fields,
        ("Content-Length", "0"),
    ]


def error(code, context="0x5"):
    return (
        ("BITS-Error-Code", code),
        ("BITS-Error", code),
        ("BITS-Error-Context", context),
    )


REPLY = "http://up.example.test/in/BITS-Replies/%7B0B5E%7D"

ACKS = {
    "create": (
        Ack(protocol=PROTOCOL, session_id=ID),
        ack(
            ("BITS-Protocol", OURS),
            ("BITS-Session-Id", ID),
            ("Accept-Encoding", "identity"),
        ),
    ),
    "create with host id": (
        Ack(
            protocol=PROTOCOL,
            session_id=ID,
            host_id="node3.example.test",
            host_id_fallback_timeout=86400,
        ),
        ack(
            ("BITS-Protocol", OURS),
            ("BITS-Session-Id", ID),
            ("BITS-Host-Id", "node3.example.test"),
            ("BITS-Host-Id-Fallback-Timeout", "86400"),
            ("Accept-Encoding", "identity"),
        ),
    ),
    "ping": (Ack(), ack()),
    "fragment": (
        Ack(session_id=ID, received=12288),
        ack(("BITS-Session-Id", ID), ("BITS-Received-Content-Range", "12288")),
    ),
    "empty entity": (
        Ack(session_id=ID, received=0),
        ack(("BITS-Session-Id", ID), ("BITS-Received-Content-Range", "0")),
    ),
    "last fragment with a reply": (
        Ack(session_id=ID, received=30000, reply_url=REPLY),
        ack(
            ("BITS-Session-Id", ID),
            ("BITS-Received-Content-Range", "30000"),
            ("BITS-Reply-URL", REPLY),
        ),
    ),
    "close": (Ack(session_id=ID), ack(("BITS-Session-Id", ID))),
    "gap": (
        Ack(status=416, session_id=ID, received=12288),
        ack(("BITS-Session-Id", ID), ("BITS-Received-Content-Range", "12288")),
    ),
    "unknown session": (
        Ack(status=500, session_id=NOBODY, error=0x8020001F, context=5),
        ack(("BITS-Session-Id", NOBODY), *error("0x8020001F")),
    ),
    "malformed": (
        Ack(status=400, error=0x80070057, context=5),
        ack(*error("0x80070057")),
    ),
    "application failed": (
        Ack(status=503, session_id=ID, received=9, error=0x8020001E, context=7),
        ack(
            ("BITS-Session-Id", ID),
            ("BITS-Received-Content-Range", "9"),
            *error("0x8020001E", "0x7"),
        ),
    ),
    "code with leading zeros": (
        Ack(status=500, error=0x1F, context=5),
        ack(*error("0x0000001F")),
    ),
}
every_ack = pytest.mark.parametrize(("sent", "fields"), ACKS.values(), ids=ACKS.keys())


@every_ack
def test_ack_is_sent_with_these_fields(sent, fields):
    assert sorted(sent.fields()) == sorted(fields)


# [MC-BUP] 4.1: the order of the fields of IIS 6.0, without Date and Server.
IIS = {
    "create": [
        "Pragma",
        "BITS-Packet-Type",
        "BITS-Protocol",
        "BITS-Session-Id",
        "Content-Length",
        "Accept-Encoding",
    ],
    "fragment": [
        "Pragma",
        "BITS-Packet-Type",
        "BITS-Session-Id",
        "Content-Length",
        "BITS-Received-Content-Range",
    ],
}


@pytest.mark.parametrize(("name", "order"), IIS.items(), ids=IIS.keys())
def test_fields_of_an_ack_are_in_the_order_of_iis(name, order):
    sent, _ = ACKS[name]

    assert [field for field, _ in sent.fields()] == order


@every_ack
def test_ack_is_read(sent, fields):
    assert Ack.parse(sent.status, fields) == sent


@every_ack
@pytest.mark.parametrize("write", [str.lower, str.upper, str.title])
def test_names_in_an_ack_are_compared_without_case(sent, fields, write):
    written = [(write(name), f" {value}\t") for name, value in fields]

    assert Ack.parse(sent.status, written) == sent


@pytest.mark.parametrize("packet_type", ["Ack", "ACK", "ack"])
def test_packet_type_of_an_ack_is_compared_without_case(packet_type):
    assert Ack.parse(200, [("BITS-Packet-Type", packet_type)]) == Ack()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("BITS-Error", "0x80070057")], 0x80070057),
        ([("BITS-Error-Code", "0x80070057")], 0x80070057),
        ([("BITS-Error", "0X8007000e")], 0x8007000E),
        ([("BITS-Error", "0x0")], 0),
        ([("BITS-Error", "0x1"), ("BITS-Error-Code", "0x2")], 2),
        ([("BITS-Error-Code", "0x2"), ("BITS-Error", "0x1")], 2),
    ],
    ids=["MC-BUP", "Win32", "any case", "zero", "both", "both, the other way round"],
)
def test_error_is_read_by_either_name(fields, expected):
    assert Ack.parse(500, ack(*fields)).error == expected


@pytest.mark.parametrize("value", ["", " "])
def test_empty_reply_url_is_none(value):
    assert Ack.parse(200, ack(("BITS-Reply-URL", value))).reply_url is None


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("BITS-Packet-Type", "")],
        [("BITS-Packet-Type", "Ping")],
        [("BITS-Package-Type", "Ack")],
        ack(("BITS-Received-Content-Range", "")),
        ack(("BITS-Received-Content-Range", "bytes 0-9/10")),
        ack(("BITS-Received-Content-Range", "-1")),
        ack(("BITS-Received-Content-Range", "\u0661")),
        ack(("BITS-Received-Content-Range", "9" * 21)),
        ack(("BITS-Host-Id-Fallback-Timeout", "1 day")),
        ack(("BITS-Error", "")),
        ack(("BITS-Error", "80070057")),
        ack(("BITS-Error-Code", "0x")),
        ack(("BITS-Error-Code", "0x180070057")),
        ack(("BITS-Error-Code", "0x8007005G")),
        ack(("BITS-Error-Context", "server")),
    ],
)
def test_answer_that_is_no_ack_is_discarded(fields):
    with pytest.raises(NotAnAck, match=r"(?i)^bits-\S+ is '.*', not "):
        Ack.parse(200, fields)


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
numbers = st.integers(0, MAXIMUM_NUMBER)
acks = st.builds(
    Ack,
    status=st.integers(200, 599),
    protocol=st.none() | st.just(PROTOCOL),
    session_id=st.none() | session_ids,
    host_id=st.none() | visible,
    host_id_fallback_timeout=st.none() | numbers,
    received=st.none() | numbers,
    reply_url=st.none() | visible,
    error=st.none() | st.integers(0, 2**32 - 1),
    context=st.none() | st.integers(0, 2**32 - 1),
)


@given(acks)
def test_ack_survives_the_wire(sent):
    assert Ack.parse(sent.status, sent.fields()) == sent


ack_names = st.sampled_from(
    [name for name, _ in ACKS["create with host id"][1]]
    + [name for name, _ in ACKS["last fragment with a reply"][1]]
    + [name for name, _ in ACKS["malformed"][1]]
)


@given(st.lists(st.tuples(ack_names | on_the_wire, on_the_wire | st.text())), acks)
def test_answer_is_an_ack_or_discarded_and_nothing_else(fields, sent):
    try:
        read = Ack.parse(200, [*sent.fields(), *fields])
    except NotAnAck:
        return
    assert isinstance(read, Ack)


@given(packets | acks)
def test_field_sent_is_one_line(sent):
    assert not re.search(r"[\r\n]", "".join(map("".join, sent.fields())))


@given(anything | almost_packets)
@example(create(f"a\r\nX-Injected:y {OURS}"))
def test_field_of_a_packet_that_was_read_is_one_line(fields):
    try:
        sent = parse(fields).fields()
    except Refusal:
        return
    assert not re.search(r"[\r\n]", "".join(map("".join, sent)))


@pytest.mark.parametrize("why", Reason, ids=lambda why: why.name)
def test_detail_of_a_refusal_is_not_sent(why):
    told = Ack.refusing(Refusal(why, "secret\r\nSet-Cookie: secret"), ID)

    assert not re.search(r"secret|[\r\n]", "".join(map("".join, told.fields())))


def test_refusal_with_an_hresult_says_it_and_who_failed():
    refusal = Refusal(Reason.APPLICATION_FAILED, "", received=30000, status=503)

    assert Ack.refusing(refusal, ID) == Ack(
        status=503, session_id=ID, received=30000, error=0x8020001E, context=7
    )


def test_refusal_without_an_hresult_is_a_status_alone():
    told = Ack.refusing(Refusal(Reason.OUT_OF_SYNC, "", received=12288))

    assert told == Ack(status=416, received=12288)
