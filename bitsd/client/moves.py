"""What an upload is to do next, and what may come of it."""

from dataclasses import dataclass
from typing import TypeAlias

from bitsd.protocol.wire import Field, Packet


@dataclass(frozen=True, slots=True)
class Send:
    """Send a packet.

    Attributes:
        host_id: stands in for the host of the URL, if given ([MC-BUP] 3.1.5.1.2).
    """

    packet: Packet
    host_id: str | None = None


@dataclass(frozen=True, slots=True)
class GetReply:
    """Fetch what the server application replied, and keep it.

    Attributes:
        url: absolute, or relative to the upload's and perhaps with backslashes.
        file: where it is stored.
    """

    url: str
    file: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for a while; `why` is for whoever looks on."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Trying again will not help.

    Attributes:
        status: of the answer that says so, if one does.
        code: HRESULT in it.
    """

    why: str
    status: int | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class GaveUp:
    """It did not work for as long as it was to be tried."""

    why: str


Step: TypeAlias = Send | GetReply | Wait | Done | Failed | GaveUp


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, to `Send` or `GetReply`.

    Attributes:
        seconds: that it took, with sending the request.
    """

    status: int
    fields: tuple[Field, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer, and why; if that is final trying again will not help.

    Attributes:
        status: of an answer that is of no use, if there was one.
    """

    why: str
    final: bool = False
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Waited:
    """The time of a `Wait` is over."""


Event: TypeAlias = Answered | Unanswered | Waited


@dataclass(frozen=True, slots=True)
class Moment:
    """When an event came.

    Attributes:
        now: seconds of a clock that only goes on.
        chance: drawn at random from 0 up to 1, so that clients do not wait alike.
    """

    now: float
    chance: float = 0.5
