"""Which bytes are there, against a set of numbers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.client.spans import (
    LARGEST_PIECE,
    SMALLEST_PIECE,
    before,
    count,
    joined,
    missing,
    pieces,
)
from bitsd.ranges import ByteRange

MIB = 1024 * 1024

ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(
    lambda ends: ByteRange(min(ends), max(ends))
)
held = st.lists(ranges, max_size=8)


def numbers(spans):
    return {number for span in spans for number in range(span.first, span.last + 1)}


def all_joined(spans):
    found = ()
    for span in spans:
        found = joined(found, span)
    return found


@given(held)
def test_what_is_joined_is_held_and_as_short_as_can_be(spans):
    found = all_joined(spans)

    assert numbers(found) == numbers(spans)
    assert count(found) == len(numbers(spans))
    assert all(one.last + 1 < two.first for one, two in pairwise(found))


@given(held, ranges)
def test_missing_is_what_is_wanted_and_not_held(spans, wanted):
    found = missing(all_joined(spans), wanted)

    assert numbers(found) == numbers([wanted]) - numbers(spans)
    assert count(found) == len(numbers(found))


@given(held, st.integers(-1, 61))
def test_before_keeps_what_is_below(spans, end):
    kept = before(all_joined(spans), end)

    assert numbers(kept) == {number for number in numbers(spans) if number < end}


@pytest.mark.parametrize("connections", [1, 2, 7])
@given(wanted=st.lists(st.integers(1, 300 * MIB), min_size=1, max_size=3))
def test_pieces_are_what_is_wanted_in_order(connections, wanted):
    spans = [
        ByteRange(number * 2**40, number * 2**40 + length - 1)
        for number, length in enumerate(wanted)
    ]
    found = pieces(spans, connections)

    assert all_joined(found) == tuple(spans)
    assert found == sorted(found)
    assert connections == 1 or all(piece.length <= LARGEST_PIECE for piece in found)


@pytest.mark.parametrize(
    ("length", "connections", "expected"),
    [
        (10 * 2**30, 1, 10 * 2**30),
        (10 * 2**30, 4, LARGEST_PIECE),
        (10 * MIB, 4, SMALLEST_PIECE),
        (320 * MIB, 4, 20 * MIB),
        (100, 4, 100),
    ],
)
def test_piece_is_as_large_as_serves_all_connections(length, connections, expected):
    assert pieces([ByteRange(0, length - 1)], connections)[0].length == expected
