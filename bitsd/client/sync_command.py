"""`bitsd sync`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from .commands import FAILED, INTERRUPTED, Interrupted, asked, run, shown
from .download import file_name
from .download_command import add_connections, span
from .fetching import How
from .options import add_options
from .progress import Event, Kind
from .sync import EVERY, Sync, follow, in_order, memory_folder

EXIT_CODES = """\
exit codes:
  0    --once: everything is as the server has it; else: stopped by a signal
  1    --once: something could not be fetched; stderr says what and why
  2    wrong usage
  130  --once: interrupted
"""


def define(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Keep a folder as a server has it. Each look asks with HEAD what changed and\n"
        "fetches that; a file is replaced at once, when all of it is there. Before an\n"
        "image NAME.ckm comes NAME.ckm.index, if the server has it. The first look is\n"
        "at once; each other one follows the end of the last by the time of --every,\n"
        "10 % more or less. Whatever fails is told, and tried at the next look."
    )
    parser.epilog = EXIT_CODES
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
    parser.add_argument("--once", action="store_true", help="one look, and no other")
    add_connections(parser)
    parser.add_argument(
        "--json", action="store_true", help="events on stdout, one line of JSON each"
    )
    add_options(parser)
    parser.set_defaults(run=_run, usage_error=parser.error)


def problem(urls: Sequence[str]) -> str | None:
    """Why these URLs cannot be files of one folder."""
    names: dict[str, str] = {}
    try:
        for wanted in in_order(urls):
            for url in filter(None, (wanted.index, wanted.url)):
                if names.setdefault(file_name(url), url) != url:
                    return f"{names[file_name(url)]} and {url} have the same name"
    except ValueError as error:
        return str(error)
    return None


def _run(given: argparse.Namespace) -> int:
    usage_error: Callable[[str], NoReturn] = given.usage_error
    wrong = problem(given.urls)
    if wrong is not None:
        usage_error(wrong)
    try:
        reached = asked(given)
    except Interrupted:
        return INTERRUPTED
    with shown(as_json=given.json) as tell:
        sync = Sync(
            folder=given.folder,
            urls=tuple(given.urls),
            options=reached,
            how=How(connections=given.connections, retry_for=given.every),
            memory=memory_folder(),
            tell=tell,
        )
        try:
            sync.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot make the folder: {error.strerror}"
            tell(Event(event=Kind.FAILED, file=str(sync.folder), reason=reason))
            return FAILED
        try:
            well = run(follow(sync, given.every, once=given.once))
        except Interrupted:
            return INTERRUPTED if given.once else 0
    return 0 if well else FAILED
