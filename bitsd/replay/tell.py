"""A recording for programs, as JSON."""

from typing import TypeAlias

from .findings import Judged
from .message import Message
from .recording import Connection, Exchange, Recording
from .session_rules import Session

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


def as_json(recording: Recording, judged: Judged) -> Json:
    """The whole recording; times are seconds since 1970."""
    return {
        "capture": str(recording.path),
        "damage": recording.damage,
        "packets": recording.packets,
        "unread": {
            reason.name.lower(): count for reason, count in recording.unread.items()
        },
        "connections": [_connection(each) for each in recording.connections],
        "exchanges": [_exchange(each) for each in recording.exchanges],
        "sessions": [_session(each) for each in judged.sessions],
        "findings": [
            {
                "exchange": each.exchange,
                "side": each.side.value,
                "sentence": each.sentence,
                "section": each.section,
            }
            for each in judged.findings
        ],
    }


def _connection(connection: Connection) -> Json:
    return {
        "number": connection.number,
        "client": str(connection.client),
        "server": str(connection.server),
        "started": connection.started,
        "ended": connection.ended,
        "begun_before_capture": not connection.begun,
        "unreadable": connection.unreadable,
        "missing_bytes": sum(connection.missing.values()),
        "ends": [
            {"side": end.side.value, "how": end.how.name.lower(), "time": end.time}
            for end in connection.ends
        ],
    }


def _exchange(exchange: Exchange) -> Json:
    request, answer = exchange.request, exchange.answer
    asked: Json = None
    if request is not None:
        first = {"method": request.method, "target": request.target}
        asked = {**first, **_message(request)}
    answered: Json = None
    if answer is not None:
        answered = {
            "status": answer.status,
            "interim": list(answer.interim),
            **_message(answer),
        }
        if answer.parts is not None:
            answered["parts"] = [
                {"fields": _fields(part.fields), "sha256": part.digest}
                for part in answer.parts.found
            ]
    return {
        "number": exchange.number,
        "connection": exchange.connection.number,
        "request": asked,
        "answer": answered,
    }


def _message(message: Message) -> dict[str, Json]:
    return {
        "version": message.version,
        "started": message.started,
        "ended": message.ended,
        "fields": _fields(message.fields),
        "body": {
            "bytes": message.length,
            "missing_bytes": message.missing,
            "complete": message.complete,
            "sha256": message.digest,
        },
    }


def _fields(fields: tuple[tuple[str, str], ...]) -> Json:
    return [[name, value] for name, value in fields]


def _session(session: Session) -> Json:
    numbers = [exchange.number for exchange in session.exchanges]
    return {
        "id": session.named,
        "target": session.target,
        "total": session.total,
        "received": session.received,
        "end": session.end,
        "connections": list[Json](session.connections),
        "exchanges": list[Json](numbers),
    }
