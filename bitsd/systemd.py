"""What systemd hands to a service, and what it wants to hear.

As in sd_listen_fds(3) and sd_notify(3). Whatever else starts us may do the same.
"""

import os
import socket
from contextlib import suppress

# The first handle after standard input, output and error.
_FIRST = 3

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def passed() -> list[socket.socket]:
    """Sockets that somebody listens on for us; each call after the first finds none.

    Raises:
        ValueError: what was passed cannot be listened on.
    """
    mine = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = os.environ.pop("LISTEN_FDS", "")
    if not mine or not count.isdecimal():
        return []
    return [_listening(handle) for handle in range(_FIRST, _FIRST + int(count))]


def _listening(handle: int) -> socket.socket:
    try:
        found = socket.socket(fileno=handle)
        found.set_inheritable(inheritable=False)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ValueError(f"descriptor {handle} is no socket: {error}") from None
    if found.family not in _FAMILIES:
        raise ValueError(f"descriptor {handle} is of another kind than [[listen]] has")
    if not listens or found.type != socket.SOCK_STREAM:
        raise ValueError(f"descriptor {handle} does not listen for streams")
    found.settimeout(0)
    return found


def tell(state: str) -> None:
    """Say how the service is, if anybody wants to know.

    Args:
        state: as in sd_notify(3), such as `READY=1`.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # a name in Linux's abstract namespace
        address = f"\0{address[1:]}"
    # Whoever does not listen any more does not want to know.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(state.encode(), address)
