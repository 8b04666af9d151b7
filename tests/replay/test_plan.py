"""A recording to steps."""

from pathlib import Path

import pytest
from captured import CLIENT, Talk, answer, request, write

from bitsd.replay.plan import End, Plan, Receive, Rest, Send, planned
from bitsd.replay.recording import read

GET = request("GET", "/get")
PUT = request("PUT", "/put", "Content-Length: 5", body=b"hello")
OK = answer(200, "Content-Length: 3", body=b"abc")


@pytest.fixture
def plan(tmp_path: Path):
    def plan(*talks: Talk, cuts: bool = False) -> Plan:
        return planned(read(write(tmp_path / "x.pcap", *talks)), cuts=cuts)

    return plan


def steps(plan: Plan) -> list[str]:
    """Each step in two words."""
    found = []
    for step in plan.steps:
        match step:
            case Send(_, exchange, _):
                found.append(f"send {exchange.number}")
            case Receive(_, exchange, captured):
                what = "receive" if captured else "await"
                found.append(f"{what} {exchange.number}")
            case Rest(_, connection, octets):
                found.append(f"rest {connection.number} {octets!r}")
            case End(_, connection, ending):
                found.append(f"{ending.name.lower()} {connection.number}")
    return found


CLEAN = Talk().open().ask(GET).answer(OK).ask(GET).answer(OK)


@pytest.mark.parametrize("cuts", [False, True])
# pytest gives it by its name.
def test_answers_are_waited_for_before_the_next_request(plan, cuts: bool):  # noqa: FBT001
    assert steps(plan(CLEAN, cuts=cuts)) == [
        "send 1",
        "receive 1",
        "send 2",
        "receive 2",
        "close 1",
    ]


def test_pipelined_requests_stay_so(plan):
    talk = Talk().open().ask(GET, GET).answer(OK + OK)

    assert steps(plan(talk))[:4] == ["send 1", "send 2", "receive 1", "receive 2"]


def test_the_order_is_kept_over_connections(plan):
    one = Talk().open().ask(GET)
    two = Talk(client=CLIENT._replace(port=50001), time=one.time).open()
    two.ask(GET).answer(OK).close()
    one.time = two.time
    one.answer(OK)

    assert steps(plan(one, two)) == [
        "send 1",
        "send 2",
        "receive 2",
        "close 2",
        "receive 1",
        "close 1",
    ]


def test_what_broke_off_is_left_out(plan):
    talk = Talk().open().ask(PUT[:-2]).reset()

    assert plan(talk).notes == ["exchange 1: its request broke off: not sent"]
    assert steps(plan(talk)) == ["close 1"]
    assert plan(talk, cuts=True).notes == []
    assert steps(plan(talk, cuts=True)) == ["send 1", "reset 1"]


def test_what_the_capture_broke_off_is_left_out_always(plan):
    talk = Talk().open().ask(PUT[:-2])

    assert steps(plan(talk, cuts=True)) == ["close 1"]


def test_a_request_that_is_answered_before_its_end_is_sent(plan):
    talk = Talk().open().ask(PUT[:-2]).answer(OK).close(first=1)

    assert steps(plan(talk)) == ["send 1", "receive 1", "close 1"]
    assert steps(plan(talk, cuts=True)) == ["send 1", "receive 1", "close 1"]


def test_an_answer_that_nobody_waited_for_is_waited_for(plan):
    talk = Talk().open().ask(GET).reset()

    assert steps(plan(talk)) == ["send 1", "await 1", "close 1"]
    assert steps(plan(talk, cuts=True)) == ["send 1", "reset 1"]


def test_an_end_may_come_before_the_answer(plan):
    talk = Talk().open().ask(GET).add(0, 0x11).answer(OK).add(1, 0x11)

    assert steps(plan(talk, cuts=True)) == ["send 1", "half 1", "receive 1", "close 1"]
    assert steps(plan(talk)) == ["send 1", "receive 1", "close 1"]


def test_half_a_head_is_sent_where_a_connection_broke(plan):
    talk = Talk().open().ask(GET).answer(OK).ask(b"GET /in").reset()

    assert steps(plan(talk))[2:] == ["close 1"]
    assert steps(plan(talk, cuts=True))[2:] == ["rest 1 b'GET /in'", "reset 1"]


def test_what_is_not_captured_is_told(plan):
    one = Talk().open().ask(PUT[:-4]).lose(0, 3).ask(PUT[-1:]).answer(OK)
    two = Talk(client=CLIENT._replace(port=50001), time=one.time).open()
    two.ask(b"\x16\x03\x01")
    three = Talk(client=CLIENT._replace(port=50002), time=two.time).open()
    three.lose(0, 9).answer(OK)
    found = plan(one, two, three)

    assert found.notes == [
        "exchange 1: 3 bytes of its body are not captured: sent as zeros",
        "exchange 2: its request is not captured: not sent",
        "connection 2 is TLS: not sent",
    ]
    assert steps(found) == ["send 1", "receive 1", "close 1", "close 3"]
