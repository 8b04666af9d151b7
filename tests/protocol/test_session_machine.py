"""A session driven through any packets, against a file and a client that are simple.

The steps are the server's: decide, take what came of the body, note it, deliver.
"""

from datetime import UTC, datetime

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from bitsd.protocol.refusal import Reason, Refusal
from bitsd.protocol.session import Destination, Event, Session, State
from bitsd.protocol.wire import Fragment, SessionId

ID = SessionId("{0B5E6F14-77C2-4D0A-9C51-2F6B9A1D8E30}")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTITY = bytes(range(24))
offsets = st.integers(0, len(ENTITY) - 1)


def created():
    return Session(
        id=ID,
        destination=Destination("report.dat"),
        url="http://up.example.test/in/report.dat",
        created=START,
        touched=START,
    )


class Upload(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.session = created()
        self.file = b""
        self.published = None

    def is_state(self, *states):
        return self.session.state in states

    @precondition(lambda self: self.is_state(State.RECEIVE_FRAGMENTS))
    @rule(first=offsets, last=offsets, came=st.integers(0, 24))
    def send(self, first, last, came):
        """A fragment, of whose body only `came` bytes arrive."""
        first, last = sorted((first, last))
        session = self.session.after(Event.FRAGMENT)
        try:
            fragment = Fragment(ID, first, last, len(ENTITY))
            skip, take = session.admit(fragment, maximum=len(ENTITY))
        except Refusal as refusal:
            assert refusal.reason is Reason.OUT_OF_SYNC
            assert refusal.received == len(self.file) < first
            return
        body = ENTITY[first : last + 1][:came]
        self.file += body[skip : skip + take]
        self.session = session.sized(len(ENTITY)).grown(len(self.file))

    @precondition(lambda self: self.is_state(State.RECEIVE_FRAGMENTS))
    @rule()
    def resume(self):
        """The client goes on where the server says, to the end."""
        first = self.session.ack().received
        if first < len(ENTITY):
            self.send(first, len(ENTITY) - 1, len(ENTITY))
        assert self.session.complete

    @precondition(lambda self: self.session.complete)
    @precondition(lambda self: self.is_state(State.RECEIVE_FRAGMENTS))
    @rule()
    def complete(self):
        self.session = self.session.after(Event.COMPLETED)

    @precondition(lambda self: self.is_state(State.NOTIFY))
    @rule()
    def deliver(self):
        self.session = self.session.delivered(None)
        self.published = self.file

    @precondition(lambda self: self.is_state(State.NOTIFY))
    @rule()
    def reject(self):
        self.session = self.session.rejected(403)

    @precondition(lambda self: self.is_state(State.WAIT_FOR_CLOSE))
    @rule(first=offsets, last=offsets)
    def repeat(self, first, last):
        """A fragment whose Ack was lost adds nothing, whatever it is."""
        first, last = sorted((first, last))
        session = self.session.after(Event.FRAGMENT)
        fragment = Fragment(ID, first, last, len(ENTITY))

        assert session.admit(fragment, maximum=None).take == 0
        assert session.ack().received == len(ENTITY)

    @precondition(lambda self: not self.is_state(State.NOTIFY, State.GONE))
    @rule(event=st.sampled_from([Event.CLOSE, Event.CANCEL]))
    def end(self, event):
        self.session = self.session.after(event)

    @precondition(lambda self: self.is_state(State.GONE))
    @rule(event=st.sampled_from(Event))
    def wake(self, event):
        try:
            self.session.after(event)
        except Refusal as refusal:
            assert refusal.reason is Reason.MALFORMED
        else:
            raise AssertionError(f"{event} after the end")

    @precondition(lambda self: self.is_state(State.GONE))
    @rule()
    def create(self):
        self.session, self.file, self.published = created(), b"", None

    @invariant()
    def bytes_held_are_a_prefix(self):
        assert ENTITY.startswith(self.file)
        assert self.session.received == len(self.file)

    @invariant()
    def delivered_is_whole(self):
        assert self.published in (None, ENTITY)
        if self.is_state(State.WAIT_FOR_CLOSE):
            assert self.published == ENTITY


TestUpload = Upload.TestCase
