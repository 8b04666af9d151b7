"""Bodies that go through TLS."""

import asyncio
import shutil
import ssl
from asyncio.subprocess import PIPE
from ipaddress import ip_address
from pathlib import Path

import pytest
from authorities import Authority
from cryptography.x509 import IPAddress
from sites import Site
from store_kit import cannot_run
from wire_client import Line, close, fragment, ping, until

EXAMPLES = Path(__file__).parents[2] / "examples"
ENTITY = bytes(range(250)) * 20_000
TARGET = "/in/report.dat"

CONFIG = """
[[listen]]
address = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"

[[directory]]
url = "/in"
path = "in"
upload = true
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine, its key, and who signed it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    authority.serve(IPAddress(ip_address("127.0.0.1"))).write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.pem)
    return folder


@pytest.fixture
async def site(files: Path, tmp_path: Path):
    """A server that speaks TLS."""
    for name in ("server.pem", "server.key"):
        shutil.copy(files / name, tmp_path)
    config = tmp_path / "bitsd.toml"
    config.write_text(CONFIG, "utf-8")
    (tmp_path / "in").mkdir()
    site = Site(config)
    await site.start()
    yield site
    await site.lines.hang_up()
    await site.stop()


@pytest.fixture
async def line(site: Site, files: Path):
    """A connection through TLS."""
    trust = ssl.create_default_context(cafile=files / "ca.pem")
    host, _, port = site.url.removeprefix("https://").rpartition(":")
    line = Line(*await asyncio.open_connection(host, int(port), ssl=trust))
    yield line
    await line.hang_up()


async def test_packets_and_bodies_in_one_write_are_answered_in_order(
    site: Site, line: Line
):
    named = await line.create(TARGET)
    half, total = len(ENTITY) // 2, len(ENTITY)
    parts = [(0, ENTITY[:half]), (half, ENTITY[half:])]
    octets = [fragment(TARGET, named, first, body, total) for first, body in parts]
    await line.send(b"".join([*octets, close(TARGET, named), ping(TARGET)]))
    answers = [await line.receive() for _ in range(4)]

    assert [answer.status for answer in answers] == [200] * 4
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_what_came_before_a_cut_is_kept(site: Site, line: Line):
    named = await line.create(TARGET)
    octets = fragment(TARGET, named, 0, ENTITY, len(ENTITY))
    await line.send(octets[:-1000])
    await until(lambda: site.held(named) > len(ENTITY) // 2)
    await line.hang_up()

    await until(lambda: site.held(named) == len(ENTITY) - 1000)


async def ran(*command: object, ca: Path) -> bytes:
    """What a program says that trusts the certificate."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=PIPE, stderr=PIPE, env={"CURL_CA_BUNDLE": str(ca)}
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out


async def test_curl_uploads_and_fetches_ranges(site: Site, files: Path, tmp_path: Path):
    if shutil.which("curl") is None:
        cannot_run("curl is not installed")
    (tmp_path / "report.dat").write_bytes(ENTITY)
    url, ca = f"{site.url}/in/report.dat", files / "ca.pem"
    await ran("/bin/bash", EXAMPLES / "upload.sh", tmp_path / "report.dat", url, ca=ca)
    whole = await ran("/usr/bin/curl", "-sf", url, ca=ca)
    part = await ran("/usr/bin/curl", "-sf", "-r", "7-1000006", url, ca=ca)

    assert whole == ENTITY
    assert part == ENTITY[7:1_000_007]
