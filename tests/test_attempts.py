"""How long who guesses has to wait, and who does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.attempts import FORGOTTEN, MAXIMUM_ENTRIES, Attempts

HERE, THERE = "192.0.2.1", "198.51.100.7"


def fail(attempts: Attempts, times: int, address: str, name: str, now: float) -> None:
    for _ in range(times):
        attempts.failed(address, name, now)


def fail_as_many(attempts: Attempts, times: int, address: str, now: float) -> None:
    """Fail under names that are different each time."""
    for number in range(times):
        attempts.failed(address, f"name{number}", now)


def fail_from_many(attempts: Attempts, times: int, name: str, now: float) -> None:
    """Fail from addresses that are different each time."""
    for number in range(times):
        attempts.failed(f"203.0.113.{number}", name, now)


@pytest.mark.parametrize(
    ("failures", "wait"),
    [
        (0, 0),
        (4, 0),
        (5, 1),
        (6, 2),
        (7, 4),
        (8, 8),
        (9, 16),
        (10, 32),
        (11, 60),
        (5000, 60),
    ],
)
def test_name_from_an_address_waits_after_five_failures(failures, wait):
    attempts = Attempts()
    fail(attempts, failures, HERE, "alice", 100.0)

    assert attempts.wait(HERE, "alice", 100.0) == wait


@pytest.mark.parametrize(
    ("failures", "wait"), [(19, 0), (20, 1), (21, 2), (26, 60), (5000, 60)]
)
def test_address_waits_after_twenty_failures(failures, wait):
    attempts = Attempts()
    fail_as_many(attempts, failures, HERE, 100.0)

    assert attempts.wait(HERE, "alice", 100.0) == wait
    assert attempts.wait(THERE, "name0", 100.0) == 0


@pytest.mark.parametrize(
    ("failures", "wait"), [(99, 0), (100, 1), (101, 2), (102, 4), (103, 5), (200, 5)]
)
def test_name_waits_after_a_hundred_failures_from_anywhere(failures, wait):
    attempts = Attempts()
    fail_from_many(attempts, failures, "alice", 100.0)

    assert attempts.wait(HERE, "alice", 100.0) == wait
    assert attempts.wait(HERE, "bob", 100.0) == 0


@pytest.mark.parametrize("other", ["ALICE", "Alice"])
def test_case_of_letters_gives_no_further_try(other):
    attempts = Attempts()
    fail(attempts, 5, HERE, "alice", 100.0)

    assert attempts.wait(HERE, other, 100.0) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "::1", True),
        ("", "", True),
        ("", "127.0.0.1", False),
    ],
)
def test_addresses_count_as_they_do_elsewhere_and_this_machine_too(one, other, same):
    attempts = Attempts()
    fail(attempts, 5, one, "alice", 100.0)

    assert attempts.wait(other, "alice", 100.0) == same


def test_try_is_taken_once_the_wait_is_over():
    attempts = Attempts()
    fail(attempts, 6, HERE, "alice", 100.0)

    waits = [attempts.wait(HERE, "alice", 100.0 + s) for s in (0.5, 1.75, 2.0)]
    assert waits == [1.5, 0.25, 0]


@pytest.mark.parametrize("kind", ["pair", "address", "name"])
def test_many_passwords_at_once_are_one_try(kind):
    attempts = Attempts()
    if kind == "pair":
        fail(attempts, 5, HERE, "alice", 100.0)
    elif kind == "address":
        fail_as_many(attempts, 20, HERE, 100.0)
    else:
        fail_from_many(attempts, 100, "alice", 100.0)

    waits = [attempts.wait(HERE, "alice", 101.0) for _ in range(3)]
    assert waits == [0, 1, 1]


def test_free_tries_may_be_made_at_once():
    attempts = Attempts()
    fail(attempts, 4, HERE, "alice", 100.0)

    assert [attempts.wait(HERE, "alice", 100.0) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(("quiet", "wait"), [(FORGOTTEN - 1, 60), (FORGOTTEN, 0)])
def test_failures_are_forgotten_after_a_quiet_quarter_of_an_hour(quiet, wait):
    attempts = Attempts()
    fail(attempts, 10, HERE, "alice", 100.0)
    attempts.failed(HERE, "alice", 100.0 + quiet)

    assert attempts.wait(HERE, "alice", 100.0 + quiet) == wait


def test_success_forgets_what_the_two_failed_and_not_the_address():
    attempts = Attempts()
    fail(attempts, 21, HERE, "alice", 100.0)
    attempts.succeeded(HERE, "alice")

    assert attempts.wait(HERE, "alice", 100.0) == 0
    assert attempts.wait(HERE, "bob", 100.0) == 2


@pytest.mark.parametrize(("times", "wait"), [(4, 0), (5, 1)])
def test_who_signed_in_before_may_fail_as_often_as_others(times, wait):
    attempts = Attempts()
    attempts.succeeded(HERE, "alice")
    fail(attempts, times, HERE, "alice", 100.0)

    assert attempts.wait(HERE, "Alice", 100.0) == wait


def test_user_at_work_is_slowed_by_no_stranger_and_no_neighbour():
    attempts = Attempts()
    attempts.succeeded(HERE, "alice")
    fail_from_many(attempts, 200, "alice", 100.0)
    fail_as_many(attempts, 200, HERE, 100.0)

    assert [attempts.wait(HERE, "alice", 100.0) for _ in range(3)] == [0, 0, 0]
    assert attempts.wait(THERE, "alice", 100.0) == 5
    assert attempts.wait(HERE, "bob", 100.0) == 60


def test_user_at_work_takes_no_try_from_a_neighbour():
    attempts = Attempts()
    attempts.succeeded(HERE, "alice")
    fail_as_many(attempts, 20, HERE, 100.0)
    attempts.wait(HERE, "alice", 101.0)

    assert attempts.wait(HERE, "bob", 101.0) == 0


def test_no_more_is_remembered_than_there_is_room_for():
    attempts = Attempts()
    for number in range(MAXIMUM_ENTRIES + 10):
        address = f"10.0.{number >> 8}.{number & 255}"
        fail(attempts, 5, address, f"name{number}", 100.0)
        attempts.succeeded(address, f"user{number}")

    tables = [attempts._of_pair, attempts._of_address, attempts._of_name]
    assert {len(table._tries) for table in tables} == {MAXIMUM_ENTRIES}
    assert len(attempts._signed_in) == MAXIMUM_ENTRIES
    assert attempts.wait("10.0.0.9", "name9", 100.0) == 0
    assert attempts.wait("10.0.0.10", "name10", 100.0) == 1
    assert (HERE, "user9") not in attempts._signed_in


def test_who_is_heard_again_is_remembered_for_longer_than_who_is_not():
    attempts = Attempts()
    names = [f"name{number}" for number in range(MAXIMUM_ENTRIES + 1)]
    for name in [*names[:-1], names[0], names[-1]]:
        attempts.failed(HERE, name, 100.0)
        attempts.succeeded(THERE, name)

    for table in (attempts._of_name._tries, {name for _, name in attempts._signed_in}):
        assert [name in table for name in names[:3]] == [True, False, True]


def test_long_name_takes_no_more_room_than_the_longest_that_is_a_users():
    attempts = Attempts()
    attempts.failed(HERE, "x" * 60_000, 100.0)

    assert [len(name) for name in attempts._of_name._tries] == [300]


NAMES = st.sampled_from(["alice", "ALICE", "bob", "nobody"])
ADDRESSES = st.sampled_from([HERE, THERE, "2001:db8::1", "2001:db8::2", "::1", ""])
PAUSES = st.floats(0, 100)


@given(st.lists(st.tuples(ADDRESSES, NAMES, PAUSES, st.booleans()), max_size=200))
def test_nobody_waits_for_long_and_a_wait_is_never_longer_than_said(tries):
    attempts, now = Attempts(), 0.0
    for address, name, pause, right in tries:
        now += pause
        wait = attempts.wait(address, name, now)
        assert 0 <= wait <= 60
        # A sum of seconds may lack its last bit.
        now += wait + (1e-6 if wait else 0)
        assert not wait or attempts.wait(address, name, now) == 0
        if right:
            attempts.succeeded(address, name)
            assert attempts.wait(address, name, now) == 0
        else:
            attempts.failed(address, name, now)


@given(st.lists(st.tuples(st.text(), PAUSES), min_size=30, max_size=200))
def test_address_guesses_no_more_than_once_a_minute_in_the_end(tries):
    attempts, now, taken = Attempts(), 0.0, 0
    for name, pause in tries:
        now += pause
        if attempts.wait(HERE, name, now) == 0:
            taken += 1
            attempts.failed(HERE, name, now)

    # 20 are free; six more have shorter delays; then there is one a minute.
    assert taken <= 20 + 6 + 1 + now / 60


@given(st.lists(st.tuples(ADDRESSES, NAMES), min_size=1, max_size=300))
def test_stranger_waits_five_seconds_at_most_whatever_others_fail(tries):
    attempts = Attempts()
    for address, name in tries:
        attempts.failed(address, name, 100.0)

    assert all(attempts.wait("203.0.113.9", name, 100.0) <= 5 for _, name in tries)
