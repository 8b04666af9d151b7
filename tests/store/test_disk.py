"""Sessions over real files, full disks and failing devices."""

import asyncio
import errno
import fcntl
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from store_kit import (
    CREATED,
    ID,
    KEPT,
    NAME,
    OTHER,
    Chunks,
    append,
    as_anybody,
    disk_in,
    failed,
    failing,
    fill,
    handles,
    held,
    load,
    new_session,
    publish,
    refused,
    remount,
    run_child,
    save,
    small_disk,
    use_up_names,
)
from wire_client import until

from bitsd import record
from bitsd.disk import KNOCK_SECONDS, Disk, refusal_of
from bitsd.entity import Busy, EntityGone
from bitsd.knocks import LISTEN_SECONDS, Knock, knocked
from bitsd.litter import clean
from bitsd.protocol.refusal import Reason
from bitsd.protocol.session import Admission, Destination, State
from bitsd.protocol.wire import SessionId
from bitsd.record import SessionDamaged, SessionNotFound

HELD = b"acknowledged"
MORE = bytes(range(250)) * 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture(params=[True, False], ids=["each fragment synced", "at publication"])
def disk(folder: Path, request) -> Disk:
    return disk_in(folder, durable=request.param)


def in_sessions(folder: Path) -> set[str]:
    return {path.name for path in (folder / "BITS-Sessions").iterdir()}


# Create.


async def test_session_is_found_as_it_was_made(disk: Disk):
    session = new_session(user="alice", total=5)
    disk.create(session)
    found = await load(disk, ID)

    assert found.touched >= CREATED
    assert found.touched.tzinfo is UTC
    assert found == new_session(user="alice", total=5, touched=found.touched)


async def test_preparing_again_keeps_the_sessions(disk: Disk, folder):
    disk.create(new_session())
    disk.prepare()

    assert in_sessions(folder) == {ID}


async def test_session_that_has_no_room_for_its_record_is_not_there(folder):
    with small_disk(folder) as full:
        disk = disk_in(full)
        fill(full)
        with failed(errno.ENOSPC):
            disk.create(new_session())
        assert in_sessions(full) == set()


async def test_session_that_has_no_room_for_its_name_is_not_there(folder):
    with small_disk(folder, files=30) as full:
        disk = disk_in(full)
        fillers = use_up_names(full)
        for free in range(3):
            with failed(errno.ENOSPC):
                disk.create(new_session())
            assert in_sessions(full) == set()
            fillers[free].unlink()
        fillers[3].unlink()
        disk.create(new_session())

        assert in_sessions(full) == {ID}


FAILING_SAVE = """
import asyncio, errno, sys
from pathlib import Path
from store_kit import new_session
from bitsd.destination import Folder
from bitsd.disk import Disk

async def main():
    # It was prepared before: strace counts the syncs of each thread from here.
    disk = Disk(Folder(Path(sys.argv[1])), durable=sys.argv[2] == "True")
    disk.create(new_session())
    entity = await disk.open(new_session().id)
    try:
        await disk.save(entity, new_session(total=100))
    except OSError as error:
        print(errno.errorcode[error.errno])

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("durable", "nth", "said"),
    [
        pytest.param(True, "1", "EIO", id="record"),
        pytest.param(True, "2", "EIO", id="folder of the session"),
        pytest.param(True, "3", "EIO", id="folder of the sessions"),
        pytest.param(True, "4", "", id="no sync more"),
        pytest.param(False, "1+", "", id="only publication synced"),
    ],
)
async def test_record_is_not_saved_before_all_that_leads_to_it_is_synced(
    folder, *, durable: bool, nth: str, said: str
):
    disk_in(folder)
    child, under = (FAILING_SAVE, folder, durable), failing("fsync", nth=nth)

    assert await asyncio.to_thread(run_child, *child, under=under) == said


FAILING_SETTLE = FAILING_SAVE.replace(
    "await disk.save(entity, new_session(total=100))", "await disk.settle(entity)"
)


@pytest.mark.parametrize(
    ("durable", "nth", "said"),
    [
        pytest.param(True, "1", "EIO", id="record"),
        pytest.param(True, "2", "EIO", id="folder of the session"),
        pytest.param(True, "3", "EIO", id="folder of the sessions"),
        pytest.param(False, "1+", "", id="only publication synced"),
    ],
)
async def test_record_whose_sync_may_not_have_come_is_synced_again(
    folder, *, durable: bool, nth: str, said: str
):
    disk_in(folder)
    child, under = (FAILING_SETTLE, folder, durable), failing("fsync", nth=nth)

    assert await asyncio.to_thread(run_child, *child, under=under) == said


async def test_id_of_another_session_is_not_taken_over(disk: Disk, folder):
    await held(disk, HELD, new_session(total=100))
    with failed(errno.ENOTEMPTY, errno.EEXIST):
        disk.create(new_session())

    assert disk.request(ID).read_bytes() == HELD
    assert in_sessions(folder) == {ID}


# Where the bytes are, and how many.


async def test_offset_is_the_length_of_the_file(disk: Disk):
    await held(disk, HELD, new_session(total=100))
    os.truncate(disk.request(ID), 5)

    assert (await load(disk, ID)).received == 5


@pytest.mark.parametrize("later", ["request", "session.json"])
async def test_later_time_is_that_of_the_last_progress(disk: Disk, later: str):
    disk.create(new_session())
    for name in ("request", "session.json"):
        os.utime(disk.request(ID).with_name(name), (0, 2000 if name == later else 1000))

    assert (await load(disk, ID)).touched == datetime.fromtimestamp(2000, UTC)


async def test_reply_that_is_fetched_is_progress(disk: Disk):
    disk.create(new_session())
    disk.response(ID).write_bytes(b"reply")
    for name in ("request", "session.json"):
        os.utime(disk.request(ID).with_name(name), (0, 1000))
    disk.open_response(ID).close()

    assert (await load(disk, ID)).touched > datetime.fromtimestamp(1000, UTC)


async def test_session_without_its_bytes_is_told_apart(disk: Disk):
    disk.create(new_session())
    disk.request(ID).unlink()

    with pytest.raises(EntityGone):
        await load(disk, ID)
    with pytest.raises(EntityGone):
        disk.read(ID)


async def test_session_with_more_bytes_than_its_total_is_none(disk: Disk):
    await held(disk, HELD, new_session(total=len(HELD)))
    with disk.request(ID).open("ab") as file:
        file.write(b"!")

    with pytest.raises(SessionNotFound):
        await load(disk, ID)


async def test_damaged_session_has_a_last_progress_too(disk: Disk):
    disk.create(new_session())
    home = disk.request(ID).parent
    (home / "session.json").unlink()
    os.utime(home / "request", (0, 2000))
    os.utime(home, (0, 1000))

    assert disk.touched(ID) == datetime.fromtimestamp(2000, UTC)
    assert disk.touched(OTHER) == datetime.fromtimestamp(0, UTC)


async def test_unknown_session_is_none(disk: Disk):
    with pytest.raises(SessionNotFound):
        await load(disk, OTHER)


async def test_time_that_no_calendar_has_is_no_session(tmp_path):
    with small_disk(tmp_path / "disk") as small:
        disk = disk_in(small)
        disk.create(new_session())
        os.utime(disk.request(ID), (2**40, 2**40))

        with pytest.raises(SessionDamaged):
            await load(disk, ID)
        assert disk.touched(ID) == datetime.fromtimestamp(0, UTC)


# Append.


@pytest.mark.parametrize(
    ("chunks", "skip", "take", "after"),
    [
        pytest.param([b"abc"], 0, 3, b"abc", id="one chunk"),
        pytest.param([b"a", b"b", b"c"], 0, 3, b"abc", id="chunks"),
        pytest.param([b"xxabc"], 2, 3, b"abc", id="skipped in a chunk"),
        pytest.param([b"x", b"xa", b"bc"], 2, 3, b"abc", id="skipped over chunks"),
        pytest.param([b"abcxx", b"xx"], 0, 3, b"abc", id="no more than admitted"),
        pytest.param([b"xabcx"], 1, 3, b"abc", id="in the middle"),
        pytest.param([b"ab"], 0, 3, b"ab", id="short body"),
        pytest.param([b"x"], 2, 3, b"", id="short before it begins"),
        pytest.param([], 0, 3, b"", id="no body"),
        pytest.param([b"abc"], 3, 0, b"", id="nothing new"),
        pytest.param([b""], 0, 0, b"", id="empty entity"),
        pytest.param([MORE, MORE], 0, 2 * len(MORE), MORE * 2, id="large"),
    ],
)
async def test_what_was_admitted_goes_to_the_end(
    disk: Disk, chunks: list[bytes], skip: int, take: int, after: bytes
):
    session = await held(disk, HELD, new_session(total=10**6))
    count = await append(disk, session, Admission(skip, take), Chunks(*chunks))

    assert disk.request(ID).read_bytes() == HELD + after
    assert count == len(HELD + after)


class Broken(Chunks):
    """A body with a fault of its own after its chunks."""

    async def into(self, sink) -> None:
        await super().into(sink)
        raise OSError(errno.EIO, "a fault")


async def test_bytes_before_a_fault_are_kept(disk: Disk):
    session = await held(disk, HELD, new_session(total=100))
    with pytest.raises(OSError, match="a fault"):
        await append(disk, session, Admission(0, 50), Broken(b"abc"))

    assert disk.request(ID).read_bytes() == HELD + b"abc"


async def test_bytes_before_a_cancellation_are_kept(disk: Disk):
    session = await held(disk, HELD, new_session(total=100))
    body = Chunks(b"abc", stalls=True)
    task = asyncio.create_task(append(disk, session, Admission(0, 50), body))
    await body.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await load(disk, ID)).received == len(HELD) + 3


class Watched(ThreadPoolExecutor):
    """Threads of which a test sees when they are at work."""

    last: Future | None = None

    def submit(self, *arguments, **named):
        self.last = super().submit(*arguments, **named)
        return self.last


async def test_pipe_in_place_of_the_bytes_is_not_waited_for(disk: Disk):
    disk.create(new_session())
    disk.request(ID).unlink()
    os.mkfifo(disk.request(ID))

    with pytest.raises(SessionDamaged):
        await append(disk, new_session(), Admission(0, 3), Chunks(b"abc"))


async def test_cancellation_after_the_body_leaves_no_handle_open(folder: Path):
    disk = disk_in(folder)
    session = await held(disk, HELD, new_session(total=100))
    threads, loop = Watched(1), asyncio.get_running_loop()
    loop.set_default_executor(threads)
    before, body, busy = handles(), Chunks(b"abc", stalls=True), Event()
    task = asyncio.create_task(append(disk, session, Admission(0, 50), body))
    await body.arrived.wait()
    # What the end of the body starts has to wait for a thread.
    waiting = loop.run_in_executor(None, busy.wait)
    occupied = threads.last
    body.cut(Reason.STOPPING)
    await until(lambda: threads.last is not occupied)
    task.cancel()
    for _ in range(10):  # whatever follows from that, before any thread is free
        await asyncio.sleep(0)
    busy.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await waiting
    await until(lambda: handles() == before)


# To flock(2) a second handle in one process is as good as a second process.


async def test_impatient_one_finds_the_session_of_another_process_busy(disk: Disk):
    disk.create(new_session())
    theirs = await disk.open(ID)
    with pytest.raises(Busy):
        await disk.open(ID)
    theirs.close()

    (await disk.open(ID)).close()


def mine(_named: SessionId, _user: str | None, _wanted: str) -> None:
    """Whose packet it is: of a caller whose session this is."""


async def test_patient_one_is_heard_by_another_process_and_follows(disk: Disk):
    await held(disk, HELD, new_session(total=100))
    before, theirs = handles(), await disk.open(ID)
    body = Chunks(b"abc", stalls=True)
    receiving = asyncio.create_task(theirs.append(Admission(0, 50), body))
    await body.arrived.wait()
    opening = asyncio.create_task(disk.open(ID, mine))
    assert await receiving == len(HELD) + 3
    assert body.ended is Reason.SUPERSEDED
    assert not opening.done()
    theirs.close()
    ours = await opening
    ours.close()

    assert ours.session.received == len(HELD) + 3
    assert handles() == before


async def test_body_that_nobody_waits_for_is_received_on(disk: Disk):
    await held(disk, HELD, new_session(total=100))
    entity, body = await disk.open(ID), Chunks(b"abc", stalls=True)
    receiving = asyncio.create_task(entity.append(Admission(0, 3), body))
    await asyncio.sleep(2.5 * LISTEN_SECONDS)
    assert body.ended is None
    body.cut(Reason.STOPPING)
    await receiving
    entity.close()


async def test_patient_one_learns_that_another_process_ended_the_session(disk: Disk):
    disk.create(new_session())
    theirs = await disk.open(ID)
    opening = asyncio.create_task(disk.open(ID, mine))
    await asyncio.sleep(3 * KNOCK_SECONDS)
    await disk.delete(ID)
    theirs.close()

    with pytest.raises(SessionNotFound):
        await opening


KNOCKED = """
import sys
from pathlib import Path
from store_kit import ID, disk_in
from bitsd.litter import clean
from bitsd.knocks import Knock, knocked

home = disk_in(Path(sys.argv[1])).request(ID).parent
knock = Knock(str(home.parent), str(home))
knock.knock()
print(knocked(str(home)))
knock.close()
print(knocked(str(home)))
"""


async def test_knock_is_heard_where_the_system_cannot_say_what_is_in_memory(folder):
    disk_in(folder).create(new_session())
    under = failing("openat2", error="ENOSYS")

    assert await asyncio.to_thread(run_child, KNOCKED, folder, under=under) == (
        "True\nFalse"
    )


async def test_step_that_is_under_way_keeps_others_out_after_a_cancellation(
    disk: Disk,
):
    disk.create(new_session())
    before, entity, going = handles(), await disk.open(ID), Event()

    def fail() -> None:
        going.wait()
        raise OSError(errno.EIO, "nobody waits for this")

    task = asyncio.create_task(entity.step(fail))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    entity.close()
    with pytest.raises(Busy):
        await disk.open(ID)
    going.set()
    await until(lambda: handles() == before)

    (await disk.open(ID)).close()


async def test_nobody_knocks_where_no_session_is(disk: Disk, folder):
    sessions, before = str(folder / "BITS-Sessions"), handles()
    knock = Knock(sessions, f"{sessions}/{ID}")
    knock.knock()

    assert handles() == before
    assert not knocked(f"{sessions}/{ID}")
    assert not knocked(sessions)


@pytest.mark.parametrize("door", ["", ID], ids=["all", "one"])
async def test_one_who_listens_lets_nobody_knock_for_that_moment(
    disk: Disk, folder, door: str
):
    disk.create(new_session())
    sessions, before = str(folder / "BITS-Sessions"), handles()
    knock = Knock(sessions, f"{sessions}/{ID}")
    listening = os.open(f"{sessions}/{door}", os.O_RDONLY)
    fcntl.flock(listening, fcntl.LOCK_EX)
    knock.knock()
    os.close(listening)
    assert not knocked(f"{sessions}/{ID}")
    for _ in range(2):
        knock.knock()
        assert knocked(f"{sessions}/{ID}")
        assert knocked(sessions)
    knock.close()

    assert not knocked(f"{sessions}/{ID}")
    assert handles() == before


async def test_only_the_body_is_cut_for_whose_session_somebody_knocks(
    disk: Disk, folder
):
    entities, bodies, receiving = [], [], []
    for named in (ID, OTHER):
        disk.create(new_session(named, total=100))
        entities.append(await disk.open(named))
        bodies.append(Chunks(b"abc", stalls=True))
        appending = entities[-1].append(Admission(0, 50), bodies[-1])
        receiving.append(asyncio.create_task(appending))
    sessions = str(folder / "BITS-Sessions")
    knock = Knock(sessions, f"{sessions}/{OTHER}")
    knock.knock()
    await receiving[1]
    knock.close()
    assert [body.ended for body in bodies] == [None, Reason.SUPERSEDED]
    bodies[0].cut(Reason.STOPPING)
    await receiving[0]
    for entity in entities:
        entity.close()


UNLOCKABLE_FOLDER = """
import sys
from bitsd.litter import clean
from bitsd.knocks import Knock, knocked

Knock(sys.argv[1], sys.argv[1]).knock()
print(knocked(sys.argv[1]))
"""


async def test_where_folders_cannot_be_locked_nobody_is_heard(folder):
    under = failing("flock", error="EBADF")
    said = await asyncio.to_thread(run_child, UNLOCKABLE_FOLDER, folder, under=under)

    assert said == "False"


NO_HANDLES = """
import resource, sys
from pathlib import Path
from store_kit import disk_in, handles
from bitsd.knocks import Knock, knocked

sessions = str(disk_in(Path(sys.argv[1])).request("").parent)
knock, before = Knock(sessions, sessions + "/home"), handles()
(Path(sessions) / "home").mkdir()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for spare in (0, 1):
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + spare, hard))
    knock.knock()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(knocked(sessions), handles() == before, end=" ")
knock.knock()
print(knocked(sessions))
"""


async def test_who_has_no_handle_to_knock_with_does_it_later(folder):
    said = await asyncio.to_thread(run_child, NO_HANDLES, folder)

    assert said == "False True False True True"


async def test_no_handle_is_left_open_however_it_ends(disk: Disk):
    session = await held(disk, HELD, new_session(total=100))
    before = handles()
    await append(disk, session, Admission(0, 3), Chunks(b"abc"))
    with pytest.raises(OSError, match="a fault"):
        await append(disk, session, Admission(0, 3), Broken(b"d"))
    short = replace(session, total=1)
    record.write(disk.request(ID).parent, short, KEPT, durable=False)
    with pytest.raises(SessionDamaged):
        await disk.open(ID)

    assert handles() == before


async def test_full_disk_keeps_what_fitted_and_the_rest_comes_later(folder):
    entity = HELD + MORE
    with small_disk(folder) as full:
        disk = disk_in(full)
        session = await held(disk, HELD, new_session(total=len(entity)))
        filler = fill(full, leave=8192)
        with failed(errno.ENOSPC):
            await append(disk, session, Admission(0, len(MORE)), Chunks(MORE))
        filler.unlink()
        # Still too small for it all: more room is what an administrator adds.
        remount(full, "size=1m")
        session = await load(disk, ID)

        assert len(HELD) < session.received < len(entity)
        rest = entity[session.received :]
        await append(disk, session, Admission(0, len(rest)), Chunks(rest))
        await publish(disk, await load(disk, ID), overwrite=False)
        assert (full / NAME).read_bytes() == entity


async def test_record_that_does_not_fit_leaves_the_session_as_it_was(folder):
    with small_disk(folder) as full:
        disk = disk_in(full)
        session = await held(disk, HELD, new_session(total=100))
        filler = fill(full)
        with failed(errno.ENOSPC):
            await save(disk, replace(session, refused=403))
        assert await load(disk, ID) == session
        filler.unlink()
        await save(disk, replace(session, refused=403))

        assert (await load(disk, ID)).refused == 403


LARGEST_FILE = """
import asyncio, errno, resource, sys
from pathlib import Path
from store_kit import ID, Chunks, append, disk_in, load
from bitsd.disk import refusal_of
from bitsd.protocol.session import Admission

async def main():
    disk = disk_in(Path(sys.argv[1]))
    session = await load(disk, ID)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        await append(disk, session, Admission(0, 2000), Chunks(bytes(2000)))
    except OSError as error:
        print(errno.errorcode[error.errno], refusal_of(error).reason.name)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

asyncio.run(main())
"""


async def test_largest_file_of_the_system_is_told_as_too_large(folder):
    disk = disk_in(folder)
    await held(disk, HELD, new_session(total=5000))
    said = await asyncio.to_thread(run_child, LARGEST_FILE, folder)

    assert said == "EFBIG TOO_LARGE"
    assert disk.request(ID).read_bytes() == HELD + bytes(1000 - len(HELD))


FAILING_APPEND = """
import asyncio, errno, sys
from pathlib import Path
from store_kit import ID, Chunks, append, disk_in, load
from bitsd.protocol.session import Admission

async def main():
    disk = disk_in(Path(sys.argv[1]), durable=sys.argv[2] == "True")
    session, take = await load(disk, ID), int(sys.argv[3])
    try:
        print(await append(disk, session, Admission(3 - take, take), Chunks(b"abc")))
    except OSError as error:
        print(errno.errorcode[error.errno])

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("durable", "take", "said", "kept"),
    [
        pytest.param(True, 3, "EIO", HELD, id="each fragment synced"),
        # What is held may be of a process that was killed before its sync.
        pytest.param(True, 0, "EIO", HELD, id="nothing new, synced all the same"),
        pytest.param(False, 3, "15", HELD + b"abc", id="only publication synced"),
    ],
)
async def test_bytes_whose_sync_failed_are_dropped(
    folder, *, durable: bool, take: int, said: str, kept: bytes
):
    disk = disk_in(folder)
    await held(disk, HELD, new_session(total=100))
    child = (FAILING_APPEND, folder, durable, take)

    assert (
        await asyncio.to_thread(run_child, *child, under=failing("fdatasync")) == said
    )
    assert disk.request(ID).read_bytes() == kept


# Publish.


async def complete(disk: Disk, octets: bytes = HELD, **facts: object):
    return await held(disk, octets, new_session(total=len(octets), **facts))


@pytest.mark.parametrize("overwrite", [False, True], ids=["link", "overwrite"])
async def test_entity_gets_its_name_and_stays_with_its_session(
    disk: Disk, folder, *, overwrite: bool
):
    await publish(disk, await complete(disk), overwrite=overwrite)

    assert (folder / NAME).read_bytes() == HELD
    assert sorted(path.name for path in folder.iterdir()) == ["BITS-Sessions", NAME]
    assert sorted(path.name for path in disk.request(ID).parent.iterdir()) == [
        "request",
        "session.json",
    ]


@pytest.mark.parametrize("overwrite", [False, True], ids=["link", "overwrite"])
async def test_publication_that_a_crash_cut_short_may_come_again(
    disk: Disk, folder, *, overwrite: bool
):
    session = await complete(disk)
    await publish(disk, session, overwrite=overwrite)
    # As the crash between the second link and its new name leaves it.
    disk.request(ID).with_name("publish").hardlink_to(disk.request(ID))
    await publish(disk, session, overwrite=overwrite)

    assert (folder / NAME).read_bytes() == HELD
    assert (folder / NAME).samefile(disk.request(ID))


async def test_publication_may_come_again_before_any_link(disk: Disk, folder):
    session = await complete(disk)
    disk.request(ID).with_name("publish").write_bytes(b"left by a crash")
    await publish(disk, session, overwrite=True)

    assert (folder / NAME).read_bytes() == HELD
    assert not disk.request(ID).with_name("publish").exists()


@pytest.mark.parametrize("octets", [b"theirs", HELD], ids=["other", "the same bytes"])
async def test_file_of_another_is_not_replaced(disk: Disk, folder, octets: bytes):
    (folder / NAME).write_bytes(octets)
    theirs = (folder / NAME).stat().st_ino
    with refused(Reason.EXISTS):
        await publish(disk, await complete(disk), overwrite=False)

    assert (folder / NAME).read_bytes() == octets
    assert (folder / NAME).stat().st_ino == theirs


async def test_link_at_the_name_is_neither_followed_nor_replaced(disk: Disk, folder):
    session = await complete(disk)
    (folder / NAME).symlink_to(disk.request(ID))
    with refused(Reason.EXISTS):
        await publish(disk, session, overwrite=False)

    assert (folder / NAME).is_symlink()


async def test_overwriting_replaces_the_link_and_not_its_target(disk: Disk, folder):
    (folder / "target").write_bytes(b"theirs")
    (folder / NAME).symlink_to("target")
    await publish(disk, await complete(disk), overwrite=True)

    assert not (folder / NAME).is_symlink()
    assert (folder / "target").read_bytes() == b"theirs"


async def test_reader_of_a_replaced_file_reads_on_in_the_old_one(disk: Disk, folder):
    (folder / NAME).write_bytes(b"theirs")
    with (folder / NAME).open("rb") as reader:
        await publish(disk, await complete(disk), overwrite=True)

        assert reader.read() == b"theirs"
    assert (folder / NAME).read_bytes() == HELD


@pytest.mark.parametrize(
    ("overwrite", "reason"), [(False, Reason.EXISTS), (True, Reason.IS_A_FOLDER)]
)
async def test_folder_in_the_way_is_left_there(
    disk: Disk, folder, *, overwrite: bool, reason: Reason
):
    (folder / NAME).mkdir()
    with refused(reason):
        await publish(disk, await complete(disk), overwrite=overwrite)

    assert list((folder / NAME).iterdir()) == []
    assert disk.request(ID).read_bytes() == HELD


@pytest.mark.parametrize("name", ["missing/x", "a file/x", "BITS-Sessions/x", "../x"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["link", "overwrite"])
async def test_there_has_to_be_a_folder_inside(
    disk: Disk, folder, name: str, *, overwrite: bool
):
    (folder / "a file").touch()
    session = await complete(disk, destination=Destination(name))
    with refused(Reason.NO_FOLDER):
        await publish(disk, session, overwrite=overwrite)

    assert not (folder / name).exists()


async def test_one_of_many_publishers_of_a_name_wins(disk: Disk, folder):
    ids = [SessionId(ID.replace("555}", f"55{n}}}")) for n in range(8)]
    for round_ in range(10):
        name = Destination(f"{round_}.dat")
        sessions = [
            await complete(disk, named.encode(), id=named, destination=name)
            for named in ids
        ]
        outcomes = await asyncio.gather(
            *(publish(disk, session, overwrite=False) for session in sessions),
            return_exceptions=True,
        )
        winners = [named for named, o in zip(ids, outcomes, strict=True) if o is None]
        reasons = {getattr(outcome, "reason", None) for outcome in outcomes if outcome}
        for named in ids:
            await disk.delete(named)

        assert len(winners) == 1
        assert reasons == {Reason.EXISTS}
        assert (folder / name).read_bytes() == winners[0].encode()


async def test_name_that_is_overwritten_by_many_is_always_one_of_them(
    disk: Disk, folder
):
    ids = [SessionId(ID.replace("555}", f"55{n}}}")) for n in range(8)]
    entities = {named: named.encode() * 1000 for named in ids}
    sessions = [await complete(disk, entities[named], id=named) for named in ids]
    await asyncio.gather(*(publish(disk, each, overwrite=True) for each in sessions))

    assert (folder / NAME).read_bytes() in entities.values()


@pytest.mark.parametrize("overwrite", [False, True], ids=["link", "overwrite"])
async def test_no_room_for_the_name_keeps_the_entity(folder, *, overwrite: bool):
    with small_disk(folder, files=30) as full:
        disk = disk_in(full)
        session = await complete(disk)
        fillers = use_up_names(full)
        with failed(errno.ENOSPC):
            await publish(disk, session, overwrite=overwrite)
        assert not (full / NAME).exists()
        fillers[0].unlink()
        await publish(disk, await load(disk, ID), overwrite=overwrite)

        assert (full / NAME).read_bytes() == HELD


FAILING_PUBLISH = """
import asyncio, errno, sys
from pathlib import Path
from store_kit import ID, disk_in, load, publish

async def main():
    disk = disk_in(Path(sys.argv[1]), durable=sys.argv[2] == "True")
    try:
        await publish(disk, await load(disk, ID), overwrite=False)
    except OSError as error:
        print(errno.errorcode[error.errno])

asyncio.run(main())
"""


async def test_entity_whose_sync_failed_is_not_published(folder):
    disk = disk_in(folder, durable=False)
    await complete(disk)
    child = (FAILING_PUBLISH, folder, False)

    said = await asyncio.to_thread(run_child, *child, under=failing("fdatasync"))
    assert said == "EIO"
    assert not (folder / NAME).exists()
    # A second sync would succeed without the bytes being there.
    assert disk.request(ID).read_bytes() == b""


async def test_published_file_outlives_a_sync_that_fails_later(folder):
    disk = disk_in(folder, durable=False)
    await publish(disk, await complete(disk), overwrite=False)
    # As after a crash before the record said so: the last fragment comes again.
    child = (FAILING_PUBLISH, folder, False)
    await asyncio.to_thread(run_child, *child, under=failing("fdatasync"))

    assert (folder / NAME).read_bytes() == HELD


UNLOCKABLE = """
import asyncio, errno, sys
from pathlib import Path
from store_kit import ID, disk_in, handles

async def main():
    disk = disk_in(Path(sys.argv[1]))
    before = handles()
    try:
        await disk.open(ID)
    except OSError as error:
        print(errno.errorcode[error.errno], handles() == before)

asyncio.run(main())
"""


async def test_lock_that_fails_leaves_no_handle_open(folder):
    disk_in(folder).create(new_session())
    child = (UNLOCKABLE, folder)

    said = await asyncio.to_thread(run_child, *child, under=failing("flock"))
    assert said == "EIO True"


# The destination before anything is uploaded.


@pytest.mark.parametrize(
    ("name", "overwrite", "reason"),
    [
        pytest.param("a file", False, Reason.EXISTS, id="file"),
        pytest.param("a link", False, Reason.EXISTS, id="link to nothing"),
        pytest.param("a folder", False, Reason.IS_A_FOLDER, id="folder"),
        pytest.param("a folder", True, Reason.IS_A_FOLDER, id="folder, overwrite"),
        pytest.param("missing/x", False, Reason.NO_FOLDER, id="no parent"),
        pytest.param("a file/x", True, Reason.NO_FOLDER, id="file as the parent"),
        pytest.param("../x", True, Reason.NO_FOLDER, id="outside"),
    ],
)
def test_destination_that_could_not_be_published_is_refused(
    disk: Disk, folder: Path, name: str, *, overwrite: bool, reason: Reason
):
    (folder / "a file").touch()
    (folder / "a folder").mkdir()
    (folder / "a link").symlink_to("nothing")

    with refused(reason):
        disk.check_destination(Destination(name), overwrite=overwrite)


@pytest.mark.parametrize(
    ("name", "overwrite"),
    [("new", False), ("new", True), ("a file", True), ("a link", True)],
)
def test_destination_that_could_be_published_is_taken(
    disk: Disk, folder: Path, name: str, *, overwrite: bool
):
    (folder / "a file").touch()
    (folder / "a link").symlink_to("nothing")
    disk.check_destination(Destination(name), overwrite=overwrite)

    assert not (folder / "new").exists()


def test_disk_that_is_read_only_for_a_while_is_no_reason_to_give_up(folder: Path):
    with small_disk(folder) as full:
        disk = disk_in(full)
        remount(full, "ro")
        with failed(errno.EROFS):
            disk.check_destination(NAME, overwrite=True)


FORBIDDEN = """
import sys
from pathlib import Path
from bitsd.destination import Folder
from bitsd.disk import Disk
from bitsd.protocol.refusal import Refusal
from bitsd.protocol.session import Destination

for name in sys.argv[2:]:
    try:
        Disk(Folder(Path(sys.argv[1]))).check_destination(
            Destination(name), overwrite=True
        )
    except Refusal as refusal:
        print(refusal.reason.name, end=" ")
"""


def test_folder_that_may_not_be_written_is_refused(folder: Path):
    disk_in(folder)
    (folder / "locked").mkdir(mode=0o555)
    (folder / "secret").mkdir(mode=0o000)
    child = (FORBIDDEN, folder, "locked/a", "secret/a", "a")

    assert run_child(*child, under=as_anybody()) == "ACCESS_DENIED ACCESS_DENIED"


def test_free_space_is_that_of_the_folder(folder: Path):
    with small_disk(folder, size="64k") as full:
        disk = disk_in(full)
        before = disk.free()
        fill(full)

        assert 0 < before <= 65536
        assert disk.free() == 0


# The end of a session, and what crashes leave.


async def test_deleted_session_is_gone_and_its_published_file_is_not(
    disk: Disk, folder
):
    await publish(disk, await complete(disk), overwrite=False)
    disk.response(ID).write_bytes(b"reply")
    await disk.delete(ID)

    assert in_sessions(folder) == set()
    assert (folder / NAME).read_bytes() == HELD


async def test_file_of_a_deleted_session_is_closed_where_it_was_deleted(disk: Disk):
    """Not on the event loop, which would wait for its blocks to be freed."""
    await held(disk, HELD, new_session(total=100))
    before, entity = handles(), await disk.open(ID)
    disk.remove(ID, entity)
    assert handles() == before
    entity.close()

    assert handles() == before


async def test_session_may_be_deleted_again(disk: Disk, folder):
    disk.create(new_session())
    await disk.delete(ID)
    await disk.delete(ID)

    assert in_sessions(folder) == set()


async def test_ids_are_those_that_could_be_ours(disk: Disk, folder):
    disk.create(new_session())
    sessions = folder / "BITS-Sessions"
    for name in ("new-" + OTHER, OTHER.lower(), OTHER.strip("{}"), "readme.txt"):
        (sessions / name).mkdir()

    assert list(disk.ids()) == [ID]


OLD = datetime(2024, 1, 1, tzinfo=UTC)


def litter(sessions: Path, name: str, *files: str) -> Path:
    path = sessions / name
    path.mkdir()
    for file in files:
        (path / file).write_bytes(b"abc")
    os.utime(path, (OLD.timestamp(), OLD.timestamp()))
    return path


@pytest.mark.parametrize(
    ("name", "files"),
    [
        pytest.param(OTHER, ("request", "response"), id="no longer one"),
        pytest.param(OTHER, ("request", "session.json.new"), id="not yet one"),
        pytest.param(OTHER, (), id="empty"),
    ],
)
async def test_what_is_no_session_goes_when_it_is_old(
    disk: Disk, folder, name: str, files: tuple[str, ...]
):
    disk.create(new_session())
    litter(folder / "BITS-Sessions", name, *files)
    list(disk.clean(OLD))
    assert in_sessions(folder) == {ID, name}

    list(disk.clean(OLD + timedelta(seconds=1)))
    assert in_sessions(folder) == {ID}


async def test_closed_session_is_remembered_until_that_is_old(disk: Disk, folder):
    await publish(disk, await complete(disk), overwrite=True)
    with pytest.raises(SessionNotFound):
        disk.closed(ID)
    await disk.bury(await disk.open(ID))
    assert disk.closed(ID).destination == NAME
    assert list(disk.ids()) == []
    list(disk.clean(datetime.now(UTC) - timedelta(minutes=1)))
    assert disk.closed(ID).destination == NAME
    list(disk.clean(datetime.now(UTC) + timedelta(minutes=1)))

    assert in_sessions(folder) == set()
    assert (folder / NAME).read_bytes() == HELD


@pytest.mark.parametrize("name", ["notes", "closed-notes", "lost+found"])
def test_what_is_not_ours_stays(disk: Disk, folder: Path, name: str):
    litter(folder / "BITS-Sessions", name, "request")
    list(disk.clean(OLD + timedelta(days=1000)))

    assert in_sessions(folder) == {name}


async def test_old_session_is_no_litter(disk: Disk, folder):
    litter(folder / "BITS-Sessions", ID, "request", "session.json")
    list(disk.clean(OLD + timedelta(days=1000)))

    assert in_sessions(folder) == {ID}


def test_files_and_links_are_no_litter(disk: Disk, folder: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "BITS-Sessions" / ID).write_bytes(b"abc")
    (folder / "BITS-Sessions" / OTHER).symlink_to(elsewhere)
    list(disk.clean(datetime.now(UTC) + timedelta(days=1)))

    assert in_sessions(folder) == {ID, OTHER}
    assert elsewhere.exists()


def test_what_goes_while_it_is_looked_at_is_no_litter(disk: Disk, folder: Path):
    sessions = folder / "BITS-Sessions"
    for each in (ID, OTHER):
        litter(sessions, each)
    cleaning = disk.clean(OLD + timedelta(days=1000))
    next(cleaning)
    [other] = in_sessions(folder)
    (sessions / other).rmdir()

    assert list(cleaning) == [None]


def test_litter_that_cannot_be_removed_is_told_and_the_rest_is(
    disk: Disk, folder: Path
):
    sessions = folder / "BITS-Sessions"
    for each in (ID, OTHER):
        litter(sessions, each).joinpath("mounted").mkdir()
    later = datetime.now(UTC) + timedelta(days=1)
    with small_disk(sessions / ID / "mounted"):
        told = list(disk.clean(later))
        left = in_sessions(folder)

    assert left == {ID}
    assert [error.errno for error in told if error] == [errno.EBUSY]


def test_closed_sessions_are_remembered_up_to_a_number(folder: Path):
    sessions = folder / "BITS-Sessions"
    sessions.mkdir()
    for age, number in enumerate((3, 1, 4, 2, 5)):
        path = sessions / f"closed-{{{number:08X}{ID[9:]}"
        path.touch()
        os.utime(path, (OLD.timestamp() - age,) * 2)
    steps = list(clean(sessions, OLD - timedelta(days=1), 2))

    assert len(steps) == 5
    assert {name[15] for name in in_sessions(folder)} == {"3", "1"}


async def test_reply_is_there_or_not(disk: Disk):
    disk.create(new_session())
    with pytest.raises(FileNotFoundError):
        disk.open_response(ID)
    disk.response(ID).write_bytes(b"reply")
    with disk.open_response(ID) as file:
        assert file.read() == b"reply"


async def test_reply_can_be_read_while_the_disk_is_read_only(folder):
    with small_disk(folder) as full:
        disk = disk_in(full)
        disk.create(new_session())
        disk.response(ID).write_bytes(b"reply")
        remount(full, "ro")
        with disk.open_response(ID) as file:
            assert file.read() == b"reply"


# What a client is told.


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, Reason.DISK_FULL),
        (errno.EDQUOT, Reason.DISK_FULL),
        (errno.EFBIG, Reason.TOO_LARGE),
        (errno.EXDEV, Reason.ACCESS_DENIED),
        # Of the server's own folders; those of clients' files have their own answer.
        (errno.EACCES, Reason.STORAGE_FAILED),
        (errno.EPERM, Reason.STORAGE_FAILED),
        (errno.ENAMETOOLONG, Reason.MALFORMED),
        (errno.EIO, Reason.STORAGE_FAILED),
        (errno.EROFS, Reason.STORAGE_FAILED),
        (errno.EMFILE, Reason.STORAGE_FAILED),
        (errno.ENOENT, Reason.STORAGE_FAILED),
        (None, Reason.STORAGE_FAILED),
        (99999, Reason.STORAGE_FAILED),
    ],
)
def test_client_is_told_of_the_storage(number: int | None, reason: Reason):
    error = OSError("why") if number is None else OSError(number, "why", "/a/path")
    refusal = refusal_of(error)

    assert refusal.reason is reason
    assert "why" in refusal.detail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_operator_is_told_the_name_of_the_error(number: int):
    assert refusal_of(OSError(number, "why")).detail.startswith(errno.errorcode[number])


def test_state_is_kept_by_saving(folder: Path):
    # `record` holds each field; here that it is the session's own record.
    disk = disk_in(folder)
    session = new_session(total=0, state=State.WAIT_FOR_CLOSE, reply_url="http://x/")
    disk.create(new_session())
    asyncio.run(save(disk, session))

    assert record.read(disk.request(ID).parent)[0].reply_url == "http://x/"
    assert disk.read(ID).state is State.WAIT_FOR_CLOSE
