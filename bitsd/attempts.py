"""How failed sign-ins slow down who guesses.

Pure rules over tables that are bounded. They count failures in three ways:

- of a name from an address: after 5 the next try waits, from 1 s doubling to 60 s;
- of an address, with whatever names: after 20, likewise;
- of a name, from wherever: after 100, but never for longer than 5 s. Many addresses
  together get no further with one name than that. Were it longer, then anyone could
  keep anyone out by failing in their name.

Where a name has signed in from an address only the first rule holds for the two: a
user at work is slowed neither by a stranger who tries the same name elsewhere nor by
neighbours behind the same NAT or proxy.

What failed is forgotten after 15 minutes without a try. Names that are nobody's count
like others, so that waiting tells nothing about them.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from .access import same
from .crowd import counted
from .users import MAXIMUM_NAME

#: Of each of the three kinds that are counted, and of those who signed in.
MAXIMUM_ENTRIES = 10_000

#: Seconds without a try after which failures are forgotten.
FORGOTTEN = 900.0

#: An address as it counts, and a name as it counts.
Pair = tuple[str, str]

_K = TypeVar("_K")


@dataclass(slots=True)
class _Tries:
    """Failures, and when the last try was, whether it is known how it ended or not."""

    failures: int
    last: float


class _Brake(Generic[_K]):
    """One way of counting.

    Args:
        free: failures that cost nothing.
        longest: delay in seconds.
    """

    def __init__(self, free: int, longest: float) -> None:
        self._free = free
        self._longest = longest
        # Who tried last is last.
        self._tries: dict[_K, _Tries] = {}

    def wait(self, key: _K, now: float) -> float:
        tries = self._known(key, now)
        if tries is None or tries.failures < self._free:
            return 0.0
        # Further doubling would only make large numbers.
        doublings = min(tries.failures - self._free, 10)
        delay = min(2.0**doublings, self._longest)
        return max(tries.last + delay - now, 0.0)

    def take(self, key: _K, now: float) -> None:
        """A try begins; where there are delays, none may begin beside it."""
        tries = self._known(key, now)
        if tries is not None and tries.failures >= self._free:
            self._tries.pop(key)
            self._tries[key] = _Tries(tries.failures, now)

    def failed(self, key: _K, now: float) -> None:
        tries = self._known(key, now)
        failures = 1 if tries is None else tries.failures + 1
        self._tries.pop(key, None)
        self._tries[key] = _Tries(failures, now)
        if len(self._tries) > MAXIMUM_ENTRIES:
            del self._tries[next(iter(self._tries))]

    def forget(self, key: _K) -> None:
        self._tries.pop(key, None)

    def _known(self, key: _K, now: float) -> _Tries | None:
        tries = self._tries.get(key)
        return None if tries is None or now - tries.last >= FORGOTTEN else tries


class Attempts:
    """Who failed to sign in, and how often.

    Addresses are those of peers as sockets tell them, empty for a unix socket; a
    network of IPv6 counts as one. `now` is in seconds, of a clock that goes only
    forward.
    """

    def __init__(self) -> None:
        self._of_pair = _Brake[Pair](5, 60.0)
        self._of_address = _Brake[str](20, 60.0)
        self._of_name = _Brake[str](100, 5.0)
        # Pairs that signed in; who did so last is last. Values mean nothing.
        self._signed_in: dict[Pair, None] = {}

    def wait(self, address: str, name: str, now: float) -> float:
        """Seconds until a try is taken; 0 if it is taken now.

        With 0 the try has begun, and `failed` or `succeeded` tells its end. Until
        then others of a kind that is slowed have to wait, so that guessing many
        passwords at once is no way around the delay.
        """
        pair = address, name = _pair(address, name)
        wait = self._of_pair.wait(pair, now)
        known = pair in self._signed_in
        if not known:
            wait = max(
                wait, self._of_address.wait(address, now), self._of_name.wait(name, now)
            )
        if wait > 0:
            return wait
        self._of_pair.take(pair, now)
        if not known:
            self._of_address.take(address, now)
            self._of_name.take(name, now)
        return 0.0

    def failed(self, address: str, name: str, now: float) -> None:
        """A try ended without signing in."""
        pair = address, name = _pair(address, name)
        self._of_pair.failed(pair, now)
        self._of_address.failed(address, now)
        self._of_name.failed(name, now)

    def succeeded(self, address: str, name: str) -> None:
        """A try ended with signing in: what the two failed together is forgotten.

        Not what others failed from that address: one's own password must not buy
        guesses of another's.
        """
        pair = _pair(address, name)
        self._of_pair.forget(pair)
        self._signed_in.pop(pair, None)
        self._signed_in[pair] = None
        if len(self._signed_in) > MAXIMUM_ENTRIES:
            del self._signed_in[next(iter(self._signed_in))]


def _pair(address: str, name: str) -> Pair:
    """As the two count; a name that is too long to be anyone's takes no more room."""
    return counted(address) or address, same(name[:MAXIMUM_NAME])
