"""`bitsd upload` as people and scripts use it."""

import asyncio
import io
import json
import math
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from processes import CONFIG, PROCESS_SECONDS, Running, is_one_line, ran
from processes import started as serve
from relay import Relay, relay
from scripted import ack, answer, in_turn, scripted
from sites import Site
from wire_client import until

from bitsd.cli import main
from bitsd.client import options

ENTITY = os.urandom(3_000_017)

#: Bytes by which a client finds out what a server holds.
SMALL = 5_120

#: The first fragment; once there is more of a file it was acknowledged.
ACKED = 2**20

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "report.7z"
    path.write_bytes(ENTITY)
    return path


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start the command; whatever still runs at the end is killed."""
    processes: list[Process] = []

    async def started(*arguments: object) -> Process:
        command = [sys.executable, "-m", "bitsd", "upload", *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=PIPE
        )
        processes.append(process)
        return process

    yield started
    for process in processes:
        if process.returncode is None:
            process.kill()
            await ended(process)


async def ended(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(PROCESS_SECONDS):
        out, err = await process.communicate()
    return process.returncode, (out or b"").decode(), (err or b"").decode()


async def uploaded(*arguments: object) -> tuple[int, str, str]:
    return await ran("upload", *map(str, arguments))


def events(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


async def test_upload_says_one_line_and_nothing_on_stderr(site: Site, source: Path):
    code, out, err = await uploaded(source, f"{site.url}/in/")

    assert (code, err) == (0, "")
    url = f"{site.url}/in/report.7z"
    assert out == f"report.7z: uploaded to {url}, 3000017 bytes\n"
    assert (site.folder / "report.7z").read_bytes() == ENTITY


async def test_events_are_json(site: Site, source: Path):
    size = ("--fragment-size", "1MB")
    code, out, err = await uploaded(source, f"{site.url}/in/x", "--json", *size)

    assert (code, err) == (0, "")
    first, *progress, last = events(out)
    url = f"{site.url}/in/x"
    of = {"total": 3000017}
    assert first == {"event": "started", "file": "report.7z", "held": 0} | of
    assert {event["event"] for event in progress} <= {"progress"}
    assert len(progress) < 10
    seconds = last.pop("seconds")
    assert isinstance(seconds, float)
    assert last == of | {
        "event": "done",
        "file": "report.7z",
        "held": 3000017,
        "reason": f"uploaded to {url}, 3000017 bytes",
        "url": url,
    }


async def test_refusal_is_one_line(site: Site, source: Path):
    (site.folder / "report.7z").touch()
    code, out, err = await uploaded(source, f"{site.url}/in/", "--json")

    assert code == 1
    assert is_one_line(err)
    assert "the file exists already and `overwrite` is off" in err
    failure = events(out)[-1]
    assert (failure["event"], failure["status"]) == ("failed", 403)
    assert (failure["code"], failure["resumable"]) == ("0x80070005", False)


async def test_giving_up_is_told_apart(source: Path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/in/"
        code, out, err = await uploaded(source, url, "--retry-for", "1s")

    assert (code, out) == (3, "")
    *waiting, last = err.splitlines()
    assert len(waiting) <= 1
    assert "Connection refused" in last
    assert last.startswith("bitsd: report.7z: gave up: cannot connect to ")
    assert last.endswith("; the same command goes on")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["f", "ftp://h/"], "is not http://HOST/PATH"),
        (["f", "http://me:secret@h/"], "use --user"),
        (["f", "http://h/", "--fragment-size", "0"], "at least one byte"),
        (["f", "http://h/", "--fragment-size", "big"], "not a size"),
        (["f", "http://h/", "--retry-for", "0"], "not a time"),
        (["f", "http://h/", "--restart", "--cancel"], "not allowed with"),
        (["f", "http://h/", "--user", "me"], "BITSD_PASSWORD"),
    ],
)
def test_wrong_usage_is_told(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as raised:
        main(["upload", *arguments])
    out, err = capsys.readouterr()

    assert (raised.value.code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("how", [KeyboardInterrupt, EOFError])
def test_prompt_may_be_left(monkeypatch: pytest.MonkeyPatch, how: type[BaseException]):
    def left(_prompt: str) -> str:
        raise how

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(options, "getpass", left)

    assert main(["upload", "f", "http://h/", "--user", "me"]) == 130


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as raised:
        main(["upload", "--help"])
    out, err = capsys.readouterr()

    assert (raised.value.code, err) == (0, "")
    for line in ("0    done", "3    gave up", "130  interrupted"):
        assert line in out


async def midway(start: Start, site: Site, line: Relay, source: Path) -> Process:
    """An upload that has sent as much as the line carries."""
    process = await start(source, f"{line.url}/in/", "--json")
    await until(lambda: any(site.held(named) > ACKED for named in site.sessions))
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_stops_it_and_the_same_command_goes_on(
    start: Start, site: Site, source: Path, number: signal.Signals
):
    async with relay(site.url, limit=1_200_000) as line:
        process = await midway(start, site, line, source)
        process.send_signal(number)
        code, out, err = await ended(process)
        assert code == 130
        assert is_one_line(err)
        assert "the same command goes on" in err
        assert events(out)[-1] == {
            "event": "failed",
            "file": "report.7z",
            "reason": "interrupted",
            "resumable": True,
        }

        carried, line.limit = line.carried, math.inf
        code, _out, err = await ended(await start(source, f"{line.url}/in/"))

    assert (code, err) == (0, "")
    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert line.carried - carried < len(ENTITY) - ACKED + 100_000


async def test_killed_client_sends_little_again(start: Start, site: Site, source: Path):
    async with relay(site.url, limit=1_200_000) as line:
        process = await midway(start, site, line, source)
        process.kill()
        await ended(process)
        [named] = site.sessions
        held = site.held(named)
        carried, line.limit = line.carried, math.inf
        code, out, _err = await ended(await start(source, f"{line.url}/in/", "--json"))

    assert code == 0
    assert (site.folder / "report.7z").read_bytes() == ENTITY
    assert events(out)[-1]["held"] == len(ENTITY)
    # What came in the meantime of the first run was kept as well.
    assert line.carried - carried < len(ENTITY) - held + SMALL + 10 * 700


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Running]]]:
    """Start a server with the same folder each time; the last one is killed."""
    (tmp_path / "in").mkdir()
    config = tmp_path / "bitsd.toml"
    text = CONFIG.format(address="127.0.0.1:0", workers=1)
    config.write_text(text, "utf-8")
    running: list[Running] = []

    async def serving() -> Running:
        running.append(Running(await serve("serve", "--config", str(config))))
        await running[-1].hear("^listening on ")
        return running[-1]

    yield serving
    await running[-1].end(signal.SIGKILL)


async def test_killed_server_costs_little_again(
    start: Start,
    server: Callable[[], Awaitable[Running]],
    source: Path,
    tmp_path: Path,
):
    first = await server()
    async with relay(first.url, limit=1_200_000) as line:
        process = await start(source, f"{line.url}/in/")
        requests = tmp_path / "in" / "BITS-Sessions"
        await until(
            lambda: any(
                path.stat().st_size > ACKED for path in requests.glob("*/request")
            )
        )
        await first.end(signal.SIGKILL)
        carried, line.limit = line.carried, math.inf
        line.server = (await server()).url
        code, out, err = await ended(process)

    assert code == 0
    assert ": trying again in " in err
    url = f"{line.url}/in/report.7z"
    assert out == f"report.7z: uploaded to {url}, 3000017 bytes\n"
    assert (tmp_path / "in" / "report.7z").read_bytes() == ENTITY
    # What was not acknowledged comes again, and what the relay had of it before.
    assert line.carried - carried < len(ENTITY) - ACKED + SMALL + 300_000


async def test_second_command_for_the_same_is_told(
    start: Start, site: Site, source: Path
):
    async with relay(site.url, limit=1_200_000) as line:
        await midway(start, site, line, source)
        code, _out, err = await ended(await start(source, f"{line.url}/in/"))

    assert code == 1
    assert is_one_line(err)
    assert "another bitsd uploads" in err


async def test_interrupted_upload_is_cancelled(start: Start, site: Site, source: Path):
    async with relay(site.url, limit=1_200_000) as line:
        process = await midway(start, site, line, source)
        process.kill()
        await ended(process)
        line.limit = math.inf
        cancel = (source, f"{line.url}/in/", "--cancel")
        code, out, err = await ended(await start(*cancel))
        assert (code, err) == (0, "")
        assert out == "report.7z: upload cancelled\n"
        assert site.sessions == []

        code, out, err = await ended(await start(*cancel, "--json"))

    assert code == 1
    assert events(out)[0]["event"] == "failed"
    assert is_one_line(err)


async def test_reply_is_told(source: Path, tmp_path: Path):
    url = ("BITS-Reply-URL", "/reply")
    received = ("BITS-Received-Content-Range", str(len(ENTITY)))
    create = ack(200, ("BITS-Session-Id", "1"))
    answers = [create, ack(200, received, url)]
    script = in_turn(*answers, ack(), *answers, answer(200, body=b"yes"), ack())
    arguments = ("--fragment-size", "4MB")
    async with scripted(script) as server:
        to = f"{server.url}/in"
        left = await uploaded(source, to, *arguments)
        reply = tmp_path / "reply"
        stored = await uploaded(source, to, *arguments, "--reply", reply)

    line = f"report.7z: uploaded to {to}, 3000017 bytes; reply"
    assert left == (0, f"{line} /reply, not fetched without --reply\n", "")
    assert stored == (0, f"{line} {reply}, fetched\n", "")
    assert reply.read_bytes() == b"yes"


@pytest.mark.parametrize("as_json", [False, True])
async def test_reply_that_does_not_come_is_told(
    source: Path, tmp_path: Path, *, as_json: bool
):
    received = ("BITS-Received-Content-Range", str(len(ENTITY)))
    script = in_turn(ack(200, ("BITS-Session-Id", "1")), ack(200, received), ack())
    arguments = ["--fragment-size", "4MB", "--reply", tmp_path / "reply"]
    async with scripted(script) as server:
        to = f"{server.url}/in"
        json_too = ["--json"] if as_json else []
        code, _out, err = await uploaded(source, to, *arguments, *json_too)

    assert (code, err) == (0, "report.7z: no reply came\n")
    assert not (tmp_path / "reply").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none/reply", "No such file or directory"),
        ("report.7z/reply", "Not a directory"),
        ("", "Is a directory"),
    ],
)
async def test_reply_that_has_no_place_is_told_before_the_upload(
    source: Path, tmp_path: Path, name: str, why: str
):
    reply = tmp_path / name
    async with scripted(in_turn()) as server:
        code, _out, err = await uploaded(source, server.url, "--reply", reply)

    assert code == 1
    assert is_one_line(err)
    assert f"cannot store {reply}: {why}" in err
    assert server.asked == []


async def test_terminal_shows_a_bar(source: Path):
    """The bar, and why it waits."""
    create = ack(200, ("BITS-Session-Id", "1"))
    received = ("BITS-Received-Content-Range", str(len(ENTITY)))
    script = in_turn(ack(503), create, ack(200, received), ack())
    master, slave = pty.openpty()
    async with scripted(script) as server:
        command = ["upload", str(source), f"{server.url}/in", "--fragment-size", "4MB"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bitsd",
            *command,
            stdout=PIPE,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(slave)
        code, out, _err = await ended(process)
    shown = await asyncio.to_thread(all_of, master)

    to = f"{server.url}/in"
    assert (code, out) == (0, f"report.7z: uploaded to {to}, 3000017 bytes\n")
    assert "waits 1 s" in re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert (
        "bitsd: report.7z: trying again in 1 s: the server answers HTTP 503." in shown
    )


def all_of(terminal: int) -> str:
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            os.close(terminal)
            return shown.decode()


async def test_output_that_nobody_reads_is_told(site: Site, source: Path):
    command = [sys.executable, "-m", "bitsd", "upload", "--json"]
    arguments = [str(source), f"{site.url}/in/"]
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=full, stderr=PIPE
    )
    os.close(full)
    code, _out, err = await ended(process)

    assert code == 1
    assert err == "bitsd: cannot write the output: No space left on device\n"


def test_server_needs_nothing_of_a_client():
    code = """
import sys
from bitsd import cli, worker
assert cli._parser(["serve", "x"]).parse_args(["serve", "x"])
found = sorted(name for name in sys.modules if name.startswith("bitsd.client"))
print(*found, *(name in sys.modules for name in ("rich", "spnego", "gssapi")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["False"] * 3
