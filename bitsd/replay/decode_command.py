"""The command `bitsd decode`."""

import argparse
import sys
from pathlib import Path

from . import decode
from .decode import Report


def define(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "capture", type=Path, metavar="CAPTURE", help="a pcap or pcapng file"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_decode)


def _decode(given: argparse.Namespace) -> int:
    return told(decode.report(given.capture, as_json=given.json))


def told(report: Report) -> int:
    """Print a report; returns the exit code."""
    for line in report.lines:
        print(line)
    if report.problem is not None:
        print(f"bitsd: {report.problem}", file=sys.stderr)
    return report.code
