"""How large a fragment is."""

from dataclasses import dataclass, replace

MIB = 2**20

#: The smallest piece of Windows, when 413 makes it shrink ([MC-BUP] notes <10>, <16>).
MINIMUM = 5 * 1024

#: A fragment shall take so long: what a lost Ack costs, and what one wait for it does.
FRAGMENT_SECONDS = 5.0


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
