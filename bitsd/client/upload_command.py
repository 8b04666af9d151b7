"""`bitsd upload`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bitsd import quantities

from .commands import EXIT_CODES, add_common, add_retry_for, carry_out, describe
from .options import Options
from .progress import Event, Kind, Tell, writing
from .upload import Terms, cancel, destination, upload

_DESCRIPTION = """\
Send a file to a BITS server. What has to be known for going on after whatever
happens is kept in $XDG_STATE_HOME/bitsd/uploads (~/.local/state/bitsd/uploads),
so that the same command goes on where the server says: the path of the file and
the session, but no URL, user or password. It goes when the server has the file,
with --cancel, or at the next upload of any file after 30 days without progress.
"""


def define(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command."""
    describe(parser, _DESCRIPTION, EXIT_CODES)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "url", metavar="URL", help="of the file; one that ends in / gets its name"
    )
    parser.add_argument(
        "--fragment-size",
        type=_size,
        metavar="SIZE",
        help='bytes, or such as "4MiB" (default: 1MiB to 64MiB, by the speed)',
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
    add_retry_for(parser)
    add_common(parser)
    parser.set_defaults(run=_run)


def _size(text: str) -> int:
    try:
        size = quantities.size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not size:
        raise argparse.ArgumentTypeError("a fragment has at least one byte")
    return size


def _run(given: argparse.Namespace) -> int:
    file: Path = given.file.absolute()
    usage_error: Callable[[str], NoReturn] = given.usage_error
    try:
        destination(file, given.url)
    except ValueError as error:
        usage_error(str(error))

    unanswered = False

    async def work(reached: Options, tell: Tell) -> int:
        nonlocal unanswered
        if given.cancel:
            await cancel(file, given.url, options=reached)
            tell(Event(event=Kind.DONE, file=file.name, reason="upload cancelled"))
            return 0
        terms = Terms(
            fragment_size=given.fragment_size,
            retry_for=given.retry_for,
            restart=given.restart,
            reply=given.reply,
        )
        uploaded = await upload(
            file, given.url, options=reached, terms=terms, progress=tell
        )
        unanswered = given.reply is not None and uploaded.reply_url is None
        return 0

    code = carry_out(given, file.name, work)
    if unanswered:
        writing(sys.stderr)(f"{file.name}: no reply came")
    return code
