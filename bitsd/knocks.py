"""How one who waits for a session lets the process know that serves it.

It knocks: it takes shared locks (flock) on the folder of the session and on that of
all sessions, which the kernel takes back if it dies. A process that receives bodies
looks now and then whether anyone knocks at all, and only then at whose door
(protocol-notes/sessions.md).
"""

import asyncio
import fcntl
import os
from contextlib import suppress

from .cached import AT_ONCE, WAITING
from .protocol.refusal import Reason
from .turns import Body

#: How often one who receives bodies listens, in seconds.
LISTEN_SECONDS = 0.5

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Ears:
    """What a process hears while it receives bodies.

    Args:
        sessions: the folder of all sessions.
    """

    def __init__(self, sessions: str) -> None:
        self._sessions = sessions
        self._bodies: dict[str, Body] = {}
        self._timer: asyncio.TimerHandle | None = None

    def attend(self, home: str, body: Body) -> None:
        """Cut `body` when somebody knocks for the session in `home`."""
        self._bodies[home] = body
        if self._timer is None:
            self._wait(asyncio.get_running_loop())

    def leave(self, home: str) -> None:
        """The body has ended."""
        del self._bodies[home]

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(LISTEN_SECONDS, self._listen, loop)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._bodies:
            return
        if knocked(self._sessions):
            for home, body in [*self._bodies.items()]:
                if knocked(home):
                    body.cut(Reason.SUPERSEDED)
        self._wait(loop)


class Knock:
    """One who waits for the session in `home`; `close` it when that is open.

    Every method blocks and belongs in a thread, but for `close`.
    """

    def __init__(self, sessions: str, home: str) -> None:
        self._doors = (home, sessions)
        self._held: list[int] = []

    def knock(self) -> None:
        """Be heard, unless the session is gone, or just now somebody listens."""
        if not self._held:
            with suppress(OSError):
                for door in self._doors:
                    self._held.append(os.open(door, _FOLDER))
                    fcntl.flock(self._held[-1], fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            self.close()

    def close(self) -> None:
        """Wait no more."""
        while self._held:
            os.close(self._held.pop())


def knocked(folder: str) -> bool:
    """Whether somebody has a shared lock on a folder."""
    try:
        handle = _opened(folder)
    except OSError:  # nobody waits for what is gone
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system that cannot lock folders
        return False
    finally:
        os.close(handle)
    return False


def _opened(folder: str) -> int:
    try:
        return AT_ONCE.open(folder, _FOLDER)
    except BlockingIOError:
        # The system cannot know. Whoever has the session open has just used the name.
        return WAITING.open(folder, _FOLDER)
