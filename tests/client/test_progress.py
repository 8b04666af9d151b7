"""How people and programs see what goes on."""

import io
import json
import re

import pytest
from rich.cells import cell_len

from bitsd.client.bars import amount, bars, shortened
from bitsd.client.progress import (
    Event,
    Kind,
    TransferFailed,
    json_lines,
    lines,
    writing,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress(held, file="a"):
    return Event(event=Kind.PROGRESS, file=file, held=held, total=9)


def test_programs_get_progress_at_most_once_a_second():
    told, now = [], [100.0]
    tell = json_lines(told.append, told.append, lambda: now[0])
    tell(Event(event=Kind.STARTED, file="a", held=0, total=9))
    tell(progress(1))
    now[0] += 0.75
    tell(progress(2))
    tell(progress(5, file="b"))
    now[0] += 0.25
    tell(progress(3))
    tell(Event(event=Kind.DONE, file="a", held=9, total=9))

    assert [json.loads(line) for line in told] == [
        {"event": "started", "file": "a", "held": 0, "total": 9},
        {"event": "progress", "file": "b", "held": 5, "total": 9},
        {"event": "progress", "file": "a", "held": 3, "total": 9},
        {"event": "done", "file": "a", "held": 9, "total": 9},
    ]


def test_programs_get_the_rate_between_events_of_progress():
    told, now = [], [100.0]
    tell = json_lines(told.append, told.append, lambda: now[0])
    waits = Event(event=Kind.WAITING, file="a", reason="busy", seconds=1.25)
    for event in (*map(progress, (0, 1000, 900)), waits, *map(progress, (5, 7))):
        tell(event)
        now[0] += 2

    rates = [json.loads(line).get("bytes_per_second") for line in told]
    assert rates == [None, 500, 0, None, None, 1]


def test_failure_is_told_to_programs_and_people():
    out, err = [], []
    failure = TransferFailed("busy", status=503, code=0x8020, resumable=True)
    json_lines(out.append, err.append, lambda: 0.0)(failure.event("a"))
    (told,) = out

    assert json.loads(told) == {
        "event": "failed",
        "file": "a",
        "reason": "busy",
        "status": 503,
        "code": "0x00008020",
        "resumable": True,
    }
    assert err == ["bitsd: a: busy; the same command goes on"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (progress(1), ""),
        (Event(event=Kind.DONE, file="a"), ""),
        (Event(event=Kind.DONE, file="a", reason="already there"),
         "out a: already there"),
        (Event(event=Kind.WAITING, file="a", reason="busy", seconds=2.4),
         "err bitsd: a: trying again in 2 s: busy"),
        (Event(event=Kind.AGAIN, file="a", reason="changed"),
         "err bitsd: a: changed; starting over"),
        (Event(event=Kind.FAILED, file="a", reason="gone"), "err bitsd: a: gone"),
        (Event(event=Kind.FAILED, file="a", reason="busy", resumable=True),
         "err bitsd: a: busy; the same command goes on"),
    ],
)  # fmt: skip
def test_people_without_a_terminal_read_what_is_out_of_the_ordinary(event, expected):
    said = []
    lines(
        lambda line: said.append(f"out {line}"), lambda line: said.append(f"err {line}")
    )(event)

    assert "".join(said) == expected


def test_waiting_for_one_reason_is_told_once():
    said, said_again, of = [], "bitsd: a: trying again in 1 s: busy", {"file": "a"}
    tell = lines(said.append, said.append)
    for event in (Kind.WAITING, Kind.WAITING, Kind.PROGRESS, Kind.WAITING):
        reason = "busy" if event is Kind.WAITING else None
        tell(Event(event=event, reason=reason, seconds=1, **of))
    tell(Event(event=Kind.WAITING, reason="gone", seconds=1, **of))
    # A look that fails for what it waited for.
    tell(Event(event=Kind.FAILED, reason="gone", **of))

    other = "bitsd: a: trying again in 1 s: gone"
    assert said == [said_again, said_again, other, "bitsd: a: gone"]


def plain(seen: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", seen)


@pytest.mark.parametrize("out", [io.StringIO, Terminal])
def test_people_at_a_terminal_see_a_bar(monkeypatch, out):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    out, err, name = out(), Terminal(), "[b]x"
    with bars(out, err) as tell:
        tell(progress(3, file=name))
        tell(Event(event=Kind.AGAIN, file=name, reason="it [i]changed"))
        tell(Event(event=Kind.STARTED, file=name, held=1, total=4096))
        tell(Event(event=Kind.PROGRESS, file=name, held=4096, total=4096))
        tell(Event(event=Kind.WAITING, file=name, held=4096, reason="b", seconds=9))
        tell(Event(event=Kind.DONE, file=name, held=4096, total=4096, reason="[i]"))
        tell(Event(event=Kind.FAILED, file="y", reason="gone"))
        at_the_end = err.tell()
    seen = plain(err.getvalue())

    assert "bitsd: [b]x: it [i]changed; starting over" in seen
    assert "bitsd: y: gone" in seen
    assert re.search(r"\[b\]x +━", seen)
    assert "4.0/4.0 KiB" in seen
    assert re.search(r"\[b\]x +━+ 4.0/4.0 KiB +waits 9 s", seen)
    # What is done goes to stdout, which may be another place.
    assert ("[b]x: [i]\n" in seen) == out.isatty()
    assert out.getvalue() == ("" if out.isatty() else "[b]x: [i]\n")
    assert "━" not in err.getvalue()[at_the_end:]


@pytest.mark.parametrize("width", [80, 60, 40, 20])
@pytest.mark.parametrize("name", ["a" * 40 + "2026-11.ckm", "界" * 30 + ".ckm"])
def test_bar_is_one_line_that_fits(monkeypatch, width, name):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    err, of = Terminal(), {"file": name, "total": 1_073_741_000}
    with bars(io.StringIO(), err) as tell:
        for held in (0, 1_000_000_000):
            tell(Event(event=Kind.PROGRESS, held=held, **of))
        before = err.tell()
        tell(Event(event=Kind.WAITING, held=1_073_740_999, seconds=3600, **of))
        at_the_end = err.tell()
    said = err.getvalue()
    # Up a line would be for what was broken.
    assert "\x1b[1A" not in said[:at_the_end]
    drawn = re.split(r"[\r\n]+|\x1b\[2K", plain(said[before:at_the_end]))
    shown = [line for line in drawn if ".ckm" in line]

    assert shown or width == 20
    assert all(cell_len(line) <= width for line in shown)
    assert all(("waits 3600 s" in line) for line in shown)
    assert all(("MiB" in line) == (width == 80) for line in shown)


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc…fg"),
        ("abcdefg", 5, "ab…fg"),
        ("abc", 2, "a…"),
        ("abc", 1, "…"),
        ("界界界", 5, "界…界"),
        ("界界界", 4, "界…"),
    ],
)
def test_long_name_loses_its_middle(name, width, expected):
    assert shortened(name, width) == expected


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (1_500_000, "1.4 MiB"),
        (2**40, "1.0 TiB"),
        (2.0**71, "2,048.0 EiB"),
    ],
)
def test_rate_has_the_units_of_the_sizes(octets, expected):
    assert amount(octets) == expected


def test_what_is_said_is_there_at_once(tmp_path):
    with (tmp_path / "out").open("w") as out:
        writing(out)("a: fetched")

        assert (tmp_path / "out").read_text() == "a: fetched\n"


def test_bar_of_what_is_stopped_leaves_the_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    err = Terminal()
    with bars(io.StringIO(), err) as tell:
        tell(progress(3))

    assert err.getvalue().endswith("\x1b[1A\x1b[2K")
