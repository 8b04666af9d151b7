"""How large fragments are, and how long is waited."""

from dataclasses import replace

import pytest

from bitsd.client.pace import MIB, Pace, Patience


@pytest.mark.parametrize(
    ("size", "length", "seconds", "expected"),
    [
        (1, 1, 0.1, 2),  # doubled at most
        (8, 8, 10, 4),  # halved
        (8, 8, 100, 4),  # halved at most
        (8, 8, 4, 10),
        (64, 64, 1, 64),  # no more than that
        (1, 1, 60, 1),  # nor less
        (8, 7, 60, 8),  # the last one was short
        (8, 8, 0, 8),  # a clock that does not tick
    ],
)
def test_fragments_take_about_five_seconds(
    size: int, length: int, seconds: float, expected: int
):
    pace = Pace(size=size * MIB).measured(length * MIB, seconds)

    assert pace == Pace(size=expected * MIB)


def test_fixed_size_follows_no_speed():
    pace = Pace.fixed(1000)

    assert pace.measured(1000, 0.001) == pace.measured(1000, 1000.0) == pace


@pytest.mark.parametrize(
    ("length", "expected"),
    [(8 * MIB, 4 * MIB), (MIB, MIB // 2), (10_241, 5_120), (6_000, 5_120)],
)
def test_fragment_that_was_too_large_is_halved_down_to_5_kb(length, expected):
    pace = Pace(size=length).shrunk(length)

    assert pace is not None
    assert (pace.size, pace.most) == (expected, expected)
    assert pace.measured(expected, 0.001) == pace


def test_there_is_nothing_smaller_than_5_kb():
    assert Pace(size=5_120).shrunk(5_120) is None


def test_waits_are_doubled_up_to_five_minutes():
    patience = Patience()
    waits = []
    for _ in range(12):
        patience = patience.tried(0.0)
        waits.append(patience.wait_seconds(0.5))

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_waits_differ_from_client_to_client():
    patience = Patience().tried(0.0)

    assert (patience.wait_seconds(0.0), patience.wait_seconds(1.0)) == (0.75, 1.25)


def test_progress_starts_the_time_for_giving_up_anew():
    patience = Patience(retry_seconds=10, progressed_at=5)

    assert not patience.ends(15)
    assert patience.ends(15.1)
    assert not patience.tried(9).rewarded(9).ends(19)
    assert patience.tried(9).rewarded(9).failures == 0


def test_node_is_gone_once_it_failed_for_the_time_that_it_said():
    patience = Patience().tried(100.0).tried(105.0)

    assert not patience.node_is_gone(109.9, 10)
    assert patience.node_is_gone(110.0, 10)
    assert not patience.node_is_gone(110.0, None)
    assert not replace(patience, node_fails_since=None).node_is_gone(110.0, 10)
