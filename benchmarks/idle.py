"""How much memory a connection takes that does nothing: `python -m benchmarks.idle`."""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bitsd.parser import MAXIMUM_HEADER, MAXIMUM_LINE

from .client import Line, packet
from .loads import Stalled
from .servers import FILES, Server, Servers
from .starts import CONNECTIONS, bitsd

#: Nothing tells when a server has read the last of what came.
_REST_SECONDS = 0.5

# The largest header, but for its first line and the names of fields.
_FIELDS = MAXIMUM_HEADER // MAXIMUM_LINE
_VALUE = MAXIMUM_LINE - 128


def _silent(_line: Line) -> None:
    pass


def _asked(line: Line) -> None:
    line.ask(packet("/up/idle", "Ping"), expect=(200,))


def _half_a_header(line: Line) -> None:
    line.send(b"GET /up/idle HTTP/1.1\r\nHost: localhost\r\nA: ")


def _largest_header(line: Line) -> None:
    line.send(b"GET /up/idle HTTP/1.1\r\nHost: localhost\r\n")
    for number in range(_FIELDS):
        line.send(b"A%d: %s\r\n" % (number, b"a" * _VALUE))


#: What a connection has done before it falls silent; a part of them is enough where
#: each takes much.
STATES: tuple[tuple[str, Callable[[Line], None], int], ...] = (
    ("sent nothing", _silent, 1),
    ("sent a request and has its answer", _asked, 1),
    ("sent the begin of a header", _half_a_header, 1),
    (f"sent {_FIELDS} fields of {_VALUE} bytes, no end", _largest_header, 10),
)


def taken(server: Server, number: int, fall_silent: Callable[[Line], None]) -> float:
    """KiB of resident memory that each of so many connections takes."""
    before = server.usage().resident
    with ExitStack() as stack:
        for _ in range(number):
            fall_silent(stack.enter_context(Line(server.port)))
        time.sleep(_REST_SECONDS)
        return (server.usage().resident - before) / 1024 / number


def stalled(server: Server, number: int) -> float:
    """KiB of resident memory that each of so many stalled uploads takes."""
    before = server.usage().resident
    with Stalled(number, bits=True).visit(server.port, 0) as stall:
        stall()
        return (server.usage().resident - before) / 1024 / number


def main() -> None:
    """Measure each state on a server of its own; print what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle")
    parser.add_argument("--connections", type=int, default=2000)
    number = min(parser.parse_args().connections, CONNECTIONS)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILES).mkdir()
        with Servers(Path(folder)) as servers:
            for state, fall_silent, part in STATES:
                count = max(1, number // part)
                server = servers.named(state, bitsd())
                _print(state, count, taken(server, count, fall_silent))
            count = max(1, number // 2)
            server = servers.named("stalled", bitsd())
            _print("stalled upload", count, stalled(server, count))


def _print(state: str, count: int, size: float) -> None:
    print(f"{state}: {count} connections, {size:.1f} KiB each", flush=True)


if __name__ == "__main__":
    main()
