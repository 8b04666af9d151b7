"""The servers that are compared: how each is started, what it used, how it ends."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
UPLOADS = "up"
FILES = "files"

#: For a server to start or to end, on a busy machine.
PATIENCE_SECONDS = 30.0

# RLIMIT_NOFILE and these allow for a thousand uploads: a socket and a file each.
CONNECTIONS = 4096

_BITSD = """\
maximum_connections = {connections}

[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/up"
path = "up"
upload = true
overwrite = true
sessions_per_user = {connections}
durability = "{durability}"

[[directory]]
url = "/files"
path = "{files}"
"""

_NGINX = """\
{user}
worker_processes 1;
worker_rlimit_nofile {descriptors};
daemon off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    sendfile on;
    tcp_nopush on;
    access_log {access_log};
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path body;
    proxy_temp_path unused;
    fastcgi_temp_path unused;
    scgi_temp_path unused;
    uwsgi_temp_path unused;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location /up/ {{
            root .;
            dav_methods PUT;
            {body}
        }}
        location /files/ {{ alias {files}/; }}
        location /ping/ {{ return 200; }}
    }}
}}
"""
_TUNED = "client_body_buffer_size 1m; client_body_in_file_only clean;"


class CannotRun(Exception):
    """The benchmarks cannot run here; one line that says what to do."""


@dataclass(frozen=True)
class Usage:
    """What a server used so far.

    Attributes:
        cpu: seconds of user and system time, of all its processes.
        resident: bytes of memory now; pages that processes share count for each.
        peak: the most since `forget_peak`.
    """

    cpu: float
    resident: int
    peak: int


@dataclass
class Server:
    """One running server with a folder of its own."""

    process: subprocess.Popen[str]
    folder: Path
    port: int

    def usage(self) -> Usage:
        """What it used so far."""
        tree = list(processes(self.process.pid))
        return Usage(
            cpu=sum(map(cpu_seconds, tree)),
            resident=sum(_memory(pid, "VmRSS") for pid in tree),
            peak=sum(_memory(pid, "VmHWM") for pid in tree),
        )

    def forget_peak(self) -> None:
        """Let the peak of memory start anew (proc(5), clear_refs)."""
        for pid in processes(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")

    def clean(self) -> None:
        """Delete what was uploaded, before the kernel writes it to the disk."""
        for path in (self.folder / UPLOADS).iterdir():
            if path.is_file():
                path.unlink()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def processes(pid: int) -> Iterator[int]:
    """A process and those that it started."""
    yield pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    for child in children.split():
        yield from processes(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, with its threads that have ended.

    /proc/PID/stat has the same in ticks of 10 ms, too coarse for short runs. The
    number of this clock is what clock_getcpuclockid(3) makes of a process id.
    """
    return time.clock_gettime((~pid << 3) | 2)


def _memory(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


Start = Callable[[Path, Path], Server]
"""Starts a server: its own folder, and that of the files to download."""


def bitsd(durability: str) -> Start:
    """`bitsd serve --config`."""

    def start(folder: Path, files: Path) -> Server:
        config = folder / "bitsd.toml"
        text = _BITSD.format(
            durability=durability, files=files, connections=CONNECTIONS
        )
        config.write_text(text, "utf-8")
        return _started(
            folder, [sys.executable, "-m", "bitsd", "serve", "--config", str(config)]
        )

    return start


def aiohttp(*, bare: bool = False) -> Start:
    """The server that aiohttp makes easy, or the least that it can do."""

    def start(folder: Path, files: Path) -> Server:
        arguments = ["--bare"] if bare else [str(folder / UPLOADS), str(files)]
        return _started(
            folder, [sys.executable, "-m", "benchmarks.aiohttp_server", *arguments]
        )

    return start


def raw(mode: str) -> Start:
    """The loop in C: `drop`, `write` or `sync`."""

    def start(folder: Path, _files: Path) -> Server:
        program = folder.parent / "raw_server"
        if not program.exists():
            _compile(program)
        return _started(folder, [str(program), mode, str(folder / UPLOADS)])

    return start


def nginx(*, tuned: bool) -> Start:
    """One nginx worker; tuned for uploads, or with the buffers it comes with."""

    def start(folder: Path, files: Path) -> Server:
        port = _free_port()
        text = _NGINX.format(
            # Started by root, it would become a user who cannot write here.
            user="user root;" if os.geteuid() == 0 else "",
            descriptors=CONNECTIONS * 2,
            connections=CONNECTIONS,
            access_log="off" if tuned else "access.log",
            port=port,
            body=_TUNED if tuned else "",
            files=files,
        )
        (folder / "nginx.conf").write_text(text, "utf-8")
        program = required_program("nginx")
        arguments = ["-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        process = _spawned(folder, [program, *arguments])
        server = Server(process, folder, port)
        _wait_for_port(server)
        return server

    return start


class Servers:
    """Servers that run, each started when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Server] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def named(self, name: str, start: Start) -> Server:
        """The server of that name."""
        if name not in self._running:
            folder = self._folder / name.replace(" ", "-")
            (folder / UPLOADS).mkdir(parents=True, exist_ok=True)
            self._running[name] = start(folder, self._folder / FILES)
            self._stack.callback(self._running[name].stop)
        return self._running[name]


def required_program(name: str) -> str:
    """Its path; Debian has nginx outside of a user's PATH."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise CannotRun(f"{name} is missing")
    return found


def missing() -> list[str]:
    """Debian packages without which nothing can be compared."""
    lacking = []
    for program, package in (("nginx", "nginx-light"), ("gcc", "gcc libc6-dev")):
        try:
            required_program(program)
        except CannotRun:
            lacking.append(package)
    if "nginx-light" not in lacking and "http_dav_module" not in nginx_built_with():
        lacking.append("nginx-full (for its http_dav_module)")
    return lacking


def nginx_built_with() -> str:
    """`nginx -V`."""
    command = [required_program("nginx"), "-V"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def _compile(program: Path) -> None:
    source = str(HERE / "raw_server.c")
    command = [required_program("gcc"), "-O2", "-Wall", "-pthread", source]
    built = subprocess.run(
        [*command, "-o", str(program)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise CannotRun(f"gcc cannot compile {source}: {built.stderr[:300]}")


def _spawned(folder: Path, command: Sequence[str]) -> subprocess.Popen[str]:
    # `python -m benchmarks.…` finds this package wherever it was started from.
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (folder / "log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        )


def _started(folder: Path, command: Sequence[str]) -> Server:
    process = _spawned(folder, command)
    server = Server(process, folder, port=0)
    said = process.stdout.readline() if process.stdout else ""
    found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", said)
    if found is None:
        raise _did_not_start(server)
    server.port = int(found[1])
    return server


def _did_not_start(server: Server) -> CannotRun:
    server.stop()
    log = (server.folder / "log").read_text("utf-8", "replace").strip()
    last = log.splitlines()[-1:] or ["it said nothing"]
    return CannotRun(f"{server.folder.name} did not start: {last[0]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for_port(server: Server) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while server.process.poll() is None and time.monotonic() < until:
        with suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", server.port)).close()
            return
        time.sleep(0.01)
    raise _did_not_start(server)
