"""Counting and expiring, of which every system call fails once and from there on."""

import asyncio
from pathlib import Path

import pytest
from injection import Injection
from store_kit import run_child, small_disk

SWEEPS = """
import asyncio, os, shutil, sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from injection import Injection, faults, some
from store_kit import ID, OTHER, Uploads, caller, handles

from bitsd.protocol.refusal import Refusal
from bitsd.protocol.wire import SessionId

LONG = timedelta(days=400)
LIVING = caller("living.dat")


async def template(folder):
    # What a sweep finds: sessions that live, expired, are damaged, litter, a grave.
    uploads = await Uploads.open(folder, durability="publish")
    living = await uploads.create(LIVING)
    await uploads.send(living, b"abc", total=6, sender=LIVING)
    named = await uploads.create()
    await uploads.send(named, b"abc", total=6)
    damaged = await uploads.create()
    (uploads.home(damaged) / "session.json").write_bytes(b"{")
    uploads.home(OTHER).mkdir()
    (uploads.home(OTHER) / "request").write_bytes(b"abc")
    uploads.home(SessionId(f"closed-{ID}")).touch()
    later = (uploads.clock.now + LONG).timestamp()
    os.utime(uploads.home(living) / "request", (later, later))
    return living


async def swept(folder, before, act, injecting):
    # A sweep of what the template holds, with a fault or without one.
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    uploads = await Uploads.open(folder, durability="publish", sessions_per_user=1)
    uploads.clock.forward(LONG)
    with injecting as calls, suppress(OSError):
        await getattr(uploads.sessions, act)()
    return uploads, calls


async def check(uploads, living):
    await uploads.sessions.count()
    await uploads.sessions.expire()
    assert uploads.on_disk == {living}, uploads.on_disk
    assert not uploads.graves
    try:
        await uploads.create()
    except Refusal as refusal:
        assert refusal.reason.name == "TOO_MANY_SESSIONS"
    else:
        raise AssertionError("not counted")
    uploads.clock.forward(-LONG)
    await uploads.send(living, b"def", first=3, sender=LIVING)
    assert (uploads.folder / "living.dat").read_bytes() == b"abcdef"
    await uploads.close(living, LIVING)
    await uploads.create()


async def main(place, act):
    before, folder = place / "disk" / "before", place / "disk" / "in"
    injection = Injection(folder, place)
    living = await template(before)
    _uploads, calls = await swept(folder, before, act, injection.watched())
    for fault in some(faults(calls), one_in=3):
        try:
            injecting = injection.failing(fault)
            uploads, _calls = await swept(folder, before, act, injecting)
            open_before = handles()
            await check(uploads, living)
            assert handles() == open_before, "handles"
        except Exception as error:
            print(f"{fault}, {calls[fault.nth - 1].what}: {error!r}")


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("sweep", ["count", "expire"])
async def test_sweep_that_fails_at_any_call_is_made_up_for(
    tmp_path: Path, sweep: str, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "disk"
    injection = Injection(folder / "in", tmp_path)
    for name, value in injection.environment.items():
        monkeypatch.setenv(name, value)
    with small_disk(folder, size="8m"):  # in memory, as all is made anew each time
        said = await asyncio.to_thread(run_child, SWEEPS, tmp_path, sweep)

    assert said == ""
