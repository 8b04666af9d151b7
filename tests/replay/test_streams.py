"""Segments to streams."""

import shutil
import subprocess
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from captured import CLIENT, SERVER, START, Talk, write
from dpkt import tcp
from hypothesis import given
from hypothesis import strategies as st
from store_kit import cannot_run

from bitsd.replay import streams
from bitsd.replay.segments import Segment
from bitsd.replay.streams import Connections, Ends, How, Listener, Side

#: What a gap is shown as.
HOLE = b"?"


@dataclass
class Heard:
    """A listener that remembers."""

    ends: Ends
    begun: bool
    said: dict[Side, bytearray] = field(
        default_factory=lambda: {side: bytearray() for side in Side}
    )
    ended: list[tuple[str, How]] = field(default_factory=list)

    def octets(self, side: Side, octets: bytes, time: float) -> None:
        assert octets
        assert time >= START
        self.said[side] += octets

    def gap(self, side: Side, length: int, time: float) -> None:
        assert length > 0
        self.said[side] += HOLE * length

    def end(self, side: Side, how: How, time: float) -> None:
        assert side.value not in dict(self.ended)
        self.ended.append((side.value, how))

    @property
    def both(self) -> tuple[bytes, bytes]:
        return bytes(self.said[Side.CLIENT]), bytes(self.said[Side.SERVER])


def hear(*segments: Segment) -> list[Heard]:
    found: list[Heard] = []

    def listen(ends: Ends, first: Segment) -> Listener:
        found.append(Heard(ends, first.syn))
        return found[-1]

    connections = Connections(listen)
    for segment in segments:
        connections.add(segment)
    connections.finish()
    return found


def heard(talk: Talk) -> Heard:
    (only,) = hear(*talk.segments)
    return only


def test_both_directions_are_heard_to_their_ends():
    found = heard(Talk().open().ask(b"ping").answer(b"po", b"ng").close())

    assert found.ends == (CLIENT, SERVER)
    assert found.both == (b"ping", b"pong")
    assert found.ended == [("client", How.FIN), ("server", How.FIN)]


@pytest.mark.parametrize("first", [2**32 - 3, 2**32 - 1, 2**31 - 2])
def test_sequence_numbers_begin_anew(first: int):
    found = heard(Talk(first=(first, first)).open().ask(b"abc", b"def").answer(b"ghi"))

    assert found.both == (b"abcdef", b"ghi")
    assert found.ended == [("client", How.CAPTURE), ("server", How.CAPTURE)]


def test_a_reset_ends_both_directions():
    found = heard(Talk().open().ask(b"abc").reset(1).ask(b"def"))

    assert found.both == (b"abc", b"")
    assert found.ended == [("server", How.RST), ("client", How.RST)]


def test_a_reset_after_a_fin_does_not_undo_it():
    talk = Talk().open().ask(b"abc").add(0, tcp.TH_FIN | tcp.TH_ACK).reset(1)

    assert heard(talk).ended == [("client", How.FIN), ("server", How.RST)]


def test_a_reset_tells_a_fin_whose_bytes_are_missing():
    talk = Talk().open().lose(0, 2).add(0, tcp.TH_FIN | tcp.TH_ACK).reset(1)
    found = heard(talk)

    assert found.both == (b"??", b"")
    assert found.ended == [("server", How.RST), ("client", How.FIN)]


def test_missing_bytes_are_a_gap():
    found = heard(Talk().open().ask(b"abc").lose(0, 2).ask(b"fgh").close())

    assert found.both == (b"abc??fgh", b"")


def test_a_segment_that_was_not_captured_whole_leaves_a_gap():
    talk = Talk().open()
    whole = talk.segment(0, tcp.TH_ACK, b"abcdef")
    talk.segments.append(whole._replace(payload=b"abc"))
    talk.lose(0, 6).ask(b"ghi")

    assert heard(talk).both == (b"abc???ghi", b"")


def test_bytes_that_were_acknowledged_and_not_seen_are_a_gap():
    found = heard(Talk().open().ask(b"abc").lose(0, 4).answer(b"x").reset(1))

    assert found.both == (b"abc????", b"x")


def test_a_fin_waits_for_what_is_missing_before_it():
    talk = Talk().open()
    late = talk.segment(0, tcp.TH_ACK, b"abc")
    talk.lose(0, 3).close()
    talk.segments.append(late)

    assert heard(talk).both == (b"abc", b"")


def test_of_bytes_that_came_twice_the_first_count():
    talk = Talk().open().ask(b"abcdef")
    again = talk.segments[-1]
    talk.segments.append(again._replace(payload=b"ABCDEFG", length=7))

    assert heard(talk).both == (b"abcdefG", b"")


def test_of_bytes_that_wait_the_first_count():
    talk = Talk().open().ask(b"a")
    base = talk.segments[-1]
    for start, octets in ((3, b"de"), (7, b"hi"), (2, b"CDEFGHIJ"), (1, b"b")):
        later = base._replace(sequence=base.sequence + start, payload=octets)
        talk.segments.append(later._replace(length=len(octets)))

    assert heard(talk).both == (b"abCdeFGhiJ", b"")


def test_a_connection_may_have_begun_before_the_capture():
    found = heard(Talk().lose(0, 100).lose(1, 50).ask(b"abc").answer(b"def").close())

    assert not found.begun
    assert found.ends == (CLIENT, SERVER)
    assert found.both == (b"abc", b"def")


@pytest.mark.parametrize("octets", [b"HTTP/1.1 200 OK\r\n", b"whatever"])
def test_a_server_is_known_by_what_it_says_or_by_its_port(octets: bytes):
    assert heard(Talk().answer(octets).ask(b"x")).ends == (CLIENT, SERVER)


def test_the_end_of_an_earlier_connection_is_none():
    assert hear(*Talk().lose(0, 9).close().segments) == []


def test_a_second_syn_of_a_connection_is_the_same():
    talk = Talk().open()
    talk.segments.insert(0, talk.segments[0])

    assert heard(talk.ask(b"abc")).both == (b"abc", b"")


def test_a_connection_is_known_by_the_answer_to_its_syn():
    talk = Talk().open().ask(b"abc").answer(b"def")

    (found,) = hear(*talk.segments[1:])
    assert (found.begun, found.ends, found.both) == (
        True,
        (CLIENT, SERVER),
        (b"abc", b"def"),
    )


def test_a_port_is_used_again():
    first = Talk().open().ask(b"one").close()
    second = Talk(first=(77_000, 88_000), time=first.time).open().ask(b"two")

    found = hear(*first.segments, *second.segments)
    assert [each.both[0] for each in found] == [b"one", b"two"]
    assert [each.begun for each in found] == [True, True]


def test_a_port_is_used_again_though_the_first_connection_did_not_end():
    first = Talk().open().ask(b"one")
    second = Talk(first=(77_000, 88_000), time=first.time).open().ask(b"two")

    found = hear(*first.segments, *second.segments)
    assert [each.both[0] for each in found] == [b"one", b"two"]
    assert found[0].ended[0] == ("client", How.CAPTURE)


@pytest.mark.parametrize("first", [5_000_000, 2**31 + 5000])
def test_a_port_is_used_again_and_its_syn_is_missing(first: int):
    one = Talk().open().ask(b"one").close()
    two = Talk(first=(first, 9_000_000), time=one.time).open().ask(b"two")

    found = hear(*one.segments, *two.segments[3:])
    assert [each.both[0] for each in found] == [b"one", b"two"]


def test_what_is_sent_once_more_after_a_fin_is_not_new():
    talk = Talk().open().ask(b"one")
    again = talk.segments[-1]
    talk.close().segments.append(again)

    assert heard(talk).both == (b"one", b"")


def test_connections_of_the_same_time_are_kept_apart():
    one = Talk().open().ask(b"one").answer(b"ONE")
    two = Talk(client=CLIENT._replace(port=50001)).open().ask(b"two").answer(b"TWO")
    both = zip(one.segments, two.segments, strict=True)
    mixed = [each for pair in both for each in pair]

    assert [each.both for each in hear(*mixed)] == [(b"one", b"ONE"), (b"two", b"TWO")]


def waiting(count: int, *, acknowledged: bool) -> Heard:
    """A byte is missing, and so many others come."""
    talk = Talk().open().lose(0, 1).ask(b"x")
    if acknowledged:
        talk.answer(b"y")
    for _ in range(count // 65536):
        talk.ask(bytes(65536))
    found: list[Heard] = []

    def listen(ends: Ends, first: Segment) -> Listener:
        found.append(Heard(ends, first.syn))
        return found[-1]

    connections = Connections(listen)
    for segment in talk.segments:
        connections.add(segment)
    return found[0]


@pytest.mark.parametrize(
    ("limit", "acknowledged"),
    [
        (streams.MAXIMUM_WAITING_BYTES, False),
        (streams.MAXIMUM_WAITING_ACKNOWLEDGED_BYTES, True),
    ],
    ids=["not acknowledged", "acknowledged"],
)
def test_bytes_wait_for_so_many_and_no_longer(limit: int, *, acknowledged: bool):
    less = waiting(limit - 65536, acknowledged=acknowledged)
    more = waiting(limit + 65536, acknowledged=acknowledged)

    assert less.both[0] == b""
    assert more.both[0].startswith(b"?x\0")
    assert len(more.both[0]) >= limit


# Any way in which the segments of a stream may come.


@st.composite
def torn(draw: st.DrawFn) -> tuple[bytes, int, list[tuple[int, bytes]]]:
    """A stream, its first sequence number, and pieces that cover it in any order."""
    stream = draw(st.binary(min_size=1, max_size=60))
    edges = st.integers(0, len(stream))
    cuts = sorted({0, len(stream), *draw(st.lists(edges, max_size=10))})
    pieces = list(pairwise(cuts))
    for _ in range(draw(st.integers(0, 8))):
        start, end = sorted((draw(edges), draw(edges)))
        pieces.append((start, end))
    order = draw(st.permutations(pieces))
    near = st.integers(2**32 - 80, 2**32 - 1)
    first = draw(near | st.integers(0, 2**32 - 1))
    return stream, first, [(start, stream[start:end]) for start, end in order]


def carried(first: int, pieces: list[tuple[int, bytes]]) -> Talk:
    """A connection whose client sends these."""
    talk = Talk(first=(first, 7)).open()
    base = talk.segment(0, tcp.TH_ACK)
    for start, octets in pieces:
        sequence = (base.sequence + start) % 2**32
        segment = base._replace(sequence=sequence, payload=octets, length=len(octets))
        talk.segments.append(segment)
    return talk


@given(torn())
def test_a_torn_stream_comes_back_whole(torn: tuple[bytes, int, list]):
    stream, first, pieces = torn

    assert heard(carried(first, pieces)).both == (stream, b"")


@given(torn(), st.data())
def test_what_no_piece_covers_is_told_as_missing(
    torn: tuple[bytes, int, list], data: st.DataObject
):
    stream, first, pieces = torn
    kept = [piece for piece in pieces if data.draw(st.booleans())]
    shown = bytearray(HOLE * len(stream))
    for start, octets in kept:
        shown[start : start + len(octets)] = octets
    end = max((start + len(octets) for start, octets in kept if octets), default=0)

    assert heard(carried(first, kept)).both == (bytes(shown[:end]), b"")


@given(st.lists(st.tuples(st.integers(0, 30), st.binary(min_size=1, max_size=8))))
def test_the_first_bytes_of_every_place_count(pieces: list[tuple[int, bytes]]):
    first: dict[int, int] = {}
    for start, octets in pieces:
        for place, octet in enumerate(octets, start):
            first.setdefault(place, octet)
    shown = bytes(
        first.get(place, HOLE[0]) for place in range(max(first, default=-1) + 1)
    )

    assert heard(carried(1, pieces)).both == (shown, b"")


def test_tcpflow_finds_the_same(tmp_path: Path):
    if shutil.which("tcpflow") is None:
        cannot_run("tcpflow is not installed")
    pieces = [(0, b"abc"), (6, b"ghi"), (3, b"def"), (2, b"cde"), (9, b"jkl")]
    talk = carried(2**32 - 5, pieces).lose(0, 12).close()
    capture = write(tmp_path / "x.pcap", talk)
    command = ["tcpflow", "-r", capture, "-o", tmp_path / "out", "-a"]
    subprocess.run(command, check=True, capture_output=True)

    names = [path for path in (tmp_path / "out").iterdir() if ".50000-" in path.name]
    assert [path.read_bytes() for path in names] == [heard(talk).both[0]]
