"""Who sent a packet, and what that may have to do with a session."""

from dataclasses import dataclass

from .protocol.refusal import Reason, Refusal
from .protocol.session import Destination
from .protocol.wire import SessionId


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a packet, and where to.

    Attributes:
        user: signed-in name; None for anonymous.
        address: of the client, for the log and for limits, never for identity.
    """

    user: str | None
    address: str
    destination: Destination

    def check(self, named: SessionId, user: str | None, wanted: str) -> None:
        """Whether a session is this caller's, and for this URL.

        Args:
            named: which.
            user: whose it is.
            wanted: its destination.

        Raises:
            Refusal: SESSION_NOT_FOUND: for others it does not exist.
        """
        if user != self.user:
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} is of another user")
        if wanted != self.destination:
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} is for {wanted!r}")
