"""What a user sees of an upload."""

import json

import pytest

from bitsd.client.display import JsonLines, Lines
from bitsd.client.outcome import Happening, Progress, Started, UploadFailed, Waiting

STARTED = Started("http://h/x", 1000, resumed=False)


def told(capsys: pytest.CaptureFixture[str], *happened: Happening) -> list[str]:
    with Lines() as lines:
        for happening in happened:
            lines.happened(happening)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_reason_to_wait_is_told_once(capsys: pytest.CaptureFixture[str]):
    waits = [Waiting(seconds, "no answer") for seconds in (1.2, 2.1, 4.4)]

    assert told(capsys, STARTED, *waits) == [
        "bitsd: no answer; trying again in 1 s",
    ]


def test_reason_to_wait_is_told_again_once_it_got_on(
    capsys: pytest.CaptureFixture[str],
):
    no_answer, busy = Waiting(1, "no answer"), Waiting(2, "busy")
    happened = [no_answer, busy, no_answer, Progress(1, 1000), no_answer]

    assert [line.split()[1] for line in told(capsys, *happened)] == [
        "no",
        "busy;",
        "no",
        "no",
    ]


def test_events_of_progress_come_once_a_second(capsys: pytest.CaptureFixture[str]):
    now = 100.0
    shown = JsonLines(lambda: now)
    for step in range(12):
        shown.happened(Progress(step * 250, 3000))
        now += 0.25
    shown.happened(Waiting(1.234, "busy"))
    shown.happened(Progress(500, 3000))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [event.get("sent") for event in events] == [0, 1000, 2000, None, 500]
    assert [event.get("bytes_per_second") for event in events] == [
        None,
        1000,
        1000,
        None,
        None,
    ]
    assert events[3] == {"event": "waiting", "seconds": 1.2, "reason": "busy"}


def test_rate_is_never_negative(capsys: pytest.CaptureFixture[str]):
    now = 100.0
    shown = JsonLines(lambda: now)
    shown.happened(Progress(1000, 3000))
    now += 2
    shown.happened(Progress(500, 3000))

    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["bytes_per_second"] == 0


def test_failure_is_told_to_programs_and_people(capsys: pytest.CaptureFixture[str]):
    shown = JsonLines()
    shown.failed(UploadFailed("busy", status=503, resumable=True))
    shown.cancelled("http://h/x")
    out, err = capsys.readouterr()

    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "event": "failed",
            "reason": "busy",
            "status": 503,
            "code": None,
            "resumable": True,
        },
        {"event": "cancelled", "url": "http://h/x"},
    ]
    assert err == "bitsd: gave up: busy; the same command goes on\n"
