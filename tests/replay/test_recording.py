"""Captures to exchanges."""

from pathlib import Path

import pytest
from captured import CLIENT, RAW, Talk, answer, packet, pcap_of, request, write
from dpkt import tcp

from bitsd.replay.recording import Exchange, Recording, read
from bitsd.replay.segments import Unread
from bitsd.replay.streams import How, Side

GET = request("GET", "/get")
HEAD = request("HEAD", "/head")


def ok(number: int, body: bytes = b"") -> bytes:
    return answer(200, f"X: {number}", f"Content-Length: {len(body)}", body=body)


@pytest.fixture
def recorded(tmp_path: Path):
    def recorded(*talks: Talk) -> Recording:
        return read(write(tmp_path / "x.pcap", *talks))

    return recorded


def shown(exchanges: list[Exchange]) -> list[tuple[str | None, str | None]]:
    return [
        (
            each.request and each.request.target,
            each.answer and each.answer.get("x"),
        )
        for each in exchanges
    ]


def test_requests_are_answered_in_order(recorded):
    talk = Talk().open().ask(GET).answer(ok(1)).ask(HEAD).answer(ok(2)).close()
    found = recorded(talk)

    assert shown(found.exchanges) == [("/get", "1"), ("/head", "2")]
    assert [each.number for each in found.exchanges] == [1, 2]
    assert found.packets == 10
    assert found.damage is None
    (connection,) = found.connections
    assert connection.begun
    assert str(connection.client) == "192.0.2.1:50000"
    assert connection.ends[0][:2] == (Side.CLIENT, How.FIN)


def test_requests_may_be_sent_before_answers_come(recorded):
    head = answer(200, "X: 2", "Content-Length: 99")
    talk = Talk().open().ask(GET + HEAD + GET).answer(ok(1) + head, ok(3, b"abc"))

    assert shown(recorded(talk).exchanges) == [
        ("/get", "1"),
        ("/head", "2"),
        ("/get", "3"),
    ]


def test_a_request_may_have_no_answer(recorded):
    talk = Talk().open().ask(GET).answer(ok(1)).ask(HEAD).reset(1)

    assert shown(recorded(talk).exchanges) == [("/get", "1"), ("/head", None)]


def test_a_missing_answer_is_nobody_elses(recorded):
    talk = Talk().open().ask(GET).lose(1, 40).ask(HEAD).answer(ok(2)).ask(GET)
    talk.answer(ok(3))

    assert shown(recorded(talk).exchanges) == [
        ("/get", None),
        ("/head", "2"),
        ("/get", "3"),
    ]


def test_a_missing_request_takes_no_other_answer(recorded):
    talk = Talk().open().ask(GET).answer(ok(1)).lose(0, 50).answer(ok(2))
    talk.ask(HEAD).answer(ok(3))

    assert shown(recorded(talk).exchanges) == [
        ("/get", "1"),
        (None, "2"),
        ("/head", "3"),
    ]
    assert recorded(talk).connections[0].missing == {Side.CLIENT: 50}


def test_exchanges_of_all_connections_are_in_the_order_of_time(recorded):
    one = Talk().open().ask(GET)
    two = Talk(client=CLIENT._replace(port=50001), time=one.time).open().ask(HEAD)
    two.answer(ok(2))
    one.time = two.time
    one.answer(ok(1)).ask(GET)

    found = recorded(one, two)
    assert shown(found.exchanges) == [("/get", "1"), ("/head", "2"), ("/get", None)]
    assert [each.connection.number for each in found.exchanges] == [1, 2, 1]


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"\x16\x03\x01\x02\x00" + GET, "TLS"),
        (b"\x17\x03\x03\x02\x00" + GET, "TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
    ],
)
def test_what_is_no_http_is_named(recorded, octets: bytes, name: str):
    found = recorded(Talk().open().ask(octets).answer(octets))

    assert found.connections[0].unreadable == name
    assert found.exchanges == []


def test_a_connection_may_carry_nothing(recorded):
    assert recorded(Talk().open().close()).connections[0].unreadable == "nothing"


def test_a_connection_of_nothing_but_gaps_is_no_http(recorded):
    talk = Talk().open().lose(0, 50).close()

    assert recorded(talk).connections[0].unreadable == "no HTTP"


def test_packets_that_are_not_read_are_counted(tmp_path: Path):
    segment = Talk().segment(0, tcp.TH_ACK, GET)
    octets = [packet(segment), b"", packet(segment)[:30]]
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap_of([(1.0, each) for each in octets], RAW)[:-2])
    found = read(path)

    assert found.packets == 3
    assert found.unread == {Unread.OTHER: 1, Unread.BROKEN: 1}
    assert found.damage == "the file ends inside a packet"
    assert shown(found.exchanges) == [("/get", None)]
    assert found.started == 1.0


def test_an_empty_capture_shows_nothing(tmp_path: Path):
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap_of([]))

    assert (read(path).exchanges, read(path).started) == ([], 0.0)
