"""`session.json`, whole or damaged."""

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_kit import (
    CREATED,
    ID,
    KEPT,
    disk_in,
    failed,
    fill,
    new_session,
    small_disk,
)

from bitsd import record
from bitsd.parser import MAXIMUM_LINE
from bitsd.protocol.session import Destination, Session, State
from bitsd.record import SessionNotFound

FULL = new_session(
    destination=Destination('sub/\u00e9 "x".dat'),
    user="alice",
    total=2**63 - 1,
    state=State.WAIT_FOR_CLOSE,
    reply_url="http://test/in/BITS-Replies/x",
    refused=403,
)


@pytest.mark.parametrize(
    "session", [new_session(), FULL, new_session(total=0)], ids=["new", "full", "empty"]
)
def test_record_says_what_was_written(tmp_path: Path, session: Session):
    record.write(tmp_path, session, KEPT, durable=True)
    found, _ = record.read(tmp_path)

    assert found.kept == KEPT
    for field in {*record.Record.__struct_fields__} - {"format", "kept"}:
        assert getattr(found, field) == getattr(session, field), field


def test_record_comes_with_the_time_of_its_file(tmp_path: Path):
    record.write(tmp_path, new_session(), KEPT, durable=True)
    os.utime(tmp_path / "session.json", (1000.5, 2000.5))

    assert record.read(tmp_path)[1] == 2000.5


def test_later_record_replaces_the_earlier_and_leaves_nothing_beside(tmp_path: Path):
    (tmp_path / "session.json.new").write_bytes(b"half of a record that a crash left")
    record.write(tmp_path, FULL, KEPT, durable=True)
    record.write(tmp_path, new_session(total=7), KEPT, durable=True)

    assert record.read(tmp_path)[0].total == 7
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


def test_record_is_for_the_server_alone(tmp_path: Path):
    record.write(tmp_path, FULL, KEPT, durable=True)

    assert (tmp_path / "session.json").stat().st_mode & 0o777 == 0o600


def test_record_that_has_no_room_leaves_the_one_before(tmp_path: Path):
    with small_disk(tmp_path / "disk") as disk:
        record.write(disk, new_session(total=7), KEPT, durable=True)
        fill(disk)
        with failed(errno.ENOSPC):
            record.write(disk, FULL, KEPT, durable=True)

        assert record.read(disk)[0].total == 7


def test_record_that_has_room_in_part_leaves_the_one_before(tmp_path: Path):
    longest = new_session(url="http://test/in/report.dat?" + "x" * 6000)
    with small_disk(tmp_path / "disk") as disk:
        record.write(disk, longest, KEPT, durable=True)
        fill(disk, leave=4096)
        with failed(errno.ENOSPC):
            record.write(disk, longest, KEPT, durable=True)

        assert record.read(disk)[0].url == longest.url


def test_longest_record_that_a_client_can_cause_is_read(tmp_path: Path):
    longest = new_session(
        url="http://test/in/" + "%FF" * MAXIMUM_LINE,
        destination="/".join(["\u00ff" * 120] * (MAXIMUM_LINE // 241)),
        reply_url="x" * 2200,
    )
    record.write(tmp_path, longest, KEPT, durable=False)

    assert record.read(tmp_path)[0].url == longest.url


# Damage.


def good() -> dict[str, object]:
    return {
        "format": 1,
        "destination": "report.dat",
        "url": "http://test/in/report.dat",
        "created": "2024-02-29T12:30:15Z",
        "user": None,
        "address": "192.0.2.1",
        "total": 10,
        "state": "receive-fragments",
        "reply_url": None,
        "refused": None,
    }


def with_value(**values: object) -> bytes:
    return json.dumps(good() | values).encode()


def without(key: str) -> bytes:
    return json.dumps({k: v for k, v in good().items() if k != key}).encode()


WHOLE = with_value()
NOT_TEXT = WHOLE.replace(b'"report.dat"', b'"\xff.dat"')
TOO_DEEP = WHOLE[:-1] + b', "more": ' + b"[" * 100_000

NOTICED = {
    "empty": b"",
    "zeros": bytes(300),
    "spaces": b" " * 300,
    "binary": bytes(range(256)),
    "half": WHOLE[: len(WHOLE) // 2],
    "but the last byte": WHOLE[:-1],
    "twice": WHOLE * 2,
    "bytes behind": WHOLE + b"\x00",
    "null": b"null",
    "list": b"[]",
    "other table": b"{}",
    "text": b'"session"',
    "number": b"1",
    "not a time": with_value(created="yesterday"),
    "time out of range": with_value(created="9999-99-99T00:00:00Z"),
    "number for a name": with_value(destination=5),
    "text for a number": with_value(total="10"),
    "fraction": with_value(total=1.5),
    "huge number": WHOLE.replace(b"10", b"9" * 5000),
    "unknown state": with_value(state="asleep"),
    "state of another case": with_value(state="GONE"),
    "half a surrogate": with_value(url="\ud800"),
    "later format": with_value(format=2),
    "no format": without("format"),
    **{f"no {key}": without(key) for key in good() if key != "format"},
}
UNNOTICED = {"not UTF-8": NOT_TEXT, "nested too deep": TOO_DEEP}


def read_back(home: Path, octets: bytes) -> record.Record:
    (home / "session.json").write_bytes(octets)
    return record.read(home)[0]


def test_undamaged_record_is_read(tmp_path: Path):
    assert read_back(tmp_path, WHOLE).total == 10


@pytest.mark.parametrize("octets", NOTICED.values(), ids=NOTICED)
def test_damaged_record_is_no_session(tmp_path: Path, octets: bytes):
    with pytest.raises(SessionNotFound):
        read_back(tmp_path, octets)


@pytest.mark.parametrize("octets", UNNOTICED.values(), ids=UNNOTICED)
def test_damage_below_the_grammar_is_no_session(tmp_path: Path, octets: bytes):
    with pytest.raises(SessionNotFound):
        read_back(tmp_path, octets)


@pytest.mark.parametrize("kind", ["folder", "link to itself"])
def test_record_that_is_no_file_is_no_session(tmp_path: Path, kind: str):
    path = tmp_path / "session.json"
    path.mkdir() if kind == "folder" else path.symlink_to(path)

    with pytest.raises(SessionNotFound):
        record.read(tmp_path)


@pytest.mark.parametrize("home", ["empty", "missing", "a file"])
def test_missing_record_is_no_session(tmp_path: Path, home: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").touch()

    with pytest.raises(SessionNotFound, match="no session"):
        record.read(tmp_path / home)


def test_failure_of_the_storage_is_no_damage(tmp_path: Path):
    with failed(errno.ENAMETOOLONG):
        record.read(tmp_path / ("x" * 300))


octets_of_a_record = st.one_of(
    st.binary(max_size=400),
    st.fixed_dictionaries(
        {
            key: st.none() | st.just(value) | st.integers() | st.text() | st.floats()
            for key, value in good().items()
        }
    ).map(lambda fields: json.dumps(fields).encode()),
    # One byte of a good one, another; ASCII, for what is no text has its own test.
    st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 127)).map(
        lambda hit: WHOLE[: hit[0]] + bytes((hit[1],)) + WHOLE[hit[0] + 1 :]
    ),
)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    disk = disk_in(tmp_path_factory.mktemp("in"))
    disk.request(ID).parent.mkdir()
    disk.request(ID).write_bytes(b"abc")
    return disk


@settings(max_examples=500, deadline=None)
@given(octets=octets_of_a_record)
def test_any_bytes_are_a_session_or_none(damaged, octets: bytes):
    (damaged.request(ID).parent / "session.json").write_bytes(octets)
    try:
        session = damaged.read(ID)
    except SessionNotFound:
        return

    assert session.id == ID
    assert session.received == 3
    assert session.total is None or session.total >= 3


def test_time_zone_of_a_record_is_kept(tmp_path: Path):
    octets = with_value(created="2024-02-29T14:30:15.000250+02:00")
    created = read_back(tmp_path, octets).created

    assert created == CREATED
    assert created.utcoffset() == timedelta(hours=2)
    assert datetime.now(UTC) > created
