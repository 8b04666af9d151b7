"""`bitsd download`."""

import argparse
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from bitsd import quantities

from .commands import FAILED, GAVE_UP, INTERRUPTED, Interrupted, asked, run, shown
from .download import destination, download
from .fetching import RETRY_FOR, Downloaded, DownloadFailed, How
from .options import add_options
from .partial import part_of
from .progress import Event, Kind

EXIT_CODES = """\
exit codes:
  0    the file is there
  1    it cannot be fetched; stderr says why
  2    wrong usage
  3    gave up waiting for the server; the same command goes on
  130  interrupted; the same command goes on
"""

_MOST_CONNECTIONS = 16


def define(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Fetch a file. What came stays in FILE.part until all is there, so that the\n"
        "same command goes on after a crash or Ctrl-C. Connections that break and a\n"
        "server that is busy are tried again; a file that changed is started over."
    )
    parser.epilog = EXIT_CODES
    parser.add_argument("url", metavar="URL", help="http or https")
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="what it becomes, or a folder for it (default: the URL's last name)",
    )
    add_connections(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="fetch it even if FILE has the length and time that the server says",
    )
    parser.add_argument(
        "--retry-for",
        type=span,
        default=RETRY_FOR,
        metavar="TIME",
        help="give up after so long without progress, such as 15m or 12h "
        "(default: 14d)",
    )
    parser.add_argument(
        "--json", action="store_true", help="events on stdout, one line of JSON each"
    )
    add_options(parser)
    parser.set_defaults(run=_run, usage_error=parser.error)


def add_connections(parser: argparse.ArgumentParser) -> None:
    """Let a command be told how many connections a file is worth."""
    parser.add_argument(
        "--connections",
        type=int,
        choices=range(1, _MOST_CONNECTIONS + 1),
        default=1,
        metavar="N",
        help=f"fetch ranges side by side, up to {_MOST_CONNECTIONS} (default: 1); "
        "more help on long or lossy ways",
    )


def span(text: str) -> timedelta:
    """A time as people write it, for argparse."""
    try:
        return quantities.time(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run(given: argparse.Namespace) -> int:
    usage_error: Callable[[str], NoReturn] = given.usage_error
    try:
        target = destination(given.url, given.file)
        reached = asked(given)
    except ValueError as error:
        usage_error(str(error))
    except Interrupted:
        return INTERRUPTED
    how = How(
        connections=given.connections, force=given.force, retry_for=given.retry_for
    )
    with shown(as_json=given.json) as tell:
        work = download(given.url, target, options=reached, how=how, progress=tell)
        reason, code = _ended(work)
        if reason is not None:
            if part_of(target).exists():
                reason += "; what came is kept, and the same command goes on"
            tell(Event(event=Kind.FAILED, file=target.name, reason=reason))
    return code


def _ended(work: Coroutine[Any, Any, Downloaded]) -> tuple[str | None, int]:
    """What went wrong, if it did, and the exit code."""
    try:
        run(work)
    except Interrupted:
        return "interrupted", INTERRUPTED
    except DownloadFailed as failure:
        if failure.resumable:
            return f"gave up: {failure}", GAVE_UP
        return str(failure), FAILED
    return None, 0
