"""Whose password is right, and what it costs to find out.

Costs are counted in hashes that are computed, never in seconds.
"""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import bcrypt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitsd.passwords import (
    MAXIMUM_REMEMBERED,
    MAXIMUM_WAITING,
    REMEMBERED,
    THREADS,
    Passwords,
    TooBusy,
    hashed,
    matches,
)
from bitsd.users import User, Users, parsed

# The cheapest there is: what is tested is not how slow it is.
BCRYPT = bcrypt.hashpw("pässword".encode(), bcrypt.gensalt(4)).decode()


class Hashes:
    """Instead of real ones: `hash of X` is that of the password X."""

    def __init__(self) -> None:
        self.computed: list[tuple[str, str]] = []
        self.free = threading.Event()
        self.free.set()

    def verify(self, stored: str, password: str) -> bool:
        self.computed.append((stored, password))
        self.free.wait()
        return stored == f"hash of {password}"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hashes() -> Hashes:
    return Hashes()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def passwords(hashes: Hashes, clock: Clock) -> Iterator[Passwords]:
    passwords = Passwords(hashes.verify, clock)
    yield passwords
    hashes.free.set()
    passwords.close()


ALICE = User("Alice", "hash of secret")
USERS = Users(
    [
        ALICE,
        User("carol", "hash of secret", enabled=False),
        User("dave", None),
        User("erin", "hash of other"),
    ]
)


@pytest.mark.parametrize("name", ["Alice", "alice", "ALICE"])
async def test_right_password_gives_the_user_as_the_file_spells_it(passwords, name):
    assert await passwords.check(USERS, name, "secret") == ALICE


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "Secret"),
        ("alice", ""),
        ("alice", "hash of secret"),
        ("carol", "secret"),
        ("dave", "secret"),
        ("dave", "other"),
        ("dave", ""),
        ("dave", "*"),
        ("nobody", "secret"),
        ("nobody", "other"),
        ("\0", "\ud800"),
    ],
)
async def test_all_others_are_refused_and_cost_one_hash_each_time(
    passwords, hashes, name, password
):
    for times in (1, 2, 3):
        assert await passwords.check(USERS, name, password) is None
        assert len(hashes.computed) == times


async def test_unknown_name_costs_what_the_same_user_costs_each_time(passwords, hashes):
    names = [f"nobody{number}" for number in range(40)]
    for name in [*names, *names]:
        await passwords.check(USERS, name, "x")

    stored = [stored for stored, _password in hashes.computed]
    assert stored[:40] == stored[40:]
    assert set(stored) == {"hash of secret", "hash of other"}


async def test_file_without_a_hash_costs_one_of_ours(passwords, hashes):
    assert await passwords.check(Users.empty(), "alice", "secret") is None

    [(stored, _password)] = hashes.computed
    assert parsed(f"x:{stored}").password == stored
    assert stored.split("$")[:4] == hashed("x").split("$")[:4]
    assert not matches(stored, "secret")


async def test_ten_thousand_fragments_cost_one_hash(passwords, hashes):
    for _ in range(10_000):
        assert await passwords.check(USERS, "alice", "secret") == ALICE

    assert len(hashes.computed) == 1


async def test_right_password_is_forgotten_even_if_it_is_used(passwords, hashes, clock):
    for seconds in (0, REMEMBERED / 2, REMEMBERED - 0.1):
        clock.now = 1000.0 + seconds
        await passwords.check(USERS, "alice", "secret")
    before = len(hashes.computed)
    clock.now = 1000.0 + REMEMBERED
    await passwords.check(USERS, "alice", "secret")

    assert (before, len(hashes.computed)) == (1, 2)


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ([replace(ALICE, password="hash of new")], None),
        ([replace(ALICE, enabled=False)], None),
        ([replace(ALICE, password=None)], None),
        ([], None),
        (
            [replace(ALICE, nt_hash=bytes(16))],
            replace(ALICE, nt_hash=bytes(16)),
        ),
    ],
    ids=["password", "disabled", "no password", "deleted", "nt hash"],
)
async def test_change_of_the_file_counts_at_once(passwords, changed, answer):
    await passwords.check(USERS, "alice", "secret")

    assert await passwords.check(Users(changed), "alice", "secret") == answer


async def test_what_is_remembered_is_no_password_and_no_plain_hash_of_one(
    hashes, clock
):
    both = [Passwords(hashes.verify, clock) for _ in range(2)]
    for passwords in both:
        await passwords.check(USERS, "alice", "secret")
        passwords.close()

    first, second = [list(passwords._right) for passwords in both]
    assert [len(tag) for tag in first + second] == [32, 32]
    assert first != second


async def test_no_more_is_remembered_than_there_is_room_for(passwords, hashes):
    names = [f"user{number}" for number in range(MAXIMUM_REMEMBERED + 1)]
    users = Users(User(name, "hash of secret") for name in names)
    for name in names:
        await passwords.check(users, name, "secret")
    assert len(passwords._right) == MAXIMUM_REMEMBERED

    hashes.computed.clear()
    await passwords.check(users, names[1], "secret")
    await passwords.check(users, names[0], "secret")

    assert len(hashes.computed) == 1


async def test_what_is_asked_at_once_costs_one_hash(passwords, hashes):
    checks = (passwords.check(USERS, "alice", "secret") for _ in range(500))

    assert await asyncio.gather(*checks) == [ALICE] * 500
    assert len(hashes.computed) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("alice", "secret"), ("erin", "secret")),
        (("alice", "a"), ("alice", "b")),
        (("nobody", "\0a"), ("nobody\0", "a")),
        (("n", "obody"), ("no", "body")),
    ],
)
async def test_only_what_is_the_same_shares_a_hash(passwords, hashes, one, other):
    checks = (passwords.check(USERS, *sent) for sent in (one, other))
    await asyncio.gather(*checks)

    assert len(hashes.computed) == 2


async def test_name_cannot_be_read_as_the_hash_of_another(passwords, hashes):
    sent = [("alice", "hash of secret\0a"), ("alice\0hash of secret", "a")]
    checks = (passwords.check(Users([ALICE]), *one) for one in sent)
    await asyncio.gather(*checks)

    assert len(hashes.computed) == 2


async def test_client_that_hangs_up_takes_the_answer_from_no_other(passwords, hashes):
    hashes.free.clear()
    one, other = [
        asyncio.create_task(passwords.check(USERS, "alice", "secret")) for _ in range(2)
    ]
    await asyncio.sleep(0)
    one.cancel()
    hashes.free.set()

    assert await other == ALICE
    assert len(hashes.computed) == 1


async def test_more_than_can_wait_is_refused_and_what_is_remembered_is_not(
    passwords, hashes
):
    await passwords.check(USERS, "alice", "secret")
    hashes.free.clear()
    waiting = [
        asyncio.create_task(passwords.check(USERS, "alice", str(number)))
        for number in range(THREADS + MAXIMUM_WAITING)
    ]
    await asyncio.sleep(0)

    with pytest.raises(TooBusy):
        await passwords.check(USERS, "nobody", "x")
    assert await passwords.check(USERS, "alice", "secret") == ALICE
    hashes.free.set()
    assert await asyncio.gather(*waiting) == [None] * len(waiting)
    assert await passwords.check(USERS, "nobody", "x") is None


async def test_password_that_was_right_is_no_guess_however_long_ago(passwords, clock):
    assert passwords.guessed(USERS, "alice", "secret")
    await passwords.check(USERS, "alice", "secret")
    clock.now += 100 * REMEMBERED

    assert not passwords.guessed(USERS, "ALICE", "secret")
    assert passwords.guessed(USERS, "alice", "other")
    assert passwords.guessed(USERS, "erin", "secret")
    changed = Users([replace(ALICE, password="hash of new")])
    assert passwords.guessed(changed, "alice", "secret")
    assert passwords.guessed(Users.empty(), "alice", "secret")


@pytest.mark.parametrize("name", ["alice", "nobody"])
async def test_password_that_is_being_checked_is_no_further_guess(
    passwords, hashes, name
):
    hashes.free.clear()
    first = asyncio.create_task(passwords.check(USERS, name, "x"))
    await asyncio.sleep(0)
    guesses = [passwords.guessed(USERS, name, password) for password in ("x", "y")]
    hashes.free.set()
    await first

    assert guesses == [False, True]
    assert passwords.guessed(USERS, name, "x")


async def test_what_is_looked_at_again_once_it_failed_is_not_wrong(clock):
    answers = iter([MemoryError(), True])

    def verify(stored: str, password: str) -> bool:
        answer = next(answers)
        if isinstance(answer, MemoryError):
            raise answer
        return True

    passwords = Passwords(verify, clock)
    with pytest.raises(MemoryError):
        await passwords.check(USERS, "alice", "secret")

    assert await passwords.check(USERS, "alice", "secret") == ALICE
    passwords.close()


async def test_what_waits_at_the_end_is_cancelled(passwords, hashes):
    hashes.free.clear()
    waiting = [
        asyncio.create_task(passwords.check(USERS, "alice", str(number)))
        for number in range(THREADS + 1)
    ]
    await asyncio.sleep(0)
    passwords.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting[-1]
    hashes.free.set()
    assert await asyncio.gather(*waiting[:-1]) == [None] * THREADS


@pytest.mark.parametrize("password", ["pässword\0", "x" * 100, "\ud800", ""])
def test_argon2_takes_any_password(password):
    stored = hashed(password)

    assert parsed(f"x:{stored}").password == stored
    assert matches(stored, password)
    assert not matches(stored, password + "\0")


def test_same_password_is_hashed_differently_each_time():
    assert hashed("x") != hashed("x")


async def test_real_password_lets_in(clock):
    passwords = Passwords()
    users = Users([User("alice", hashed("pässword")), User("bob", BCRYPT)])

    for user in ("alice", "bob"):
        assert await passwords.check(users, user, "pässword") == users.find(user)
        assert await passwords.check(users, user, "password") is None
    passwords.close()


# The first by htpasswd -B of Apache 2.4, others from the tests of crypt_blowfish.
@pytest.mark.parametrize(
    ("stored", "password"),
    [
        ("$2y$04$jusXEybHy.KMWwqW48SNqu51ijrwBn6CDzRQeQWD/yNZf9m8qe2He", "secret"),
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy", ""),
    ],
)
def test_bcrypt_of_others_is_understood(stored, password):
    assert matches(stored, password)
    assert not matches(stored, password + "x")


@pytest.mark.parametrize(
    ("made_of", "sent"),
    [("a", "a\0"), ("a", "a\0a"), ("a" * 72, "a" * 73), ("a" * 72, "a" * 1000)],
)
def test_password_that_bcrypt_cannot_tell_apart_is_refused(made_of, sent):
    stored = bcrypt.hashpw(made_of.encode(), bcrypt.gensalt(4)).decode()

    assert matches(stored, made_of)
    assert not matches(stored, sent)


def test_bcrypt_ends_inside_a_character():
    stored = bcrypt.hashpw(("ä" * 36).encode(), bcrypt.gensalt(4)).decode()

    assert matches(stored, "ä" * 36)
    assert not matches(stored, "x" + "ä" * 36)


BASE64 = st.text("Aaz09+/gwQ", max_size=60)
COSTS = st.sampled_from(
    ["0", "1", "2", "7", "8", "9", "15", "16", "17", "010", "9" * 9]
)
ARGON2 = st.builds(
    "$argon2id$v=19$m={},t={},p={}${}${}".format, *[COSTS] * 3, *[BASE64] * 2
)
BCRYPTS = st.builds(
    "$2{}$04${}".format,
    st.sampled_from("abxy"),
    st.text("./AZaeuOz09", min_size=53, max_size=53),
)


# How long it takes does not count.
@settings(deadline=None)
@given(ARGON2 | BCRYPTS)
@example("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAA")
@example("$argon2id$v=19$m=136,t=17,p=16$AAAAAAAAAAA$" + "A" * 86)
@example("$2b$04$" + "A" * 53)
@example("$2y$04$" + "z" * 21 + "." + "z" * 31)
def test_hash_that_the_file_may_have_can_be_checked(stored):
    try:
        parsed(f"alice:{stored}")
    except ValueError:
        return

    assert not matches(stored, "secret")


def test_what_argon2_cannot_check_is_wrong():
    # As where there is no memory.
    assert not matches("$argon2id$v=19$m=1,t=1,p=1$AAAAAAAAAAA$AAAAAA", "secret")
