"""How each of the servers is started, and with which settings."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from .servers import (
    HERE,
    UPLOADS,
    CannotRun,
    LeftOut,
    Server,
    Start,
    spawned,
    started,
    wait_for_port,
)
from .signing import USER, users_file

# RLIMIT_NOFILE and these allow for a thousand uploads: a socket and a file each.
CONNECTIONS = 4096

_BITSD = """\
{workers}
{users}
maximum_connections = {connections}

[[listen]]
address = "127.0.0.1:0"
{encryption}

[[directory]]
url = "/up"
path = "up"
upload = true
overwrite = true
sessions_per_user = 1_000_000
durability = "{durability}"
{who}

[[directory]]
url = "/files"
path = "{files}"
"""

_BITSD_TLS = """\
certificate = "{certificate}"
key = "{key}"
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
        listen 127.0.0.1:{port} {ssl} backlog=1024;
        {encryption}
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
_NGINX_TLS = """\
ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;"""
_TUNED = "client_body_buffer_size 1m; client_body_in_file_only clean;"


def bitsd(
    durability: str = "publish",
    *,
    workers: int | None = None,
    tls: bool = False,
    signing_in: bool = False,
) -> Start:
    """`bitsd serve --config`, for one user if that has to sign in.

    It is left out where bitsd does not know a setting that it needs.
    """

    def start(folder: Path, files: Path) -> Server:
        config = folder / "bitsd.toml"
        if signing_in:
            (folder / "users").write_text(users_file(), "utf-8")
        text = _BITSD.format(
            workers=f"workers = {workers}" if workers else "",
            users='users = "users"' if signing_in else "",
            who=f'write = ["{USER}"]' if signing_in else "",
            encryption=_BITSD_TLS.format(**certificate(folder.parent)) if tls else "",
            durability=durability,
            files=files,
            connections=CONNECTIONS,
        )
        config.write_text(text, "utf-8")
        if workers or tls or signing_in:
            _check_config(config)
        command = [sys.executable, "-m", "bitsd", "serve", "--config", str(config)]
        return started(folder, command)

    return start


def _check_config(config: Path) -> None:
    """Leave a server out whose settings are of another version of bitsd."""
    command = [sys.executable, "-m", "bitsd", "check-config", str(config)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if checked.returncode:
        problem = checked.stderr.partition("\n")[0]
        raise LeftOut(problem.removeprefix(f"bitsd: {config}: "))


def aiohttp(*, bare: bool = False) -> Start:
    """The server that aiohttp makes easy, or the least that it can do."""

    def start(folder: Path, files: Path) -> Server:
        arguments = ["--bare"] if bare else [str(folder / UPLOADS), str(files)]
        return started(
            folder, [sys.executable, "-m", "benchmarks.aiohttp_server", *arguments]
        )

    return start


def raw(mode: str) -> Start:
    """The loop in C: `drop`, `write` or `sync`."""

    def start(folder: Path, _files: Path) -> Server:
        program = folder.parent / "raw_server"
        if not program.exists():
            _compile(program)
        return started(folder, [str(program), mode, str(folder / UPLOADS)])

    return start


def nginx(*, tuned: bool, tls: bool = False) -> Start:
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
            ssl="ssl" if tls else "",
            encryption=_NGINX_TLS.format(**certificate(folder.parent)) if tls else "",
            body=_TUNED if tuned else "",
            files=files,
        )
        (folder / "nginx.conf").write_text(text, "utf-8")
        program = required_program("nginx")
        arguments = ["-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        process = spawned(folder, [program, *arguments])
        server = Server(process, folder, port)
        wait_for_port(server)
        return server

    return start


def certificate(folder: Path) -> dict[str, Path]:
    """One for this host and its key, made with openssl when first asked for.

    Raises:
        LeftOut: openssl is missing.
    """
    made = {"certificate": folder / "certificate.pem", "key": folder / "key.pem"}
    program = shutil.which("openssl")
    if program is None:
        raise LeftOut("openssl is missing")
    if not made["certificate"].exists():
        command = [program, "req", "-x509", "-nodes", "-subj", "/CN=localhost"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-keyout", str(made["key"]), "-out", str(made["certificate"])]
        subprocess.run(command, capture_output=True, check=True)
    return made


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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
