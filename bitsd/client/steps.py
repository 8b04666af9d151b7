"""What an upload does next, decided without a clock, a file or a socket.

`start` gives the first step and `after` the one that follows what came of the last.
The rules are those of [MC-BUP] 3.1.5 and of the Win32 BITS pages "Ack for Fragment" to
"Ack for Cancel-Session"; a comment says where they are silent.
"""

import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import TypeAlias

from bitsd.protocol.refusal import Hresult
from bitsd.protocol.wire import (
    PROTOCOL,
    Ack,
    CancelSession,
    CloseSession,
    CreateSession,
    Fragment,
    NotAnAck,
    Packet,
    Ping,
    SessionId,
)

from .moves import (
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
from .pace import MINIMUM, Pace
from .retry import Patience, retry_after
from .verdicts import final, told

#: A server that loses so many sessions of one upload keeps none.
MAXIMUM_RESTARTS = 5

#: So many answers that get an upload nowhere end it. Windows has a code for that; the
#: number that it counts to is not published.
MAXIMUM_STALLS = 10
NO_PROGRESS = 0x80200024

_SUCCESS = frozenset((200, 201))  # OneDrive answers 201 to Create-Session
_FETCHED = 200
_SIGN_IN = frozenset((401, 407))
_TOO_LARGE = 413
_OUT_OF_SYNC = 416
_SERVER_ERRORS = range(500, 600)

# A session id is any text of a header field ("Ack for Create-Session").
_SESSION_ID = re.compile(r"[!-~]{1,100}", re.ASCII)
# A port is not in the grammar ([MC-BUP] 2.2.3.2).
_HOST_NAME = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63}){0,9}\.?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """All that an upload knows of itself.

    Attributes:
        size: of the file.
        session_id: as the server wrote it, or None before there is one.
        host_id: the node that has the session, if not the host of the URL.
        fallback_seconds: of failures there, and the URL's host is asked again.
        node_fails_since: the first of those failures.
        offset: of the next byte to send, as far as is known.
        sure: the server said so, and nothing broke since.
        furthest: the largest offset that it said.
        complete: it has every byte.
        finished: it had them once, maybe in an earlier run of the program.
        pinged: it answers.
        reply_url: where the application's reply is.
        reply_file: where that is stored; None leaves it where it is.
        replied: and it was.
        cancelling: the session is to go, and nothing is sent.
        asked: what has no answer yet.
    """

    size: int
    session_id: SessionId | None = None
    host_id: str | None = None
    fallback_seconds: int | None = None
    node_fails_since: float | None = None
    offset: int = 0
    sure: bool = False
    furthest: int = 0
    complete: bool = False
    finished: bool = False
    pinged: bool = False
    reply_url: str | None = None
    reply_file: str | None = None
    replied: bool = False
    cancelling: bool = False
    asked: Send | GetReply | None = None
    stalls: int = 0
    restarts: int = 0
    pace: Pace = field(default_factory=Pace)
    patience: Patience = field(default_factory=Patience)


Next: TypeAlias = tuple[Upload, Step]


def start(upload: Upload, moment: Moment) -> Next:
    """The first step; an upload with a session goes on with that."""
    return _onward(_rewarded(upload, moment))


def after(upload: Upload, event: Event, moment: Moment) -> Next:
    """The step that follows what came of the last one."""
    match event:
        case Waited():
            return _onward(upload)
        case Unanswered(why, final=True, status=status):
            return upload, Failed(why, status)
        case Unanswered(why):
            return _later(upload, why, moment)
        case _:
            return _answered(upload, event, moment)


def _rewarded(upload: Upload, moment: Moment) -> Upload:
    """It got on."""
    patience = upload.patience.rewarded(moment.now)
    return replace(upload, patience=patience, node_fails_since=None)


def _onward(upload: Upload) -> Next:
    """What comes next when nothing stands in the way."""
    named = upload.session_id
    if named is None:
        return _send(upload, CreateSession())
    # It finds a dead server, and a sign-in, before a body is sent ([MC-BUP] 2.2.4):
    # after a host id at once, and after every break (note <9>).
    if not upload.pinged:
        return _send(upload, Ping())
    if upload.cancelling:
        return _send(upload, CancelSession(named))
    if not upload.complete:
        return _send(upload, _fragment(upload, named))
    url, file = upload.reply_url, upload.reply_file
    if url is not None and file is not None and not upload.replied:
        asked = GetReply(url, file)
        return replace(upload, asked=asked), asked
    return _send(upload, CloseSession(named))


def _send(upload: Upload, packet: Packet) -> Next:
    asked = Send(packet, upload.host_id)
    return replace(upload, asked=asked), asked


def _fragment(upload: Upload, named: SessionId) -> Fragment:
    """The next piece; a small one as long as nobody knows what the server holds.

    No packet asks for that, but the Ack of every Fragment tells it. What a server says
    of a whole file, it says to the last piece: that comes again when its Ack was lost.
    """
    first, length = upload.offset, upload.pace.size
    if not upload.sure or first == upload.size:
        length = min(MINIMUM, length)
        first = max(0, min(first, upload.size - length))
    return Fragment(named, first, min(first + length, upload.size) - 1, upload.size)


def _answered(upload: Upload, answer: Answered, moment: Moment) -> Next:
    if isinstance(upload.asked, GetReply):
        return _after_reply(upload, answer, moment)
    packet = None if upload.asked is None else upload.asked.packet
    try:
        ack = Ack.parse(answer.status, answer.fields)
    except NotAnAck as error:
        if answer.status in _SUCCESS and not isinstance(packet, Ping):
            return _no_ack(upload, answer, str(error), moment)
        ack = Ack(status=answer.status)
    if isinstance(packet, Fragment):
        return _after_fragment(upload, packet, ack, answer, moment)
    rules = {CreateSession: _after_create, Ping: _after_ping}
    return rules.get(type(packet), _after_end)(upload, ack, answer, moment)


def _after_reply(upload: Upload, answer: Answered, moment: Moment) -> Next:
    if answer.status != _FETCHED:
        return _refused(upload, answer, None, moment)
    return _onward(replace(_rewarded(upload, moment), replied=True))


def _no_ack(upload: Upload, answer: Answered, error: str, moment: Moment) -> Next:
    """A web server took the packet for something else, or a log-in page did."""
    if upload.session_id is None:
        return upload, Failed(told(answer.status, None), answer.status)
    return _later(upload, f"the server's answer is none: {error}", moment)


def _after_ping(upload: Upload, ack: Ack, answer: Answered, moment: Moment) -> Next:
    """Whatever it says but "later": some servers want a session of it, and say 400."""
    later = ack.status in _SERVER_ERRORS and ack.error is None
    if later or ack.status in _SIGN_IN:
        return _refused(upload, answer, ack.error, moment)
    return _onward(replace(upload, pinged=True))


def _after_create(upload: Upload, ack: Ack, answer: Answered, moment: Moment) -> Next:
    if ack.status not in _SUCCESS:
        return _refused(upload, answer, ack.error, moment)
    named = ack.session_id or ""
    spoken = (ack.protocol or PROTOCOL).lower()
    if not _SESSION_ID.fullmatch(named) or spoken != PROTOCOL:
        why = f"the server makes no session that can be used: {ack.session_id!r}"
        return upload, Failed(why, ack.status)
    host_id = ack.host_id if _is_host(ack.host_id or "") else None
    made = replace(
        upload,
        # Perhaps none of ours, of which `SessionId` speaks: it is just sent back.
        session_id=SessionId(named),
        host_id=host_id,
        fallback_seconds=ack.host_id_fallback_timeout,
        pinged=host_id is None,
        sure=True,
        node_fails_since=None,
    )
    return _onward(made)


def _is_host(text: str) -> bool:
    """A name or an address; anything else could be a way to somewhere else."""
    if _HOST_NAME.fullmatch(text):
        return True
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def _after_fragment(
    upload: Upload, sent: Fragment, ack: Ack, answer: Answered, moment: Moment
) -> Next:
    if ack.error == Hresult.SESSION_NOT_FOUND:
        return _start_over(upload, answer)
    if ack.status == _TOO_LARGE and ack.error is None:
        pace = upload.pace.shrunk(sent.length)
        if pace is not None:
            return _onward(replace(upload, pace=pace))
    took = replace(upload, pace=upload.pace.measured(sent.length, answer.seconds))
    received = ack.received
    if ack.status in _SUCCESS:
        received = sent.last + 1 if received is None else received
        return _received(took, sent, received, ack, moment)
    if received is None:
        return _refused(upload, answer, ack.error, moment)
    if ack.status == _OUT_OF_SYNC:
        return _received(took, sent, received, ack, moment)
    # An application failed that has to be told of the whole file again.
    known = replace(upload, offset=min(received, upload.size))
    return _refused(known, answer, ack.error, moment)


def _received(
    upload: Upload, sent: Fragment, received: int, ack: Ack, moment: Moment
) -> Next:
    """Go on where the server says, whatever was believed ([MC-BUP] 3.1.5.1.4)."""
    if received > upload.size:
        why = f"the server says that it has {received} bytes of {upload.size}"
        return upload, Failed(why, ack.status)
    complete = received == upload.size == sent.last + 1
    known = replace(
        upload,
        offset=received,
        sure=True,
        furthest=max(received, upload.furthest),
        complete=complete,
        finished=complete or (upload.finished and received == upload.size),
        reply_url=ack.reply_url,
    )
    if complete or received > upload.furthest:
        return _onward(replace(_rewarded(known, moment), stalls=0))
    return _stalled(upload, known, ack, moment)


def _stalled(upload: Upload, known: Upload, ack: Ack, moment: Moment) -> Next:
    """The server has no more than it once had: it lost some, or does not get on."""
    stalls = upload.stalls + (known.offset <= upload.offset)
    known = replace(known, stalls=stalls)
    if stalls > MAXIMUM_STALLS:
        return known, Failed(told(ack.status, NO_PROGRESS), ack.status, NO_PROGRESS)
    if stalls > 1:
        return _later(known, f"the server stays at byte {known.offset}", moment)
    return _onward(known)


def _start_over(upload: Upload, answer: Answered) -> Next:
    """The session is unknown there ([MC-BUP] 3.1.5.2.1): from the first byte again.

    Unless the server had every byte, in which case only a Close was missing.
    """
    if upload.finished:
        return upload, Done()
    if upload.restarts == MAXIMUM_RESTARTS:
        code = Hresult.SESSION_NOT_FOUND
        return upload, Failed(told(answer.status, code), answer.status, code)
    return _onward(
        Upload(
            size=upload.size,
            reply_file=upload.reply_file,
            restarts=upload.restarts + 1,
            pace=upload.pace,
            patience=upload.patience,
        )
    )


def _after_end(upload: Upload, ack: Ack, answer: Answered, moment: Moment) -> Next:
    """Close and Cancel are sent again after any 5xx, but for a session that is gone."""
    if ack.status in _SUCCESS or ack.error == Hresult.SESSION_NOT_FOUND:
        return upload, Done()
    if ack.status in _SERVER_ERRORS:
        return _later(upload, told(ack.status, ack.error), moment, answer)
    return _refused(upload, answer, ack.error, moment)


def _refused(
    upload: Upload, answer: Answered, code: int | None, moment: Moment
) -> Next:
    why = told(answer.status, code)
    if final(answer.status, code):
        return upload, Failed(why, answer.status, code)
    return _later(upload, why, moment, answer)


def _later(
    upload: Upload, why: str, moment: Moment, answer: Answered | None = None
) -> Next:
    """Wait, and then ask what the server holds."""
    now, since, limit = moment.now, upload.node_fails_since, upload.fallback_seconds
    patience = upload.patience.tried()
    asked = 0.0 if answer is None else retry_after(answer.fields)
    seconds = patience.wait_seconds(now, moment.chance, asked)
    if seconds is None:
        return upload, GaveUp(why)
    since = now if since is None else since
    # The URL's own host is to be asked again ([MC-BUP] 3.1.6.3).
    gone = limit is not None and now - since >= limit
    waiting = replace(
        upload,
        host_id=None if gone else upload.host_id,
        node_fails_since=since,
        pinged=False,
        sure=False,
        patience=patience,
    )
    return waiting, Wait(seconds, why)
