"""`python -m bitsd` as the process that an administrator runs."""

import asyncio
import os
import re
import shlex
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

import pytest
from processes import Run, held, is_one_line, ran, rewrite, serving
from wire_client import close, fragment, ping, until

TARGET = "/in/report.dat"
ENTITY = bytes(range(250)) * 120


either_way = pytest.mark.parametrize("workers", [1, 2])


@either_way
async def test_session_goes_on_after_the_server_was_killed(run: Run, config: Path):
    running = await serving(run, config)
    line = await running.dial()
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:10000], 30000))
    await line.send(fragment(TARGET, named, 10000, ENTITY[10000:], 30000)[:-15000])
    await until(lambda: held(config, named) == 15000)
    code, _err = await running.end(signal.SIGKILL)

    assert code == -signal.SIGKILL

    again = await serving(run, config)
    line = await again.dial()
    pinged = await line.ask(ping(TARGET))
    gap = await line.ask(fragment(TARGET, named, 29999, b"x", 30000))
    answer = await line.ask(fragment(TARGET, named, 10000, ENTITY[10000:], 30000))
    closed = await line.ask(close(TARGET, named))

    assert pinged.status == 200
    assert (gap.status, gap.received) == (416, 15000)
    assert (answer.status, answer.received) == (200, 30000)
    assert closed.status == 200
    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY


@either_way
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_stops_the_server_and_keeps_what_came(
    run: Run, config: Path, number: signal.Signals
):
    running = await serving(run, config)
    line = await running.dial()
    idle = await running.dial()
    await idle.ask(ping(TARGET))
    named = await line.create(TARGET)
    await line.send(fragment(TARGET, named, 0, ENTITY, 30000)[:-20000])
    await until(lambda: held(config, named) == 10000)
    code, err = await running.end(number)

    assert code == 0
    assert "Traceback" not in err
    assert held(config, named) == 10000

    again = await serving(run, config)
    line = await again.dial()
    answer = await line.ask(fragment(TARGET, named, 10000, ENTITY[10000:], 30000))

    assert (answer.status, answer.received) == (200, 30000)
    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY


async def test_large_fragment_is_not_held_in_memory(run: Run, config: Path):
    running = await serving(run, config)
    line = await running.dial()
    await line.upload("/in/small.dat", ENTITY)
    before = highest_memory(running.process.pid)
    body = bytes(64 * 2**20)
    await line.upload(TARGET, body)
    growth = highest_memory(running.process.pid) - before

    assert (config.parent / "in" / "report.dat").stat().st_size == len(body)
    assert growth < 32 * 2**20


def highest_memory(pid: int) -> int:
    """The most memory in bytes that a process ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


async def test_folder_is_served_without_a_configuration(run: Run, tmp_path: Path):
    folder = tmp_path / "images"
    running = await run("serve", str(folder), "--listen", "127.0.0.1:0")
    await running.hear("Start-BitsTransfer")
    said = "\n".join(running.said)
    powershell = next(text for text in running.said if "Start-BitsTransfer" in text)
    line = await running.dial()
    await line.upload("/images/report.dat", ENTITY)

    assert f"{running.url}/images" in said
    assert "-TransferType Upload" in powershell
    assert f"{running.url}/images/" in powershell
    assert (folder / "report.dat").read_bytes() == ENTITY

    code, _err = await running.end(signal.SIGTERM)

    assert code == 0


async def test_folder_may_be_served_elsewhere_and_overwritten(run: Run, tmp_path: Path):
    arguments = ("--listen", "127.0.0.1:0", "--url", "/drop", "--overwrite")
    (tmp_path / "report.dat").write_bytes(b"first")
    running = await run("serve", str(tmp_path), *arguments)
    await running.hear("Start-BitsTransfer")
    line = await running.dial()
    await line.upload("/drop/report.dat", ENTITY)

    assert (tmp_path / "report.dat").read_bytes() == ENTITY


@either_way
async def test_port_in_use_is_told_in_one_line(config: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        rewrite(config, "127.0.0.1:0", address)
        code, _out, err = await ran("serve", "--config", str(config))

    assert code == 1
    assert is_one_line(err)
    assert address in err


async def test_good_configuration_is_said_to_be_good(config: Path):
    code, _out, err = await ran("check-config", str(config))

    assert code == 0
    assert "Traceback" not in err


BAD = {
    "unknown key": ("upload = true", "uplod = true", "uplod"),
    "wrong value": ("upload = true", 'upload = "often"', "upload"),
    "wrong size": ('"1GiB"', '"5 apples"', "maximum_upload_size"),
    "no folder": ('path = "in"', 'path = "none"', "path"),
    "not TOML": ("[[listen]]", "[[listen", ""),
}


@pytest.mark.parametrize(("old", "new", "key"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]])
async def test_bad_configuration_names_file_and_key(
    config: Path, command: list[str], old: str, new: str, key: str
):
    rewrite(config, old, new)
    code, out, err = await ran(*command, str(config))

    assert code == 1
    assert "Traceback" not in out + err
    assert config.name in out + err
    assert key in out + err
    assert command == ["check-config"] or is_one_line(err)


async def test_anonymous_uploads_from_elsewhere_need_a_word(config: Path):
    rewrite(config, "127.0.0.1:0", "0.0.0.0:0")
    code, _out, err = await ran("serve", "--config", str(config))

    assert code == 1
    assert is_one_line(err)
    assert "allow_anonymous_uploads" in err


@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]])
async def test_missing_configuration_is_told_in_one_line(
    tmp_path: Path, command: list[str]
):
    code, out, err = await ran(*command, str(tmp_path / "none.toml"))

    assert (code, out) == (1, "")
    assert is_one_line(err)
    assert "none.toml" in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["frobnicate"], ["serve", "--frobnicate"], ["check-config"], ["explain"]],
)
async def test_wrong_usage_exits_with_2(arguments: list[str]):
    code, _out, err = await ran(*arguments)

    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("0x8020001F", "session"),
        ("0x80190193", "403"),
        ("413", "413"),
        ("0x80200020", "maximum_upload_size"),
    ],
)
async def test_code_is_explained(word: str, meant: str):
    code, out, _err = await ran("explain", word)

    assert code == 0
    assert meant in out


async def test_code_that_is_none_is_told_in_one_line():
    code, _out, err = await ran("explain", "frobnicate")

    assert code == 1
    assert is_one_line(err)


@either_way
async def test_signals_up_to_the_very_end_are_quiet(run: Run, config: Path):
    running = await serving(run, config)
    ended = asyncio.create_task(running.process.communicate())
    while not ended.done():
        with suppress(ProcessLookupError):
            os.kill(running.process.pid, signal.SIGTERM)
        await asyncio.sleep(0.001)  # more would fill the pipe that they go through
    _out, err = await ended

    assert (running.process.returncode, err) == (0, b"")


async def test_standard_output_may_be_closed(config: Path):
    command = [sys.executable, "-m", "bitsd", "check-config", str(config)]
    shell = f"{shlex.join(command)} >&-"
    process = await asyncio.create_subprocess_shell(shell, stderr=PIPE)
    _out, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")
