"""One upload, as a value: what may happen to it, and what it becomes.

A `Session` never changes; methods return the next one. It decides before the bytes
(`admit`) and notes after them (`grown`), so a body never passes through here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, NewType

from .refusal import Reason, Refusal
from .wire import Ack, Fragment, SessionId

Destination = NewType("Destination", str)
"""A checked path below a directory's folder: plain names with `/` between."""

#: Longest file a POSIX system can hold; a total beyond it cannot be met.
LARGEST_ENTITY = 2**63 - 1


class State(Enum):
    """Where an upload stands, in the words of [MC-BUP] 3.2.1.4."""

    RECEIVE_FRAGMENTS = "receive-fragments"
    NOTIFY = "notify"
    WAIT_FOR_CLOSE = "wait-for-close"
    GONE = "gone"


class Event(Enum):
    """What moves a session: a client's packet, or the end of what it started."""

    FRAGMENT = "fragment"
    COMPLETED = "completed"
    DELIVERED = "delivered"
    FAILED = "failed"
    CLOSE = "close"
    CANCEL = "cancel"


#: [MC-BUP] 3.2.5, with our decisions on an early Close and a late Cancel
#: (protocol-notes/closing.md). What is not in the table is refused.
TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.RECEIVE_FRAGMENTS: {
        Event.FRAGMENT: State.RECEIVE_FRAGMENTS,
        Event.COMPLETED: State.NOTIFY,
        Event.CLOSE: State.GONE,
        Event.CANCEL: State.GONE,
    },
    State.NOTIFY: {
        Event.DELIVERED: State.WAIT_FOR_CLOSE,
        Event.FAILED: State.RECEIVE_FRAGMENTS,
    },
    State.WAIT_FOR_CLOSE: {
        Event.FRAGMENT: State.WAIT_FOR_CLOSE,
        Event.CLOSE: State.GONE,
        Event.CANCEL: State.GONE,
    },
    State.GONE: {},
}


class Admission(NamedTuple):
    """What to keep of a fragment's body: after `skip` bytes, the next `take`."""

    skip: int
    take: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An upload in flight ([MC-BUP] 3.2.1.4).

    Attributes:
        url: absolute URL of its Create-Session, query included.
        user: who signed in to create it; None for anonymous.
        address: where its Create-Session came from.
        touched: last time anything was stored for it.
        received: bytes held, contiguous from the start of the entity.
        total: size of the entity, as its first fragment said.
        reply_url: what the application's reply is fetched by.
        refused: status by which the application refused the upload for good.
    """

    id: SessionId
    destination: Destination
    url: str
    created: datetime
    touched: datetime
    user: str | None = None
    address: str = ""
    received: int = 0
    total: int | None = None
    state: State = State.RECEIVE_FRAGMENTS
    reply_url: str | None = None
    refused: int | None = None

    @property
    def complete(self) -> bool:
        """All bytes of the entity are held."""
        return self.received == self.total

    def after(self, event: Event) -> "Session":
        """The session once `event` has happened.

        Raises:
            Refusal: MALFORMED, the event cannot happen in this state.
        """
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            detail = f"{event.value} while {self.state.value}"
            raise Refusal(Reason.MALFORMED, detail)
        return self if state is self.state else replace(self, state=state)

    def admit(self, fragment: Fragment, *, maximum: int | None) -> Admission:
        """Decide what to keep of a fragment, before any of its body is read.

        Bytes already held are skipped, not rewritten. A gap cannot be filled
        later, so it is refused along with the offset to resume from
        ([MC-BUP] 3.2.5.2.6; protocol-notes/overlap.md).

        Args:
            maximum: largest entity the directory takes, in bytes; None is no limit.

        Raises:
            Refusal: MALFORMED (the total changed), TOO_LARGE or OUT_OF_SYNC.
        """
        if self.total not in (None, fragment.total):
            detail = f"the total was {self.total} bytes and is now {fragment.total}"
            raise Refusal(Reason.MALFORMED, detail)
        limit = LARGEST_ENTITY if maximum is None else maximum
        if fragment.total > limit:
            detail = f"{fragment.total} bytes, the limit is {limit}"
            raise Refusal(Reason.TOO_LARGE, detail)
        if fragment.first > self.received:
            detail = f"holds {self.received} bytes, got {fragment.first}.."
            raise Refusal(Reason.OUT_OF_SYNC, detail, received=self.received)
        skip = min(self.received - fragment.first, fragment.length)
        return Admission(skip, fragment.length - skip)

    def sized(self, total: int) -> "Session":
        """The session once its first fragment told the size of the entity."""
        return replace(self, total=total)

    def grown(self, received: int) -> "Session":
        """The session once `received` bytes are held, from the start."""
        return replace(self, received=received)

    def delivered(self, reply_url: str | None) -> "Session":
        """The session once its entity got its name or went to the application."""
        return replace(self.after(Event.DELIVERED), reply_url=reply_url)

    def rejected(self, status: int) -> "Session":
        """The session once the application said that it will never take the entity."""
        return replace(self.after(Event.FAILED), refused=status)

    def expired(self, now: datetime, session_timeout: timedelta) -> bool:
        """Nothing was stored for longer than the timeout ([MC-BUP] 3.2.2.1)."""
        return now - self.touched > session_timeout

    def ack(self) -> Ack:
        """The answer to a fragment that was kept ([MC-BUP] 2.2.7)."""
        return Ack(session_id=self.id, received=self.received, reply_url=self.reply_url)
