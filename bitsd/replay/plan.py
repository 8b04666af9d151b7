"""A recording as steps to take, one after the other.

A request is sent when all has come that had come before it in the capture, so order
is kept across connections, and so is pipelining.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, TypeAlias

from .message import Answer, Request
from .recording import Connection, Exchange, Recording
from .streams import How, Side


class Send(NamedTuple):
    """Send a request, or as much of it as was captured."""

    time: float
    exchange: Exchange
    request: Request


class Rest(NamedTuple):
    """Send the beginning of a head that never came to its end."""

    time: float
    connection: Connection
    octets: bytes


class Receive(NamedTuple):
    """Wait for an answer; there is none to compare with, if none was captured."""

    time: float
    exchange: Exchange
    captured: Answer | None


class Ending(Enum):
    """How to end a connection."""

    CLOSE = "close"
    HALF = "say that nothing more is sent"
    RESET = "reset"


class End(NamedTuple):
    """End a connection."""

    time: float
    connection: Connection
    ending: Ending


Step: TypeAlias = Send | Rest | Receive | End

# At the same time, what comes is waited for before anything else is done.
_ORDER = (Receive, Rest, Send, End)


class Plan(NamedTuple):
    """What to do.

    Attributes:
        notes: what of the recording is left out or made up, in words.
    """

    steps: list[Step]
    notes: list[str]


def planned(recording: Recording, *, cuts: bool) -> Plan:
    """The steps that repeat a recording.

    Args:
        cuts: connections break where they did. Otherwise what broke off is not
            sent at all, and answers that were not waited for are.
    """
    plan = Plan([], [])
    for exchange in recording.exchanges:
        _exchange(exchange, plan, cuts=cuts)
    for connection in recording.connections:
        if connection.unreadable is not None:
            told = f"connection {connection.number} is {connection.unreadable}"
            plan.notes.append(f"{told}: not sent")
        elif cuts:
            plan.steps.extend(_recorded_end(connection))
        else:
            plan.steps.append(End(connection.ended, connection, Ending.CLOSE))
    plan.steps.sort(key=lambda step: (step.time, _ORDER.index(type(step))))
    return plan


def _exchange(exchange: Exchange, plan: Plan, *, cuts: bool) -> None:
    request, answer = exchange.request, exchange.answer
    number = f"exchange {exchange.number}"
    if request is None:
        plan.notes.append(f"{number}: its request is not captured: not sent")
        return
    if not request.complete and answer is None and not _is_cut(exchange, cuts=cuts):
        plan.notes.append(f"{number}: its request broke off: not sent")
        return
    if request.missing:
        lost = f"{request.missing} bytes of its body are not captured"
        plan.notes.append(f"{number}: {lost}: sent as zeros")
    plan.steps.append(Send(request.started, exchange, request))
    if answer is not None:
        plan.steps.append(Receive(answer.ended, exchange, answer))
    elif not cuts:
        plan.steps.append(Receive(exchange.connection.ended, exchange, None))


def _is_cut(exchange: Exchange, *, cuts: bool) -> bool:
    """One of the ends broke it off, and not the capture."""
    return cuts and exchange.connection.ends[0].how is not How.CAPTURE


def _recorded_end(connection: Connection) -> Iterator[Step]:
    side, how, time = connection.ends[0]
    rest = connection.requests.rest
    if rest:
        yield Rest(time, connection, rest)
    answers = [exchange.answer for exchange in connection.exchanges]
    later = any(answer is not None and answer.ended > time for answer in answers)
    if side is Side.CLIENT and how is How.RST:
        yield End(time, connection, Ending.RESET)
    elif side is Side.CLIENT and how is How.FIN and later:
        yield End(time, connection, Ending.HALF)
        yield End(connection.ended, connection, Ending.CLOSE)
    else:
        yield End(max(time, connection.ended), connection, Ending.CLOSE)
