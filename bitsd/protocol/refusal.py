"""Why a packet is refused, and what its client is told.

One table, one exception. The statuses and codes follow [MC-BUP] 2.2.1.2; where
that is silent, the status decides whether a BITS client tries again: it repeats
5xx (but 501 and 505), 408 and 409 for up to 14 days, and gives up on other 4xx.
"""

from enum import Enum, IntEnum, unique
from typing import NamedTuple


class Hresult(IntEnum):
    """The error codes that BITS clients know, as in BITS-Error ([MC-BUP] 2.2.1.2)."""

    ACCESS_DENIED = 0x80070005
    INVALID_ARGUMENT = 0x80070057
    DISK_FULL = 0x80070070
    REMOTE_PROGRAM = 0x8020001E
    SESSION_NOT_FOUND = 0x8020001F
    TOO_LARGE = 0x80200020


class Context(IntEnum):
    """Who failed: BITS-Error-Context ([MC-BUP] 2.2.1.2)."""

    SERVER = 0x5
    APPLICATION = 0x7


class _Row(NamedTuple):
    status: int
    hresult: Hresult | None
    context: Context
    sentence: str


_SERVER = Context.SERVER
_APPLICATION = Context.APPLICATION


@unique
class Reason(Enum):
    """The table of refusals: HTTP status, HRESULT, context, and what it means.

    Without an HRESULT the Ack has no error headers and the status speaks alone.
    """

    MALFORMED = _Row(
        400, Hresult.INVALID_ARGUMENT, _SERVER, "the packet breaks the protocol"
    )
    IS_A_FOLDER = _Row(
        400, Hresult.INVALID_ARGUMENT, _SERVER, "the destination is a folder"
    )
    REPLY_URL_TOO_LONG = _Row(
        400, Hresult.INVALID_ARGUMENT, _APPLICATION, "the reply URL is too long"
    )
    SIGN_IN = _Row(401, None, _SERVER, "signing in is needed")
    NOT_PERMITTED = _Row(
        403, Hresult.ACCESS_DENIED, _SERVER, "the user may not do this here"
    )
    ACCESS_DENIED = _Row(
        403, Hresult.ACCESS_DENIED, _SERVER, "the server may not write there"
    )
    EXISTS = _Row(
        403, Hresult.ACCESS_DENIED, _SERVER, "the file exists and overwrite is off"
    )
    NO_FOLDER = _Row(404, None, _SERVER, "the destination's folder does not exist")
    ENTITY_GONE = _Row(404, None, _SERVER, "the uploaded bytes are gone")
    STALLED = _Row(408, None, _SERVER, "the body was too slow in coming")
    CUT_OFF = _Row(408, None, _SERVER, "the connection broke inside the body")
    APPLICATION_TIMEOUT = _Row(
        408, Hresult.REMOTE_PROGRAM, _APPLICATION, "the application did not answer"
    )
    SUPERSEDED = _Row(409, None, _SERVER, "a newer packet of the session came")
    LENGTH_REQUIRED = _Row(
        411, Hresult.INVALID_ARGUMENT, _SERVER, "the packet has no Content-Length"
    )
    REPLY_MALFORMED = _Row(
        411, Hresult.INVALID_ARGUMENT, _APPLICATION, "the application's reply is broken"
    )
    OUT_OF_SYNC = _Row(416, None, _SERVER, "the fragment leaves a gap")
    SESSION_NOT_FOUND = _Row(
        500, Hresult.SESSION_NOT_FOUND, _SERVER, "the session is unknown or expired"
    )
    TOO_LARGE = _Row(
        500, Hresult.TOO_LARGE, _SERVER, "the file is over maximum_upload_size"
    )
    DISK_FULL = _Row(500, Hresult.DISK_FULL, _SERVER, "the disk or quota is full")
    STORAGE_FAILED = _Row(500, None, _SERVER, "the storage failed")
    APPLICATION_FAILED = _Row(
        500, Hresult.REMOTE_PROGRAM, _APPLICATION, "the application refused the upload"
    )
    INTERNAL = _Row(500, None, _SERVER, "a fault in the server, see its log")
    UPLOADS_DISABLED = _Row(
        501, Hresult.ACCESS_DENIED, _SERVER, "uploads are not enabled here"
    )
    TOO_MANY_SESSIONS = _Row(503, None, _SERVER, "sessions_per_user is reached")
    SPOOL_FULL = _Row(503, None, _SERVER, "maximum_spool_size is reached")
    TOO_MANY_REQUESTS = _Row(503, None, _SERVER, "requests_per_second is reached")
    TOO_MANY_FAILURES = _Row(503, None, _SERVER, "signing in failed too often")
    LOW_SPACE = _Row(503, None, _SERVER, "minimum_free_space is reached")
    STOPPING = _Row(503, None, _SERVER, "the server is stopping")

    @property
    def status(self) -> int:
        """HTTP status of the Ack."""
        return self.value.status

    @property
    def hresult(self) -> Hresult | None:
        """What BITS-Error and BITS-Error-Code say, if anything."""
        return self.value.hresult

    @property
    def context(self) -> Context:
        """What BITS-Error-Context says when there is an HRESULT."""
        return self.value.context

    @property
    def sentence(self) -> str:
        """The meaning, for logs and documentation."""
        return self.value.sentence


class Refusal(Exception):
    """A packet is not done, and its client is told so.

    Attributes:
        reason: row of the table.
        detail: for the operator; never sent to a client.
        received: bytes the session holds, where the Ack shall say so
            ([MC-BUP] 2.2.7.2: on 416, and on a failed last fragment).
        status: HTTP status; the row's, unless an application chose its own.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        received: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{reason.sentence}: {detail}")
        self.reason = reason
        self.detail = detail
        self.received = received
        self.status = reason.status if status is None else status
