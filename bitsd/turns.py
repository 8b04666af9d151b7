"""One packet of a session at a time, and the newer one first.

A client whose connection died sends its fragment again on another, while the server
still waits for the rest of the first. The newer packet makes the older body end, and
follows as soon as that has been stored (protocol-notes/sessions.md).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from .protocol.refusal import Reason
from .protocol.wire import SessionId


class Body(Protocol):
    """The bytes that come with a fragment. A body just ends; it never raises for it.

    Attributes:
        ended: why it ended before its length; None while it has not.
    """

    ended: Reason | None

    async def into(self, sink: Callable[[memoryview], None]) -> None:
        """Hand every chunk to `sink` until the body ends, whole or not.

        Raises:
            OSError: whatever `sink` raised; the rest of the body is left to come.
        """

    def cut(self, reason: Reason) -> None:
        """Let the body end here."""


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.newest: object = None
        self.body: Body | None = None
        self.packets = 0


class Turns:
    """The packets of one directory's sessions that are being served now."""

    def __init__(self) -> None:
        self._turns: dict[SessionId, _Turn] = {}

    def busy(self, session_id: SessionId) -> bool:
        """A packet of the session is being served."""
        return session_id in self._turns

    def cut(self, reason: Reason) -> None:
        """Let every body end that is being read."""
        for turn in self._turns.values():
            if turn.body is not None:
                turn.body.cut(reason)

    @asynccontextmanager
    async def take(
        self, session_id: SessionId, body: Body | None = None
    ) -> AsyncIterator[None]:
        """Serve a packet once its session is free; `body` is cut when a newer comes."""
        turn = self._turns.setdefault(session_id, _Turn())
        turn.packets += 1
        ticket = turn.newest = object()
        if turn.body is not None:
            turn.body.cut(Reason.SUPERSEDED)
        try:
            async with turn.lock:
                turn.body = body
                if body is not None and turn.newest is not ticket:
                    body.cut(Reason.SUPERSEDED)
                try:
                    yield
                finally:
                    turn.body = None
        finally:
            turn.packets -= 1
            if not turn.packets:
                del self._turns[session_id]
