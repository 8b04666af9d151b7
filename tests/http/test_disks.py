"""Real disks that are full, read-only, or at an end of what they count."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import Run, Running, serving
from processes import held as held_bytes
from store_kit import fill, remount, small_disk, use_up_names
from uploading import ENTITY, PART, Upload
from wire_client import Answer, fetch, ping

DISK_FULL = (500, "0x80070070")
FAILED = (500, None)
TOO_LARGE = (500, "0x80200020")


@contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = fill(disk)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def no_names(disk: Path) -> Iterator[None]:
    fillers = use_up_names(disk)
    try:
        yield
    finally:
        for filler in fillers:
            filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    remount(disk, "ro")
    try:
        yield
    finally:
        remount(disk, "rw")


#: What each packet of an upload is told while its disk is so, unless it is done.
TOLD = {
    "full": (
        full,
        {
            "Create-Session": DISK_FULL,
            "first Fragment": DISK_FULL,
            "middle Fragment": DISK_FULL,
            "last Fragment": DISK_FULL,
        },
    ),
    "no names": (
        no_names,
        {
            "Create-Session": DISK_FULL,
            "first Fragment": DISK_FULL,
            "middle Fragment": (200, None),
            "last Fragment": DISK_FULL,
        },
    ),
    "read-only": (
        read_only,
        {
            "Create-Session": FAILED,
            "first Fragment": FAILED,
            "middle Fragment": FAILED,
            "last Fragment": FAILED,
            "Close-Session": FAILED,
        },
    ),
}
PACKETS = {
    "Create-Session": "create",
    "first Fragment": "fragment",
    "middle Fragment": "fragment",
    "last Fragment": "fragment",
    "Close-Session": "close",
}


def told(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.error[0]


@pytest.mark.parametrize("fault", TOLD)
async def test_client_waits_until_the_disk_is_right_again(
    run: Run, config: Path, fault: str
):
    disk = config.parent / "in"
    wrong, expected = TOLD[fault]
    with small_disk(disk, size="256k", files=40):
        (disk / "there").write_bytes(b"abc")
        server = await serving(run, config)
        upload = Upload(await server.dial(), "/in/report.dat")
        for packet, verb in PACKETS.items():
            with wrong(disk):
                answer = await upload.send(verb)
                pinged = await upload.line.ask(ping("/in/"))
                there = await upload.line.ask(fetch("/in/there"))
            assert told(answer) == expected.get(packet, (200, None)), packet
            assert (pinged.status, there.body) == (200, b"abc")
            if answer.status != 200:
                assert (await upload.send(verb)).status == 200, packet
        published = (disk / "report.dat").read_bytes()
        left = list((disk / "BITS-Sessions").glob("{*"))
        _code, said = await server.end(signal.SIGTERM)

    assert published == ENTITY
    assert left == []
    assert "Traceback" not in said


@contextmanager
def limited(server: Running, what: int, limit: int) -> Iterator[None]:
    """Of a running server."""
    pid = server.process.pid
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


async def test_server_without_a_handle_left_goes_on(run: Run, config: Path):
    server = await serving(run, config)
    upload = Upload(await server.dial(), "/in/report.dat")
    await upload.send("create")
    await upload.send("fragment")
    # New ones have to be below; those that it has stay.
    with limited(server, resource.RLIMIT_NOFILE, 3):
        answers = [await upload.send(verb) for verb in ("fragment", "create", "close")]
        other = await server.dial()
        await other.send(ping("/in/"))
        pinged = await upload.line.ask(ping("/in/"))
    accepted = await (await server.dial()).ask(ping("/in/"))
    await upload.go_on()
    _code, said = await server.end(signal.SIGTERM)

    assert [told(answer) for answer in answers] == [FAILED] * 3
    assert (pinged.status, accepted.status) == (200, 200)
    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY
    assert "Traceback" not in said
    assert said.count("cannot-accept") <= 1


async def test_file_longer_than_the_system_takes_is_told(run: Run, config: Path):
    server = await serving(run, config)
    upload = Upload(await server.dial(), "/in/report.dat")
    await upload.send("create")
    with limited(server, resource.RLIMIT_FSIZE, PART + 1000):
        first = await upload.send("fragment")
        second = await upload.send("fragment")
    held = held_bytes(config, upload.named)
    await upload.go_on()

    assert (told(first), told(second)) == ((200, None), TOO_LARGE)
    assert held == PART + 1000
    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY
