"""Fetch a file from a Python program: `python python_download.py URL [FILE]`.

What came stays beside the file until all is there: run again after any interruption,
the program goes on.
"""

import asyncio
import sys
from datetime import timedelta

from bitsd import DownloadFailed, How, download


async def main(url: str, file: str | None = None) -> int:
    """Exit code: 0 it is there, 1 it cannot be fetched, 3 try again later."""
    how = How(connections=2, retry_for=timedelta(hours=1))
    try:
        done = await download(url, file, how=how)
    except DownloadFailed as failure:
        print(failure, file=sys.stderr)
        return 3 if failure.resumable else 1
    what = "fetched" if done.fetched else "already there"
    print(f"{done.path}: {what}, {done.version.length} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
