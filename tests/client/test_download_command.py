"""`bitsd download` as a process, and real servers."""

import asyncio
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import signal
import struct
import sys
import termios
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from processes import PROCESS_SECONDS, is_one_line, ran, started
from rich.cells import cell_len
from scripted import answer, in_turn, scripted
from sites import Site
from store_kit import fill, small_disk
from test_fetching import CONTENT, ETAG, Told, offered
from web_servers import cutting, nginx
from wire_client import until

from bitsd.cli import main
from bitsd.client.download import download
from bitsd.client.fetching import How
from bitsd.client.partial import part_of, state_of
from bitsd.client.progress import Kind, TransferFailed

MIB = 1024 * 1024
LARGE = random.Random(3).randbytes(20 * MIB + 17)


def digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def state(file: Path) -> int:
    """How much a state says is held, from the start on."""
    text = state_of(file).read_text("ascii")
    ((first, last),) = json.loads(text)["done"]
    assert first == 0
    return last + 1


async def test_program_says_a_line_and_keeps_time_and_name(tmp_path: Path):
    async with nginx(tmp_path / "nginx") as server:
        source = server.root / "image.ckm"
        source.write_bytes(LARGE)
        os.utime(source, (1_600_000_000, 1_600_000_000))
        code, out, err = await ran("download", f"{server.url}/image.ckm", str(tmp_path))

        assert (code, err) == (0, "")
        assert out == f"image.ckm: fetched, {len(LARGE)} bytes\n"
        assert digest((tmp_path / "image.ckm").read_bytes()) == digest(LARGE)
        assert (tmp_path / "image.ckm").stat().st_mtime == 1_600_000_000

        code, out, err = await ran("download", f"{server.url}/image.ckm", str(tmp_path))

        assert (code, err) == (0, "")
        assert out == f"image.ckm: already there, {len(LARGE)} bytes\n"


async def test_ranges_of_several_connections_are_one_file(tmp_path: Path):
    async with nginx(tmp_path / "nginx") as server:
        (server.root / "a").write_bytes(LARGE)
        file = tmp_path / "a"
        code, _out, err = await ran(
            "download", "--connections", "3", f"{server.url}/a", str(file)
        )

        assert (code, err) == (0, "")
        assert digest(file.read_bytes()) == digest(LARGE)
        asked = server.asked()
        assert {each.status for each in asked} == {206}
        assert len(asked) == 3
        assert sum(each.sent for each in asked) == len(LARGE)


async def test_server_without_ranges_sends_all_at_once(tmp_path: Path):
    async with nginx(tmp_path / "nginx", "max_ranges 0;") as server:
        (server.root / "a").write_bytes(LARGE)
        file = tmp_path / "a"
        code, _out, err = await ran(
            "download", "--connections", "3", f"{server.url}/a", str(file)
        )

        assert (code, err) == (0, "")
        assert digest(file.read_bytes()) == digest(LARGE)
        assert [each.status for each in server.asked()] == [200]


async def test_killed_program_goes_on_where_it_was(tmp_path: Path):
    file = tmp_path / "a"
    limits = "location / { if ($http_slow) { limit_rate 6m; } }"
    async with nginx(tmp_path / "nginx", limits) as server:
        (server.root / "a").write_bytes(LARGE)
        url = f"{server.url}/a"
        process = await started("download", url, str(file), "--header", "Slow: yes")
        await until(state_of(file).exists)
        process.kill()
        await process.wait()
        held = state(file)

        assert MIB < held < len(LARGE)
        assert not file.exists()

        code, _out, err = await ran("download", url, str(file))

        assert (code, err) == (0, "")
        assert digest(file.read_bytes()) == digest(LARGE)
        again = server.asked()[-1]
        assert (again.status, again.sent) == (206, len(LARGE) - held)
        assert again.span == f"bytes={held}-{len(LARGE) - 1}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_program_keeps_what_came(tmp_path: Path, number: int):
    file = tmp_path / "a"
    half = answer(200, ETAG, ("Content-Length", str(len(LARGE))))
    async with scripted(lambda _asked: half + LARGE[: 3 * MIB]) as server:
        process = await started("download", f"{server.url}/a", str(file), "--json")
        part = part_of(file)
        await until(lambda: part.exists() and part.stat().st_blocks * 512 >= MIB)
        process.send_signal(number)
        async with asyncio.timeout(PROCESS_SECONDS):
            out, err = await process.communicate()

        assert process.returncode == 130
        assert err == b"bitsd: a: interrupted; the same command goes on\n"
        assert json.loads(out.splitlines()[-1]) == {
            "event": "failed",
            "file": "a",
            "reason": "interrupted",
            "resumable": True,
        }
        held = state(file)
        assert held >= MIB

        server.script = offered(LARGE)
        code, _out, err = await ran("download", f"{server.url}/a", str(file))

        assert (code, err) == (0, "")
        assert server.asked[-1].get("Range") == f"bytes={held}-{len(LARGE) - 1}"
        assert digest(file.read_bytes()) == digest(LARGE)


async def test_file_survives_connections_that_are_cut(site: Site, tmp_path: Path):
    (site.folder / "a").write_bytes(LARGE)
    file = tmp_path / "a"
    port = int(site.url.rpartition(":")[2])
    async with cutting(port, random.Random(4), 8 * MIB) as broken:
        url = f"http://127.0.0.1:{broken}/in/a"
        code, out, err = await ran("download", "--json", url, str(file))

    assert (code, err) == (0, "")
    told = [json.loads(line) for line in out.splitlines()]
    assert isinstance(told[-1].pop("seconds"), float)
    assert told[-1] == {
        "event": "done",
        "file": "a",
        "held": len(LARGE),
        "total": len(LARGE),
        "reason": f"fetched, {len(LARGE)} bytes",
    }
    assert "waiting" in {event["event"] for event in told}
    assert "again" not in {event["event"] for event in told}
    assert digest(file.read_bytes()) == digest(LARGE)


async def test_program_gives_up_and_can_be_called_again(tmp_path: Path):
    async with scripted(lambda _asked: answer(503)) as server:
        file = str(tmp_path / "a")
        code, _out, err = await ran(
            "download", f"{server.url}/a", file, "--retry-for", "1"
        )

    assert code == 3
    assert "a: trying again in " in err
    assert "gave up: the server answers 503" in err.splitlines()[-1]
    assert err.endswith("; the same command goes on\n")


def test_what_cannot_be_fetched_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code = main(["download", "http://127.0.0.1:1/a", str(tmp_path / "none" / "a")])
    out, err = capsys.readouterr()

    assert (code, out) == (1, "")
    assert is_one_line(err)
    assert "cannot write" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("http://127.0.0.1/",),
        ("a.ckm",),
        ("http://127.0.0.1/a", "--connections", "0"),
        ("http://127.0.0.1/a", "--retry-for", "often"),
        (),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["download", *arguments])
    out, err = capsys.readouterr()

    assert (ended.value.code, out) == (2, "")
    assert "usage: bitsd download" in err


@pytest.mark.parametrize(
    "order",
    [
        ("URL", "--retry-for", "9s", "FILE"),
        ("URL", "--force", "FILE", "--connections", "2"),
        ("--force", "URL", "FILE"),
        ("URL", "--connections=2", "--force", "--", "FILE"),
    ],
)
async def test_options_may_be_anywhere(tmp_path: Path, order: tuple[str, ...]):
    file = tmp_path / "f"
    async with scripted(offered()) as server:
        names = {"URL": f"{server.url}/a", "FILE": str(file)}
        arguments = [names.get(each, each) for each in order]
        code, _out, err = await ran("download", *arguments)

    assert (code, err) == (0, "")
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize("more", ["--frob", "third"])
def test_what_is_not_known_is_told_with_the_usage_of_the_command(
    capsys: pytest.CaptureFixture[str], more: str
):
    with pytest.raises(SystemExit) as ended:
        main(["download", "http://127.0.0.1/a", "f", more])
    err = capsys.readouterr().err

    assert ended.value.code == 2
    assert err.startswith("usage: bitsd download [-h]")
    assert f"unrecognized arguments: {more}\n" in err


@pytest.mark.parametrize("width", [80, 40])
async def test_terminal_shows_a_bar_of_its_width(tmp_path: Path, width: int):
    name = "a-rather-long-file-name-for-an-image-2026-11-24.ckm"
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("4H", 25, width, 0, 0))
    env = {each: what for each, what in os.environ.items() if each != "COLUMNS"}
    script = in_turn(answer(503), answer(200, ETAG, body=CONTENT))
    async with scripted(script) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bitsd", "download"),
            *(f"{server.url}/{name}", str(tmp_path)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=there,
            env=env | {"TERM": "xterm"},
        )
        os.close(there)
        out, _none = await process.communicate()
    seen = b""
    try:
        while octets := os.read(here, 65536):
            seen += octets
    except OSError:  # how a terminal says that nobody is there
        os.close(here)

    said = f"{name}: fetched, {len(CONTENT)} bytes\n"
    assert (process.returncode, out) == (0, said.encode())
    plain = re.sub(r"\x1b\[[\d;]*m", "", seen.decode())
    assert f"bitsd: {name}: trying again in 1 s: the server answers 503" in plain
    bars = [line for line in re.split(r"[\r\n]|\x1b\[2K", plain) if "…" in line]
    assert any("waits 1 s" in line for line in bars)
    assert all(line.startswith("a-rather-l") for line in bars)
    assert all("24.ckm " in line for line in bars)
    assert max(map(cell_len, bars)) <= width
    assert ("━" in plain) == (width == 80)


async def test_full_disk_is_told_and_costs_little(tmp_path: Path):
    content = random.Random(5).randbytes(3 * MIB)
    head = answer(200, ETAG, ("Content-Length", str(len(content))))
    told = Told()
    with small_disk(tmp_path / "disk", size="4m") as disk:
        file = disk / "a"
        async with scripted(lambda _asked: head + content[: 2 * MIB]) as server:
            url = f"{server.url}/a"
            fetching = asyncio.create_task(download(url, file, progress=told))
            await until(lambda: any(event.held >= MIB for event in told))
            filler = await asyncio.to_thread(fill, disk)
            (writer,) = server.serving.values()
            writer.write(content[2 * MIB :])
            with pytest.raises(TransferFailed, match="no room is left"):
                await fetching
            held = state(file)
            server.script = offered(content)
            filler.unlink()
            done = await download(url, file, how=How(retry_for=timedelta(0)))

        assert done.path.read_bytes() == content
        assert server.asked[-1].get("Range") == f"bytes={held}-{len(content) - 1}"
        assert held >= MIB - 64 * 1024


async def test_file_that_cannot_fit_is_not_begun(tmp_path: Path):
    head = answer(200, ETAG, ("Content-Length", str(10 * MIB)))
    with small_disk(tmp_path / "disk", size="1m") as disk:
        async with scripted(lambda _asked: head) as server:
            with pytest.raises(TransferFailed, match=r"needs 10485760 bytes, .* has "):
                await download(f"{server.url}/a", disk / "a")

        assert list(disk.iterdir()) == []


async def test_file_that_is_replaced_meanwhile_is_started_over(
    site: Site, tmp_path: Path
):
    """As an upload replaces it: by another file of that name."""
    source = site.folder / "a"
    source.write_bytes(LARGE)
    new = LARGE[::-1]
    (tmp_path / "new").write_bytes(new)
    told = Told()

    def replace() -> None:
        with suppress(FileNotFoundError):  # it was done before
            (tmp_path / "new").replace(source)

    port = int(site.url.rpartition(":")[2])
    async with cutting(port, random.Random(4), 12 * MIB, replace) as broken:
        url = f"http://127.0.0.1:{broken}/in/a"
        how = How(connections=2)
        done = await download(url, tmp_path / "a", progress=told, how=how)

    assert digest(done.path.read_bytes()) == digest(new)
    assert told.reasons(Kind.AGAIN) == ["the file changed on the server"]
