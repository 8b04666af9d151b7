"""Uploads to the reference server of the tus protocol, which Node runs."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .client import Line, Unexpected, Work, request
from .loads import Upload
from .servers import HERE, UPLOADS, LeftOut, Server, Start, started

#: Of npm; kept between runs of the benchmarks.
PACKAGES = {"@tus/server": "2.4.5", "@tus/file-store": "2.1.1"}
CACHE = HERE / "results" / "tus"

_INSTALL_SECONDS = 60
_LOCATION = re.compile(rb"\r\nLocation: *https?://[^/]+(\S+)", re.IGNORECASE)


def tus() -> Start:
    """`@tus/server` with its `FileStore`."""

    def start(folder: Path, _files: Path) -> Server:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise LeftOut("it needs node and npm")
        _install(npm)
        script = shutil.copy(HERE / "tus_server.mjs", CACHE)
        return started(folder, [node, str(script), str(folder / UPLOADS)])

    return start


def _install(npm: str) -> None:
    if all(_version(name) == version for name, version in PACKAGES.items()):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    # Without a package.json npm would look for one in the folders above.
    (CACHE / "package.json").write_text("{}", "ascii")
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    options = ["--save-exact", "--ignore-scripts", "--no-audit", "--no-fund"]
    command = [npm, "install", *options, *wanted]
    try:
        subprocess.run(
            command,
            cwd=CACHE,
            capture_output=True,
            timeout=_INSTALL_SECONDS,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise LeftOut(f"npm cannot install it: {error}") from None


def _version(name: str) -> str | None:
    """Of a package that is installed."""
    package = CACHE / "node_modules" / name / "package.json"
    try:
        version: str = json.loads(package.read_text("utf-8"))["version"]
    except FileNotFoundError:
        return None
    return version


class TusUpload(Upload):
    """The same bytes as PATCH requests of one upload, which never becomes complete."""

    @contextmanager
    def visit(self, port: int, _client: int) -> Iterator[Work]:
        """POST, PATCH after PATCH, DELETE."""
        fragments = self._fragments()
        target = _create(port, sum(fragments) + 1)
        with Line(port) as line:

            def work() -> None:
                first = 0
                for length in fragments:
                    line.ask(_patch(target, first, length), length, expect=(204,))
                    first += length

            yield work
            line.ask(_request("DELETE", target), expect=(204,))


def _create(port: int, size: int) -> str:
    """The path of a new upload."""
    with Line(port) as line:
        line.send(_request("POST", "/up", Upload_Length=size))
        found = _LOCATION.search(line.receive_last(201))
    if found is None:
        raise Unexpected("no location")
    return found[1].decode()


def _patch(target: str, first: int, length: int) -> bytes:
    kind = "application/offset+octet-stream"
    return _request("PATCH", target, length, Upload_Offset=first, Content_Type=kind)


def _request(method: str, target: str, length: int = 0, **fields: object) -> bytes:
    fields |= {"Tus_Resumable": "1.0.0", "Content_Length": length}
    return request(method, target, **fields)
