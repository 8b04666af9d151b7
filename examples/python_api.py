"""A file to a BITS server or from one, by a program in Python.

    python python_api.py upload report.7z http://127.0.0.1:8080/images/
    python python_api.py download http://127.0.0.1:8080/images/report.7z copy.7z

Run it again after an interruption, and it goes on where it was. The password of the
user, if the server wants one, is taken from BITS_USER and BITS_PASSWORD.
"""

import asyncio
import os
import sys
from datetime import timedelta

from bitsd import (
    Event,
    How,
    Kind,
    Options,
    Terms,
    TransferFailed,
    download,
    upload,
)

PATIENCE = timedelta(minutes=1)


def show(event: Event) -> None:
    """Is called from the event loop, often: keep it short."""
    match event:
        case Event(event=Kind.PROGRESS, held=int(held), total=int(total)):
            print(f"\r{held * 100 // total} %", end="", flush=True)
        case Event(event=Kind.WAITING):
            print(f"\n{event.reason}; trying again in {event.seconds:.0f} s")
        case Event(event=Kind.DONE):
            print(f"\n{event.file}: {event.reason}")
        case _:
            pass


async def main(what: str, source: str, target: str) -> int:
    """Exit code: 0 done, 1 failed, 75 if trying again later may help."""
    options = Options(
        user=os.environ.get("BITS_USER"), password=os.environ.get("BITS_PASSWORD")
    )
    try:
        if what == "upload":
            terms = Terms(retry_for=PATIENCE)
            sent = await upload(
                source, target, options=options, terms=terms, progress=show
            )
            print(f"{sent.sent} bytes in {sent.seconds:.1f} s")
        else:
            how = How(connections=2, retry_for=PATIENCE)
            got = await download(
                source, target, options=options, how=how, progress=show
            )
            print(f"{got.path}: of {got.version.modified}")
    except TransferFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return os.EX_TEMPFAIL if failure.resumable else 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("upload", "download"):
        sys.exit("usage: python_api.py upload FILE URL | download URL FILE")
    sys.exit(asyncio.run(main(*sys.argv[1:])))
