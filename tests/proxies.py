"""A real proxy in front of a server."""

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from wire_client import until

EXAMPLES = Path(__file__).parent.parent / "examples"

NGINX = """
{user}
pid {folder}/nginx.pid;
error_log stderr;
daemon off;
events {{}}
http {{
    {settings}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/conf.d/*.conf;
}}
"""


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def answers(listening: Path) -> bool:
    """Whether somebody listens; the file of a socket is there before that."""
    with socket.socket(socket.AF_UNIX) as knocking:
        return knocking.connect_ex(str(listening)) == 0


def needed(program: str) -> str:
    """The path of a program; where all tests have to run it has to be there."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        message = f"{program} is not installed"
        if os.environ.get("BITSD_ALL_TESTS") == "1":
            pytest.fail(message)
        # What it is to prove is about that program, and cannot be shown without it.
        pytest.skip(message)
    return path


@asynccontextmanager
async def nginx(
    host: str,
    folder: Path,
    settings: str = "access_log off;",
    *,
    buffering: str = "off",
    largest: str = "0",
    without: Iterable[str] = (),
) -> AsyncIterator[Path]:
    """The socket of an nginx with examples/nginx.conf, in front of a server.

    A socket, because nginx cannot be asked which port it was given.

    Args:
        host: host and port of the server.
        folder: for its files.
        settings: that are not about bitsd.
        buffering: of whole requests before any of it is passed on.
        largest: body of a request, as nginx writes sizes; 0 is any.
        without: lines of the example that are left out, by what they begin with.
    """
    program = needed("nginx")
    listening = folder / "nginx.socket"
    example = (EXAMPLES / "nginx.conf").read_text("utf-8")
    example = replaced(example, "listen 80;", f"listen unix:{listening};")
    example = replaced(example, "server 127.0.0.1:8080;", f"server {host};")
    setting = "proxy_request_buffering"
    example = replaced(example, f"{setting} off;", f"{setting} {buffering};")
    setting = "client_max_body_size"
    example = replaced(example, f"{setting} 0;", f"{setting} {largest};")
    for beginning in without:
        example = re.sub(rf"(?m)^ *{re.escape(beginning)}.*\n", "", example)
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "bitsd.conf").write_text(example, "utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=folder, settings=settings)
    (folder / "nginx.conf").write_text(text)
    process = await asyncio.create_subprocess_exec(
        program, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"
    )
    try:
        await until(lambda: answers(listening) or process.returncode is not None)
        assert process.returncode is None, "nginx does not start"
        yield listening
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
