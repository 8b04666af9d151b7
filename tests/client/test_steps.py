"""What an upload does next: each rule, as a conversation."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bitsd.client.moves import (
    Answered,
    Done,
    Event,
    Failed,
    GaveUp,
    GetReply,
    Moment,
    Send,
    Step,
    Unanswered,
    Wait,
    Waited,
)
from bitsd.client.pace import MINIMUM, Pace
from bitsd.client.retry import Patience
from bitsd.client.steps import MAXIMUM_RESTARTS, MAXIMUM_STALLS, Upload, after, start
from bitsd.protocol.wire import (
    Ack,
    CancelSession,
    CloseSession,
    CreateSession,
    Fragment,
    Packet,
    Ping,
    SessionId,
)

ID = SessionId("{0B5E6F14-77C2-4D0A-9C51-2F6B9A1D8E30}")
OTHER = SessionId("{66666666-7777-4888-9999-AAAAAAAAAAAA}")

#: Three fragments of it, as in the first sample.
SIZE = 30_000
PART = 12_288

LOST = Ack(status=500, session_id=ID, error=0x8020001F, context=5)
BROKEN = Unanswered("the connection broke")


def acked(ack: Ack, *more: tuple[str, str], seconds: float = 0.0) -> Answered:
    return Answered(ack.status, (*ack.fields(), *more), seconds)


def received(offset: int, status: int = 200, reply_url: str | None = None) -> Answered:
    ack = Ack(status=status, session_id=ID, received=offset, reply_url=reply_url)
    return acked(ack)


CREATED = acked(Ack(session_id=ID, protocol="{7DF0354D-249B-430F-820D-3D2A9BEF4931}"))
OK = acked(Ack())
CLOSED = acked(Ack(session_id=ID))


class Conversation:
    """An upload, told one event after the other.

    Attributes:
        now: seconds; a `Wait` passes by itself.
    """

    def __init__(self, **facts: object) -> None:
        facts = {"size": SIZE, "pace": Pace.fixed(PART), **facts}
        self.now = 1000.0
        self.waits: list[Wait] = []
        self.upload, self.step = start(Upload(**facts), self.moment)

    @property
    def moment(self) -> Moment:
        return Moment(self.now, 0.5)

    def tell(self, *events: Event) -> "Conversation":
        for event in events:
            self.upload, self.step = after(self.upload, event, self.moment)
            if isinstance(self.step, Wait):
                self.waits.append(self.step)
                self.now += self.step.seconds
                self.upload, self.step = after(self.upload, Waited(), self.moment)
        return self

    @property
    def packet(self) -> Packet:
        assert isinstance(self.step, Send), self.step
        return self.step.packet


def created(**facts: object) -> Conversation:
    return Conversation(**facts).tell(CREATED)


def fragment(first: int, last: int, total: int = SIZE) -> Fragment:
    return Fragment(ID, first, last, total)


def test_upload_is_create_fragments_and_close():
    talk = Conversation()
    events = (CREATED, received(PART), received(2 * PART), received(SIZE))
    packets = [talk.packet, *(talk.tell(event).packet for event in events)]

    assert packets == [
        CreateSession(),
        fragment(0, 12_287),
        fragment(12_288, 24_575),
        fragment(24_576, 29_999),
        CloseSession(ID),
    ]
    assert talk.tell(CLOSED).step == Done()


def test_created_is_201_with_onedrive():
    talk = Conversation().tell(acked(replace(Ack(session_id=ID), status=201)))

    assert talk.packet == fragment(0, 12_287)


def test_empty_file_is_one_fragment():
    talk = created(size=0)

    assert talk.packet == fragment(0, -1, 0)
    assert talk.tell(received(0)).packet == CloseSession(ID)


@pytest.mark.parametrize("status", [200, 416])
@pytest.mark.parametrize("offset", [20_000, 12_289])
def test_offset_of_the_server_is_followed(status: int, offset: int):
    talk = created().tell(received(PART), received(offset, status))

    assert talk.packet == fragment(offset, min(offset + PART, SIZE) - 1)


def test_ack_without_an_offset_means_all_that_was_sent():
    talk = created().tell(CLOSED)

    assert talk.packet == fragment(PART, 2 * PART - 1)


def test_bytes_that_a_server_lost_are_sent_again():
    talk = created().tell(received(2 * PART), received(5_000, 416))

    assert talk.packet == fragment(5_000, 5_000 + PART - 1)


def test_whole_file_is_complete_only_once_its_last_byte_was_sent_here():
    """An earlier one may be answered without asking the application."""
    talk = created().tell(received(SIZE))

    assert talk.packet == fragment(SIZE - MINIMUM, SIZE - 1)
    assert talk.tell(received(SIZE)).packet == CloseSession(ID)


def test_more_bytes_than_the_file_has_are_a_failure():
    assert created().tell(received(SIZE + 1)).step == Failed(
        "the server says that it has 30001 bytes of 30000", 200
    )


@pytest.mark.parametrize("named", ["42", "abc-def", "{x}", "!" * 100])
def test_session_id_of_another_server_is_sent_back(named: str):
    talk = Conversation().tell(acked(Ack(session_id=named)))

    assert isinstance(talk.packet, Fragment)
    assert talk.packet.session_id == named


@pytest.mark.parametrize(
    "ack",
    [
        Ack(),
        Ack(session_id=""),
        Ack(session_id="a b"),
        Ack(session_id="x" * 101),
        Ack(session_id=ID, protocol="{11111111-2222-3333-4444-555555555555}"),
    ],
)
def test_session_that_cannot_be_used_is_a_failure(ack: Ack):
    step = Conversation().tell(acked(ack)).step

    assert isinstance(step, Failed)
    assert step.why.startswith("the server makes no session that can be used")


# Breaks.


def test_broken_connection_is_followed_by_a_ping_and_a_small_fragment():
    talk = created().tell(received(PART), BROKEN)

    assert talk.waits == [Wait(1.0, BROKEN.why)]
    assert talk.packet == Ping()
    assert talk.tell(OK).packet == fragment(PART, PART + MINIMUM - 1)
    assert talk.tell(received(20_000)).packet == fragment(20_000, 29_999)


def test_broken_connection_near_the_end_repeats_the_last_bytes():
    talk = created().tell(received(PART), received(2 * PART), BROKEN, OK)

    assert talk.packet == fragment(2 * PART, 2 * PART + MINIMUM - 1)
    assert talk.tell(received(SIZE)).packet == fragment(SIZE - MINIMUM, SIZE - 1)
    assert talk.tell(received(SIZE, 416)).packet == CloseSession(ID)


def test_broken_connection_before_there_is_a_session_repeats_the_create():
    assert Conversation().tell(BROKEN).packet == CreateSession()


def test_resumed_upload_asks_what_the_server_holds():
    talk = Conversation(session_id=ID)

    assert talk.packet == Ping()
    assert talk.tell(OK).packet == fragment(0, MINIMUM - 1)
    assert talk.tell(received(20_000)).packet == fragment(20_000, 29_999)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_ping_that_is_misunderstood_does_not_matter(status: int):
    error = 0x8020001F if status == 500 else None
    talk = Conversation(session_id=ID).tell(acked(Ack(status=status, error=error)))

    assert isinstance(talk.packet, Fragment)


@pytest.mark.parametrize("status", [401, 407, 501])
def test_ping_may_be_refused(status: int):
    step = Conversation(session_id=ID).tell(Answered(status)).step

    assert isinstance(step, Failed)
    assert step.status == status


def test_ping_may_have_to_wait():
    talk = Conversation(session_id=ID).tell(Answered(503))

    assert talk.waits[0].seconds == 1.0
    assert talk.packet == Ping()


def test_trouble_that_stays_ends_at_once():
    step = created().tell(Unanswered("not trusted", final=True)).step

    assert step == Failed("not trusted")


def test_waits_grow_until_it_is_given_up():
    patience = Patience(retry_for=timedelta(hours=1))
    talk = created(patience=patience)
    while not isinstance(talk.step, GaveUp):
        talk.tell(BROKEN)

    waits = [wait.seconds for wait in talk.waits]
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert max(waits) == 300
    assert sum(waits) == 3600
    assert talk.step == GaveUp(BROKEN.why)


def test_time_for_giving_up_counts_from_the_last_progress():
    talk = created(patience=Patience(retry_for=timedelta(seconds=10)))
    for offset in (100, 200, 300, 400):
        talk.tell(BROKEN, BROKEN, BROKEN, OK, received(offset))

    assert isinstance(talk.step, Send)


@pytest.mark.parametrize("seconds", ["0", "1", "77"])
def test_server_says_how_long_to_wait(seconds: str):
    busy = acked(Ack(status=503), ("Retry-After", seconds))
    talk = created().tell(busy)

    assert talk.waits[0].seconds == 1 + int(seconds)


# Refusals.


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 409])
@pytest.mark.parametrize("with_ack", [True, False])
def test_transient_answer_is_waited_out(status: int, *, with_ack: bool):
    answer = acked(Ack(status=status)) if with_ack else Answered(status)
    talk = created().tell(received(PART), answer)

    assert f"HTTP {status}" in talk.waits[0].why
    assert talk.packet == Ping()
    assert talk.tell(OK).packet == fragment(PART, PART + MINIMUM - 1)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 501, 505])
@pytest.mark.parametrize("with_ack", [True, False])
def test_fatal_answer_ends_it(status: int, *, with_ack: bool):
    answer = acked(Ack(status=status)) if with_ack else Answered(status)
    for talk in (Conversation(), created()):
        step = talk.tell(answer).step

        assert isinstance(step, Failed)
        assert step.status == status


@pytest.mark.parametrize(("status", "code"), [(500, 0x80200020), (500, 0x80070057)])
def test_fatal_code_ends_it_whatever_the_status(status: int, code: int):
    step = created().tell(acked(Ack(status=status, error=code))).step

    assert isinstance(step, Failed)
    assert (step.status, step.code) == (status, code)


def test_web_server_that_takes_a_packet_for_a_page_is_no_bits_server():
    step = Conversation().tell(Answered(200)).step

    assert isinstance(step, Failed)
    assert "took BITS_POST for a GET" in step.why


def test_log_in_page_in_between_is_waited_out():
    talk = created().tell(Answered(200))

    assert "the server's answer is none" in talk.waits[0].why


def test_too_large_a_fragment_is_halved_until_it_passes():
    talk = created(size=100_000, pace=Pace.fixed(40_000))
    lengths = [talk.packet.length]
    lengths += [talk.tell(Answered(413)).packet.length for _ in range(3)]

    assert lengths == [40_000, 20_000, 10_000, 5_120]
    assert talk.tell(received(5_120)).packet.length == 5_120
    assert isinstance(talk.tell(Answered(413)).step, Failed)


def test_fragments_grow_with_the_speed_of_the_line():
    talk = created(size=10**9, pace=Pace())
    lengths = []
    offset = 0
    for _ in range(9):
        lengths.append(talk.packet.length)
        offset += talk.packet.length
        ack = Ack(session_id=ID, received=offset)
        talk.tell(acked(ack, seconds=0.1))

    assert [length >> 20 for length in lengths] == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_out_of_sync_without_an_offset_is_a_failure():
    assert isinstance(created().tell(acked(Ack(status=416))).step, Failed)


def test_server_that_never_advances_is_given_up():
    talk = created().tell(received(PART))
    count = 0
    while not isinstance(talk.step, Failed):
        talk.tell(OK if talk.packet == Ping() else received(PART, 416))
        count += 1
        assert count < 100

    assert talk.step.code == 0x80200024
    assert len(talk.waits) == MAXIMUM_STALLS - 1


def test_server_that_goes_to_and_fro_is_given_up():
    talk = created().tell(received(PART))
    for count in range(100):
        if isinstance(talk.step, Failed):
            break
        offset = PART if count % 2 else 100
        talk.tell(OK if talk.packet == Ping() else received(offset))

    assert isinstance(talk.step, Failed)


# Lost sessions.


def test_lost_session_is_begun_anew_from_the_first_byte():
    talk = created().tell(received(PART), acked(LOST))

    assert talk.packet == CreateSession()
    ack = Ack(session_id=OTHER)
    assert talk.tell(acked(ack)).packet == Fragment(OTHER, 0, PART - 1, SIZE)


def test_server_that_keeps_no_session_is_given_up():
    talk = created()
    for _ in range(MAXIMUM_RESTARTS):
        talk.tell(acked(LOST), CREATED)
    step = talk.tell(acked(LOST)).step

    assert isinstance(step, Failed)
    assert (step.status, step.code) == (500, 0x8020001F)


def test_session_that_is_lost_after_the_last_byte_was_closed():
    talk = created().tell(received(PART), received(2 * PART), received(SIZE))

    assert talk.packet == CloseSession(ID)
    assert talk.tell(BROKEN, OK, acked(LOST)).step == Done()


def test_session_that_is_lost_after_an_earlier_run_sent_all_was_closed():
    talk = Conversation(session_id=ID, finished=True).tell(OK)

    assert talk.packet == fragment(0, MINIMUM - 1)
    assert talk.tell(acked(LOST)).step == Done()


def test_session_that_is_lost_after_it_lost_bytes_is_begun_anew():
    talk = Conversation(session_id=ID, finished=True)
    talk.tell(OK, received(100, 416), acked(LOST))

    assert talk.packet == CreateSession()


# Close and Cancel.


@pytest.mark.parametrize("cancelling", [False, True])
@pytest.mark.parametrize(
    ("status", "again"),
    [(500, True), (501, True), (505, True), (503, True), (400, False), (404, False)],
)
def test_only_5xx_repeats_the_end(status: int, *, again: bool, cancelling: bool):
    talk = at_the_end(cancelling=cancelling)
    packet = talk.packet
    talk.tell(acked(Ack(status=status)))

    if again:
        assert talk.packet == Ping()
        assert talk.tell(OK).packet == packet
    else:
        assert isinstance(talk.step, Failed)


def at_the_end(*, cancelling: bool) -> Conversation:
    if cancelling:
        return Conversation(session_id=ID, cancelling=True).tell(OK)
    return created(size=0).tell(received(0))


@pytest.mark.parametrize("answer", [CLOSED, acked(LOST)])
def test_cancelled_session_is_gone(answer: Answered):
    talk = Conversation(session_id=ID, cancelling=True).tell(OK)

    assert talk.packet == CancelSession(ID)
    assert talk.tell(answer).step == Done()


# Host ids.

NODE = Ack(session_id=ID, host_id="node3.example.test", host_id_fallback_timeout=60)


def hosts(*steps: Step) -> list[str | None]:
    return [step.host_id for step in steps if isinstance(step, Send)]


def test_node_is_pinged_at_once_and_asked_from_then_on():
    talk = Conversation()
    events = (acked(NODE), OK, received(SIZE), received(SIZE))
    steps = [talk.step, *(talk.tell(event).step for event in events)]

    assert hosts(*steps) == [None, *["node3.example.test"] * 4]
    assert isinstance(steps[1], Send)
    assert steps[1].packet == Ping()


@pytest.mark.parametrize("named", ["10.0.0.1", "2001:db8::1", "FRANKCAO8", "a_b.test."])
def test_node_may_be_an_address_or_a_name(named: str):
    talk = Conversation().tell(acked(replace(NODE, host_id=named)))

    assert hosts(talk.step) == [named]


@pytest.mark.parametrize("named", ["a/b", "a:80", "user@a", "", "a..b", "x" * 301, "é"])
def test_node_that_is_no_host_is_none(named: str):
    ack = replace(NODE, host_id=named)
    talk = Conversation().tell(Answered(200, tuple(ack.fields())))

    assert hosts(talk.step) == [None]
    assert talk.packet == fragment(0, PART - 1)


def test_node_that_is_gone_for_its_time_leads_back_to_the_host_and_a_new_session():
    talk = Conversation().tell(acked(NODE), OK, received(PART))
    asked = []
    while talk.now < 1100:
        talk.tell(BROKEN)
        asked += hosts(talk.step)

    assert asked[:6] == ["node3.example.test"] * 6
    assert asked[-1] is None
    assert talk.tell(OK, acked(LOST)).packet == CreateSession()


def test_node_that_says_no_time_is_never_left():
    ack = replace(NODE, host_id_fallback_timeout=None)
    talk = Conversation().tell(acked(ack), OK)
    for _ in range(30):
        talk.tell(BROKEN)

    assert hosts(talk.step) == ["node3.example.test"]


def test_node_has_all_its_time_whatever_failed_before_it_was_named():
    talk = Conversation().tell(*[BROKEN] * 7, acked(NODE), BROKEN)

    assert sum(wait.seconds for wait in talk.waits) > 60
    assert hosts(talk.step) == ["node3.example.test"]


def test_node_that_answers_again_has_all_its_time_again():
    talk = Conversation().tell(acked(NODE), OK)
    for offset in range(1, 12):
        talk.tell(*[BROKEN] * 4, OK, received(offset))

    assert hosts(talk.step) == ["node3.example.test"]


# Replies.

URL = "http://up.example.test/in/replies/1"


def replied(**facts: object) -> Conversation:
    return created(size=0, **facts).tell(received(0, reply_url=URL))


def test_reply_is_fetched_before_the_session_is_closed():
    talk = replied(reply_file="/r")

    assert talk.step == GetReply(URL, "/r")
    assert talk.tell(Answered(200)).packet == CloseSession(ID)


def test_reply_is_left_where_nobody_wants_it():
    talk = replied()

    assert talk.packet == CloseSession(ID)
    assert talk.upload.reply_url == URL


def test_no_reply_is_none():
    assert created(size=0, reply_file="/r").tell(received(0)).packet == CloseSession(ID)


def test_reply_that_fails_for_now_is_fetched_later():
    talk = replied(reply_file="/r").tell(Answered(503))

    assert talk.packet == Ping()
    assert talk.tell(OK).step == GetReply(URL, "/r")
    assert talk.tell(BROKEN, OK).step == GetReply(URL, "/r")


def test_reply_that_is_not_there_ends_it():
    assert isinstance(replied(reply_file="/r").tell(Answered(404)).step, Failed)


def test_application_that_failed_is_told_again_with_the_last_bytes():
    failed = Ack(status=503, received=SIZE, error=0x8020001E, context=7)
    talk = created().tell(received(PART), received(2 * PART), acked(failed), OK)

    assert talk.packet == fragment(SIZE - MINIMUM, SIZE - 1)
    assert talk.tell(received(SIZE)).packet == CloseSession(ID)
