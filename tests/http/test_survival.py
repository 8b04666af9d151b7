"""What an operator or a stranger does to a running server, and it goes on."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sites import Serve, Site
from wire_client import Line, create, packet, ping

from bitsd.config import from_table
from bitsd.server import CannotStart, Server

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


async def test_second_server_does_not_take_the_socket_of_the_first(tmp_path: Path):
    table = {
        "listen": [{"address": f"unix:{tmp_path / 'socket'}"}],
        "directory": [{"url": "/in", "path": str(tmp_path)}],
    }
    first = Server(from_table(table, tmp_path))
    await first.start()
    second = Server(from_table(table, tmp_path))
    with pytest.raises(CannotStart, match="in use"):
        await second.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
    line = Line(reader, writer)
    status = (await line.ask(ping(TARGET))).status
    writer.close()
    await first.stop()

    assert status == 501
    assert not (tmp_path / "socket").exists()


async def test_socket_that_is_another_server_s_by_now_stays(tmp_path: Path):
    path = tmp_path / "socket"
    table = {
        "listen": [{"address": f"unix:{path}"}],
        "directory": [{"url": "/in", "path": str(tmp_path)}],
    }
    server = Server(from_table(table, tmp_path))
    await server.start()
    path.rename(tmp_path / "kept")
    path.touch()
    await server.stop()

    assert path.exists()


def test_output_that_cannot_be_written_is_one_line():
    command = [sys.executable, "-m", "bitsd", "explain", "413"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == "bitsd: cannot write the output: No space left on device\n"
