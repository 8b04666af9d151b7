"""Sockets from systemd's own tool, several of them, and with TLS."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from authorities import Authority
from cryptography.x509 import IPAddress
from processes import Run, Running, rewrite
from store_kit import cannot_run
from wire_client import Line, ping, until

ENTITY = bytes(range(250)) * 120


def flags(pid: int, handle: int) -> int:
    told = Path(f"/proc/{pid}/fdinfo/{handle}").read_text("ascii")
    line = next(line for line in told.splitlines() if line.startswith("flags:"))
    return int(line.split()[1], 8)


async def test_passed_socket_is_not_passed_on(run: Run, config: Path):
    with socket.create_server(("127.0.0.1", 0)) as held_open:
        port = held_open.getsockname()[1]
        rewrite(config, "127.0.0.1:0", f"127.0.0.1:{port}")
        running = await run("serve", "--config", str(config), passed=held_open.fileno())
        await running.hear("^listening on ")

        assert flags(running.process.pid, 3) & os.O_CLOEXEC


async def test_passed_socket_speaks_tls_where_its_address_does(run: Run, config: Path):
    authority = Authority()
    authority.serve(IPAddress(ip_address("127.0.0.1"))).write(config.parent, "server")
    keys = 'certificate = "server.pem"\nkey = "server.key"\n\n[[directory]]'
    rewrite(config, "[[directory]]", keys)
    with socket.create_server(("127.0.0.1", 0)) as held_open:
        host, port = held_open.getsockname()
        rewrite(config, "127.0.0.1:0", f"{host}:{port}")
        running = await run("serve", "--config", str(config), passed=held_open.fileno())
        await running.hear(f"^listening on https://{host}:{port}$")
        context = ssl.create_default_context(cadata=authority.pem.decode())
        line = Line(*await asyncio.open_connection(host, port, ssl=context))
        answer = await line.ask(ping("/in/"))
        await line.hang_up()

    assert answer.status == 200


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


@asynccontextmanager
async def activated(config: Path, *paths: Path) -> AsyncIterator[Running]:
    """A server that systemd's tool starts as soon as somebody connects."""
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        cannot_run("systemd-socket-activate is not installed")
    listens = [word for path in paths for word in ("-l", str(path))]
    command = [sys.executable, "-m", "bitsd", "serve", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(
        tool, *listens, *command, stdout=PIPE, stderr=PIPE
    )
    running = Running(process)
    try:
        await until(lambda: all(map(connects, paths)))
        yield running
    finally:
        await running.end(signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
async def test_sockets_of_systemd_itself_are_served(config: Path, workers: int):
    one, two = config.parent / "one", config.parent / "two"
    both = f'unix:{one}"\n\n[[listen]]\naddress = "unix:{two}'
    rewrite(config, "127.0.0.1:0", both)
    async with activated(config, one, two) as running:
        line = Line(*await asyncio.open_unix_connection(one))
        await line.upload("/in/report.dat", ENTITY)
        await line.hang_up()
        line = Line(*await asyncio.open_unix_connection(two))
        answer = await line.ask(ping("/in/"))
        await line.hang_up()
        code, _err = await running.end(signal.SIGTERM)

    assert (answer.status, code) == (200, 0)
    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY
    assert one.is_socket()
