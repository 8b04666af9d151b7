"""Whether a password is right: in threads, in equal time, and not again and again.

What is remembered, and what an attacker can tell: protocol-notes/users.md
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error

from .access import same
from .users import User, Users

#: How long a password that was right is taken without another look, in seconds.
REMEMBERED = 300.0

#: Passwords that are remembered: about 2 MB.
MAXIMUM_REMEMBERED = 10_000

#: Passwords that are looked at at once. Each takes a core and 19 MiB.
THREADS = 2

#: Others that wait for that: about one second of work, at 20 to 40 ms each.
MAXIMUM_WAITING = 64

# The least that OWASP asks for, 19 MiB twice ("Password Storage Cheat Sheet":
# https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html).
# More would let fewer strangers keep the threads busy; one lane, because what runs
# beside it is another password.
_MEMORY_KIB, _PASSES, _LANES = 19 * 1024, 2, 1
_ARGON2 = PasswordHasher(
    time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES, hash_len=32
)

# Stands in where a file has no hash; nobody knows a password that gives zeros.
_NOBODYS = (
    f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}${'A' * 22}${'A' * 43}"
)

# What bcrypt reads of a password, in bytes.
_BCRYPT_READS = 72


class TooBusy(Exception):
    """More passwords wait to be looked at than can be soon: ask again later."""


def hashed(password: str) -> str:
    """What the users file keeps of a password, by Argon2id; takes about 20 ms."""
    return _ARGON2.hash(_octets(password))


def matches(stored: str, password: str) -> bool:
    """Whether a hash of the users file is that of this password; takes its time."""
    octets = _octets(password)
    if stored.startswith("$argon2id$"):
        try:
            return _ARGON2.verify(stored, octets)
        except Argon2Error:
            # Also what the library cannot do, which is not to stop the request.
            return False
    # bcrypt would take the begin of a longer password, and "a\0a" for "a". They are
    # looked at all the same: the time is not to tell.
    fits = len(octets) <= _BCRYPT_READS and b"\0" not in octets
    return bcrypt.checkpw(octets[:_BCRYPT_READS], stored.encode()) and fits


def _octets(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


class Passwords:
    """Checks of passwords, for one event loop.

    A password that was right is remembered by an HMAC of it, its user and the hash
    in the file, with a key that only this process has: so a file that changed makes
    it forgotten. What was wrong is not remembered.

    Args:
        verify: whether a hash is that of a password; may block.
        now: in seconds, of a clock that goes only forward.
    """

    def __init__(
        self,
        verify: Callable[[str, str], bool] = matches,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verify = verify
        self._now = now
        self._key = secrets.token_bytes(32)
        self._pool = ThreadPoolExecutor(THREADS, "passwords")
        self._runs: dict[bytes, asyncio.Future[bool]] = {}
        # Until when; who came last is last.
        self._right: dict[bytes, float] = {}

    def remembered(self, users: Users, name: str, password: str) -> User | None:
        """The user, if this password was found right not long ago."""
        user = users.find(name)
        if user is None or not user.enabled or user.password is None:
            return None
        tag = self._tag(name, user.password, password)
        return user if self._right.get(tag, 0.0) > self._now() else None

    def guessed(self, users: Users, name: str, password: str) -> bool:
        """Whether to check this password could tell its sender something new.

        Not if it was right before, however long ago: whoever has it has not guessed.
        Nor if it is being checked just now, for somebody else.
        """
        tag = self._tag(name, self._stored(users, name), password)
        return tag not in self._runs and tag not in self._right

    async def check(self, users: Users, name: str, password: str) -> User | None:
        """The user, if it is one who may sign in with this password.

        Who is unknown, disabled or without a password costs what a user costs.

        Raises:
            TooBusy: it was not looked at.
        """
        known = self.remembered(users, name, password)
        if known is not None:
            return known
        user = users.find(name)
        may = user is not None and user.enabled and user.password is not None
        stored = self._stored(users, name)
        tag = self._tag(name, stored, password)
        right = await self._run(tag, stored, password)
        if not (right and may):
            return None
        self._remember(tag)
        return user

    def close(self) -> None:
        """Look at no more passwords; checks that wait are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _stored(self, users: Users, name: str) -> str:
        """The hash that a password is checked against."""
        user = users.find(name)
        stored = None if user is None else user.password
        return stored or users.decoy(name) or _NOBODYS

    def _tag(self, name: str, stored: str, password: str) -> bytes:
        # The length and the zero keep apart what could be read in two ways.
        name = same(name)
        octets = _octets(f"{len(name)}:{name}{stored}\0{password}")
        return hmac.digest(self._key, octets, "sha256")

    async def _run(self, tag: bytes, stored: str, password: str) -> bool:
        run = self._runs.get(tag)
        if run is None:
            if len(self._runs) >= THREADS + MAXIMUM_WAITING:
                raise TooBusy
            loop = asyncio.get_running_loop()
            run = loop.run_in_executor(self._pool, self._verify, stored, password)
            self._runs[tag] = run
            run.add_done_callback(lambda _run: self._runs.pop(tag))
        # One who hangs up takes the answer from no other.
        return await asyncio.shield(run)

    def _remember(self, tag: bytes) -> None:
        self._right.pop(tag, None)
        self._right[tag] = self._now() + REMEMBERED
        if len(self._right) > MAXIMUM_REMEMBERED:
            del self._right[next(iter(self._right))]
