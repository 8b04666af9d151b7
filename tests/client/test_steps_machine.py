"""An upload against a model of a server, on a line that breaks where it likes."""

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bitsd.client.moves import (
    Answered,
    Done,
    Failed,
    GaveUp,
    GetReply,
    Moment,
    Send,
    Unanswered,
    Wait,
    Waited,
)
from bitsd.client.pace import Pace
from bitsd.client.retry import Patience
from bitsd.client.steps import Upload, after, start
from bitsd.protocol.wire import (
    Ack,
    CancelSession,
    CloseSession,
    CreateSession,
    Fragment,
    Packet,
    Ping,
)

#: Packets that the longest of these uploads needs when nothing breaks any more.
ENOUGH = 400

REPLY = "http://server.test/reply"


@dataclass
class Server:
    """What a server has; `held` bytes of each session, all of them in order.

    Attributes:
        literal: it refuses what it already holds, as [MC-BUP] 3.2.5.2.6 has it.
        names: its sessions are on a node of their own.
        published: whole files.
    """

    size: int
    literal: bool
    names: bool
    replies: bool
    largest: int
    held: dict[str, int] = field(default_factory=dict)
    created: int = 0
    published: int = 0
    fetched: int = 0

    def answer(self, packet: Packet) -> Ack:
        match packet:
            case CreateSession():
                self.created += 1
                named = f"session-{self.created}"
                self.held[named] = 0
                host_id = "node.test" if self.names else None
                timeout = 30 if self.names else None
                return Ack(
                    session_id=named,
                    host_id=host_id,
                    host_id_fallback_timeout=timeout,
                )
            case Ping():
                return Ack()
            case Fragment(named) | CloseSession(named) | CancelSession(named):
                if named not in self.held:
                    return Ack(status=500, error=0x8020001F)
        if isinstance(packet, Fragment):
            return self.fragment(packet)
        del self.held[packet.session_id]
        return Ack()

    def fragment(self, packet: Fragment) -> Ack:
        assert packet.total == self.size
        assert 0 <= packet.first <= packet.last + 1 <= self.size
        assert packet.length or not self.size
        if packet.length > self.largest:
            return Ack(status=413)
        held = self.held[packet.session_id]
        if packet.first > held or (self.literal and packet.first < held):
            return self.told(packet.session_id, 416)
        self.take(packet, packet.last + 1)
        return self.told(packet.session_id, 200)

    def take(self, packet: Fragment, end: int) -> None:
        held = self.held[packet.session_id]
        if packet.first > held or (self.literal and packet.first < held):
            return
        self.held[packet.session_id] = max(held, end)
        if held < self.size == end:
            self.published += 1

    def told(self, named: str, status: int) -> Ack:
        held = self.held[named]
        reply = REPLY if self.replies and held == self.size else None
        return Ack(status=status, session_id=named, received=held, reply_url=reply)


class Uploads(RuleBasedStateMachine):
    """One upload, one packet at a time; between them anything may happen."""

    @initialize(
        size=st.integers(0, 60_000),
        part=st.sampled_from([1_000, 5_120, 7_777, 40_000]),
        largest=st.sampled_from([5_120, 9_999, 10**6]),
        literal=st.booleans(),
        names=st.booleans(),
        replies=st.booleans(),
    )
    def begin(self, size, part, largest, **traits):
        self.server = Server(size, largest=largest, **traits)
        self.now = 0.0
        pace = Pace.fixed(part)
        file = "/r" if self.server.replies else None
        upload = Upload(size=size, pace=pace, reply_file=file, patience=Patience())
        self.upload, self.step = start(upload, self.moment)
        self.lost = 0

    @property
    def moment(self) -> Moment:
        return Moment(self.now)

    def tell(self, event) -> None:
        self.upload, self.step = after(self.upload, event, self.moment)
        self.now += 1.0
        while isinstance(self.step, Wait):
            self.now += self.step.seconds
            self.upload, self.step = after(self.upload, Waited(), self.moment)

    def going(self) -> bool:
        return isinstance(self.step, Send | GetReply)

    @precondition(going)
    @rule()
    def answered(self):
        if isinstance(self.step, GetReply):
            assert self.step == GetReply(REPLY, "/r")
            self.server.fetched += 1
            self.tell(Answered(200))
            return
        ack = self.server.answer(self.step.packet)
        self.tell(Answered(ack.status, tuple(ack.fields())))

    @precondition(going)
    @rule()
    def nothing_arrives(self):
        self.tell(Unanswered("broke"))

    @precondition(going)
    @rule()
    def answer_is_lost(self):
        if isinstance(self.step, Send):
            self.server.answer(self.step.packet)
        self.tell(Unanswered("broke"))

    @precondition(going)
    @rule(data=st.data())
    def part_arrives(self, data):
        packet = self.step.packet if isinstance(self.step, Send) else None
        if isinstance(packet, Fragment) and packet.session_id in self.server.held:
            arrived = data.draw(st.integers(0, max(0, packet.length - 1)))
            if arrived and packet.length <= self.server.largest:
                self.server.take(packet, packet.first + arrived)
        self.tell(Unanswered("broke"))

    @precondition(going)
    @rule(status=st.sampled_from([500, 502, 503, 504]))
    def proxy_answers(self, status):
        self.tell(Answered(status))

    @precondition(lambda self: self.going() and self.lost < 4)
    @rule()
    def server_forgets(self):
        self.lost += 1
        self.server.held.clear()

    @precondition(lambda self: self.going() and self.lost < 4)
    @rule(data=st.data())
    def server_loses_bytes(self, data):
        """After a power cut, of a server that acknowledges what is not yet safe."""
        self.lost += 1
        for named, held in self.server.held.items():
            if held < self.server.size:
                self.server.held[named] = data.draw(st.integers(0, held))

    @precondition(going)
    @rule()
    def program_starts_again(self):
        """It has its note, which is all that is left."""
        upload = self.upload
        fresh = Upload(
            size=upload.size,
            session_id=upload.session_id,
            host_id=upload.host_id,
            fallback_seconds=upload.fallback_seconds,
            finished=upload.finished,
            reply_file=upload.reply_file,
            pace=replace(upload.pace),
        )
        self.upload, self.step = start(fresh, self.moment)

    @precondition(lambda self: not self.going())
    @rule()
    def nothing_happens_any_more(self):
        assert self.step == Done()

    @invariant()
    def it_never_fails(self):
        if hasattr(self, "step"):
            assert not isinstance(self.step, Failed | GaveUp), self.step

    @invariant()
    def done_means_that_the_server_has_the_file(self):
        if isinstance(getattr(self, "step", None), Done):
            assert self.server.published or not self.server.size
            assert self.upload.finished

    def teardown(self):
        """When nothing breaks any more it comes to its end."""
        if not hasattr(self, "step"):
            return
        for _ in range(ENOUGH):
            if not self.going():
                break
            self.answered()

        assert self.step == Done()
        self.done_means_that_the_server_has_the_file()


TestUploads = Uploads.TestCase
TestUploads.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
