"""Which event loop there is: uvloop's where it is installed, asyncio's elsewhere."""

import asyncio
import errno
from collections.abc import Callable
from importlib import import_module
from typing import Any

from . import journal

Loop = asyncio.AbstractEventLoop

#: How often it is told that connections cannot be accepted, in seconds.
TELL_SECONDS = 60.0

_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def factory() -> Callable[[], Loop]:
    """Makes event loops, for `asyncio.Runner`."""
    try:
        make: Callable[[], Loop] = import_module("uvloop").new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return make


class Trouble:
    """An exception handler for a loop that accepts connections.

    While there are no handles left asyncio tells of a thousand errors a second, each
    with a traceback, and a log that is read slowly would hold up all clients.
    """

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def __call__(self, loop: Loop, context: dict[str, Any]) -> None:
        """What `loop.set_exception_handler` asks for."""
        error = context.get("exception")
        if "socket" not in context or getattr(error, "errno", None) not in _NO_ROOM:
            loop.default_exception_handler(context)
        elif loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + TELL_SECONDS
            remedy = "raise LimitNOFILE, or lower maximum_connections"
            journal.warn("cannot-accept", detail=error, remedy=remedy)
