"""What the commands of a client have in common: options, signals, and how they end."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from bitsd import loops, quantities

from .options import Options, add_options, options
from .progress import Tell, TransferFailed, json_lines, lines, writing
from .retry import RETRY_FOR

#: Exit codes beside 0 and 2.
FAILED = 1
GAVE_UP = 3
INTERRUPTED = 130

EXIT_CODES = """\
exit codes:
  0    done
  1    failed, and would again; the line on stderr says what to do
  2    wrong usage
  3    gave up on something that may pass; the same command goes on
  130  interrupted by Ctrl-C or SIGTERM; the same command goes on
"""

_EVENTS = """
Each line of --json has "event" and "file", and of these what is known:
  event      started, progress (once a second), waiting, again (from the first
             byte), done or failed
  file       its name
  held       bytes on the side that receives
  total      bytes of the file
  bytes_per_second
             since the event of progress before
  reason     why it waits, starts over or failed, or what was done, in words
  seconds    that it waits, or that it took when it is done
  url        that an uploaded file has
  reply      file or URL of the server application's reply to it
  status, code
             HTTP status and HRESULT by which it failed
  resumable  whether the same command may go on after it failed
"""


def describe(parser: argparse.ArgumentParser, text: str, exit_codes: str) -> None:
    """Let its help say what a command does and how it ends."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = text
    parser.epilog = exit_codes + _EVENTS


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options that all commands have."""
    parser.add_argument(
        "--json", action="store_true", help="events on stdout, one line of JSON each"
    )
    add_options(parser)


def add_retry_for(parser: argparse.ArgumentParser) -> None:
    """Let a command be told when to give up."""
    parser.add_argument(
        "--retry-for",
        type=span,
        default=RETRY_FOR,
        metavar="TIME",
        help="give up after so long without progress, such as 15m or 12h "
        "(default: 14d, as BITS does)",
    )


def span(text: str) -> timedelta:
    """A time as people write it, for argparse."""
    try:
        return quantities.time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def carry_out(
    given: argparse.Namespace,
    file: str,
    work: Callable[[Options, Tell], Coroutine[Any, Any, int]],
) -> int:
    """The exit code of a command, which a signal ends at once.

    Args:
        given: on the command line; the server's password may be asked for.
        file: that a failure is told of.
        work: gives the exit code if nothing goes wrong.
    """
    try:
        reached = options(given)
    except (KeyboardInterrupt, EOFError):  # at the prompt for a password
        return INTERRUPTED
    with _shown(as_json=given.json) as tell:
        try:
            with asyncio.Runner(loop_factory=loops.factory()) as runner:
                return runner.run(_until_a_signal(work(reached, tell)))
        except asyncio.CancelledError:
            failure, code = TransferFailed("interrupted", resumable=True), INTERRUPTED
        except TransferFailed as error:
            failure, code = error, GAVE_UP if error.resumable else FAILED
        tell(failure.event(file))
    return code


def _shown(*, as_json: bool) -> AbstractContextManager[Tell]:
    """What shows the events of a command."""
    out, err = writing(sys.stdout), writing(sys.stderr)
    if as_json:
        return nullcontext(json_lines(out, err, time.monotonic))
    if sys.stderr.isatty():
        # It takes a while, and only here anybody sees it.
        from .bars import bars  # noqa: PLC0415

        return bars(sys.stdout, sys.stderr)
    return nullcontext(lines(out, err))


async def _until_a_signal(work: Coroutine[Any, Any, int]) -> int:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task
