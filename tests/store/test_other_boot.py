"""What becomes of an upload whose machine lost its power, or only its server."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from store_kit import NAME, Chunks, Uploads, failing, refused, run_child

from bitsd import record
from bitsd.protocol.refusal import Reason
from bitsd.protocol.wire import SessionId
from bitsd.record import BOOT, Keeping

ENTITY = bytes(range(1, 251)) * 400
ACKED = 10_000
OTHER_BOOT = "11111111-0000-4000-8000-000000000000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "in"


async def begun(folder: Path, **settings: object) -> tuple[Uploads, SessionId]:
    """An upload of which the client has had `ACKED` bytes acknowledged."""
    uploads = await Uploads.open(folder, **settings)
    named = await uploads.create()
    await uploads.send(named, ENTITY[:ACKED], total=len(ENTITY))
    return uploads, named


def request_of(uploads: Uploads, named: SessionId) -> Path:
    return uploads.home(named) / "request"


def add_tail(uploads: Uploads, named: SessionId, tail: bytes) -> None:
    """Bytes that came and were not acknowledged."""
    with request_of(uploads, named).open("ab") as file:
        file.write(tail)


async def asked_to_begin_anew(uploads: Uploads, named: SessionId, first: int) -> None:
    """The client goes on at `first`, is told that nothing is held, and obeys."""
    with refused(Reason.OUT_OF_SYNC) as caught:
        await uploads.send(named, ENTITY[first:], first=first)
    assert caught.value.received == 0
    await uploads.send(named, ENTITY)


async def test_tail_that_was_never_synced_is_not_trusted_after_a_power_cut(folder):
    uploads, named = await begun(folder)
    add_tail(uploads, named, bytes(5000))  # its length came to the disk, it did not
    await uploads.restart(boot=OTHER_BOOT)
    ack = await uploads.send(named, ENTITY[ACKED:], first=ACKED)

    assert ack.received == len(ENTITY)
    assert (folder / NAME).read_bytes() == ENTITY


async def test_tail_is_kept_when_only_the_server_was_killed(folder):
    uploads, named = await begun(folder)
    add_tail(uploads, named, ENTITY[ACKED : ACKED + 5000])
    await uploads.restart()
    await uploads.send(named, ENTITY[ACKED + 5000 :], first=ACKED + 5000)

    assert (folder / NAME).read_bytes() == ENTITY


async def test_boot_is_recorded_with_the_first_bytes_after_it(folder):
    uploads, named = await begun(folder)
    files = []
    for first in (ACKED, ACKED + 10):
        await uploads.restart(boot=OTHER_BOOT)
        octets = ENTITY[first : first + 10]
        await uploads.send(named, octets, first=first, total=len(ENTITY))
        files.append((uploads.home(named) / record.FILE).stat().st_ino)
    found, _ = record.read(uploads.home(named))

    assert found.kept == Keeping(OTHER_BOOT, synced=True)
    assert files[0] == files[1]


async def test_less_than_was_acknowledged_is_nothing_after_a_power_cut(folder):
    uploads, named = await begun(folder)
    os.truncate(request_of(uploads, named), ACKED - 1)
    await uploads.restart(boot=OTHER_BOOT)
    await asked_to_begin_anew(uploads, named, ACKED)

    assert (folder / NAME).read_bytes() == ENTITY


async def test_bytes_never_synced_are_nothing_after_a_power_cut(folder):
    uploads, named = await begun(folder, durability="publish")
    await uploads.restart(boot=OTHER_BOOT)
    await asked_to_begin_anew(uploads, named, ACKED)

    assert (folder / NAME).read_bytes() == ENTITY


async def test_session_that_says_nothing_of_its_boot_begins_anew(folder):
    uploads, named = await begun(folder)
    path = uploads.home(named) / record.FILE
    saved = json.loads(path.read_bytes())
    del saved["kept"]
    path.write_text(json.dumps(saved), "utf-8")
    await asked_to_begin_anew(uploads, named, ACKED)

    assert (folder / NAME).read_bytes() == ENTITY


@pytest.mark.parametrize("durability", ["fragment", "publish"])
async def test_packet_that_is_refused_cuts_nothing(folder, durability: str):
    uploads, named = await begun(folder, durability=durability)
    await uploads.restart(boot=OTHER_BOOT)
    with refused(Reason.MALFORMED):
        await uploads.send(named, b"abc", first=3, total=7)

    assert request_of(uploads, named).read_bytes() == ENTITY[:ACKED]


async def test_file_that_has_its_name_is_not_cut(folder):
    uploads, named = await begun(folder)
    add_tail(uploads, named, ENTITY[ACKED:])
    os.link(request_of(uploads, named), folder / NAME)
    await uploads.restart(boot=OTHER_BOOT)
    body = Chunks(bytes(len(ENTITY) - ACKED))
    ack = await uploads.send(named, ENTITY[ACKED:], first=ACKED, body=body)

    assert ack.received == len(ENTITY)
    assert (folder / NAME).read_bytes() == ENTITY


async def test_bytes_synced_late_are_trusted(folder):
    uploads, named = await begun(folder, durability="publish")
    await uploads.restart(durability="fragment")
    octets = ENTITY[ACKED : ACKED + 10]
    await uploads.send(named, octets, first=ACKED, total=len(ENTITY))
    await uploads.restart(boot=OTHER_BOOT)
    await uploads.send(named, ENTITY[ACKED + 10 :], first=ACKED + 10)

    assert (folder / NAME).read_bytes() == ENTITY


async def test_bytes_no_longer_synced_are_not(folder):
    uploads, named = await begun(folder)
    await uploads.restart(durability="publish")
    octets = ENTITY[ACKED : ACKED + 10]
    await uploads.send(named, octets, first=ACKED, total=len(ENTITY))
    await uploads.restart(boot=OTHER_BOOT)
    await asked_to_begin_anew(uploads, named, ACKED + 10)

    assert (folder / NAME).read_bytes() == ENTITY


SENDS = """
import asyncio, errno, sys
from pathlib import Path
from store_kit import Clock, Uploads
from bitsd.config import Directory
from bitsd.protocol.refusal import Refusal
from bitsd.protocol.wire import SessionId
from bitsd.sessions import Sessions

async def main():
    folder = Path(sys.argv[1])
    settings = Directory(url="/in", path=folder, upload=True, durability=sys.argv[3])
    uploads = Uploads(Sessions(settings), folder, Clock())
    try:
        first = int(sys.argv[4])
        await uploads.send(SessionId(sys.argv[2]), b"x", first=first, total=100_000)
    except OSError as error:
        print(errno.errorcode[error.errno])
    except Refusal as refusal:
        print(refusal.reason.name, refusal.received)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        # To the client it would be an Ack of bytes that are not on the disk.
        pytest.param("fragment", "fragment", "EIO", id="each fragment synced"),
        pytest.param("publish", "publish", f"OUT_OF_SYNC {ACKED}", id="at publication"),
        pytest.param("publish", "fragment", "EIO", id="not before, and now"),
    ],
)
async def test_offset_is_not_told_before_it_is_synced(
    folder, before: str, after: str, said: str
):
    _, named = await begun(folder, durability=before)
    child = (SENDS, folder, named, after, len(ENTITY) - 1)

    assert (
        await asyncio.to_thread(run_child, *child, under=failing("fdatasync")) == said
    )


async def test_tail_of_a_killed_process_goes_if_it_cannot_be_synced(folder):
    uploads, named = await begun(folder)
    add_tail(uploads, named, ENTITY[ACKED : ACKED + 5000])
    child = (SENDS, folder, named, "fragment", ACKED)
    said = await asyncio.to_thread(run_child, *child, under=failing("fdatasync"))

    # A second sync would succeed, without the bytes being on the disk.
    assert said == "EIO"
    assert request_of(uploads, named).read_bytes() == ENTITY[:ACKED]


async def test_copy_of_a_part_by_a_link_is_no_proof_that_it_is_whole(folder):
    uploads, named = await begun(folder)
    add_tail(uploads, named, bytes(5000))
    os.link(request_of(uploads, named), folder / "backup")
    await uploads.restart(boot=OTHER_BOOT)
    await uploads.send(named, ENTITY[ACKED:], first=ACKED)

    assert (folder / NAME).read_bytes() == ENTITY


async def test_bytes_that_cannot_be_synced_late_are_dropped(folder):
    uploads, named = await begun(folder, durability="publish")
    child = (SENDS, folder, named, "fragment", ACKED)
    said = await asyncio.to_thread(run_child, *child, under=failing("fdatasync"))

    assert said == "EIO"
    assert request_of(uploads, named).read_bytes() == b""


async def test_that_bytes_are_no_longer_synced_is_synced(folder):
    _, named = await begun(folder)
    child = (SENDS, folder, named, "publish", ACKED)

    assert await asyncio.to_thread(run_child, *child, under=failing("fsync")) == "EIO"


def test_boot_is_the_kernels():
    known = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

    assert known == BOOT


def test_each_start_counts_as_a_boot_where_the_system_tells_none(tmp_path: Path):
    assert record.boot(tmp_path / "none") != record.boot(tmp_path / "none")
