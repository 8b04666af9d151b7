"""`bitsd sync`."""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from .commands import FAILED, add_common, carry_out, describe, span
from .download import file_name
from .download_command import add_connections
from .fetching import How
from .notes import folder
from .options import Options
from .progress import Tell, TransferFailed
from .sync import EVERY, Sync, follow, in_order

_DESCRIPTION = """\
Keep a folder as a server has it. Each look asks with HEAD what changed and
fetches that; a file is replaced at once, when all of it is there. Before an
image NAME.ckm comes NAME.ckm.index, if the server has it. The first look is
at once; each other one follows the end of the last by the time of --every,
10 % more or less. Whatever fails is told, and tried at the next look.
"""

_EXIT_CODES = """\
exit codes:
  0    --once: everything is as the server has it; else: stopped by a signal
  1    --once: something could not be fetched; stderr says what and why
  2    wrong usage
  130  --once: interrupted; the same command goes on
"""


def define(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command."""
    describe(parser, _DESCRIPTION, _EXIT_CODES)
    parser.add_argument("urls", nargs="+", metavar="URL", help="of a file")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if missing")
    parser.add_argument(
        "--every",
        type=span,
        default=EVERY,
        metavar="TIME",
        help="such as 90s, 15m or 12h (default: 15m); a file without any progress for "
        "so long is left to the next look",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="one look, and no other; it tells also what is already there",
    )
    add_connections(parser)
    add_common(parser)
    parser.set_defaults(run=_run)


def problem(urls: Sequence[str]) -> str | None:
    """Why these URLs cannot be files of one folder."""
    names: dict[str, str] = {}
    try:
        for wanted in in_order(urls):
            for url in filter(None, (wanted.index, wanted.url)):
                name = file_name(url, "give the URL of a file")
                if names.setdefault(name, url) != url:
                    return f"{names[name]} and {url} have the same name"
    except ValueError as error:
        return str(error)
    return None


def _run(given: argparse.Namespace) -> int:
    usage_error: Callable[[str], NoReturn] = given.usage_error
    wrong = problem(given.urls)
    if wrong is not None:
        usage_error(wrong)

    async def work(reached: Options, tell: Tell) -> int:
        sync = Sync(
            folder=given.folder,
            urls=tuple(given.urls),
            options=reached,
            how=How(connections=given.connections, retry_for=given.every),
            memory=folder("sync"),
            tell=tell,
            tell_all=given.once,
        )
        try:
            await asyncio.to_thread(given.folder.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            why = f"cannot make the folder: {error.strerror}"
            raise TransferFailed(why) from None
        try:
            return 0 if await follow(sync, given.every, once=given.once) else FAILED
        except asyncio.CancelledError:
            if given.once:
                raise
            return 0

    return carry_out(given, str(given.folder), work)
