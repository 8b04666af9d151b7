"""The examples do what they say."""

import asyncio
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import urlsplit

import proxies
import pytest
from proxies import EXAMPLES, needed
from sites import Serve, Site, write
from wire_client import Line, fetch, fragment, until

#: Long enough for any of them on a busy machine, in seconds.
EXAMPLE_SECONDS = 50.0

ENTITY = os.urandom(3_000_017)

#: A line that carries `ENTITY` in a minute, for an upload that is to be stopped.
SLOW = ("--limit-rate", "50k")


# interruptions.py


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "interruptions.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS,
        check=False,
    )


def table(out: str) -> dict[str, str]:
    return {line[:17].rstrip(): line[18:] for line in out.splitlines()}


def test_file_survives_cut_connections_and_a_killed_server(tmp_path: Path):
    trouble = ("--cuts", "10", "--kills", "5")
    done = ran("--size", "48MiB", *trouble, "--folder", str(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    rows = table(done.stdout)
    assert rows["verdict"] == "equal"
    assert rows["SHA-256 sent"] == rows["SHA-256 received"]
    assert rows["connections cut"] == "10 (5 closed, 5 reset)"
    assert rows["server killed"] == "5 times"
    assert list(tmp_path.iterdir()) == []


def test_wrong_size_is_told_in_words():
    done = ran("--size", "big")

    assert done.returncode == 2
    assert "'big' is not a size such as 2GiB" in done.stderr


# upload.sh

Started = Callable[..., Awaitable[Process]]


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    """Start upload.sh in a process group; whatever is left of it at the end dies."""
    needed("curl")
    processes: list[Process] = []

    async def start(*arguments: object, **settings: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            str(EXAMPLES / "upload.sh"),
            *map(str, arguments),
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "BITS_RETRY_SECONDS": "0", **settings},
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            stop(process)
            await ended(process)


def stop(process: Process) -> None:
    """SIGTERM for the script and its curl."""
    os.killpg(process.pid, signal.SIGTERM)


async def ended(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(EXAMPLE_SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file whose name a careless script trips over."""
    path = tmp_path / "it's a * [report] $HOME.7z"
    path.write_bytes(ENTITY)
    return path


def notes_of(source: Path) -> Path:
    """Where upload.sh keeps the session."""
    return source.with_name(f"{source.name}.bits-upload")


@pytest.mark.parametrize("fragment_size", [700_001, 3_000_017, 4_194_304])
async def test_file_is_uploaded_with_curl(
    started: Started, site: Site, source: Path, fragment_size: int
):
    url = f"{site.url}/in/report.7z"
    process = await started(source, url, BITS_FRAGMENT=str(fragment_size))
    code, out, err = await ended(process)

    assert (code, err) == (0, "")
    assert out == f"{url}: 3000017 bytes uploaded\n"
    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert site.sessions == []
    assert not notes_of(source).exists()


async def test_empty_file_is_uploaded_with_curl(
    started: Started, site: Site, tmp_path: Path
):
    (tmp_path / "empty").touch()
    process = await started(tmp_path / "empty", f"{site.url}/in/empty")
    code, _out, err = await ended(process)

    assert (code, err) == (0, "")
    assert (site.folder / "empty").read_bytes() == b""


async def halfway(started: Started, site: Site, source: Path) -> int:
    """Stop an upload in the middle of a fragment; what the server has of it."""
    process = await started(source, f"{site.url}/in/report.7z", *SLOW)
    await until(lambda: any(map(site.held, site.sessions)))
    stop(process)
    code, _out, _err = await ended(process)
    assert code not in (0, None)
    return site.held(site.sessions[0])


async def test_stopped_upload_goes_on_where_it_was(
    started: Started, site: Site, source: Path
):
    await halfway(started, site, source)
    process = await started(source, f"{site.url}/in/report.7z")
    code, _out, err = await ended(process)

    match = re.fullmatch(r"upload.sh: going on from byte (\d+)\n", err)
    assert code == 0
    assert match is not None
    assert 0 < int(match[1]) < len(ENTITY)
    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert site.sessions == []


async def test_changed_file_is_uploaded_from_its_start(
    started: Started, site: Site, source: Path
):
    await halfway(started, site, source)
    changed = ENTITY[::-1]
    write(source, changed)
    os.utime(notes_of(source), (0, 0))
    process = await started(source, f"{site.url}/in/report.7z")
    code, _out, err = await ended(process)

    assert (code, err) == (0, "")
    assert (site.folder / "report.7z").read_bytes() == changed


async def test_upload_starts_over_when_its_session_is_lost(
    started: Started, site: Site, source: Path
):
    await halfway(started, site, source)
    for named in site.sessions:
        shutil.rmtree(site.folder / "BITS-Sessions" / named)
    process = await started(source, f"{site.url}/in/report.7z")
    code, _out, err = await ended(process)

    assert code == 0
    assert "the server lost the session" in err
    assert (site.folder / "report.7z").read_bytes() == ENTITY


async def pour(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, octets: float = math.inf
) -> None:
    """Carry bytes one way until their end, or so many of them; then hang up."""
    with suppress(ConnectionError):
        while octets > 0 and (some := await source.read(65536)):
            sink.write(some)
            await sink.drain()
            octets -= len(some)
    sink.close()


@asynccontextmanager
async def cutting_proxy(site: Site) -> AsyncIterator[str]:
    """A way to the server that breaks in the middle of its second connection."""
    lengths = chain([math.inf, len(ENTITY) // 2], repeat(math.inf))
    address = urlsplit(site.url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = next(lengths)
        source, sink = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(pour(reader, sink, length), pour(source, writer))

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_broken_connection_is_tried_again(
    started: Started, site: Site, source: Path
):
    async with cutting_proxy(site) as url:
        process = await started(source, f"{url}/in/report.7z")
        code, _out, err = await ended(process)

    assert code == 0
    assert "trying again in 0 s" in err
    assert (site.folder / "report.7z").read_bytes() == ENTITY


async def test_unreachable_server_is_given_up(started: Started, source: Path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/in/a"
        process = await started(source, url, BITS_TRIES="3")
        code, _out, err = await ended(process)

    assert code == 1
    assert err.endswith("upload.sh: gave up after 3 attempts: no answer\n")


async def test_refusal_names_the_code_to_look_up(
    started: Started, site: Site, source: Path
):
    (site.folder / "report.7z").touch()
    process = await started(source, f"{site.url}/in/report.7z")
    code, _out, err = await ended(process)

    assert code == 1
    assert "Create-Session refused with HTTP 403, see: bitsd explain 0x80070005" in err


async def test_too_large_a_file_is_not_tried_again(
    started: Started, serve: Serve, source: Path
):
    site = await serve(directory='maximum_upload_size = "1MB"')
    process = await started(source, f"{site.url}/in/report.7z")
    code, _out, err = await ended(process)

    assert code == 1
    assert "Fragment refused with HTTP 500, see: bitsd explain 0x80200020" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "usage: upload.sh FILE URL"),
        (("only-a-file",), 2, "usage: upload.sh FILE URL"),
        (("none.7z", "http://127.0.0.1/"), 1, "no such file: none.7z"),
        (("-n", "http://127.0.0.1/"), 1, "no such file: ./-n"),
    ],
)
async def test_wrong_arguments_are_told(
    started: Started, arguments: tuple[str, ...], code: int, said: str
):
    exit_code, out, err = await ended(await started(*arguments))

    assert (exit_code, out) == (code, "")
    assert said in err


# nginx.conf


@pytest.fixture
async def nginx(site: Site, tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of an nginx with examples/nginx.conf, in front of the site."""
    async with proxies.nginx(site.host, tmp_path) as listening:
        yield listening


async def test_upload_and_download_through_nginx(
    nginx: Path, started: Started, site: Site, source: Path
):
    through = ("--unix-socket", nginx)
    process = await started(source, "http://test/in/report.7z", *through)
    code, _out, err = await ended(process)

    assert (code, err) == (0, "")
    assert (site.folder / "report.7z").read_bytes() == ENTITY

    line = Line(*await asyncio.open_unix_connection(nginx))
    one = await line.ask(fetch("/in/report.7z", ("Range", "bytes=1000000-1999999")))
    two = await line.ask(fetch("/in/report.7z", ("Range", "bytes=0-4,-5")))
    await line.hang_up()

    assert (one.status, one.body) == (206, ENTITY[1_000_000:2_000_000])
    assert two.status == 206
    assert ENTITY[:5] in two.body
    assert ENTITY[-5:] in two.body


async def test_large_fragment_passes_nginx_as_it_comes(nginx: Path, site: Site):
    """Bytes are with bitsd before the fragment is whole, and stay if it never is."""
    line = Line(*await asyncio.open_unix_connection(nginx))
    named = await line.create("/in/report.7z")
    half = len(ENTITY) // 2
    packet = fragment("/in/report.7z", named, 0, ENTITY, len(ENTITY))
    await line.send(packet[:-half])
    await until(lambda: site.held(named) == len(ENTITY) - half)
    await line.hang_up()
    line = Line(*await asyncio.open_unix_connection(nginx))
    answer = await line.ask(packet)
    await line.hang_up()

    assert (answer.status, answer.received) == (200, len(ENTITY))
    assert (site.folder / "report.7z").read_bytes() == ENTITY


# bitsd.service and bitsd.socket


def test_units_are_accepted_by_systemd(tmp_path: Path):
    program = needed("systemd-analyze")
    unit = (EXAMPLES / "bitsd.service").read_text("utf-8")
    assert unit.count("/opt/bitsd/bin/bitsd ") == 2
    here = unit.replace("/opt/bitsd/bin/bitsd ", f"{sys.executable} -m bitsd ")
    (tmp_path / "bitsd.service").write_text(here, "utf-8")
    shutil.copy(EXAMPLES / "bitsd.socket", tmp_path)
    done = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / "bitsd.socket")],
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
