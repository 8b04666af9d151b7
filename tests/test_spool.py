"""The room that unfinished uploads take up."""

from hypothesis import given
from hypothesis import strategies as st

from bitsd.owners import Claim, Count, Discount, Full, Table, Tables
from bitsd.protocol.wire import SessionId
from bitsd.spool import Spool

A, B, C = (SessionId(f"{{{each}}}") for each in "ABC")


def test_uploads_are_let_in_while_there_is_room():
    spool = Spool(10)

    assert [spool.claim(A, 6), spool.claim(B, 5), spool.claim(C, 4)] == [
        True,
        False,
        True,
    ]
    assert spool.some(9) == (A, C)


def test_upload_that_asks_again_is_let_in_once():
    spool = Spool(10)

    assert [spool.claim(A, 6) for _ in range(3)] == [True] * 3
    assert spool.claim(B, 4)


def test_finished_upload_makes_room():
    spool = Spool(10)
    spool.claim(A, 10)

    assert spool.claim(A, 0)
    assert spool.claim(B, 10)
    spool.free(B)
    spool.free(B)
    assert spool.claim(C, 10)


def test_what_was_there_before_is_counted_and_may_be_over_the_limit():
    spool = Spool(10)
    spool.count({A: 15, B: 0})
    spool.count({A: 3})

    assert not spool.claim(C, 1)
    assert spool.claim(A, 12)
    assert not spool.claim(A, 13)


def test_without_a_limit_everything_has_room():
    assert Spool(None).claim(A, 2**63)


claims = st.tuples(st.sampled_from([A, B, C]), st.integers(0, 20))


@given(st.lists(claims))
def test_what_is_let_in_never_comes_to_more_than_the_limit(asked):
    spool, held = Spool(30), {}
    for named, size in asked:
        if spool.claim(named, size):
            held[named] = size

        assert sum(held.values()) <= 30


def test_directory_has_room_and_says_who_takes_it_up():
    tables = Tables([Table(9, 10)])
    answers = [
        tables.answer(Count(0, {A: "user alice"}, {A: 8}), 1),
        tables.answer(Claim(0, B, 2), 1),
        tables.answer(Claim(0, C, 1), 2),
        tables.answer(Discount(0, [A]), 2),
        tables.answer(Claim(0, C, 8), 2),
    ]

    assert answers == [None, None, Full(10, (A, B)), None, None]


def test_all_who_take_up_room_are_told_in_time():
    spool = Spool(None)
    spool.count(dict.fromkeys((A, B, C), 1))

    assert [spool.some(2), spool.some(2)] == [(A, B), (C, A)]
