"""Real proxies in front of a server, with the examples or with a fault in them."""

import asyncio
import os
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxies import EXAMPLES, NGINX, needed, replaced
from wire_client import until

Product = Literal["nginx", "apache", "haproxy"]

#: What is in an example, and what is there in its place.
Edit = tuple[str, str]

#: A port that was free may be taken before the proxy has it.
TRIES = 5

APACHE_MODULES = Path("/usr/lib/apache2/modules")

APACHE = """
ServerRoot {folder}
ServerName 127.0.0.1
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Mutex posixsem
ErrorLog {folder}/error.log
{user}
{modules}
DocumentRoot /usr/share/doc
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
Listen 127.0.0.1:{port}
Include {folder}/site.conf
"""

#: Of the faults, too.
MODULES = ("mpm_event", "authz_core", "authn_core", "proxy", "proxy_http", "headers")
MODULES += ("env", "setenvif", "alias", "reqtimeout", "filter", "dir", "rewrite")


@dataclass
class Front:
    """A product: how it is configured and started."""

    example: str
    listens: Callable[[int], Edit]
    serves: Callable[[str], Edit]
    write: Callable[[Path, str, int], Sequence[str | Path]]


def _nginx(folder: Path, site: str, _port: int) -> Sequence[str | Path]:
    program = needed("nginx")
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / "conf.d" / "bitsd.conf").write_text(site, "utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=folder, settings="access_log off;")
    (folder / "nginx.conf").write_text(text)
    return (program, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf")


def _apache(folder: Path, site: str, port: int) -> Sequence[str | Path]:
    program = needed("apache2")
    (folder / "site.conf").write_text(site, "utf-8")
    modules = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in MODULES
    )
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    text = APACHE.format(folder=folder, user=user, modules=modules, port=port)
    (folder / "apache.conf").write_text(text)
    return (program, "-DFOREGROUND", "-f", folder / "apache.conf")


def _haproxy(folder: Path, site: str, _port: int) -> Sequence[str | Path]:
    program = needed("haproxy")
    (folder / "haproxy.cfg").write_text(site, "utf-8")
    return (program, "-db", "-q", "-f", folder / "haproxy.cfg")


FRONTS: dict[Product, Front] = {
    "nginx": Front(
        "nginx.conf",
        lambda port: ("listen 80;", f"listen 127.0.0.1:{port};"),
        lambda host: ("server 127.0.0.1:8080;", f"server {host};"),
        _nginx,
    ),
    "apache": Front(
        "apache.conf",
        lambda port: ("<VirtualHost *:80>", f"<VirtualHost 127.0.0.1:{port}>"),
        lambda host: ("http://127.0.0.1:8080/", f"http://{host}/"),
        _apache,
    ),
    "haproxy": Front(
        "haproxy.cfg",
        lambda port: ("bind :80", f"bind 127.0.0.1:{port}"),
        lambda host: ("server bitsd 127.0.0.1:8080", f"server bitsd {host}"),
        _haproxy,
    ),
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def front(
    product: Product, host: str, folder: Path, *faults: Edit
) -> AsyncIterator[str]:
    """The URL of a product with its example, in front of a server.

    Args:
        product: which.
        host: host and port of the server.
        folder: for its files.
        faults: set in the example.
    """
    described = FRONTS[product]
    site = (EXAMPLES / described.example).read_text("utf-8")
    for edit in (*faults, described.serves(host)):
        # A fault may take away what leads to the server.
        if edit[0] in site or edit in faults:
            site = replaced(site, *edit)
    await asyncio.to_thread(folder.mkdir)
    for _ in range(TRIES):
        port = free_port()
        text = replaced(site, *described.listens(port))
        process = await _started(described.write(folder, text, port), port)
        if process.returncode is None:
            break
    assert process.returncode is None, f"{product} does not start"
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _started(command: Sequence[str | Path], port: int) -> Process:
    """A process that listens, or has ended."""
    process = await asyncio.create_subprocess_exec(*command)
    await until(lambda: listens(port) or process.returncode is not None)
    return process
