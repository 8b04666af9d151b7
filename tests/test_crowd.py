"""Who counts as one client, and how much one may ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.crowd import MAXIMUM_ADDRESSES, Crowd, Pace, counted

ALICE, BOB = "192.0.2.1", "192.0.2.2"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", None),
        ("127.8.9.10", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
    ],
)
def test_client_is_an_address_or_a_network_of_another_machine(address, client):
    assert counted(address) == client


def entered(crowd: Crowd, client: str | None) -> bool:
    if not crowd.has_room(client):
        return False
    crowd.enter(client)
    return True


def test_address_has_so_many_connections_and_no_more():
    crowd = Crowd(2)

    assert [entered(crowd, ALICE) for _ in range(3)] == [True, True, False]
    assert entered(crowd, BOB)
    crowd.leave(ALICE)
    assert [entered(crowd, ALICE) for _ in range(2)] == [True, False]


def test_what_is_not_counted_has_any_number():
    crowd = Crowd(1)

    assert all(entered(crowd, None) for _ in range(10))
    crowd.leave(None)


def test_address_without_connections_takes_no_memory():
    crowd = Crowd(2)
    crowd.enter(ALICE)
    crowd.leave(ALICE)

    assert not crowd._counts


def test_burst_of_a_second_is_let_through_and_then_the_rate():
    pace = Pace(3)

    assert [pace.admit(ALICE, 100.0) for _ in range(4)] == [True, True, True, False]
    assert [pace.admit(ALICE, 100.4) for _ in range(2)] == [True, False]
    assert [pace.admit(ALICE, 200.0) for _ in range(4)] == [True, True, True, False]


def test_each_address_has_its_own_pace():
    pace = Pace(1)

    assert [pace.admit(who, 1.0) for who in (ALICE, BOB, ALICE)] == [True, True, False]


def test_what_is_not_counted_has_no_pace():
    pace = Pace(1)

    assert all(pace.admit(None, 1.0) for _ in range(10))


def test_no_more_addresses_are_remembered_than_there_is_room_for():
    pace = Pace(1)
    for number in range(MAXIMUM_ADDRESSES + 10):
        pace.admit(str(number), 1.0)

    assert len(pace._left) == MAXIMUM_ADDRESSES
    assert not pace.admit(str(MAXIMUM_ADDRESSES + 9), 1.0)
    assert pace.admit("0", 1.0)


@given(
    st.integers(1, 50),
    st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=300),
)
def test_no_more_than_the_rate_is_let_through(rate: int, pauses: list[float]):
    pace, now, admitted = Pace(rate), 0.0, 0
    for pause in pauses:
        now += pause
        admitted += pace.admit(ALICE, now)

    assert admitted <= rate * (now + 1) + 1e-6
