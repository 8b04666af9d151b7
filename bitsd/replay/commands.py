"""The commands `bitsd decode` and `bitsd replay`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from .decode import Report


def add(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them to the commands of a program."""
    decode = commands.add_parser(
        "decode", help="show the BITS traffic of a capture, and what broke the rules"
    )
    decode.add_argument(
        "capture", type=Path, metavar="CAPTURE", help="a pcap or pcapng file"
    )
    decode.add_argument("--json", action="store_true", help="for programs")
    decode.set_defaults(run=_decode)


def _print(report: "Report") -> int:
    for line in report.lines:
        print(line)
    if report.problem is not None:
        print(f"bitsd: {report.problem}", file=sys.stderr)
    return report.code


def _decode(given: argparse.Namespace) -> int:
    # The server shares this program, and is not to load what reads captures.
    from . import decode  # noqa: PLC0415

    return _print(decode.report(given.capture, as_json=given.json))
