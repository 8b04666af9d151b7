"""What happened, for the operator: one line an event, `name key=value ...`.

Values that came from the wire are quoted, so no client can write lines of its own.
"""

import json
import logging
import math
import re

log = logging.getLogger("bitsd")

#: Warnings of one kind that are told one by one.
FEW = 100

#: Events of one kind that are told in a while, and how long one is, in seconds.
FEW_IN_A_WHILE = 20
WHILE_SECONDS = 60.0

#: Characters of a value that are told; a client may send any number.
LONGEST = 500

_PLAIN = re.compile(r"[\w./:@{}()+,%~-]+", re.ASCII)


def note(event: str, **facts: object) -> None:
    """Write what went as it should."""
    _write(logging.INFO, event, facts)


def warn(event: str, **facts: object) -> None:
    """Write what an operator may have to look at."""
    _write(logging.WARNING, event, facts)


class Few:
    """Warnings that may come in thousands: the first are told, then how many more."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._number = 0

    def warn(self, **facts: object) -> None:
        """One more."""
        self._number += 1
        if self._number <= FEW:
            warn(self._event, **facts)

    def end(self) -> None:
        """There are no more."""
        if self._number > FEW:
            warn(self._event, more=self._number - FEW)


class Seldom:
    """Events that anyone can cause: a few in a while are told, the others counted."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._told = 0
        self._more = 0
        self._since = -math.inf

    def note(self, now: float, **facts: object) -> None:
        """One more.

        Args:
            now: in seconds, of a clock that goes only forward.
        """
        if now - self._since >= WHILE_SECONDS:
            if self._more:
                note(self._event, more=self._more)
            self._told = self._more = 0
            self._since = now
        if self._told < FEW_IN_A_WHILE:
            self._told += 1
            note(self._event, **facts)
        else:
            self._more += 1


def _write(level: int, event: str, facts: dict[str, object]) -> None:
    if log.isEnabledFor(level):
        words = (f"{name}={_shown(value)}" for name, value in facts.items())
        log.log(level, "%s", " ".join((event, *words)))


def _shown(value: object) -> str:
    if value is None:
        return "-"
    text = str(value)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}..."
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
