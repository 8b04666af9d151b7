"""The one table that counts for all processes."""

import pytest
from store_kit import new_session

from bitsd.owners import (
    MAXIMUM_LOOKED_UP,
    MAXIMUM_OWNER,
    Admit,
    Count,
    Discount,
    Full,
    Made,
    Table,
    Tables,
    owner,
)
from bitsd.protocol.wire import SessionId

ALICE, BOB = "user alice", "user bob"


def ids(number: int, start: int = 0) -> list[SessionId]:
    return [SessionId(f"{{{each:08}}}") for each in range(start, start + number)]


A, B, C = ids(3)


def made(table: Table, *named: SessionId, owner: str = ALICE) -> None:
    for each in named:
        assert table.admit(each, owner, 0) is None
        table.made(each)


def test_owner_has_as_many_as_the_limit():
    table = Table(2)
    made(table, A, B)

    assert table.admit(C, ALICE, 0) == Full(2, (A, B))
    assert table.admit(C, BOB, 0) is None


def test_what_is_pending_counts_and_is_not_looked_up():
    table = Table(2)
    table.admit(A, ALICE, 1)
    made(table, B)

    assert table.admit(C, ALICE, 2) == Full(2, (B,))


def test_what_a_dead_process_had_pending_is_looked_up():
    table = Table(2)
    table.admit(A, ALICE, 1)
    table.admit(B, ALICE, 2)
    table.died(1)

    assert table.admit(C, ALICE, 2) == Full(2, (A,))


@pytest.mark.parametrize("times", [1, 2])
def test_session_that_was_discounted_makes_room_for_one(times: int):
    table = Table(2)
    made(table, A, B)
    for _ in range(times):
        table.discount([A])
    made(table, C)

    assert table.admit(A, ALICE, 0) == Full(2, (B, C))


def test_session_that_is_counted_again_counts_once():
    table = Table(2)
    table.count({A: ALICE})
    table.count({A: ALICE, B: BOB})
    made(table, C)

    assert table.admit(B, ALICE, 0) == Full(2, (A, C))


def test_counting_goes_over_the_limit():
    table = Table(1)
    table.count(dict.fromkeys((A, B), ALICE))
    table.discount([A])

    assert table.admit(C, ALICE, 0) == Full(1, (B,))


def test_owner_without_sessions_takes_no_memory():
    table = Table(1)
    made(table, A)
    table.discount([A])

    assert not table._owners
    assert not table._sessions
    assert not table._pending


def test_all_sessions_are_looked_up_in_time():
    number = MAXIMUM_LOOKED_UP * 2
    table = Table(number)
    table.count(dict.fromkeys(ids(number), ALICE))
    looked_up = [table.admit(SessionId("{x}"), ALICE, 0).made for _ in range(2)]

    assert [*looked_up[0], *looked_up[1]] == ids(number)


def test_each_directory_has_its_table():
    tables = Tables([Table(1), Table(1)])
    answers = [
        tables.answer(Admit(0, A, ALICE), 1),
        tables.answer(Admit(1, B, ALICE), 1),
        tables.answer(Made(0, A), 1),
        tables.answer(Admit(0, C, ALICE), 1),
        tables.answer(Discount(0, [A]), 1),
        tables.answer(Count(0, {C: ALICE}), 1),
        tables.answer(Admit(0, A, ALICE), 1),
    ]
    tables.died(1)

    assert answers == [None, None, None, Full(1, (A,)), None, None, Full(1, (C,))]
    assert tables.answer(Admit(1, A, ALICE), 1) == Full(1, (B,))


def test_directory_that_is_not_there_is_an_error():
    with pytest.raises(IndexError):
        Tables([Table(1)]).answer(Made(1, A), 1)


def test_name_of_any_length_makes_a_short_owner():
    assert owner(new_session(user="alice")) == ALICE
    assert owner(new_session()) == "address 192.0.2.1"
    assert len(owner(new_session(user="a" * 1000))) == MAXIMUM_OWNER
    assert len(owner(new_session(address="a" * 1000))) == MAXIMUM_OWNER
