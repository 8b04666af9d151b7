"""`bitsd download`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .commands import EXIT_CODES, add_common, add_retry_for, carry_out, describe
from .download import destination, download
from .fetching import How
from .options import Options
from .progress import Tell

_DESCRIPTION = """\
Fetch a file. What came stays beside it in .FILE.bitsd-part until all is there,
so that the same command goes on after a crash or Ctrl-C. Connections that
break and a server that is busy are tried again; a file that changed is
started over.
"""

_MOST_CONNECTIONS = 16


def define(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command."""
    describe(parser, _DESCRIPTION, EXIT_CODES)
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
    add_retry_for(parser)
    add_common(parser)
    parser.set_defaults(run=_run)


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


def _run(given: argparse.Namespace) -> int:
    usage_error: Callable[[str], NoReturn] = given.usage_error
    try:
        target = destination(given.url, given.file)
    except ValueError as error:
        usage_error(str(error))
    how = How(
        connections=given.connections, force=given.force, retry_for=given.retry_for
    )

    async def work(reached: Options, tell: Tell) -> int:
        await download(given.url, target, options=reached, how=how, progress=tell)
        return 0

    return carry_out(given, target.name, work)
