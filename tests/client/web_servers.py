"""A real web server of files, and a way to it that breaks."""

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from listening import listening
from proxies import NGINX, needed
from wire_client import until

SERVER = """
log_format asked '$request_method $uri $status $body_bytes_sent $http_range';
server {{
    listen 127.0.0.1:{port};
    root {root};
    access_log {log} asked;
    {settings}
}}
"""


@dataclass(frozen=True)
class Logged:
    """A request as nginx logs it; `sent` are bytes of the body."""

    method: str
    path: str
    status: int
    sent: int
    span: str


@dataclass
class Nginx:
    """An nginx that serves a folder."""

    url: str
    root: Path
    log: Path

    def asked(self) -> list[Logged]:
        """What it answered."""
        found = []
        for line in self.log.read_text("ascii").splitlines():
            method, path, status, sent, span = line.split(" ")
            found.append(Logged(method, path, int(status), int(sent), span))
        return found


@asynccontextmanager
async def nginx(folder: Path, settings: str = "") -> AsyncIterator[Nginx]:
    """An nginx on loopback, with these settings for its files."""
    program = needed("nginx")
    root, log = folder / "root", folder / "access.log"
    root.mkdir(parents=True)
    (folder / "conf.d").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = SERVER.format(port=port, root=root, log=log, settings=settings)
    (folder / "conf.d" / "files.conf").write_text(server, "utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=folder, settings="")
    (folder / "nginx.conf").write_text(text, "utf-8")
    arguments = ("-e", "stderr", "-p", folder, "-c", folder / "nginx.conf")
    process = await asyncio.create_subprocess_exec(program, *arguments)

    def ready() -> bool:
        with socket.socket() as knocking:
            return knocking.connect_ex(("127.0.0.1", port)) == 0

    try:
        await until(lambda: ready() or process.returncode is not None)
        assert process.returncode is None, "nginx does not start"
        yield Nginx(f"http://127.0.0.1:{port}", root, log)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@asynccontextmanager
async def cutting(
    port: int,
    dice: random.Random,
    most: int,
    before_cut: Callable[[], None] = lambda: None,
) -> AsyncIterator[int]:
    """The port of a proxy that ends each connection after at most so many bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        there, back = await asyncio.open_connection("127.0.0.1", port)
        forth = asyncio.create_task(carried(reader, back, sys.maxsize))
        left = dice.randrange(1000, most)
        answered = asyncio.create_task(carried(there, writer, left))
        tasks = (forth, answered)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            await asyncio.to_thread(before_cut)
            if dice.random() < 0.5:
                writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        back.close()
        with suppress(ConnectionError):
            await back.wait_closed()

    async with listening(answer) as found:
        yield found


async def carried(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int
) -> None:
    """So many bytes, or all that come."""
    with suppress(ConnectionError):
        while left and (octets := await reader.read(min(left, 65536))):
            left -= len(octets)
            writer.write(octets)
            await writer.drain()
