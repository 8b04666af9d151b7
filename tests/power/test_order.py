"""What a client was told is on the disk, at the moment when it is told."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from calls import Call, Told, calls, traced
from clients import ENTITY, FULL, JOBS, OLD, STEP, recorded
from device import Device
from processes import CONFIG, PROCESS_SECONDS, Running
from store_kit import NAME
from wire_client import fragment

ACKS = {"one": 1, "many": 3, "cancelled": 1, "killed": 3}
ACKS |= {"killed_in_a_body": 2, "cut_twice": 3}

WHOLE = len(ENTITY)

CASES = [
    (job, overwrite)
    for overwrite in ("new", "overwrite")
    for job in JOBS
    if FULL or (job, overwrite) in (("many", "new"), ("killed", "new"))
]


def on_disk(device: Device, path: str) -> bytes | None:
    """Bytes of the file of that name after a power cut that takes all it can."""
    return next(device.states()).read(path)


def checked(found: list[Call], *, only_last: bool = False) -> int:
    """How many Acks of bytes there are, all of them true."""
    device, acks, told = Device(), 0, dict[str, object]()
    for call in found:
        device.apply(call)
        if not isinstance(call, Told):
            continue
        told |= call.facts
        acked = call.facts.get("acked")
        if not isinstance(acked, int) or not acked:
            continue
        acks += 1
        if acked == WHOLE or not only_last:
            check(device, f"BITS-Sessions/{told['session']}", acked)
    return acks


def check(device: Device, home: str, acked: int) -> None:
    """The bytes are on the disk, and all that leads to them and says what they are."""
    request = on_disk(device, f"{home}/request")
    assert request is not None
    assert request[:acked] == ENTITY[:acked]
    record = json.loads(on_disk(device, f"{home}/session.json") or b"null")
    assert record["total"] == WHOLE
    if acked == WHOLE:
        assert record["state"] == "wait-for-close"
        assert on_disk(device, NAME) == ENTITY
    else:
        assert on_disk(device, NAME) in (None, OLD)


@pytest.mark.parametrize(("job", "overwrite"), CASES)
def test_ack_comes_after_the_sync_of_all_that_it_says(
    folder: Path, job: str, overwrite: str
):
    assert checked(recorded(job, "fragment", overwrite, folder)) == ACKS[job]


@pytest.mark.parametrize("overwrite", ["new", "overwrite"] if FULL else ["overwrite"])
def test_last_ack_comes_after_the_sync_of_all_if_only_publication_is_durable(
    folder: Path, overwrite: str
):
    found = recorded("many", "publish", overwrite, folder)

    assert checked(found, only_last=True) == ACKS["many"]


async def test_response_comes_after_the_sync_of_all_that_it_says(folder: Path):
    (folder / "in").mkdir()
    config = folder / "bitsd.toml"
    config.write_text(CONFIG.format(address="127.0.0.1:0", workers=1), "utf-8")
    serve = (sys.executable, "-m", "bitsd", "serve", "--config", str(config))
    process = await asyncio.create_subprocess_exec(
        *traced(folder / "log"), *serve, stdout=PIPE, stderr=PIPE
    )
    running = Running(process)
    try:
        await running.hear(r"^listening on http://127\.0\.0\.1:\d+$")
        line = await running.dial()
        target = f"/in/{NAME}"
        named = await line.create(target)
        for first in range(0, WHOLE, STEP):
            octets = ENTITY[first : first + STEP]
            answer = await line.ask(fragment(target, named, first, octets, WHOLE))
            assert answer.status == 200
    finally:
        # strace passes no signal on; the server is its child, and ends it.
        for server in running.workers:
            os.kill(server, signal.SIGTERM)
        async with asyncio.timeout(PROCESS_SECONDS):
            await process.communicate()
        await running.lines.hang_up()
    found = [Told({"session": named}), *calls(folder / "log", folder / "in")]

    assert checked(found) == ACKS["many"]
