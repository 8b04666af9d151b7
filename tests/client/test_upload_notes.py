"""What is kept of uploads."""

import fcntl
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from bitsd.client.notes import Note, Notes, folder, forget_old
from bitsd.client.progress import TransferFailed
from bitsd.client.source import Looks

SOURCE = Path("/x/report.7z")
URL = "https://server.test/in/report.7z?token=secret"
NOTE = Note(str(SOURCE), Looks(10, 1_700_000_000_123_456_789, 42), "{ID}")


def kept(note: Note = NOTE) -> Path:
    """Keep a note; where it is."""
    notes = Notes(SOURCE, URL)
    notes.write(note)
    notes.close()
    [path] = folder("uploads").glob("*.json")
    return path


@pytest.mark.parametrize(
    "note",
    [NOTE, replace(NOTE, host_id="node", fallback_seconds=60, finished=True)],
)
def test_note_is_kept(note: Note):
    kept(note)
    notes = Notes(SOURCE, URL)
    found = notes.read()
    notes.close()

    assert found == note


def test_note_is_for_its_user_alone_and_holds_no_url():
    path = kept()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "secret" not in path.read_text("utf-8")
    assert json.loads(path.read_bytes())["source"] == str(SOURCE)


def test_other_file_or_other_url_is_another_upload():
    kept()
    for source, url in ((SOURCE, URL + "2"), (SOURCE.with_name("b"), URL)):
        notes = Notes(source, url)
        found = notes.read()
        notes.close()

        assert found is None


def test_newer_note_replaces_the_older_one(state: Path):
    notes = Notes(SOURCE, URL)
    notes.write(NOTE)
    notes.write(replace(NOTE, session_id="2"))
    found = notes.read()
    notes.close()

    assert found == replace(NOTE, session_id="2")
    assert sorted(path.suffix for path in state.iterdir()) == [".json", ".lock"]


def test_same_note_is_not_written_again(state: Path):
    notes = Notes(SOURCE, URL)
    notes.write(NOTE)
    [path] = state.glob("*.json")
    before = path.stat().st_ino
    notes.write(NOTE)
    notes.close()

    assert path.stat().st_ino == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"source": 1}', b"\xff"])
def test_what_is_no_note_is_none(content: bytes):
    kept().write_bytes(content)
    notes = Notes(SOURCE, URL)
    found = notes.read()
    notes.close()

    assert found is None


def test_nothing_is_left_of_what_is_forgotten(state: Path):
    kept()
    notes = Notes(SOURCE, URL)
    notes.forget()
    notes.close()

    assert list(state.iterdir()) == []


def test_notes_are_one_program_s_at_a_time():
    first = Notes(SOURCE, URL)
    with pytest.raises(TransferFailed, match=r"another bitsd uploads /x/report.7z"):
        Notes(SOURCE, URL)
    first.close()
    Notes(SOURCE, URL).close()


def test_lock_that_was_removed_meanwhile_is_taken_anew(
    state: Path, monkeypatch: pytest.MonkeyPatch
):
    """The program that had it ended between opening and locking."""
    real, calls = fcntl.flock, 0

    def ended(handle: int, how: int) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            [path] = state.glob("*.lock")
            path.unlink()
        if calls == 2:
            path.touch()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", ended)
    notes = Notes(SOURCE, URL)
    with pytest.raises(TransferFailed):
        Notes(SOURCE, URL)
    notes.close()

    assert calls == 4


@pytest.mark.parametrize("blocked", ["", "bitsd"])
def test_missing_place_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked: str
):
    state = tmp_path / "other"
    path = state / blocked
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    with pytest.raises(
        TransferFailed, match="set XDG_STATE_HOME to a folder"
    ) as raised:
        Notes(SOURCE, URL)

    assert "Not a directory" in str(raised.value)


@pytest.mark.parametrize("suffix", [".json", ".new"])
def test_note_that_cannot_be_reached_is_told(suffix: str):
    notes = Notes(SOURCE, URL)
    [lock] = folder("uploads").glob("*.lock")
    lock.with_suffix(suffix).mkdir()
    with pytest.raises(TransferFailed, match="Is a directory"):
        notes.read() if suffix == ".json" else notes.write(NOTE)
    notes.close()


def test_place_is_in_the_home_where_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".local" / "state" / "bitsd" / "uploads"

    monkeypatch.delenv("XDG_STATE_HOME")
    assert folder("uploads") == expected

    # The specification has relative ones ignored.
    monkeypatch.setenv("XDG_STATE_HOME", os.curdir)
    assert folder("uploads") == expected


def test_old_notes_are_forgotten():
    old = kept()
    os.utime(old, (1000, 1000))
    forget_old(1000)
    assert old.exists()

    forget_old(1001)
    assert list(folder("uploads").iterdir()) == []


def test_old_note_that_somebody_works_at_is_kept():
    old = kept()
    os.utime(old, (1000, 1000))
    notes = Notes(SOURCE, URL)
    forget_old(2000)
    notes.close()

    assert old.exists()


def test_note_that_somebody_writes_meanwhile_is_kept(monkeypatch: pytest.MonkeyPatch):
    old = kept()
    os.utime(old, (1000, 1000))
    lock = fcntl.flock

    def late(handle: int, how: int) -> None:
        lock(handle, how)
        os.utime(old, (3000, 3000))

    monkeypatch.setattr(fcntl, "flock", late)
    forget_old(2000)

    assert old.exists()
