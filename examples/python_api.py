"""A file to a BITS server from a program in Python, with what happens on the way.

    python examples/python_api.py report.7z http://127.0.0.1:8080/images/

Run it again after an interruption, and it goes on where the server says. The password
of the user, if the server wants one, is taken from BITS_USER and BITS_PASSWORD.
"""

import asyncio
import os
import sys

from bitsd import (
    Options,
    Progress,
    Started,
    Terms,
    UploadFailed,
    Waiting,
    upload,
)


def show(happening: Started | Progress | Waiting) -> None:
    """Is called from the event loop, often: keep it short."""
    match happening:
        case Started(url, size, resumed):
            print(f"{url}: {size} bytes{', some of them before' if resumed else ''}")
        case Progress(offset, size):
            print(f"\r{offset * 100 // size} %", end="", flush=True)
        case Waiting(seconds, why):
            print(f"\n{why}; trying again in {seconds:.0f} s")


async def main(path: str, url: str) -> int:
    """Upload a file; exit code 75 if trying again later may help."""
    options = Options(
        user=os.environ.get("BITS_USER"), password=os.environ.get("BITS_PASSWORD")
    )
    terms = Terms(retry_seconds=60.0)
    try:
        done = await upload(path, url, options=options, terms=terms, progress=show)
    except UploadFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return os.EX_TEMPFAIL if failure.resumable else 1
    print(f"\n{done.sent} bytes in {done.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python_api.py FILE URL")
    sys.exit(asyncio.run(main(*sys.argv[1:])))
