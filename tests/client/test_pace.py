"""How large fragments are."""

import pytest

from bitsd.client.pace import MIB, Pace


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
