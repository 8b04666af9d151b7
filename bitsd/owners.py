"""How many sessions each user has, or each address of anonymous clients."""

from collections import Counter
from collections.abc import Set

from .protocol.refusal import Reason, Refusal
from .protocol.session import Session
from .protocol.wire import SessionId


class Owners:
    """Whom the sessions of a directory count for.

    Args:
        limit: sessions of one owner at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._owners: dict[SessionId, str] = {}
        self._counts: Counter[str] = Counter()

    @property
    def ids(self) -> Set[SessionId]:
        """The sessions that are counted."""
        return self._owners.keys()

    def admit(self, session: Session) -> None:
        """Count a session that is about to be made.

        Raises:
            Refusal: TOO_MANY_SESSIONS.
        """
        owner = _owner(session)
        if self._counts[owner] >= self._limit:
            detail = f"{owner} has {self._limit} sessions"
            raise Refusal(Reason.TOO_MANY_SESSIONS, detail)
        self.count(session)

    def count(self, session: Session) -> None:
        """Count a session that there is, whatever the limit."""
        self._owners[session.id] = owner = _owner(session)
        self._counts[owner] += 1

    def discount(self, named: SessionId) -> None:
        """Forget a session; once is enough."""
        owner = self._owners.pop(named, None)
        if owner is not None:
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]


def _owner(session: Session) -> str:
    if session.user is not None:
        return f"user {session.user}"
    return f"address {session.address}"
