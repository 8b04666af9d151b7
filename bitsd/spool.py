"""How much the unfinished uploads of a directory may come to, all together."""

from collections.abc import Mapping
from itertools import islice

from .protocol.wire import SessionId


class Spool:
    """The sizes that uploads announced and have not finished.

    An upload that was let in can always finish: what it announced is taken up at
    once, whether its bytes have come or not.

    Args:
        limit: of their sum, in bytes; None is no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._sizes: dict[SessionId, int] = {}
        self._taken = 0

    def some(self, number: int) -> tuple[SessionId, ...]:
        """Of those that take up room so many; others the next time."""
        found = tuple(islice(self._sizes, number))
        for each in found:
            self._sizes[each] = self._sizes.pop(each)
        return found

    def claim(self, named: SessionId, size: int) -> bool:
        """Whether there is room for an upload of this size; it is then taken up."""
        more = size - self._sizes.get(named, 0)
        if self.limit is not None and more > 0 and self._taken + more > self.limit:
            return False
        self.free(named)
        self.count({named: size})
        return True

    def count(self, sizes: Mapping[SessionId, int]) -> None:
        """Let those have their room that have none, whatever the limit."""
        for named, size in sizes.items():
            if size and named not in self._sizes:
                self._sizes[named] = size
                self._taken += size

    def free(self, named: SessionId) -> None:
        """An upload is finished or forgotten; once is enough."""
        self._taken -= self._sizes.pop(named, 0)
