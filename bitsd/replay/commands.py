"""The commands `bitsd decode` and `bitsd replay`."""

import argparse
import getpass
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from .decode import Report

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")


def add(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them to the commands of a program."""
    decode = commands.add_parser(
        "decode", help="show the BITS traffic of a capture, and what broke the rules"
    )
    replay = commands.add_parser(
        "replay", help="send the requests of a capture to a server, compare its answers"
    )
    for command in (decode, replay):
        command.add_argument(
            "capture", type=Path, metavar="CAPTURE", help="a pcap or pcapng file"
        )
        command.add_argument("--json", action="store_true", help="for programs")
    decode.set_defaults(run=_decode)
    _add_replay(replay)


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "--to", required=True, metavar="URL", help="such as http://127.0.0.1:8080"
    )
    replay.add_argument(
        "--timing", action="store_true", help="keep the pace of the capture"
    )
    replay.add_argument(
        "--as-recorded-cuts",
        action="store_true",
        help="break connections at the byte where they broke",
    )
    replay.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="'NAME: VALUE'",
        help="for every request",
    )
    replay.add_argument(
        "--user",
        metavar="NAME[:PASSWORD]",
        help="sign in by Basic where the capture does; the password is asked for",
    )
    replay.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a field of answers that may differ",
    )
    replay.set_defaults(run=_replay, usage_error=replay.error)


def _header(text: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not 'NAME: VALUE'")
    return match[1], match[2]


def _print(report: "Report") -> int:
    for line in report.lines:
        print(line)
    if report.problem is not None:
        print(f"bitsd: {report.problem}", file=sys.stderr)
    return report.code


# The server shares this program, and is not to load what reads captures: hence the
# imports where they are needed.


def _decode(given: argparse.Namespace) -> int:
    # See above.
    from . import decode  # noqa: PLC0415

    return _print(decode.report(given.capture, as_json=given.json))


def _replay(given: argparse.Namespace) -> int:
    # See above.
    from . import outcome, play  # noqa: PLC0415

    try:
        play.target(given.to)
    except ValueError as problem:
        given.usage_error(f"--to {given.to}: {problem}")
    options = play.Options(
        timing=given.timing,
        cuts=given.as_recorded_cuts,
        fields=given.header,
        user=_user(given.user),
        ignored=given.ignore,
    )
    try:
        report = outcome.report(given.capture, given.to, options, as_json=given.json)
    except KeyboardInterrupt:
        print("bitsd: stopped before all answers came", file=sys.stderr)
        return 1
    return _print(report)


def _user(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, colon, password = text.partition(":")
    return name, password if colon else getpass.getpass(f"Password of {name}: ")
