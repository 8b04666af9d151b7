"""How failed sign-ins slow down who guesses, and whom they leave alone.

Pure rules over tables that are bounded. A pair is a name from an address. It is
failing from its first failure until it signs in, or for 15 minutes; it is known once
it has signed in, and new if it is neither. What is counted, and whom that holds:

- of a pair: after 5 failures its next try waits, from 1 s doubling to 60 s;
- of an address: after 20 its failing pairs share one try for each 1 s to 60 s;
- of a name, from wherever: after 100 likewise, for each 1 s to 5 s;
- pairs that began to fail: after 100 of one address, or 1000 of one name, its new
  pairs share one try likewise, and have to come twice.

So others slow nobody down who has not failed, unless an address goes through name
after name, or a name is tried from address after address. To come twice is what one
does who wants in, and no list that is tried from its begin to its end. Only the first
5 failures of a pair count for its address: one client with an old password is not to
hold it. What counts for an address or a name fades, by one each minute.

Names that are nobody's count like others, so that waiting tells nothing about them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from .access import same
from .crowd import counted
from .users import MAXIMUM_NAME, bare

#: In each of the tables.
MAXIMUM_ENTRIES = 10_000

#: Seconds without a try after which a pair is no longer failing.
FORGOTTEN = 900.0

#: Seconds after which an address or a name has failed once less.
FADES = 60.0

#: Failures of a pair that cost it nothing, and that count for its address.
FREE = 5

# From 1 s to the longest delay.
_DOUBLINGS = 6

#: An address as it counts, and a name as it counts.
Pair = tuple[str, str]

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Kind(Enum):
    """What a pair is."""

    KNOWN = auto()
    NEW = auto()
    FAILING = auto()


@dataclass(slots=True)
class _Tries:
    """What one who is counted has tried.

    Attributes:
        failures: how many there were at `since`.
        under_way: tries whose end is not known.
        since: when the last try began or ended.
        let: when the last try began of those whom this count holds.
    """

    failures: float
    under_way: int
    since: float
    let: float


class _Brake(Generic[_K]):
    """One way of counting.

    Args:
        free: failures that hold nobody.
        longest: delay in seconds.
        left: how many failures are left of so many after so many seconds.
    """

    def __init__(
        self, free: int, longest: float, left: Callable[[float, float], float]
    ) -> None:
        self._free = free
        self._longest = longest
        self._left = left
        # Who was counted last is last.
        self._tries: dict[_K, _Tries] = {}

    def count(self, key: _K, now: float) -> float:
        """Failures, and tries that may become some."""
        tries = self._tries.get(key)
        under_way = 0 if tries is None else tries.under_way
        return self.failures(key, now) + under_way

    def failures(self, key: _K, now: float) -> float:
        """Without those that are under way."""
        tries = self._tries.get(key)
        return 0.0 if tries is None else self._left(tries.failures, now - tries.since)

    def delay(self, key: _K, now: float) -> float:
        """Seconds between two tries of those who are held."""
        over = self.count(key, now) - self._free
        return min(2.0 ** int(over), self._longest) if over >= 0 else 0.0

    def wait(self, key: _K, now: float) -> float:
        """Seconds until the next try of those who are held."""
        delay = self.delay(key, now)
        return max(self._tries[key].let + delay - now, 0.0) if delay else 0.0

    def begin(self, key: _K, now: float, *, held: bool) -> None:
        """A try begins, of one of those who are held or of another."""
        tries = self._current(key, now)
        tries.under_way += 1
        if held:
            tries.let = now

    def end(self, key: _K) -> bool:
        """A try ends; whether one was under way."""
        tries = self._tries.get(key)
        if tries is None or not tries.under_way:
            return False
        tries.under_way -= 1
        return True

    def fail(self, key: _K, now: float) -> None:
        tries = self._current(key, now)
        # No more than make a difference: what is over is to be forgotten in time.
        tries.failures = min(tries.failures + 1, self._free + _DOUBLINGS + 1)

    def forget(self, key: _K) -> None:
        """What has failed does not count any more; what is under way does."""
        if key in self._tries:
            self._tries[key].failures = 0.0

    def _current(self, key: _K, now: float) -> _Tries:
        """The entry as of now, to be changed."""
        failures = self.failures(key, now)
        tries = self._tries.pop(key, None) or _Tries(0.0, 0, now, now - FORGOTTEN)
        tries.failures, tries.since = failures, now
        _put(self._tries, key, tries)
        return tries


class Attempts:
    """Who failed to sign in, and how often.

    Each try is told twice. `wait` says before it whether it is taken; with 0 it has
    begun, and `failed`, `succeeded` or `abandoned` has to follow, whatever happens.
    Until then it counts as a failure, so that many guesses at once are no way around
    the delays. Where an answer was checked before it was known whose it is, as with
    NTLM, `wait` comes right after and the end follows at once: then nothing of what
    was found may show if there is a wait.

    Addresses are those of peers as sockets tell them, empty for a unix socket; a
    network of IPv6 counts as one. A name is None where a token names nobody. `now` is
    in seconds, of a clock that goes only forward.
    """

    def __init__(self) -> None:
        self._of_pair = _Brake[Pair](FREE, 60.0, _forgotten)
        # Of all failures, which hold pairs that are failing.
        self._of_address = _Brake[str](20, 60.0, _faded)
        self._of_name = _Brake[str](100, 5.0, _faded)
        # Of first ones, which hold new pairs: an address tries many names, a name is
        # tried from many addresses.
        self._spraying = _Brake[str](100, 60.0, _faded)
        self._swarming = _Brake[str](1000, 5.0, _faded)
        # Pairs that signed in; who did so last is last. Values mean nothing.
        self._signed_in: dict[Pair, None] = {}
        # When new pairs first came that have to come again.
        self._came: dict[Pair, float] = {}

    def wait(self, address: str, name: str | None, now: float) -> float:
        """Seconds until a try is taken; 0 if it is taken, and so has begun.

        Without a name there is nothing to guess, so there is no wait, and no end to
        tell but `failed`.
        """
        if name is None:
            return 0.0
        pair = address, name = _pair(address, name)
        kind = self._kind(pair, now)
        wait = self._of_pair.wait(pair, now)
        if kind is _Kind.FAILING:
            of_address = self._of_address.wait(address, now)
            wait = max(wait, of_address, self._of_name.wait(name, now))
        elif kind is _Kind.NEW:
            wait = self._wait_of_new(pair, now)
        if wait > 0:
            return wait
        self._begin(pair, kind, now)
        return 0.0

    def failed(self, address: str, name: str | None, now: float) -> None:
        """A try ended without signing in."""
        if name is None:
            self._of_address.fail(_counted(address), now)
            return
        pair = address, name = _pair(address, name)
        self._end(pair)
        before = self._of_pair.failures(pair, now)
        if before < FREE:
            self._of_address.fail(address, now)
        if not before:
            self._spraying.fail(address, now)
            self._swarming.fail(name, now)
        self._of_pair.fail(pair, now)
        self._of_name.fail(name, now)

    def succeeded(self, address: str, name: str) -> None:
        """A try ended with signing in: what the two failed together is forgotten.

        Not what others failed from that address: one's own password must not buy
        guesses of another's.
        """
        pair = _pair(address, name)
        self._end(pair)
        self._of_pair.forget(pair)
        self._signed_in.pop(pair, None)
        _put(self._signed_in, pair, None)

    def abandoned(self, address: str, name: str) -> None:
        """A try ended without an answer to whether it was right."""
        self._end(_pair(address, name))

    def _kind(self, pair: Pair, now: float) -> _Kind:
        if self._of_pair.count(pair, now):
            return _Kind.FAILING
        return _Kind.KNOWN if pair in self._signed_in else _Kind.NEW

    def _wait_of_new(self, pair: Pair, now: float) -> float:
        address, name = pair
        delay = max(self._spraying.delay(address, now), self._swarming.delay(name, now))
        if not delay:
            return 0.0
        if now - self._came.get(pair, now - FORGOTTEN) >= FORGOTTEN:
            self._came.pop(pair, None)
            _put(self._came, pair, now)
        return max(
            self._came[pair] + delay - now,
            self._spraying.wait(address, now),
            self._swarming.wait(name, now),
        )

    def _begin(self, pair: Pair, kind: _Kind, now: float) -> None:
        address, name = pair
        self._came.pop(pair, None)
        self._of_pair.begin(pair, now, held=True)
        self._of_address.begin(address, now, held=kind is _Kind.FAILING)
        self._of_name.begin(name, now, held=kind is _Kind.FAILING)
        self._spraying.begin(address, now, held=kind is _Kind.NEW)
        self._swarming.begin(name, now, held=kind is _Kind.NEW)

    def _end(self, pair: Pair) -> None:
        """Of a try, if it has begun: not each that ends has waited."""
        if self._of_pair.end(pair):
            address, name = pair
            self._of_address.end(address)
            self._of_name.end(name)
            self._spraying.end(address)
            self._swarming.end(name)


def _forgotten(failures: float, seconds: float) -> float:
    """All at once, after a quiet time."""
    return failures if seconds < FORGOTTEN else 0.0


def _faded(failures: float, seconds: float) -> float:
    """One after the other: where many come there is no quiet time."""
    return max(failures - seconds / FADES, 0.0)


def _put(table: dict[_K, _V], key: _K, value: _V) -> None:
    """Add to a table, whose first entry makes room."""
    table[key] = value
    if len(table) > MAXIMUM_ENTRIES:
        del table[next(iter(table))]


def _counted(address: str) -> str:
    return counted(address) or address


def _pair(address: str, name: str) -> Pair:
    """As the two count; a name that is too long to be anyone's takes no more room.

    A domain makes no other name, whether the file has the name with it or without:
    there would be no end of them, and it could be told.
    """
    return _counted(address), same(bare(name)[:MAXIMUM_NAME])
