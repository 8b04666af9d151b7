"""What is kept of a file while it comes."""

import errno
import fcntl
import json
import os
import random
from pathlib import Path

import pytest

from bitsd.client.partial import Partial, part_of, state_of
from bitsd.client.progress import TransferFailed
from bitsd.client.replies import Version
from bitsd.ranges import ByteRange

URL = "http://user:secret@h/a?token=secret"
CONTENT = random.Random(1).randbytes(1000)
VERSION = Version(1000, '"a"', None, '"a"')


def opened(target: Path, url: str = URL) -> Partial:
    part = Partial(target, url)
    part.open()
    return part


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "f"


@pytest.fixture
def left(target: Path) -> Path:
    """The state of a file of which the first 400 bytes came."""
    part = opened(target)
    part.begin(VERSION)
    part.write(0, CONTENT[:400])
    part.close()
    return state_of(target)


def test_what_came_is_there_again(target: Path, left: Path):
    part = opened(target)

    assert part.version == VERSION
    assert part.held == 400
    assert part.missing() == [ByteRange(400, 999)]
    assert part.missing(ByteRange(300, 500)) == [ByteRange(400, 500)]

    part.write(400, CONTENT[400:])
    part.publish(1_600_000_000)
    part.close()

    assert target.read_bytes() == CONTENT
    assert target.stat().st_mtime == 1_600_000_000
    assert list(target.parent.iterdir()) == [target]


def test_state_shows_no_secret(left: Path):
    assert "secret" not in left.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"url": 1, "version": null, "done": []}',
        "\xff",
    ],
)
def test_state_that_makes_no_sense_is_none(target: Path, left: Path, text: str):
    left.write_text(text, "latin-1")
    part = opened(target)
    part.close()

    assert part.version is None
    assert part.done == ()
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("done", [[0, 1000]]),
        ("done", [[-1, 5]]),
        ("done", [[5, 4]]),
        ("done", [[5]]),
        ("done", None),
        ("version", None),
        ("version", {"length": 0, "etag": None, "modified": None, "validator": None}),
        ("version", {"length": 9, "etag": '"a"', "modified": None, "validator": "a"}),
        ("version", {"length": 1000, "etag": '"a"', "modified": None, "validator": 7}),
    ],
)
def test_state_that_cannot_be_is_none(target: Path, left: Path, name: str, value):
    text = json.loads(left.read_text())
    left.write_text(json.dumps(text | {name: value}))
    part = opened(target)
    part.close()

    assert part.version is None


def test_state_without_its_file_is_none(target: Path, left: Path):
    """As after a power cut at the very end, and the user took the file away."""
    part_of(target).unlink()
    part = opened(target)

    assert part.version is None
    part.close()


def test_old_state_is_gone_before_a_new_version_comes(target: Path, left: Path):
    part = opened(target)
    part.begin(VERSION)

    assert not left.exists()
    assert part.missing() == [ByteRange(0, 999)]
    assert part_of(target).read_bytes() == bytes(1000)
    part.close()


@pytest.mark.parametrize("validator", [None, '"a"'])
def test_what_cannot_go_on_is_not_left_behind(target: Path, validator: str | None):
    part = opened(target)
    part.begin(Version(1000, None, None, validator))
    if validator is None:
        part.write(0, CONTENT)
    part.close()

    assert list(target.parent.iterdir()) == []


def test_failure_of_the_disk_is_told(
    target: Path, left: Path, monkeypatch: pytest.MonkeyPatch
):
    def failing(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    part = opened(target)
    part.write(400, CONTENT[400:500])
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(TransferFailed, match="Input/output error"):
        part.close()
    monkeypatch.undo()
    again = opened(target)

    assert again.held == 400
    again.close()


def test_file_that_was_published_meanwhile_is_not_written(
    target: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between its being opened and its being locked."""
    flock = fcntl.flock
    raced: list[int] = []

    def late(file: int, how: int) -> None:
        if not raced:
            part_of(target).rename(target)
        raced.append(file)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    part = opened(target)
    part.begin(VERSION)
    part.write(0, CONTENT)
    part.save()

    assert len(raced) == 2
    assert target.read_bytes() == b""
    assert part_of(target).read_bytes() == CONTENT
    part.close()


def test_closing_what_was_not_opened_does_nothing(target: Path):
    Partial(target, URL).close()

    assert list(target.parent.iterdir()) == []
