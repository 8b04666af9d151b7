"""How large a fragment is, and how long a failed one waits."""

from dataclasses import dataclass, replace

MIB = 2**20

#: The smallest piece of Windows, when 413 makes it shrink ([MC-BUP] notes <10>, <16>).
MINIMUM = 5 * 1024

#: A fragment shall take so long: what a lost Ack costs, and what one wait for it does.
FRAGMENT_SECONDS = 5.0

#: BITS gives up after 14 days without progress (SetNoProgressTimeout).
RETRY_SECONDS = 14 * 86_400.0

LONGEST_WAIT_SECONDS = 300.0

#: Doubling beyond it would not fit a number.
_DOUBLINGS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many bytes go into a fragment; at least 1 and at most 64 MiB by default.

    Attributes:
        size: of the next fragment.
        least: it is chosen from there on.
        most: and up to here.
    """

    size: int = MIB
    least: int = MIB
    most: int = 64 * MIB

    @classmethod
    def fixed(cls, size: int) -> "Pace":
        """The same for all, but that 413 makes them smaller."""
        return cls(size=size, least=size, most=size)

    def measured(self, length: int, seconds: float) -> "Pace":
        """The pace once a fragment got through; it doubles or halves at most."""
        if length < self.size or seconds <= 0:
            return self
        wanted = int(FRAGMENT_SECONDS * length / seconds)
        near = max(self.size // 2, min(wanted, self.size * 2))
        return replace(self, size=max(self.least, min(near, self.most)))

    def shrunk(self, length: int) -> "Pace | None":
        """The pace once a fragment was too large, or None if there is no smaller."""
        if length <= MINIMUM:
            return None
        most = max(MINIMUM, length // 2)
        return Pace(size=most, least=min(self.least, most), most=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often it failed, and since when nothing came of trying.

    Attributes:
        retry_seconds: without progress, and it is given up.
        first_seconds: of the first wait.
        progressed_at: the last time that something did.
        node_fails_since: the same, for the node that a host id names.
    """

    retry_seconds: float = RETRY_SECONDS
    first_seconds: float = 1.0
    failures: int = 0
    progressed_at: float = 0.0
    node_fails_since: float | None = None

    def rewarded(self, now: float) -> "Patience":
        """It got on."""
        return replace(self, failures=0, progressed_at=now, node_fails_since=None)

    def tried(self, now: float) -> "Patience":
        """It failed once more."""
        since = now if self.node_fails_since is None else self.node_fails_since
        return replace(self, failures=self.failures + 1, node_fails_since=since)

    def wait_seconds(self, chance: float) -> float:
        """Before the next try: doubled each time, and not the same for all clients."""
        doubled = self.first_seconds * 2.0 ** min(self.failures - 1, _DOUBLINGS)
        return min(doubled, LONGEST_WAIT_SECONDS) * (0.75 + chance / 2)

    def ends(self, at: float) -> bool:
        """At that time it is given up."""
        return at - self.progressed_at > self.retry_seconds

    def node_is_gone(self, now: float, fallback_seconds: int | None) -> bool:
        """The URL's own host is to be asked again ([MC-BUP] 3.1.6.3)."""
        since = self.node_fails_since
        if since is None or fallback_seconds is None:
            return False
        return now - since >= fallback_seconds
