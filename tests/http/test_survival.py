"""What an operator or a stranger does to a running server, and it goes on."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sites import Serve, Site
from wire_client import Line, create, packet, ping

from bitsd.config import from_table
from bitsd.listeners import Listeners
from bitsd.server import Server

TARGET = "/in/report.dat"


async def test_sessions_folder_that_was_removed_is_made_again(site: Site):
    shutil.rmtree(site.folder / "BITS-Sessions")
    line = await site.dial()

    assert (await line.ask(create(TARGET))).status == 200


async def test_number_longer_than_any_gets_an_ack(line: Line):
    octets = packet(TARGET, "Ping").replace(b"Length: 0", b"Length: " + b"0" * 5000)
    answer = await line.ask(octets)

    assert (answer.status, answer.get("BITS-Packet-Type")) == (400, "Ack")


@pytest.mark.parametrize("host", ["[", "a b", "[::1]:70000", "h:99999", "a/b", ""])
async def test_host_that_is_none_is_refused_before_a_session_is_made(
    site: Site, host: str
):
    line = await site.dial()
    octets = create(TARGET).replace(b"Host: test", b"Host: " + host.encode())
    answer = await line.ask(octets)

    assert (answer.status, answer.error[0]) == (400, "0x80070057")
    assert list((site.folder / "BITS-Sessions").iterdir()) == []


@pytest.mark.parametrize("host", ["h:80", "[::1]:65535", "a-b.test", "127.0.0.1:59999"])
async def test_host_that_is_one_is_taken(site: Site, host: str):
    line = await site.dial()
    octets = create(TARGET).replace(b"Host: test", b"Host: " + host.encode())

    assert (await line.ask(octets)).status == 200


async def test_download_that_nobody_reads_does_not_hold_up_the_stop(serve: Serve):
    site = await serve(top='stop_timeout = "1s"')
    with (site.folder / "big.dat").open("wb") as file:
        file.truncate(1 << 30)
    line = await site.dial()
    await line.send(b"GET /in/big.dat HTTP/1.1\r\nHost: test\r\n\r\n")
    await line.reader.read(1)

    await asyncio.wait_for(site.stop(), 10)


async def test_unix_socket_is_served_like_a_port(tmp_path: Path):
    table = {
        "listen": [{"address": f"unix:{tmp_path / 'socket'}"}],
        "directory": [{"url": "/in", "path": str(tmp_path)}],
    }
    config = from_table(table, tmp_path)
    with Listeners(config.listen) as listeners:
        server = Server(config, listeners)
        await server.start()
        line = Line(*await asyncio.open_unix_connection(tmp_path / "socket"))
        status = (await line.ask(ping(TARGET))).status
        await line.hang_up()
        await server.stop()
        kept = (tmp_path / "socket").exists()

    # Another process may listen there still.
    assert (status, kept) == (501, True)


def test_output_that_cannot_be_written_is_one_line():
    command = [sys.executable, "-m", "bitsd", "explain", "413"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == "bitsd: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_any_more_ends_it_without_a_word(unbuffered: str):
    command = [sys.executable, "-m", "bitsd", "explain", "413"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        done = subprocess.run(
            command,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )

    assert (done.returncode, done.stderr) == (141, "")
