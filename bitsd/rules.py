"""What must hold of settings besides their types, and between them."""

import os
import re
import stat
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

from .settings import EVERYONE, Config, Directory, Listen

#: Longest notification URL and host id, as IIS takes them.
MAXIMUM_URL = 2200
MAXIMUM_HOST_ID = 300

_MAXIMUM_PORT = 65_535
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+):(\d{1,5})|unix:/.+", re.ASCII)
_URL = re.compile(r"/|(?:/[^/?#%\\\x00-\x20\x7f]+)+/?")
_HOST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]")
_SUFFIX = re.compile(r"\.[^./]+")
_MIME_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:; ?[\w.+-]+=[\w.+-]+)*", re.ASCII)


def problems(config: Config) -> list[str]:
    """A line for each rule that does not hold."""
    lines = [
        f"listen[{index}].{problem}"
        for index, listen in enumerate(config.listen)
        for problem in _listen_problems(listen)
    ]
    lines += [
        f"directory[{index}].{problem}"
        for index, directory in enumerate(config.directory)
        for problem in _directory_problems(directory)
    ]
    if not config.directory:
        lines.append("directory: at least one [[directory]] is needed")
    if not lines:  # the rest compares values that make sense by themselves
        lines += _between(config)
    return lines


def _listen_problems(listen: Listen) -> Iterator[str]:
    match = _ADDRESS.fullmatch(listen.address)
    if match is None or int(match[1] or 0) > _MAXIMUM_PORT:
        yield (
            f"address: not an address: {listen.address!r}; "
            "give HOST:PORT, [V6]:PORT or unix:/PATH"
        )


def _directory_problems(directory: Directory) -> Iterator[str]:
    if _URL.fullmatch(directory.url) is None or ".." in directory.url.split("/"):
        yield f"url: not a path such as /images: {directory.url!r}"
    yield from _path_problems(directory)
    for key in ("read", "write"):
        for name in getattr(directory, key):
            if name != EVERYONE:
                yield (
                    f'{key}: {name!r} is not available yet; give ["*"] for everyone '
                    "or [] for nobody"
                )
    yield from _notification_problems(directory)
    host_id = directory.host_id
    if host_id is not None and (
        len(host_id) > MAXIMUM_HOST_ID or not _HOST_ID.fullmatch(host_id)
    ):
        yield f"host_id: not a host name or address without a port: {host_id[:80]!r}"
    for suffix, content_type in directory.mime_types.items():
        if not _SUFFIX.fullmatch(suffix) or not _MIME_TYPE.fullmatch(content_type):
            yield (
                f"mime_types: {suffix!r} = {content_type!r}; "
                'write it as ".wim" = "application/x-ms-wim"'
            )


def _notification_problems(directory: Directory) -> Iterator[str]:
    url = directory.notification_url
    if directory.notification != "none" and not url:
        yield f"notification_url: needed for notification = {directory.notification!r}"
    if url and (len(url) > MAXIMUM_URL or not _is_url(url)):
        yield "notification_url: give an http or https URL, or a relative one"


def _is_url(url: str) -> bool:
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        return False
    return scheme in ("", "http", "https") and url.isprintable() and " " not in url


def _path_problems(directory: Directory) -> Iterator[str]:
    path = directory.path
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        yield f"path: {path} does not exist; make the folder"
        return
    if not is_folder:
        yield f"path: {path} is not a folder"
    elif not os.access(path, os.R_OK | os.X_OK):
        yield f"path: {path} cannot be read by this user"
    elif directory.upload:
        yield from _upload_path_problems(path)


def _upload_path_problems(path: Path) -> Iterator[str]:
    if not os.access(path, os.W_OK):
        yield f"path: {path} cannot be written by this user, and upload is on"
        return
    sessions = path / "BITS-Sessions"
    if not sessions.exists():
        return
    if sessions.is_symlink() or sessions.stat().st_dev != path.stat().st_dev:
        yield f"path: {sessions} must be a folder on the same file system"
    elif not os.access(sessions, os.W_OK | os.X_OK):
        yield f"path: {sessions} cannot be written by this user"


def _between(config: Config) -> Iterator[str]:
    for (low, one), (high, other) in combinations(enumerate(config.listen), 2):
        if one.address == other.address and not one.address.endswith(":0"):
            yield f"listen[{high}].address: the same as that of listen[{low}]"
    for (low, first), (high, second) in combinations(enumerate(config.directory), 2):
        if _nested(_names(first.url), _names(second.url)):
            yield f"directory[{high}].url: overlaps with that of directory[{low}]"
        if _nested(first.path.resolve().parts, second.path.resolve().parts):
            yield f"directory[{high}].path: shared with that of directory[{low}]"
    exposed = [listen.address for listen in config.listen if not listen.loopback]
    for index, directory in enumerate(config.directory):
        anonymous = directory.upload and EVERYONE in directory.write
        if exposed and anonymous and not directory.allow_anonymous_uploads:
            yield (
                f"directory[{index}].write: anyone who reaches {exposed[0]} could "
                "upload; set allow_anonymous_uploads = true if that is meant, "
                "or listen on 127.0.0.1"
            )


def _names(url: str) -> tuple[str, ...]:
    return tuple(filter(None, url.split("/")))


def _nested(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
