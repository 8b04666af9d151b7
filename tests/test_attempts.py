"""How long who guesses has to wait, and who does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitsd.attempts import FADES, FORGOTTEN, FREE, MAXIMUM_ENTRIES, Attempts

HERE, THERE, ELSEWHERE = "192.0.2.1", "198.51.100.7", "203.0.113.9"

HOUR = 3600


def fail(attempts: Attempts, times: int, address: str, name: str, now: float) -> None:
    """Fail in the same moment, and before any of it is counted."""
    for _ in range(times):
        attempts.failed(address, name, now)


def fail_as_many(attempts: Attempts, times: int, address: str, now: float) -> None:
    """Fail under names that are different each time."""
    for number in range(times):
        attempts.failed(address, f"name{number}", now)


def fail_from_many(attempts: Attempts, times: int, name: str, now: float) -> None:
    """Fail from addresses that are different each time."""
    for number in range(times):
        attempts.failed(f"10.0.{number >> 8}.{number & 255}", name, now)


def guess(attempts: Attempts, address: str, name: str, now: float) -> bool:
    """A wrong password; whether it is looked at."""
    if attempts.wait(address, name, now) > 0:
        return False
    attempts.failed(address, name, now)
    return True


def enter(attempts: Attempts, address: str, name: str, now: float) -> bool:
    """The right password; whether it is looked at."""
    if attempts.wait(address, name, now) > 0:
        return False
    attempts.succeeded(address, name)
    return True


# What is counted


@pytest.mark.parametrize(
    ("failures", "wait"),
    [(4, 0), (5, 1), (6, 2), (7, 4), (8, 8), (9, 16), (10, 32), (11, 60), (99, 60)],
)
def test_name_from_an_address_waits_after_five_failures(failures, wait):
    attempts = Attempts()
    fail(attempts, failures - 1, HERE, "alice", 0.0)
    assert guess(attempts, HERE, "alice", 100.0)

    assert attempts.wait(HERE, "alice", 100.0) == wait
    assert attempts.wait(HERE, "bob", 100.0) == 0
    assert attempts.wait(THERE, "alice", 100.0) == 0


@pytest.mark.parametrize(
    ("failures", "wait"), [(19, 0), (20, 1), (21, 2), (25, 32), (26, 60), (90, 60)]
)
def test_address_slows_its_failing_names_after_twenty_failures(failures, wait):
    attempts = Attempts()
    fail_as_many(attempts, failures - 1, HERE, 100.0)
    assert guess(attempts, HERE, "name0", 100.0)

    assert attempts.wait(HERE, "name1", 100.0) == wait
    assert attempts.wait(THERE, "name1", 100.0) == 0


@pytest.mark.parametrize(
    ("failures", "wait"), [(99, 0), (100, 1), (101, 2), (102, 4), (103, 5), (200, 5)]
)
def test_name_slows_its_failing_addresses_after_a_hundred_failures(failures, wait):
    attempts = Attempts()
    fail_from_many(attempts, failures - 1, "alice", 100.0)
    assert guess(attempts, "10.0.0.0", "alice", 100.0)

    assert attempts.wait("10.0.0.1", "alice", 100.0) == wait
    assert attempts.wait("10.0.0.1", "bob", 100.0) == 0


@pytest.mark.parametrize(
    ("failures", "wait"), [(99, 0), (100, 1), (101, 2), (106, 60), (200, 60)]
)
def test_address_slows_new_names_once_a_hundred_have_failed(failures, wait):
    attempts = Attempts()
    fail_as_many(attempts, failures, HERE, 100.0)

    assert attempts.wait(HERE, "alice", 100.0) == wait
    assert attempts.wait(THERE, "alice", 100.0) == 0


@pytest.mark.parametrize(
    ("failures", "wait"), [(999, 0), (1000, 1), (1001, 2), (1003, 5), (2000, 5)]
)
def test_name_slows_new_addresses_once_a_thousand_have_failed(failures, wait):
    attempts = Attempts()
    fail_from_many(attempts, failures, "alice", 100.0)

    assert attempts.wait(HERE, "alice", 100.0) == wait
    assert attempts.wait(HERE, "bob", 100.0) == 0


@pytest.mark.parametrize(
    "other",
    [
        "ALICE",
        "Alice",
        "OFFICE\\alice",
        "alice@office",
        "a\\b\\Alice@c@d",
        "x" * 400 + "\\alice",
    ],
)
def test_no_other_spelling_gives_a_further_try(other):
    attempts = Attempts()
    for _ in range(FREE):
        assert guess(attempts, HERE, "alice", 100.0)

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
    for _ in range(FREE):
        guess(attempts, one, "alice", 100.0)

    assert attempts.wait(other, "alice", 100.0) == same


def test_try_is_taken_once_the_wait_is_over():
    attempts = Attempts()
    fail(attempts, 5, HERE, "alice", 100.0)
    assert guess(attempts, HERE, "alice", 100.0)

    waits = [attempts.wait(HERE, "alice", 100.0 + s) for s in (0.5, 1.75, 2.0)]
    assert waits == [1.5, 0.25, 0]


def test_token_that_names_nobody_counts_for_its_address_alone():
    attempts = Attempts()
    for _ in range(200):
        assert attempts.wait(HERE, None, 100.0) == 0
        attempts.failed(HERE, None, 100.0)
    guess(attempts, HERE, "name0", 100.0)

    assert attempts.wait(HERE, "name0", 100.0) == 0
    assert attempts.wait(HERE, "name0", 100.0) == 60
    assert attempts.wait(HERE, "", 100.0) == attempts.wait(HERE, "alice", 100.0) == 0


# Many at once


def test_guesses_at_once_are_as_many_as_are_free():
    attempts = Attempts()

    waits = [attempts.wait(HERE, "alice", 100.0) for _ in range(40)]
    assert waits == [0] * FREE + [1] * 35


def test_guesses_at_once_of_many_names_are_as_many_as_are_free():
    attempts = Attempts()
    fail_as_many(attempts, 20, HERE, 99.0)

    waits = [attempts.wait(HERE, f"name{n}", 100.0) for n in range(20)]
    assert [wait == 0 for wait in waits] == [True] + [False] * 19


def test_two_guesses_at_once_of_each_name_are_a_spray_too():
    attempts = Attempts()
    for number in range(8):
        name = f"name{number}"
        assert [attempts.wait(HERE, name, 100.0) for _ in "12"] == [0, 0]
        fail(attempts, 2, HERE, name, 100.0)

    assert attempts._spraying.count(HERE, 100.0) == 8


@pytest.mark.parametrize("end", [Attempts.succeeded, Attempts.abandoned])
def test_try_that_did_not_fail_counts_no_longer(end):
    attempts = Attempts()
    for _ in range(3000):
        assert attempts.wait(HERE, "alice", 100.0) == 0
        end(attempts, HERE, "alice")

    brakes = [attempts._of_address, attempts._spraying]
    assert [brake.count(HERE, 100.0) for brake in brakes] == [0, 0]
    brakes = [attempts._of_name, attempts._swarming]
    assert [brake.count("alice", 100.0) for brake in brakes] == [0, 0]


@pytest.mark.parametrize("end", [Attempts.succeeded, Attempts.abandoned])
def test_end_of_what_has_not_begun_ends_nothing_of_others(end):
    attempts = Attempts()
    assert attempts.wait(HERE, "alice", 100.0) == 0
    for _ in range(3):
        end(attempts, HERE, "bob")

    assert attempts._of_address.count(HERE, 100.0) == 1


def test_abandoned_try_forgets_no_failure():
    attempts = Attempts()
    fail(attempts, 10, HERE, "alice", 100.0)
    attempts.wait(HERE, "alice", 100.0)
    attempts.abandoned(HERE, "alice")

    assert attempts.wait(HERE, "alice", 100.0) == 32


# Forgetting


@pytest.mark.parametrize(("quiet", "wait"), [(FORGOTTEN - 1, 60), (FORGOTTEN, 0)])
def test_failures_are_forgotten_after_a_quiet_quarter_of_an_hour(quiet, wait):
    attempts = Attempts()
    fail(attempts, 11, HERE, "alice", 100.0)
    assert guess(attempts, HERE, "alice", 100.0 + quiet)

    assert attempts.wait(HERE, "alice", 100.0 + quiet) == wait


@pytest.mark.parametrize(("minutes", "wait"), [(6, 2), (7, 1), (8, 0)])
def test_address_has_failed_once_less_each_minute(minutes, wait):
    attempts = Attempts()
    fail_as_many(attempts, 2000, HERE, 100.0)

    assert attempts.wait(HERE, "alice", 100.0 + minutes * FADES) == wait


def test_success_forgets_what_the_two_failed_and_not_the_address():
    attempts = Attempts()
    fail_as_many(attempts, 100, HERE, 100.0)
    fail(attempts, 21, HERE, "alice", 100.0)
    attempts.succeeded(HERE, "alice")

    assert enter(attempts, HERE, "alice", 100.0)
    assert attempts.wait(HERE, "bob", 100.0) == 2


def test_success_does_not_end_what_else_is_under_way():
    attempts = Attempts()
    waits = [attempts.wait(HERE, "alice", 100.0) for _ in range(FREE)]
    attempts.succeeded(HERE, "alice")

    assert waits == [0] * FREE
    assert attempts._of_address.count(HERE, 100.0) == FREE - 1


@pytest.mark.parametrize(("times", "wait"), [(4, 0), (5, 1)])
def test_who_signed_in_before_may_fail_as_often_as_others(times, wait):
    attempts = Attempts()
    attempts.succeeded(HERE, "alice")
    for _ in range(times):
        assert guess(attempts, HERE, "alice", 100.0)

    assert attempts.wait(HERE, "Alice", 100.0) == wait


# Nobody is kept out by others


def test_user_at_work_is_slowed_by_no_stranger_and_no_neighbour():
    attempts = Attempts()
    attempts.succeeded(HERE, "alice")
    fail_from_many(attempts, 2000, "alice", 100.0)
    fail_as_many(attempts, 200, HERE, 100.0)

    assert [enter(attempts, HERE, "alice", 100.0) for _ in range(3)] == [True] * 3
    assert attempts.wait(THERE, "alice", 100.0) == 5
    assert attempts.wait(HERE, "bob", 100.0) == 60


def test_user_at_work_takes_no_turn_of_a_neighbour():
    attempts = Attempts()
    attempts.succeeded(HERE, "alice")
    fail_as_many(attempts, 20, HERE, 100.0)
    attempts.wait(HERE, "alice", 101.0)

    assert attempts.wait(HERE, "name0", 101.0) == 0


@pytest.mark.parametrize("pause", [1.0, 30.0, 61.0])
def test_client_with_an_old_password_keeps_no_neighbour_out(pause):
    attempts, ends = Attempts(), [0.3]
    for number in range(int(4 * HOUR / pause)):
        now = number * pause
        guess(attempts, HERE, "stale", now)
        if now >= ends[-1]:
            # Each time somebody who was never here.
            assert enter(attempts, HERE, f"user{number}", now)
            ends.append(now + 600)

    assert len(ends) > 20


@pytest.mark.parametrize("clients", [12, 20])
def test_many_addresses_that_fail_keep_the_name_out_nowhere_else(clients):
    attempts = Attempts()
    for number in range(HOUR):
        for client in range(clients):
            guess(attempts, f"192.0.2.{client}", "alice", number / 2)
        if not number % 300:
            address = f"198.51.{number // 300}.1"
            assert enter(attempts, address, "alice", number / 2)


def test_address_that_goes_through_names_keeps_out_nobody_who_comes_again():
    attempts, entered = Attempts(), None
    for number in range(6000):
        now = number / 10
        guess(attempts, HERE, f"name{number}", now)
        if now > 60 and not number % 50 and entered is None:
            entered = now if enter(attempts, HERE, "alice", now + 0.05) else None

    assert entered is not None
    assert entered <= 60 + 5 + 60 + 5


def test_who_mistyped_is_held_by_neighbours_for_a_quarter_of_an_hour_at_most():
    attempts = Attempts()
    attempts.succeeded(HERE, "alice")
    assert guess(attempts, HERE, "alice", 0.0)
    for number in range(int(FORGOTTEN)):
        for client in range(10):
            guess(attempts, HERE, f"stale{client}", float(number))

    assert enter(attempts, HERE, "alice", FORGOTTEN)


# And guessing is slow


def test_name_is_guessed_no_more_than_once_a_minute_from_an_address():
    attempts = Attempts()
    guesses = sum(guess(attempts, HERE, "alice", float(n)) for n in range(HOUR))

    assert guesses <= 5 + 6 + 60


@pytest.mark.parametrize("names", [1, 30, 300, 100_000])
def test_address_guesses_a_hundred_and_then_a_few_each_minute(names):
    attempts = Attempts()
    tries = range(10 * HOUR)
    guesses = sum(guess(attempts, HERE, f"name{n % names}", n / 10) for n in tries)

    # A new one and a failing one each minute, and as many as fade.
    assert guesses <= 100 + 7 + 20 + 7 + 60 * 4


@pytest.mark.parametrize("addresses", [20, 2000, 9000])
def test_name_is_guessed_a_thousand_times_and_then_a_few_each_slot(addresses):
    attempts = Attempts()
    tries = range(10 * 900)
    guesses = sum(
        guess(attempts, f"10.0.{n % addresses >> 8}.{n % addresses & 255}", "a", n / 10)
        for n in tries
    )

    assert guesses <= 1000 + 4 + 100 + 4 + 2 * (900 / 5 + 900 / FADES)


# How long it takes does not count.
@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.floats(0, 100)), min_size=30, max_size=200))
def test_address_guesses_what_it_may_and_no_more(tries):
    attempts, now, guesses = Attempts(), 0.0, 0
    for name, pause in tries:
        now += pause
        guesses += guess(attempts, HERE, name, now)

    assert guesses <= 100 + 7 + 20 + 7 + 4 * now / 60


# Room


def test_no_more_is_remembered_than_there_is_room_for():
    attempts = Attempts()
    for number in range(MAXIMUM_ENTRIES + 10):
        address = f"10.0.{number >> 8}.{number & 255}"
        fail(attempts, 5, address, f"name{number}", 100.0)
        attempts.succeeded(address, f"user{number}")
    fail_as_many(attempts, 200, HERE, 100.0)
    for number in range(MAXIMUM_ENTRIES + 10):
        assert attempts.wait(HERE, f"user{number}", 100.0) > 0

    brakes = [
        attempts._of_pair,
        attempts._of_address,
        attempts._of_name,
        attempts._spraying,
        attempts._swarming,
    ]
    assert {len(brake._tries) for brake in brakes} == {MAXIMUM_ENTRIES}
    assert len(attempts._signed_in) == MAXIMUM_ENTRIES
    assert len(attempts._came) == MAXIMUM_ENTRIES
    assert (HERE, "user9") not in attempts._came
    assert ("10.0.0.9", "user9") not in attempts._signed_in


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
ENDS = st.sampled_from(["right", "wrong", "abandoned"])


# How long it takes does not count.
@settings(deadline=None)
@given(st.lists(st.tuples(ADDRESSES, NAMES, PAUSES, ENDS), max_size=200))
def test_nobody_waits_for_long_and_a_wait_is_never_longer_than_said(tries):
    attempts, now = Attempts(), 0.0
    fail_as_many(attempts, 101, HERE, now)
    fail_from_many(attempts, 1001, "bob", now)
    for address, name, pause, end in tries:
        now += pause
        wait = attempts.wait(address, name, now)
        assert 0 <= wait <= 60
        # A sum of seconds may lack its last bit.
        now += wait + (1e-6 if wait else 0)
        assert not wait or attempts.wait(address, name, now) == 0
        if end == "right":
            attempts.succeeded(address, name)
            assert enter(attempts, address, name, now)
        elif end == "wrong":
            attempts.failed(address, name, now)
        else:
            attempts.abandoned(address, name)

    brakes = [attempts._of_address, attempts._spraying]
    under_way = [each.under_way for brake in brakes for each in brake._tries.values()]
    assert not any(under_way)


# How long it takes does not count.
@settings(deadline=None)
@given(st.lists(st.tuples(ADDRESSES, NAMES), min_size=1, max_size=300))
def test_stranger_waits_for_nobody(tries):
    attempts = Attempts()
    for address, name in tries:
        attempts.failed(address, name, 100.0)

    assert all(attempts.wait(ELSEWHERE, name, 100.0) == 0 for name in ("alice", "bob"))
