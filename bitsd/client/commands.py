"""How a command of a client runs, is interrupted, and shows what happens."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from bitsd import loops

from .options import Options, options
from .progress import Tell, json_lines, lines

_T = TypeVar("_T")

#: Exit codes beside 0 and 2.
FAILED = 1
GAVE_UP = 3
INTERRUPTED = 130


class Interrupted(Exception):
    """SIGINT or SIGTERM came, and the work is over."""


def asked(given: argparse.Namespace) -> Options:
    """How the server is reached, which may have to be asked at a prompt.

    Raises:
        Interrupted: the prompt was left.
    """
    try:
        return options(given)
    except (KeyboardInterrupt, EOFError):
        raise Interrupted from None


def shown(*, as_json: bool) -> AbstractContextManager[Tell]:
    """What shows the events of a command."""
    if as_json:
        return json_lines(sys.stdout, time.monotonic)
    if sys.stderr.isatty():
        # It takes a while, and only here anybody sees it.
        from .bars import bars  # noqa: PLC0415

        return bars(sys.stderr)
    return lines(sys.stderr)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Do work on a loop of its own.

    Raises:
        Interrupted: it was cancelled by a signal.
    """
    with asyncio.Runner(loop_factory=loops.factory()) as runner:
        try:
            return runner.run(_until_a_signal(work))
        except asyncio.CancelledError:
            raise Interrupted from None


async def _until_a_signal(work: Coroutine[Any, Any, _T]) -> _T:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task
