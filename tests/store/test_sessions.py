"""The table of one directory's sessions, without HTTP in front of it."""

import asyncio
import errno
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from listening import listening
from sites import Application
from store_kit import (
    NAME,
    URL,
    Chunks,
    Uploads,
    caller,
    failed,
    fill,
    refused,
    small_disk,
    use_up_names,
)

from bitsd import journal
from bitsd.batches import BATCH
from bitsd.caller import Caller
from bitsd.protocol.refusal import Reason
from bitsd.protocol.wire import CancelSession, SessionId
from bitsd.sessions import LITTER_AGE, Sessions

ENTITY = bytes(range(250)) * 400
HELD = 10_000
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
NOBODY = SessionId("{DEADBEEF-0000-4000-8000-000000000001}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "in"


@pytest.fixture
async def uploads(folder: Path) -> Uploads:
    return await Uploads.open(folder)


def left_alone_since(home: Path, time: float) -> None:
    for path in (*home.iterdir(), home):
        os.utime(path, (time, time))


# An upload from its beginning to its end.


async def test_upload_is_published_with_its_last_fragment(uploads: Uploads):
    named = await uploads.create()
    first = await uploads.send(named, ENTITY[:HELD], total=len(ENTITY))
    assert first.received == HELD
    assert not (uploads.folder / NAME).exists()
    last = await uploads.send(named, ENTITY[HELD:], first=HELD)
    assert last.received == len(ENTITY)
    assert (uploads.folder / NAME).read_bytes() == ENTITY
    closed = await uploads.close(named)

    assert (closed.status, closed.session_id) == (200, named)
    assert uploads.on_disk == set()


@pytest.mark.parametrize(
    ("host_id", "told"), [(None, (None, None)), ("[fe80::2]", ("[fe80::2]", 90))]
)
async def test_host_id_comes_with_its_timeout(folder, host_id, told):
    uploads = await Uploads.open(
        folder, host_id=host_id, host_id_fallback_timeout=90 * SECOND
    )
    ack = await uploads.sessions.create(caller(), URL)

    assert (ack.host_id, ack.host_id_fallback_timeout) == told


async def test_short_body_is_kept_and_told(uploads: Uploads):
    named = await uploads.create()
    with refused(Reason.CUT_OFF):
        await uploads.send(named, ENTITY, body=Chunks(ENTITY[:HELD]))

    ack = await uploads.send(named, ENTITY[HELD:], first=HELD)
    assert ack.received == len(ENTITY)


async def test_stopping_ends_bodies_and_keeps_what_came(uploads: Uploads):
    named = await uploads.create()
    body = Chunks(ENTITY[:HELD], stalls=True)
    task = asyncio.create_task(uploads.send(named, ENTITY, body=body))
    await body.arrived.wait()
    uploads.sessions.stop()
    with refused(Reason.STOPPING):
        await task

    assert (uploads.home(named) / "request").read_bytes() == ENTITY[:HELD]


async def test_newer_packet_waits_until_the_older_ones_bytes_are_stored(
    uploads: Uploads,
):
    named = await uploads.create()
    body = Chunks(ENTITY[:HELD], stalls=True)
    older = asyncio.create_task(uploads.send(named, ENTITY, body=body))
    await body.arrived.wait()
    newer = await uploads.send(named, ENTITY)
    with refused(Reason.SUPERSEDED):
        await older

    assert newer.received == len(ENTITY)
    assert (uploads.folder / NAME).read_bytes() == ENTITY


async def test_session_expires_if_no_byte_comes_however_often_one_is_promised(
    uploads: Uploads,
):
    named = await uploads.create()
    with refused(Reason.CUT_OFF):
        await uploads.send(named, ENTITY, body=Chunks())
    old = (uploads.clock.now - 13 * DAY).timestamp()
    for name in ("request", "session.json"):
        os.utime(uploads.home(named) / name, (old, old))
    with refused(Reason.CUT_OFF):
        await uploads.send(named, ENTITY, body=Chunks())
    uploads.clock.forward(2 * DAY)

    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.send(named, ENTITY)


async def test_reply_of_an_unknown_session_is_refused(uploads: Uploads):
    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.sessions.reply(NOBODY, None)


async def test_entity_over_the_limit_frees_its_session(folder):
    uploads = await Uploads.open(folder, maximum_upload_size=100, sessions_per_user=1)
    named = await uploads.create()
    with refused(Reason.TOO_LARGE):
        await uploads.send(named, b"abc", total=101)

    assert await uploads.create() != named


async def test_gap_is_refused_and_the_session_stays(uploads: Uploads):
    named = await uploads.create()
    with refused(Reason.OUT_OF_SYNC) as caught:
        await uploads.send(named, b"abc", first=5)

    assert caught.value.received == 0
    assert uploads.on_disk == {named}


# Whom a session counts for, and how many there may be.


async def test_session_over_the_limit_is_refused_and_none_is_deleted(folder):
    uploads = await Uploads.open(folder, sessions_per_user=3)
    ids = {await uploads.create() for _ in range(3)}
    with refused(Reason.TOO_MANY_SESSIONS):
        await uploads.create()

    assert uploads.on_disk == ids


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param((None, "1"), (None, "1"), True, id="one address"),
        pytest.param((None, "1"), (None, "2"), False, id="two addresses"),
        pytest.param(("alice", "1"), ("alice", "2"), True, id="user moves"),
        pytest.param(("alice", "1"), ("bob", "1"), False, id="users at one address"),
        pytest.param(("alice", "1"), (None, "1"), False, id="user and anonymous"),
        pytest.param(("1", "2"), (None, "1"), False, id="user named as an address"),
    ],
)
async def test_sessions_count_for_a_user_or_an_address(
    folder, first: tuple[str | None, str], second: tuple, *, same: bool
):
    uploads = await Uploads.open(folder, sessions_per_user=1)
    await uploads.create(caller(user=first[0], address=first[1]))
    another = caller(user=second[0], address=second[1])
    if same:
        with refused(Reason.TOO_MANY_SESSIONS):
            await uploads.create(another)
    else:
        assert await uploads.create(another)


async def test_sessions_asked_for_at_once_are_counted(folder):
    uploads = await Uploads.open(folder, sessions_per_user=3)
    outcomes = await asyncio.gather(
        *(uploads.create() for _ in range(10)), return_exceptions=True
    )
    reasons = [getattr(outcome, "reason", None) for outcome in outcomes]

    assert reasons.count(None) == 3
    assert reasons.count(Reason.TOO_MANY_SESSIONS) == 7
    assert len(uploads.on_disk) == 3


@pytest.mark.parametrize("end", ["close", "cancel", "early close", "expiry", "no room"])
async def test_end_of_a_session_makes_room_for_another(folder, end: str):
    uploads = await Uploads.open(folder, sessions_per_user=1)
    named = await uploads.create()
    match end:
        case "close":
            await uploads.send(named, b"abc")
            await uploads.close(named)
        case "cancel":
            await uploads.cancel(named)
        case "early close":
            with refused(Reason.MALFORMED):
                await uploads.close(named)
        case "expiry":
            uploads.clock.forward(15 * DAY)
            await uploads.sessions.expire()
        case "no room":
            (uploads.home(named) / "request").unlink()
            with refused(Reason.SESSION_NOT_FOUND):
                await uploads.cancel(named)

    assert await uploads.create(caller("other.dat"))


async def test_refused_session_is_not_counted(folder):
    uploads = await Uploads.open(folder, sessions_per_user=1)
    for _ in range(3):
        with refused(Reason.NO_FOLDER):
            await uploads.create(caller("missing/x"))

    assert await uploads.create()


async def test_session_that_could_not_be_made_is_not_counted(folder):
    folder.mkdir()
    with small_disk(folder) as full:
        uploads = await Uploads.open(full, sessions_per_user=1)
        filler = fill(full)
        with failed(errno.ENOSPC):
            await uploads.create()
        assert uploads.on_disk == set()
        filler.unlink()

        assert await uploads.create()


async def test_session_that_an_administrator_removed_makes_room(folder):
    uploads = await Uploads.open(folder, sessions_per_user=1)
    named = await uploads.create()
    shutil.rmtree(uploads.home(named))
    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.cancel(named)

    assert await uploads.create()


async def test_session_that_vanished_makes_room_when_there_is_none(folder):
    uploads = await Uploads.open(folder, sessions_per_user=2)
    kept, vanished = await uploads.create(), await uploads.create()
    shutil.rmtree(uploads.home(vanished))
    made = await uploads.create()
    with refused(Reason.TOO_MANY_SESSIONS):
        await uploads.create()

    assert uploads.on_disk == {kept, made}


async def test_session_that_is_made_during_a_sweep_counts(folder):
    uploads = await Uploads.open(folder, sessions_per_user=20)
    for _ in range(20):
        await asyncio.gather(uploads.create(), uploads.sessions.expire())

    with refused(Reason.TOO_MANY_SESSIONS):
        await uploads.create()


async def test_session_that_could_not_be_removed_whole_makes_room(folder):
    uploads = await Uploads.open(folder, sessions_per_user=1)
    named = await uploads.create()
    # What is mounted cannot be removed, by anyone.
    with small_disk(uploads.home(named) / "busy"), failed(errno.EBUSY):
        await uploads.cancel(named)
    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.cancel(named)

    assert await uploads.create()


async def test_too_little_space_is_told_before_anything_is_uploaded(folder):
    uploads = await Uploads.open(folder, minimum_free_space=2**62)
    with refused(Reason.LOW_SPACE):
        await uploads.create()

    assert uploads.on_disk == set()


async def test_little_space_is_for_the_sessions_that_there_are(folder):
    folder.mkdir()
    with small_disk(folder, size="256k") as full:
        uploads = await Uploads.open(full, minimum_free_space=128 * 1024)
        named = await uploads.create()
        filler = fill(full, leave=127 * 1024 // 4096 * 4096)
        with refused(Reason.LOW_SPACE):
            await uploads.create()
        ack = await uploads.send(named, ENTITY)
        filler.unlink()

        assert ack.received == len(ENTITY)
        assert await uploads.create(caller("other.dat"))


# Whose a session is.

OWNER = caller(user="alice")


@pytest.mark.parametrize("verb", ["send", "close", "cancel"])
@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(caller(user="bob"), id="other user"),
        pytest.param(caller(), id="anonymous"),
        pytest.param(caller("other.dat", user="alice"), id="other URL"),
        pytest.param(caller("REPORT.dat", user="alice"), id="other case"),
    ],
)
async def test_session_does_not_exist_for_others(
    uploads: Uploads, verb: str, stranger: Caller
):
    named = await uploads.create(OWNER)
    with refused(Reason.SESSION_NOT_FOUND):
        match verb:
            case "send":
                await uploads.send(named, b"abc", sender=stranger)
            case "close":
                await uploads.close(named, stranger)
            case "cancel":
                await uploads.cancel(named, stranger)

    ack = await uploads.send(named, ENTITY, sender=OWNER)
    assert ack.received == len(ENTITY)


async def test_owner_may_come_from_elsewhere(uploads: Uploads):
    named = await uploads.create(OWNER)
    moved = caller(user="alice", address="192.0.2.99")

    ack = await uploads.send(named, ENTITY, sender=moved)
    assert ack.received == len(ENTITY)


@pytest.mark.parametrize("verb", ["send", "close", "cancel"])
async def test_unknown_session_is_told(uploads: Uploads, verb: str):
    with refused(Reason.SESSION_NOT_FOUND):
        match verb:
            case "send":
                await uploads.send(NOBODY, b"abc")
            case "close":
                await uploads.close(NOBODY)
            case "cancel":
                await uploads.cancel(NOBODY)


# Closing, and closing again.


@pytest.mark.parametrize(
    ("again", "known"),
    [
        pytest.param(OWNER, True, id="the closer"),
        pytest.param(caller(user="bob"), False, id="other user"),
        pytest.param(caller("other.dat", user="alice"), False, id="other URL"),
    ],
)
async def test_close_comes_again_for_the_closer_only(
    uploads: Uploads, again: Caller, *, known: bool
):
    named = await uploads.create(OWNER)
    await uploads.send(named, b"abc", sender=OWNER)
    await uploads.close(named, OWNER)
    if known:
        assert (await uploads.close(named, again)).session_id == named
    else:
        with refused(Reason.SESSION_NOT_FOUND):
            await uploads.close(named, again)


@pytest.mark.parametrize("end", ["cancel", "early close"])
async def test_session_that_was_given_up_is_not_closed_again(
    uploads: Uploads, end: str
):
    named = await uploads.create()
    if end == "cancel":
        await uploads.cancel(named)
    else:
        with refused(Reason.MALFORMED):
            await uploads.close(named)

    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.close(named)


async def test_closed_session_is_remembered_after_a_restart_and_not_for_ever(
    uploads: Uploads,
):
    named = await uploads.create()
    await uploads.send(named, b"abc")
    await uploads.close(named)
    await uploads.restart()
    assert (await uploads.close(named)).status == 200
    uploads.clock.forward(LITTER_AGE + timedelta(seconds=1))
    await uploads.sessions.expire()

    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.close(named)
    assert not uploads.graves


@pytest.mark.parametrize(
    ("complete", "verb", "reason"),
    [
        (True, "close", Reason.ENTITY_GONE),
        (False, "close", Reason.ENTITY_GONE),
        (True, "cancel", Reason.SESSION_NOT_FOUND),
        (True, "send", Reason.SESSION_NOT_FOUND),
    ],
)
async def test_session_that_lost_its_bytes_ends(
    uploads: Uploads, *, complete: bool, verb: str, reason: Reason
):
    named = await uploads.create()
    await uploads.send(named, b"abc", total=3 if complete else 5)
    (uploads.home(named) / "request").unlink()
    with refused(reason):
        match verb:
            case "send":
                await uploads.send(named, b"abc")
            case "close":
                await uploads.close(named)
            case "cancel":
                await uploads.cancel(named)

    assert uploads.on_disk == set()
    assert (uploads.folder / NAME).exists() is complete


# Time.

EPOCH_SECONDS = 1_700_000_000


@pytest.mark.parametrize(
    ("idle", "there"),
    [
        pytest.param(14 * DAY - SECOND, True, id="a second before"),
        pytest.param(14 * DAY, True, id="in time"),
        pytest.param(14 * DAY + SECOND, False, id="a second after"),
    ],
)
@pytest.mark.parametrize("swept", [True, False], ids=["swept", "met"])
async def test_session_without_progress_expires(
    uploads: Uploads, idle: timedelta, *, there: bool, swept: bool
):
    named = await uploads.create()
    left_alone_since(uploads.home(named), EPOCH_SECONDS)
    uploads.clock.now = uploads.clock.now.fromtimestamp(
        EPOCH_SECONDS, uploads.clock.now.tzinfo
    )
    uploads.clock.forward(idle)
    if swept:
        await uploads.sessions.expire()
        assert (named in uploads.on_disk) is there
    if there:
        assert (await uploads.send(named, b"abc")).received == 3
    else:
        with refused(Reason.SESSION_NOT_FOUND):
            await uploads.send(named, b"abc")
        assert uploads.on_disk == set()


async def test_bytes_are_progress(uploads: Uploads):
    named = await uploads.create()
    left_alone_since(uploads.home(named), EPOCH_SECONDS)
    uploads.clock.now = uploads.clock.now.fromtimestamp(
        EPOCH_SECONDS, uploads.clock.now.tzinfo
    )
    await uploads.send(named, b"abc", total=5)
    uploads.clock.now = uploads.clock.now.now(uploads.clock.now.tzinfo)
    uploads.clock.forward(13 * DAY)
    await uploads.sessions.expire()

    assert uploads.on_disk == {named}


async def test_published_file_outlives_its_session(uploads: Uploads):
    named = await uploads.create()
    await uploads.send(named, ENTITY)
    uploads.clock.forward(15 * DAY)
    await uploads.sessions.expire()

    assert uploads.on_disk == set()
    assert (uploads.folder / NAME).read_bytes() == ENTITY


async def test_session_whose_packet_is_served_does_not_expire(uploads: Uploads):
    named = await uploads.create()
    body = Chunks(ENTITY[:HELD], stalls=True)
    task = asyncio.create_task(uploads.send(named, ENTITY, body=body))
    await body.arrived.wait()
    uploads.clock.forward(15 * DAY)
    await uploads.sessions.expire()
    assert uploads.on_disk == {named}
    uploads.sessions.stop()
    with refused(Reason.STOPPING):
        await task


async def test_session_that_another_process_serves_does_not_expire(uploads: Uploads):
    named = await uploads.create()
    theirs = await uploads.sessions._disk.open(named)
    uploads.clock.forward(15 * DAY)
    await uploads.sessions.expire()
    assert uploads.on_disk == {named}
    theirs.close()
    await uploads.sessions.expire()

    assert uploads.on_disk == set()


async def test_session_that_went_on_since_it_looked_expired_stays(uploads: Uploads):
    named = await uploads.create()
    await uploads.sessions._expire(named, journal.Few("not-removed"))

    assert uploads.on_disk == {named}


async def test_sweeping_cleans_up_after_crashes(uploads: Uploads):
    litter = uploads.home(NOBODY)
    litter.mkdir()
    (litter / "request").write_bytes(b"abc")
    uploads.clock.forward(LITTER_AGE - timedelta(minutes=1))
    await uploads.sessions.expire()
    assert uploads.on_disk == {NOBODY}
    uploads.clock.forward(timedelta(minutes=2))
    await uploads.sessions.expire()

    assert uploads.on_disk == set()


@pytest.mark.parametrize("damage", ["record", "bytes"])
async def test_damaged_session_expires_as_any_other(uploads: Uploads, damage: str):
    named = await uploads.create()
    await uploads.send(named, b"abc", total=5)
    if damage == "record":
        (uploads.home(named) / "session.json").write_bytes(b"")
    else:
        (uploads.home(named) / "request").unlink()
    uploads.clock.forward(400 * DAY)
    await uploads.sessions.expire()

    assert uploads.on_disk == set()


async def test_session_that_cannot_be_removed_does_not_hinder_the_sweep(
    uploads: Uploads,
):
    ids = [await uploads.create(caller(f"{number}.dat")) for number in range(4)]
    uploads.clock.forward(15 * DAY)
    with small_disk(uploads.home(ids[0]) / "a"), small_disk(uploads.home(ids[1]) / "b"):
        await uploads.sessions.expire()
        left = uploads.on_disk

    assert left == {ids[0], ids[1]}


# Starting again.


async def test_sessions_of_an_earlier_run_are_served_before_they_are_counted(folder):
    first = await Uploads.open(folder, sessions_per_user=1)
    named = await first.create()
    again = Sessions(first.sessions.directory)
    await again.open()
    await again.create(caller("second.dat"), URL)
    await again.count()
    await again.count()
    with refused(Reason.TOO_MANY_SESSIONS):
        await again.create(caller("third.dat"), URL)
    await again.cancel(CancelSession(named), caller())
    with refused(Reason.TOO_MANY_SESSIONS):
        await again.create(caller("third.dat"), URL)


async def test_more_sessions_than_a_batch_are_counted_and_expire(folder):
    number = BATCH * 2 + 1
    uploads = await Uploads.open(folder, durability="publish", sessions_per_user=number)
    for _ in range(number):
        await uploads.create()
    uploads.clock.forward(15 * DAY)
    await uploads.sessions.count()
    with refused(Reason.TOO_MANY_SESSIONS):
        await uploads.create()
    await uploads.sessions.expire()

    assert uploads.on_disk == set()


async def test_sessions_are_found_and_counted_after_a_restart(folder):
    first = await Uploads.open(folder, sessions_per_user=2)
    named = await first.create()
    await first.send(named, ENTITY[:HELD], total=len(ENTITY))
    again = await Uploads.open(folder, sessions_per_user=2)
    await again.create(caller("other.dat"))
    with refused(Reason.TOO_MANY_SESSIONS):
        await again.create(caller("third.dat"))

    ack = await again.send(named, ENTITY[HELD:], first=HELD)
    assert ack.received == len(ENTITY)


async def test_litter_is_not_told_as_damaged(folder, caplog):
    first = await Uploads.open(folder)
    first.home(NOBODY).mkdir()
    again = await Uploads.open(folder)

    assert again.on_disk == {NOBODY}
    assert caplog.messages == []


async def test_damaged_session_is_told_and_does_not_hinder_the_start(folder, caplog):
    first = await Uploads.open(folder)
    damaged, whole = await first.create(), await first.create(caller("other.dat"))
    (first.home(damaged) / "session.json").write_bytes(b"{")
    again = await Uploads.open(folder)

    assert any(damaged in message for message in caplog.messages)
    assert not any(whole in message for message in caplog.messages)
    assert (await again.send(whole, b"abc", sender=caller("other.dat"))).received == 3
    with refused(Reason.SESSION_NOT_FOUND):
        await again.send(damaged, b"abc")


@pytest.mark.parametrize("damage", ["not UTF-8", "folder"])
async def test_no_damage_whatever_hinders_the_start(folder, damage: str):
    first = await Uploads.open(folder)
    path = first.home(await first.create()) / "session.json"
    octets = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(octets.replace(b"report.dat", b"\xff.dat"))

    assert (await Uploads.open(folder)).on_disk


@pytest.mark.parametrize("overwrite", [False, True])
async def test_upload_that_was_published_before_a_crash_is_completed_after_it(
    folder, *, overwrite: bool
):
    first = await Uploads.open(folder, overwrite=overwrite)
    named = await first.create()
    before = (first.home(named) / "session.json").read_bytes()
    await first.send(named, ENTITY)
    # As a crash between the name and the record leaves it.
    (first.home(named) / "session.json").write_bytes(before)
    again = await Uploads.open(folder, overwrite=overwrite)
    ack = await again.send(named, ENTITY)
    closed = await again.close(named)

    assert (ack.received, closed.status) == (len(ENTITY), 200)
    assert (folder / NAME).read_bytes() == ENTITY


# Disks that are full, and devices that fail.


async def test_full_disk_while_uploading_keeps_what_was_acknowledged(folder):
    folder.mkdir()
    with small_disk(folder, size="256k") as full:
        uploads = await Uploads.open(full)
        named = await uploads.create()
        await uploads.send(named, ENTITY[:HELD], total=len(ENTITY))
        filler = fill(full, leave=8192)
        with failed(errno.ENOSPC):
            await uploads.send(named, ENTITY[HELD:], first=HELD)
        request = uploads.home(named) / "request"
        assert request.read_bytes() == ENTITY[: request.stat().st_size]
        assert HELD <= request.stat().st_size < len(ENTITY)
        filler.unlink()
        again = await Uploads.open(full)
        ack = await again.send(named, ENTITY)

        assert ack.received == len(ENTITY)
        assert (full / NAME).read_bytes() == ENTITY


async def test_full_disk_at_the_first_fragment_leaves_the_session_usable(folder):
    folder.mkdir()
    with small_disk(folder, size="256k") as full:
        uploads = await Uploads.open(full)
        named = await uploads.create()
        filler = fill(full)
        with failed(errno.ENOSPC):
            await uploads.send(named, ENTITY)
        filler.unlink()
        ack = await uploads.send(named, ENTITY)

        assert ack.received == len(ENTITY)


@pytest.mark.parametrize("overwrite", [False, True], ids=["link", "overwrite"])
async def test_no_room_for_the_name_leaves_the_upload_to_come_again(
    folder, *, overwrite: bool
):
    folder.mkdir()
    with small_disk(folder, size="256k", files=30) as full:
        uploads = await Uploads.open(full, overwrite=overwrite)
        named = await uploads.create()
        await uploads.send(named, ENTITY[:HELD], total=len(ENTITY))
        fillers = use_up_names(full)
        with failed(errno.ENOSPC):
            await uploads.send(named, ENTITY[HELD:], first=HELD)
        assert (uploads.home(named) / "request").read_bytes() == ENTITY
        for filler in fillers:
            filler.unlink()
        ack = await uploads.send(named, ENTITY[HELD:], first=HELD)

        assert ack.received == len(ENTITY)
        assert (full / NAME).read_bytes() == ENTITY


async def test_no_room_for_the_record_of_a_published_file_is_made_up_for(folder):
    folder.mkdir()
    with small_disk(folder, size="256k", files=30) as full:
        uploads = await Uploads.open(full)
        named = await uploads.create()
        await uploads.send(named, ENTITY[:HELD], total=len(ENTITY))
        filler = fill(full, leave=-(-(len(ENTITY) - HELD) // 4096 + 1) * 4096 + 4096)
        request = uploads.home(named) / "request"
        with request.open("ab") as file:  # so that no byte is wanted of the disk
            file.write(ENTITY[HELD:])
        rest = full / "rest"
        rest.touch()
        fill(full)
        with failed(errno.ENOSPC):
            await uploads.send(named, ENTITY)
        assert (full / NAME).read_bytes() == ENTITY
        filler.unlink()
        ack = await uploads.send(named, ENTITY)

        assert ack.received == len(ENTITY)
        assert (await uploads.close(named)).status == 200


async def test_acknowledged_bytes_outlive_a_record_that_had_room_in_part(folder):
    folder.mkdir()
    url = "http://test/in/report.dat?" + "x" * 6000
    with small_disk(folder, size="256k") as full:
        uploads = await Uploads.open(full)
        named = await uploads.create(url=url)
        filler = fill(full, leave=4096)
        with failed(errno.ENOSPC):
            await uploads.send(named, ENTITY[:3], total=len(ENTITY))
        filler.unlink()
        ack = await uploads.send(named, ENTITY)

        assert ack.received == len(ENTITY)


# What the application says.


@pytest.fixture
def notifying(application: Application, folder: Path):
    async def opened(notification: str = "by-reference", **settings) -> Uploads:
        return await Uploads.open(
            folder,
            notification=notification,
            notification_url=application.url,
            **settings,
        )

    return opened


@pytest.mark.parametrize(
    ("url", "host_id", "origin"),
    [
        pytest.param("http://h/in/report.dat", None, "http://h", id="host"),
        pytest.param("http://h:81/in/report.dat?q=1", None, "http://h:81", id="port"),
        pytest.param("https://[::1]:81/in/x", None, "https://[::1]:81", id="IPv6"),
        pytest.param("http://h/in/x", "node3", "http://node3", id="host id"),
        pytest.param("http://h:81/in/x", "node3", "http://node3:81", id="its port"),
        pytest.param(
            "https://[::1]:81/in/x", "[fe80::2]", "https://[fe80::2]:81", id="IPv6 id"
        ),
        pytest.param("http://[::1]/in/x", "node3", "http://node3", id="IPv6 to a name"),
    ],
)
async def test_reply_is_at_this_node(
    application: Application, notifying, url: str, host_id: str | None, origin: str
):
    application.file = b"reply"
    uploads = await notifying(host_id=host_id)
    named = await uploads.create(url=url)
    ack = await uploads.send(named, ENTITY)
    quoted = named.replace("{", "%7B").replace("}", "%7D")

    assert ack.reply_url == f"{origin}/in/BITS-Replies/{quoted}"


@pytest.mark.parametrize(
    ("directory", "path"),
    [("/", "/"), ("/in/", "/in/"), ("/\u00e9 /x", "/%C3%A9%20/x/")],
    ids=ascii,
)
async def test_reply_is_below_the_url_of_its_directory(
    application: Application, notifying, directory: str, path: str
):
    application.file = b"reply"
    uploads = await notifying(url=directory)
    named = await uploads.create()
    ack = await uploads.send(named, ENTITY)

    assert ack.reply_url.startswith(f"http://test{path}BITS-Replies/%7B")


async def replied(application: Application, notifying) -> tuple[Uploads, SessionId]:
    application.file = b"reply"
    uploads = await notifying()
    named = await uploads.create(OWNER)
    await uploads.send(named, ENTITY, sender=OWNER)
    return uploads, named


async def test_reply_is_for_the_user_of_its_session(application, notifying):
    uploads, named = await replied(application, notifying)
    for stranger in (None, "bob"):
        with refused(Reason.SESSION_NOT_FOUND):
            await uploads.sessions.reply(named, stranger)
    with await uploads.sessions.reply(named, "alice") as file:
        assert file.read() == b"reply"


async def test_reading_the_reply_is_progress(application, notifying):
    uploads, named = await replied(application, notifying)
    left_alone_since(uploads.home(named), EPOCH_SECONDS)
    uploads.clock.now = uploads.clock.now.fromtimestamp(
        EPOCH_SECONDS, uploads.clock.now.tzinfo
    )
    (await uploads.sessions.reply(named, "alice")).close()
    modified = (uploads.home(named) / "session.json").stat().st_mtime

    assert modified > EPOCH_SECONDS


async def test_reply_expires_with_its_session(application, notifying):
    uploads, named = await replied(application, notifying)
    uploads.clock.forward(15 * DAY)
    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.sessions.reply(named, "alice")
    await uploads.sessions.expire()

    assert uploads.on_disk == set()


async def test_session_without_a_reply_has_none(uploads: Uploads):
    named = await uploads.create()
    with pytest.raises(FileNotFoundError):
        await uploads.sessions.reply(named, None)


@pytest.mark.parametrize("length", [2200, 2201])
async def test_reply_url_has_a_longest(
    application: Application, notifying, length: int
):
    url = "http://app/".ljust(length, "x")
    application.headers = {"BITS-Static-Response-URL": url}
    uploads = await notifying()
    named = await uploads.create()
    if length > 2200:
        with refused(Reason.REPLY_URL_TOO_LONG):
            await uploads.send(named, ENTITY)
    else:
        assert (await uploads.send(named, ENTITY)).reply_url == url


async def test_refusal_for_good_is_remembered_over_a_restart(
    application: Application, notifying
):
    application.status = 403
    uploads = await notifying()
    named = await uploads.create()
    for _ in range(2):
        with refused(Reason.APPLICATION_FAILED) as caught:
            await uploads.send(named, ENTITY)
        assert caught.value.status == 403
        uploads = await notifying()

    assert len(application.told) == 1
    assert not (uploads.folder / NAME).exists()


@pytest.mark.parametrize("status", [404, 500, 503])
async def test_other_refusals_let_the_client_come_again(
    application: Application, notifying, status: int
):
    application.status = status
    uploads = await notifying()
    named = await uploads.create()
    with refused(Reason.APPLICATION_FAILED):
        await uploads.send(named, ENTITY)
    application.status = 200
    application.headers = {"BITS-Copy-File-To-Destination": ""}
    ack = await uploads.send(named, ENTITY)

    assert (ack.received, len(application.told)) == (len(ENTITY), 2)
    assert (uploads.folder / NAME).read_bytes() == ENTITY


async def test_application_that_wants_no_copy_keeps_the_name_free(
    application: Application, notifying
):
    uploads = await notifying()
    named = await uploads.create()
    ack = await uploads.send(named, ENTITY)
    again = await uploads.send(named, ENTITY)

    assert ack == again
    assert len(application.told) == 1
    assert not (uploads.folder / NAME).exists()


async def test_reply_url_that_is_no_text_is_a_fault_of_the_application(folder):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
            b"BITS-Static-Response-URL: http://app/\xff\r\n\r\n"
        )
        await writer.drain()

    async with listening(answer) as port:
        uploads = await Uploads.open(
            folder,
            notification="by-reference",
            notification_url=f"http://127.0.0.1:{port}/",
        )
        named = await uploads.create()
        with refused(Reason.REPLY_MALFORMED):
            await uploads.send(named, ENTITY)


# Room for all of them.


async def begun(uploads: Uploads, octets: int, total: int, **facts) -> SessionId:
    """An upload of `total` bytes, some of which came."""
    named = await uploads.create(caller(f"{total}.dat"))
    await uploads.send(
        named, bytes(octets), total=total, sender=caller(f"{total}.dat"), **facts
    )
    return named


async def test_upload_that_has_no_room_waits_until_another_is_published(folder):
    uploads = await Uploads.open(folder, maximum_spool_size=100)
    first = await begun(uploads, 10, 60)
    second = await uploads.create()
    with refused(Reason.SPOOL_FULL):
        await uploads.send(second, bytes(10), total=50)
    await uploads.send(first, bytes(50), first=10, sender=caller("60.dat"))
    await uploads.send(second, bytes(10), total=50)

    assert uploads.on_disk == {first, second}


@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_upload_that_is_given_up_makes_room(folder, end: str):
    uploads = await Uploads.open(folder, maximum_spool_size=100)
    first = await begun(uploads, 10, 100)
    if end == "cancel":
        await uploads.cancel(first, caller("100.dat"))
    else:
        with refused(Reason.MALFORMED):
            await uploads.close(first, caller("100.dat"))

    await begun(uploads, 10, 99)


async def test_upload_that_somebody_removed_takes_up_no_room(folder):
    uploads = await Uploads.open(folder, maximum_spool_size=100)
    shutil.rmtree(uploads.home(await begun(uploads, 10, 100)))

    await begun(uploads, 10, 99)


async def test_uploads_of_an_earlier_run_take_up_room(folder):
    uploads = await Uploads.open(folder)
    first = await begun(uploads, 10, 60)
    await begun(uploads, 40, 40)
    uploads = await Uploads.open(folder, maximum_spool_size=100)
    with refused(Reason.SPOOL_FULL):
        await begun(uploads, 10, 50)
    await uploads.send(first, bytes(50), first=10, sender=caller("60.dat"))
    await begun(uploads, 10, 51)


async def test_upload_larger_than_all_the_room_is_refused_for_good(folder):
    uploads = await Uploads.open(
        folder, maximum_spool_size=100, maximum_upload_size=200
    )
    with refused(Reason.TOO_LARGE):
        await begun(uploads, 10, 101)

    assert uploads.on_disk == set()
