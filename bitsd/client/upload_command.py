"""`bitsd upload`: its options, and how it ends."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bitsd import quantities

from .options import Options, add_options, options

if TYPE_CHECKING:
    from .display import Lines

FAILED = 1
GAVE_UP = 3
INTERRUPTED = 130

_DESCRIPTION = """Upload a file to a BITS server. Run again after an interruption, of \
whatever kind, the same command goes on where the server says."""

_EPILOG = """exit codes:
  0    done
  1    failed, and would again; the line on stderr says what to do
  2    wrong usage
  3    gave up on something that may pass; the same command goes on
  130  interrupted by Ctrl-C or SIGTERM; the same command goes on

What has to be known for going on is kept in $XDG_STATE_HOME/bitsd/uploads
(~/.local/state/bitsd/uploads), without names and passwords."""


def define(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "url",
        type=_url,
        metavar="URL",
        help="of the file; one that ends in / gets its name",
    )
    parser.add_argument("--json", action="store_true", help="one JSON event a line")
    _add_terms(parser)
    add_options(parser)
    parser.set_defaults(run=_run)


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fragment-size",
        type=_size,
        metavar="SIZE",
        help='bytes, or such as "4MiB" (default: 1MiB to 64MiB, by the speed)',
    )
    parser.add_argument(
        "--retry-for",
        type=_seconds,
        default="14d",
        metavar="TIME",
        help="try so long without progress (default: 14d, as BITS does)",
    )
    parser.add_argument(
        "--reply", type=Path, metavar="FILE", help="store the application's reply there"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--restart",
        action="store_true",
        help="forget what was sent before, also of a file that changed since",
    )
    instead.add_argument(
        "--cancel", action="store_true", help="give up what was sent before, and end"
    )


def _url(text: str) -> str:
    from .upload import destination

    try:
        destination(Path("name"), text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _size(text: str) -> int:
    try:
        size = quantities.size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not size:
        raise argparse.ArgumentTypeError("a fragment has at least one byte")
    return size


def _seconds(text: str) -> float:
    try:
        return quantities.time(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run(given: argparse.Namespace) -> int:
    from .upload import destination

    url = str(destination(given.file.absolute(), given.url))
    try:
        return asyncio.run(_code(given, options(given), url))
    except (KeyboardInterrupt, EOFError):  # at the prompt for a password
        return INTERRUPTED


async def _code(given: argparse.Namespace, reached: Options, url: str) -> int:
    """The exit code; a signal ends the command at once."""
    from .outcome import UploadFailed

    display = _display(given)
    task = asyncio.ensure_future(_done(given, reached, url, display))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except UploadFailed as failure:
        display.failed(failure)
        return GAVE_UP if failure.resumable else FAILED
    except asyncio.CancelledError:
        display.interrupted()
        return INTERRUPTED
    return 0


def _display(given: argparse.Namespace) -> "Lines":
    from .display import Bar, JsonLines, Lines

    if given.json:
        return JsonLines()
    return Bar(given.file.name) if sys.stderr.isatty() else Lines()


async def _done(
    given: argparse.Namespace, reached: Options, url: str, display: "Lines"
) -> None:
    from .upload import Terms, cancel, upload

    if given.cancel:
        await cancel(given.file, url, options=reached)
        display.cancelled(url)
        return
    terms = Terms(
        fragment_size=given.fragment_size,
        retry_seconds=given.retry_for,
        restart=given.restart,
        reply=given.reply,
    )
    with display:
        done = await upload(
            given.file, url, options=reached, terms=terms, progress=display.happened
        )
    stored = None if None in (given.reply, done.reply_url) else str(given.reply)
    display.uploaded(done, stored)
