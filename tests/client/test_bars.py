"""How people and programs see what goes on."""

import io
import json
import random
import re

import pytest

from bitsd.client.bars import bars
from bitsd.client.progress import Event, Kind, json_lines, lines
from bitsd.client.retry import FIRST_SECONDS, LONGEST_SECONDS, delay


def progress(held, file="a"):
    return Event(event=Kind.PROGRESS, file=file, held=held, total=9)


def test_programs_get_progress_at_most_once_a_second():
    out, now = io.StringIO(), [100.0]
    with json_lines(out, lambda: now[0]) as tell:
        tell(Event(event=Kind.STARTED, file="a", total=9))
        tell(progress(1))
        now[0] += 0.9
        tell(progress(2))
        tell(progress(5, file="b"))
        now[0] += 0.1
        tell(progress(3))
        tell(Event(event=Kind.DONE, file="a", held=9, total=9))
    told = [json.loads(line) for line in out.getvalue().splitlines()]

    assert told == [
        {"event": "started", "file": "a", "held": 0, "total": 9},
        {"event": "progress", "file": "b", "held": 5, "total": 9},
        {"event": "progress", "file": "a", "held": 3, "total": 9},
        {"event": "done", "file": "a", "held": 9, "total": 9},
    ]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (progress(1), ""),
        (Event(event=Kind.DONE, file="a"), ""),
        (Event(event=Kind.DONE, file="a", reason="already there"),
         "bitsd: a: already there\n"),
        (Event(event=Kind.WAITING, file="a", reason="busy", seconds=2.4),
         "bitsd: a: busy; next try in 2 s\n"),
        (Event(event=Kind.AGAIN, file="a", reason="changed"),
         "bitsd: a: changed; starting over\n"),
        (Event(event=Kind.FAILED, file="a", reason="gone"), "bitsd: a: gone\n"),
    ],
)  # fmt: skip
def test_people_without_a_terminal_read_what_is_out_of_the_ordinary(event, expected):
    err = io.StringIO()
    with lines(err) as tell:
        tell(event)

    assert err.getvalue() == expected


def test_waiting_for_one_reason_is_told_once():
    err = io.StringIO()
    with lines(err) as tell:
        for event in (Kind.WAITING, Kind.WAITING, Kind.PROGRESS, Kind.WAITING):
            reason = "busy" if event is Kind.WAITING else None
            tell(Event(event=event, file="a", reason=reason, seconds=1))

    assert err.getvalue() == "bitsd: a: busy; next try in 1 s\n" * 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_people_at_a_terminal_see_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    err = Terminal()
    with bars(err) as tell:
        tell(progress(3, file="[b]x"))
        tell(Event(event=Kind.AGAIN, file="[b]x", reason="it [i]changed"))
        tell(Event(event=Kind.STARTED, file="[b]x", held=1, total=4096))
        tell(Event(event=Kind.DONE, file="[b]x", held=4096, total=4096))

    seen = err.getvalue()
    assert "[b]x: it [i]changed; starting over" in seen
    assert "[b]x ━" in re.sub(r"\x1b\[[\d;]*m", "", seen)
    assert "4.0/4.0 KiB" in seen


@pytest.mark.parametrize(
    ("failures", "most"),
    [
        (0, FIRST_SECONDS),
        (1, 2),
        (3, 8),
        (6, LONGEST_SECONDS),
        (10**6, LONGEST_SECONDS),
    ],
)
def test_waits_grow_up_to_a_minute_and_differ(failures, most):
    dice = random.Random(1)
    waits = [delay(failures, dice) for _ in range(100)]

    assert most / 2 <= min(waits) < max(waits) <= most
    assert len(set(waits)) == 100
