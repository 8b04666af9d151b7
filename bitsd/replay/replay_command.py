"""The command `bitsd replay`."""

import argparse
import getpass
import re
import sys

from . import decode_command, outcome, play

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")


def define(replay: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    decode_command.define(replay)
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


def _replay(given: argparse.Namespace) -> int:
    try:
        play.target(given.to)
    except ValueError as problem:
        given.usage_error(f"--to {given.to}: {problem}")
    try:
        options = play.Options(
            timing=given.timing,
            cuts=given.as_recorded_cuts,
            fields=given.header,
            user=_user(given.user),
            ignored=given.ignore,
        )
        report = outcome.report(given.capture, given.to, options, as_json=given.json)
    except KeyboardInterrupt:
        print("bitsd: stopped before all answers came", file=sys.stderr)
        return 1
    return decode_command.told(report)


def _user(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, colon, password = text.partition(":")
    return name, password if colon else getpass.getpass(f"Password of {name}: ")
