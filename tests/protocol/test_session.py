from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.protocol.refusal import Reason, Refusal
from bitsd.protocol.session import (
    Admission,
    Destination,
    Event,
    Session,
    State,
)
from bitsd.protocol.wire import Ack, Fragment, SessionId

ID = SessionId("{0B5E6F14-77C2-4D0A-9C51-2F6B9A1D8E30}")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIMEOUT = timedelta(days=14)
REPLY = "http://up.example.test/in/BITS-Replies/%7B0B5E%7D"


def held(received=0, total=None, state=State.RECEIVE_FRAGMENTS, **more):
    return Session(
        id=ID,
        destination=Destination("report.dat"),
        url="http://up.example.test/in/report.dat",
        created=START,
        touched=START,
        received=received,
        total=total,
        state=state,
        **more,
    )


def fragment(first, last, total):
    return Fragment(ID, first, last, total)


def refused(session, sent, maximum=None):
    with pytest.raises(Refusal) as caught:
        session.admit(sent, maximum=maximum)
    return caught.value


@pytest.mark.parametrize(
    ("session", "sent", "expected"),
    [
        (held(), (0, 99, 300), Admission(0, 100)),
        (held(), (0, 299, 300), Admission(0, 300)),
        (held(100, 300), (100, 199, 300), Admission(0, 100)),
        (held(299, 300), (299, 299, 300), Admission(0, 1)),
        (held(150, 300), (100, 199, 300), Admission(50, 50)),
        (held(199, 300), (100, 199, 300), Admission(99, 1)),
        (held(150, 300), (0, 299, 300), Admission(150, 150)),
        (held(200, 300), (100, 199, 300), Admission(100, 0)),
        (held(250, 300), (100, 199, 300), Admission(100, 0)),
        (held(300, 300), (200, 299, 300), Admission(100, 0)),
        (held(), (0, -1, 0), Admission(0, 0)),
        (held(0, 0), (0, -1, 0), Admission(0, 0)),
        (held(40), (0, 99, 300), Admission(40, 60)),
    ],
    ids=[
        "first",
        "all at once",
        "in order",
        "last byte",
        "overlap",
        "overlap up to the last byte",
        "all again after a part",
        "duplicate of the newest",
        "older duplicate",
        "duplicate of the completing fragment",
        "empty entity",
        "empty entity again",
        "bytes held before the total was recorded",
    ],
)
def test_bytes_already_held_are_skipped_and_the_rest_is_taken(session, sent, expected):
    assert session.admit(fragment(*sent), maximum=None) == expected


@pytest.mark.parametrize(
    ("session", "sent"),
    [
        (held(), (1, 299, 300)),
        (held(100, 300), (101, 199, 300)),
        (held(299, 300), (299 + 1, 309, 300)),
    ],
    ids=["first fragment", "one byte short", "at the end"],
)
def test_gap_is_refused_with_the_offset_to_resume_from(session, sent):
    refusal = refused(session, fragment(*sent))

    assert (refusal.reason, refusal.received) == (Reason.OUT_OF_SYNC, session.received)


@pytest.mark.parametrize(
    ("session", "sent"),
    [
        (held(100, 300), (100, 199, 301)),
        (held(100, 300), (100, 199, 299)),
        (held(100, 300), (200, 299, 301)),
        (held(300, 300), (0, -1, 0)),
        (held(0, 0), (0, 0, 1)),
    ],
    ids=["grew", "shrank", "behind a gap", "became empty", "was empty"],
)
def test_total_that_changed_is_refused(session, sent):
    assert refused(session, fragment(*sent)).reason is Reason.MALFORMED


def test_total_that_changed_is_not_too_large_but_broken():
    # TOO_LARGE ends the session, and with it bytes that are in order.
    assert refused(held(5, 10), fragment(5, 9, 2000), 100).reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("total", "maximum"),
    [(301, 300), (1, 0), (2**63, None)],
    ids=["over", "nothing allowed", "no file system can hold it"],
)
def test_entity_over_the_limit_is_refused_at_its_first_fragment(total, maximum):
    refusal = refused(held(), fragment(0, 0, total), maximum)

    assert refusal.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("total", "maximum"),
    [(300, 300), (300, None), (2**63 - 1, None)],
    ids=["at the limit", "no limit", "largest"],
)
def test_entity_up_to_the_limit_is_admitted(total, maximum):
    admission = held().admit(fragment(0, 0, total), maximum=maximum)

    assert admission == Admission(0, 1)


def test_empty_entity_is_admitted_whatever_the_limit():
    assert held().admit(fragment(0, -1, 0), maximum=0) == Admission(0, 0)


@st.composite
def spans(draw):
    """A total, and fragments anywhere in it with how much of each body came."""
    total = draw(st.integers(1, 40))
    offset = st.integers(0, total - 1)
    bounds = st.tuples(offset, offset).map(sorted)
    return total, draw(st.lists(st.tuples(bounds, st.integers(0, 40)), max_size=30))


@given(spans())
def test_any_fragments_leave_a_prefix_of_the_entity_that_only_grows(case):
    total, sent = case
    entity, session = b"", held()

    for number, ((first, last), came) in enumerate(sent):
        # The body of every fragment differs, so a byte written twice is seen.
        body = bytes([number]) * (last - first + 1)
        try:
            skip, take = session.admit(fragment(first, last, total), maximum=None)
        except Refusal as refusal:
            assert first > len(entity)
            assert refusal.received == len(entity)
            continue
        assert first <= len(entity)
        assert skip + take == len(body)
        assert not take or first + skip == len(entity)
        before, entity = entity, entity + body[:came][skip : skip + take]
        session = session.sized(total).grown(len(entity))
        assert entity.startswith(before)
        assert len(entity) <= total
        assert session.complete == (len(entity) == total)


@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(1, 9), st.booleans())))
def test_client_that_follows_the_acks_delivers_its_entity(content, steps):
    total, entity, session = len(content), b"", held()

    for size, again in [*steps, (max(total, 1), False)]:
        # A lost Ack makes a client repeat from an earlier offset.
        first = 0 if again else session.ack().received
        last = min(first + size, total) - 1
        if first <= last or total == 0:
            skip, take = session.admit(fragment(first, last, total), maximum=total)
            entity += content[first : last + 1][skip : skip + take]
            session = session.sized(total).grown(len(entity))

    assert session.complete
    assert entity == content


# [MC-BUP] 3.2.5 written out once more; all that is not here is refused.
NEXT = {
    (State.RECEIVE_FRAGMENTS, Event.FRAGMENT): State.RECEIVE_FRAGMENTS,
    (State.RECEIVE_FRAGMENTS, Event.COMPLETED): State.NOTIFY,
    (State.RECEIVE_FRAGMENTS, Event.CLOSE): State.GONE,
    (State.RECEIVE_FRAGMENTS, Event.CANCEL): State.GONE,
    (State.NOTIFY, Event.DELIVERED): State.WAIT_FOR_CLOSE,
    (State.NOTIFY, Event.FAILED): State.RECEIVE_FRAGMENTS,
    (State.WAIT_FOR_CLOSE, Event.FRAGMENT): State.WAIT_FOR_CLOSE,
    (State.WAIT_FOR_CLOSE, Event.CLOSE): State.GONE,
    (State.WAIT_FOR_CLOSE, Event.CANCEL): State.GONE,
}
MOVES = [(state, event) for state in State for event in Event]


def name(value):
    return value.value


@pytest.mark.parametrize(
    ("state", "event"), [move for move in MOVES if move in NEXT], ids=name
)
def test_event_moves_the_session(state, event):
    assert held(9, 9, state).after(event) == held(9, 9, NEXT[state, event])


@pytest.mark.parametrize(
    ("state", "event"), [move for move in MOVES if move not in NEXT], ids=name
)
def test_event_that_cannot_happen_is_refused(state, event):
    with pytest.raises(Refusal, match=f"{event.value} while {state.value}") as caught:
        held(9, 9, state).after(event)

    assert caught.value.reason is Reason.MALFORMED


def test_states_have_the_words_that_are_on_disk():
    assert {state.value for state in State} == {
        "receive-fragments",
        "notify",
        "wait-for-close",
        "gone",
    }


@pytest.mark.parametrize("reply_url", [None, REPLY])
def test_delivered_session_waits_for_close_with_its_reply(reply_url):
    delivered = held(9, 9, State.NOTIFY).delivered(reply_url)

    assert delivered == held(9, 9, State.WAIT_FOR_CLOSE, reply_url=reply_url)


def test_rejected_session_keeps_its_bytes_and_the_status():
    rejected = held(9, 9, State.NOTIFY).rejected(403)

    assert rejected == held(9, 9, State.RECEIVE_FRAGMENTS, refused=403)


@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.NOTIFY], ids=name
)
def test_only_a_session_that_notifies_is_delivered_or_rejected(state):
    with pytest.raises(Refusal, match="delivered while"):
        held(9, 9, state).delivered(None)
    with pytest.raises(Refusal, match="failed while"):
        held(9, 9, state).rejected(403)


def test_session_that_changes_is_another_session():
    session = held(9)

    assert session.sized(20).grown(15) == held(15, 20)
    assert session == held(9)


@pytest.mark.parametrize(
    ("session", "complete"),
    [
        (held(), False),
        (held(9), False),
        (held(0, 9), False),
        (held(8, 9), False),
        (held(9, 9), True),
        (held(0, 0), True),
    ],
    ids=["new", "unknown total", "nothing", "part", "all", "empty"],
)
def test_session_is_complete_with_all_its_bytes(session, complete):
    assert session.complete is complete


@pytest.mark.parametrize(
    ("age", "expired"),
    [
        (timedelta(0), False),
        (TIMEOUT - timedelta(microseconds=1), False),
        (TIMEOUT, False),
        (TIMEOUT + timedelta(microseconds=1), True),
        (timedelta(days=-1), False),
    ],
    ids=["new", "just before", "on time", "just after", "clock went back"],
)
def test_session_expires_after_its_timeout(age, expired):
    assert held().expired(START + age, TIMEOUT) is expired


def test_session_expires_by_its_last_progress_not_by_its_age():
    created = START - 2 * TIMEOUT
    session = Session(
        id=ID,
        destination=Destination("a"),
        url="http://up.example.test/a",
        created=created,
        touched=START,
    )

    assert not session.expired(START, TIMEOUT)


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (held(), Ack(session_id=ID, received=0)),
        (held(100, 300), Ack(session_id=ID, received=100)),
        (
            held(300, 300, State.WAIT_FOR_CLOSE, reply_url=REPLY),
            Ack(session_id=ID, received=300, reply_url=REPLY),
        ),
    ],
    ids=["new", "part", "replied"],
)
def test_ack_says_what_is_held_and_where_the_reply_is(session, expected):
    assert session.ack() == expected
