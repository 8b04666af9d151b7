"""The command: what to examine, and how to tell of it."""

import argparse
import asyncio
import json
import sys
from dataclasses import replace

import msgspec
from yarl import URL

from bitsd import quantities
from bitsd.client.options import Options, add_options, options
from bitsd.client.trouble import NoAnswer
from bitsd.client.way import tls
from bitsd.plain import plain

from .downloads import Downloads
from .patient import Patient
from .report import Finding, Findings, line, paragraph
from .road import reach
from .uploads import Uploads

#: Larger than fragments of Windows, which reach 13 MB.
LARGEST = 16_000_000

#: For an answer: somebody sits and waits.
PATIENCE_SECONDS = 30.0

_WELL, _FAULT, _NOT_REACHED = 0, 1, 3


def define(doctor: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    doctor.description = (
        "test the way to a BITS server, and name the hop at fault. No file is made or "
        "replaced; a bitsd has warnings of it in its log (cut_off, out_of_sync). Exit "
        "code: 0 all is well, 1 something is wrong, 3 the server cannot "
        "be reached."
    )
    doctor.add_argument(
        "url", type=_url, metavar="URL", help="of a folder, or of a file in it"
    )
    doctor.add_argument(
        "--file",
        type=_url,
        metavar="URL",
        help="a file there, to test downloads with (default: URL, if it is one)",
    )
    doctor.add_argument(
        "--size",
        type=_size,
        default=LARGEST,
        metavar="SIZE",
        help="largest fragment to send (default: 16MB)",
    )
    doctor.add_argument("--json", action="store_true", help="for programs")
    add_options(doctor)
    doctor.set_defaults(run=_doctor)


def _url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https URL")
    return url


def _size(text: str) -> int:
    try:
        size = quantities.size(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not size:
        raise argparse.ArgumentTypeError("give at least 1")
    return size


def _doctor(given: argparse.Namespace) -> int:
    how = replace(options(given), timeout_seconds=PATIENCE_SECONDS)
    if given.file is not None and given.file.origin() != given.url.origin():
        given.usage_error("--file has to be at the server of URL")
    findings = Findings(_drop if given.json else _tell)
    try:
        urls = (given.url, given.file)
        reached = asyncio.run(examine(urls, given.size, how, findings))
    except NoAnswer as error:
        print(f"bitsd: {plain(str(error))}", file=sys.stderr)
        return _FAULT
    except KeyboardInterrupt:
        print("bitsd: interrupted; what it made is removed", file=sys.stderr)
        return _FAULT
    if given.json:
        _tell_json(given.url, findings)
    else:
        _conclude(findings)
    if not reached:
        return _NOT_REACHED
    return _FAULT if findings.faults else _WELL


async def examine(
    urls: tuple[URL, URL | None], most: int, how: Options, findings: Findings
) -> bool:
    """Examine a server; whether it could be reached.

    Args:
        urls: where to upload to, and a file there.
        most: bytes of the largest fragment.
        how: to sign in, and more.
        findings: take what is found.

    Raises:
        NoAnswer: a file of the options cannot be used.
    """
    url, file = urls
    context = await asyncio.to_thread(tls, how) if url.scheme == "https" else None
    patient = Patient(url, how, context)
    if not await reach(patient, findings):
        return False
    if await Uploads(patient, findings).examine(most) and file is None:
        file = url
    if file is not None:
        patient.target = file.raw_path_qs
        await Downloads(patient, findings).examine()
    else:
        findings.skip("download", "give --file the URL of a file there")
    return True


def _drop(_finding: Finding) -> None:
    """All are told in the end."""


def _tell(finding: Finding) -> None:
    _say(line(finding))


def _say(text: str) -> None:
    encoding = sys.stdout.encoding
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _conclude(findings: Findings) -> None:
    told = set()
    for finding in findings.all:
        fault = finding.fault
        if fault is not None and fault.symptom not in told:
            told.add(fault.symptom)
            _say("")
            _say(paragraph(finding, fault).rstrip())
    if not told:
        _say("\nno fault found")


def _tell_json(url: URL, findings: Findings) -> None:
    found = {"url": str(url), "findings": msgspec.to_builtins(findings.all)}
    print(json.dumps(found, indent=2))
