"""Who is at the server, by address: how many connections, how many requests.

Pure rules over tables that are bounded. What is on this machine is not counted: a
proxy in front is one address for all clients.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

#: Addresses of which it is known how many requests they made.
MAXIMUM_ADDRESSES = 10_000

# A customer of a provider has at least so much to choose addresses from (RFC 6177).
_IPV6_PREFIX = 64


@lru_cache(maxsize=1024)
def counted(address: str) -> str | None:
    """What counts as one client; None for this machine.

    Args:
        address: of a peer, as a socket tells it; empty for a unix socket.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return None if parsed.is_loopback else str(_network(parsed))
        parsed = parsed.ipv4_mapped
    return None if parsed.is_loopback else str(parsed)


def _network(address: IPv6Address) -> IPv6Address:
    host = 128 - _IPV6_PREFIX
    return IPv6Address(int(address) >> host << host)


class Crowd:
    """The connections of each address.

    Args:
        limit: of one address.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def has_room(self, client: str | None) -> bool:
        """Whether one more may come in."""
        return client is None or self._counts.get(client, 0) < self._limit

    def enter(self, client: str | None) -> None:
        """One more comes in; `leave` when it goes."""
        if client is not None:
            self._counts[client] = self._counts.get(client, 0) + 1

    def leave(self, client: str | None) -> None:
        """One that came in goes."""
        if client is None:
            return
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


class Pace:
    """How many requests each address makes: a bucket that fills with `rate` a second.

    It holds those of one second, so that a burst of so many is let through.

    Args:
        rate: requests in a second.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        # Requests left and when that was; who came last is last.
        self._left: dict[str, tuple[float, float]] = {}

    def admit(self, client: str | None, now: float) -> bool:
        """Whether a request may be served.

        Args:
            client: as `counted` says.
            now: in seconds, of a clock that goes only forward.
        """
        if client is None:
            return True
        left, then = self._left.pop(client, (float(self._rate), now))
        left = min(left + (now - then) * self._rate, self._rate)
        admitted = left >= 1
        self._left[client] = (left - admitted, now)
        if len(self._left) > MAXIMUM_ADDRESSES:
            del self._left[next(iter(self._left))]
        return admitted
