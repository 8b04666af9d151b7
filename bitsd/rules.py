"""What must hold of settings besides their types, and between them."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

from . import certificates, offers
from .access import EVERYONE
from .settings import CertificateRule, Config, Directory, Listen
from .tls import ServerContext
from .tls_files import TlsFiles, Unusable

#: Longest notification URL and host id, as IIS takes them.
MAXIMUM_URL = 2200
MAXIMUM_HOST_ID = 300

_MAXIMUM_PORT = 65_535
_MAXIMUM_UNIX_PATH = 107  # bytes; sockaddr_un has a NUL after them
_ADDRESS = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|[\w.-]+):(\d{1,5})|unix:(/[^\x00-\x1f\x7f]+)", re.ASCII
)
_URL = re.compile(r"/|(?:/[^/?#%\\\x00-\x20\x7f]+)+/?")
_HOST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]")
_SUFFIX = re.compile(r"\.[^./]+")
_MIME_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:; ?[\w.+-]+=[\w.+-]+)*", re.ASCII)


def problems(
    table: Config | Listen | Directory | CertificateRule,
) -> Iterator[str]:
    """A line for each rule that does not hold of one table by itself."""
    match table:
        case Config():
            for key in ("listen", "directory"):
                if not getattr(table, key):
                    yield f"{key}: at least one [[{key}]] is needed"
            yield from offers.problems(table)
        case Listen():
            yield from _listen_problems(table)
        case CertificateRule():
            yield from certificates.problems(table)
        case _:
            yield from _directory_problems(table)


def _listen_problems(listen: Listen) -> Iterator[str]:
    if not _is_address(listen.address):
        yield (
            f"address: not an address: {listen.address!r}; "
            "give HOST:PORT, [V6]:PORT or unix:/PATH"
        )
    files = TlsFiles.of(listen)
    if files is None:
        if listen.key is not None:
            yield "key: without a certificate; set both or none"
        if listen.client_ca is not None:
            yield "client_ca: without a certificate of the server; set that as well"
    if listen.client_crl is not None and listen.client_ca is None:
        yield "client_crl: without a client_ca; set both or none"


def _is_address(address: str) -> bool:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return False
    v6, port, path = match.groups()
    if path is not None:
        return len(os.fsencode(path)) <= _MAXIMUM_UNIX_PATH
    return int(port) <= _MAXIMUM_PORT and (v6 is None or _is_v6(v6))


def _is_v6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _directory_problems(directory: Directory) -> Iterator[str]:
    if not _is_url_path(directory.url):
        yield f"url: not a path such as /images: {directory.url!r}"
    yield from _path_problems(directory)
    yield from offers.list_problems(directory)
    yield from _notification_problems(directory)
    host_id = directory.host_id
    if host_id is not None and (
        len(host_id) > MAXIMUM_HOST_ID or not _HOST_ID.fullmatch(host_id)
    ):
        yield f"host_id: not a host name or address without a port: {host_id[:80]!r}"
    yield from _mime_type_problems(directory.mime_types)


def _is_url_path(url: str) -> bool:
    dots = {".", ".."}.intersection(url.split("/"))
    return _URL.fullmatch(url) is not None and url.isprintable() and not dots


def _mime_type_problems(mime_types: Mapping[str, str]) -> Iterator[str]:
    for suffix, content_type in mime_types.items():
        if not _SUFFIX.fullmatch(suffix) or not _MIME_TYPE.fullmatch(content_type):
            yield (
                f"mime_types: {suffix!r} = {content_type!r}; "
                'write it as ".wim" = "application/x-ms-wim"'
            )
        elif suffix != suffix.lower():
            yield (
                f"mime_types: {suffix!r}; write {suffix.lower()!r}, "
                "which is for names in any case"
            )


def _notification_problems(directory: Directory) -> Iterator[str]:
    url = directory.notification_url
    if directory.notification != "none" and not url:
        yield f"notification_url: needed for notification = {directory.notification!r}"
    if url and (len(url) > MAXIMUM_URL or not _is_url(url)):
        yield (
            "notification_url: give an http or https URL, or a relative one, "
            f"of at most {MAXIMUM_URL} characters"
        )


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    known = parts.scheme in ("http", "https") and has_host
    relative = not parts.scheme and (has_host or not parts.netloc)
    return (known or relative) and url.isprintable() and " " not in url


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
    try:
        found = sessions.lstat()
    except FileNotFoundError:  # it is made when the server starts
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_dev != path.stat().st_dev:
        yield f"path: {sessions} must be a folder on the same file system"
    elif not os.access(sessions, os.R_OK | os.W_OK | os.X_OK):
        yield f"path: {sessions} cannot be read and written by this user"


def between(config: Config) -> Iterator[str]:
    """A line for each rule between tables that does not hold.

    Each table is without problems by itself.
    """
    yield from _between_addresses(config)
    for (low, first), (high, second) in combinations(enumerate(config.directory), 2):
        if _nested(_names(first.url), _names(second.url)):
            yield f"directory[{high}].url: overlaps with that of directory[{low}]"
        if _nested(first.path.resolve().parts, second.path.resolve().parts):
            yield f"directory[{high}].path: shared with that of directory[{low}]"
    yield from _exposed_problems(config)
    for index, directory in enumerate(config.directory):
        for problem in offers.problems_with(config, directory):
            yield f"directory[{index}].{problem}"


def _exposed_problems(config: Config) -> Iterator[str]:
    exposed = [listen.address for listen in config.listen if not listen.loopback]
    for index, directory in enumerate(config.directory):
        anonymous = directory.upload and EVERYONE in directory.write
        if exposed and anonymous and not directory.allow_anonymous_uploads:
            yield (
                f"directory[{index}].write: anyone who reaches {exposed[0]} could "
                "upload; set allow_anonymous_uploads = true if that is meant, "
                "or listen on 127.0.0.1"
            )


def _between_addresses(config: Config) -> Iterator[str]:
    for (low, one), (high, other) in combinations(enumerate(config.listen), 2):
        any_port = one.path is None and one.port == 0
        if one.address == other.address and not any_port:
            yield f"listen[{high}].address: the same as that of listen[{low}]"
    if config.certificate and not any(each.client_ca for each in config.listen):
        yield "certificate: no [[listen]] has a client_ca, so no client shows one"


def _secrets(config: Config) -> Iterator[tuple[str, Path]]:
    """Files that clients may neither read nor replace."""
    for key in ("users", "keytab"):
        if (path := getattr(config, key)) is not None:
            yield key, path
    for index, listen in enumerate(config.listen):
        for key in ("certificate", "key", "client_ca", "client_crl"):
            if (path := getattr(listen, key)) is not None:
                yield f"listen[{index}].{key}", path


def own_files(config: Config, file: Path | None = None) -> Iterator[str]:
    """A line for each file of the server's own that a directory would serve.

    Args:
        config: without other problems.
        file: that it was read from.
    """
    own = [*_secrets(config)] + ([] if file is None else [("this file", file)])
    for key, path in own:
        for index, directory in enumerate(config.directory):
            folder = directory.path.resolve()
            # The name in there counts as well as what it leads to.
            places = (path.resolve(), path.parent.resolve() / path.name)
            if any(place.is_relative_to(folder) for place in places):
                yield (
                    f"{key}: {path} is in the folder of directory[{index}], where "
                    "clients could read or replace it; move it"
                )


def tls(config: Config) -> Iterator[str]:
    """A line for each thing that is wrong about files of TLS; blocks."""
    for index, listen in enumerate(config.listen):
        files = TlsFiles.of(listen)
        if files is not None:
            try:
                ServerContext(files)
            except Unusable as error:
                yield from (f"listen[{index}].{problem}" for problem in error.problems)


def _names(url: str) -> tuple[str, ...]:
    return tuple(filter(None, url.split("/")))


def _nested(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
