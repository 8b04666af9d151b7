"""Fetch a file, however often the way to it breaks.

A file that is already here is left alone; what came of one stays beside it until all
is there.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

from yarl import URL

from .fetching import Downloaded, Fetching, How
from .options import Options
from .partial import Partial
from .progress import Tell, nobody


def file_name(url: str, advice: str = "say which FILE it becomes") -> str:
    """The last name of a URL.

    Args:
        url: of the file.
        advice: for one that has no name.

    Raises:
        ValueError: the URL is none of HTTP, or has no name that a file can have; says
            which.
    """
    place = URL(url)
    if place.scheme not in ("http", "https") or not place.host:
        raise ValueError(f"not a URL of HTTP: {url}")
    name = unquote(place.raw_name)
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{url} does not name a file; {advice}")
    return name


def destination(url: str, file: Path | None) -> Path:
    """Where a file goes: into the folder, or where it is said; else by its own name.

    Raises:
        ValueError: as by `file_name`.
    """
    if file is None:
        return Path(file_name(url))
    return file / file_name(url) if file.is_dir() else file


async def download(
    url: str,
    file: str | Path | None = None,
    *,
    options: Options | None = None,
    how: How | None = None,
    progress: Tell = nobody,
) -> Downloaded:
    """Fetch a file, or go on where an earlier download of it ended.

    Args:
        url: http or https.
        file: what it becomes, or a folder for it; by default the URL's last name, in
            the current folder. It is replaced at once, when all is there.
        options: how the server is reached.
        how: how much is asked for.
        progress: is told what happens, often.

    Raises:
        TransferFailed: the file is not there; see `resumable`.
        ValueError: the URL is none.
    """
    place = None if file is None else Path(file)
    target = await asyncio.to_thread(destination, url, place)
    part = Partial(target, url)
    # One thread: what is written is written in order, and a write that nobody waits
    # for any more is over before the file is closed.
    disk = ThreadPoolExecutor(1, "bitsd-download")
    fetching = Fetching(url, part, disk, options or Options(), progress)
    try:
        return await fetching.run(how or How())
    finally:
        try:
            await asyncio.shield(fetching.on_disk(part.close))
        finally:
            disk.shutdown(wait=False)
