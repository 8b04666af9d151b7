"""What somebody did to BITS-Sessions by hand: it is told, and the others go on."""

import asyncio
import os
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from processes import is_one_line
from store_kit import (
    ID,
    OTHER,
    PATIENCE,
    Uploads,
    as_anybody,
    caller,
    cannot_run,
    handles,
    refused,
    run_child,
)

from bitsd import record
from bitsd.journal import FEW
from bitsd.protocol.refusal import Reason
from bitsd.protocol.wire import SessionId
from bitsd.record import SessionDamaged

WHOLE = caller("whole.dat")
LONG = timedelta(days=400)
GIGABYTE = 1 << 30

CONFIG = """
[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/in"
path = "in"
upload = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "in"


Damage = Callable[[Path], None]


def in_place_of(name: str, put: Damage) -> Damage:
    """Something else where a file was."""

    def damage(home: Path) -> None:
        (home / name).unlink()
        put(home / name)

    return damage


def holding(octets: bytes) -> Damage:
    return lambda path: path.write_bytes(octets) and None


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, GIGABYTE)


def folder_with_a_file(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_a_copy(path: Path) -> None:
    copy = path.parents[3] / "copy"
    other = next(path.parents[1].glob(f"*/{path.name}"))
    copy.write_bytes(other.read_bytes())
    path.symlink_to(copy)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        # Its address has to be short, and so has the path to it.
        handle = os.open(path.parent, os.O_PATH)
        listening.bind(f"/proc/self/fd/{handle}/{path.name}")
        os.close(handle)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o20666, os.makedev(1, 3))  # as /dev/null
    except PermissionError:
        cannot_run("making a device needs root")


def longer(home: Path) -> None:
    with (home / "request").open("ab") as file:
        file.write(bytes(100))


SOMETHING_ELSE = {
    "pipe": os.mkfifo,
    "folder": folder_with_a_file,
    "link to itself": link_to_itself,
    "link to a file": link_to_a_copy,
    "socket": bound_socket,
    "device": device,
}

DAMAGES: dict[str, Damage] = {
    "record, empty": in_place_of(record.FILE, Path.touch),
    "record, truncated": in_place_of(record.FILE, holding(b'{"format":1,"dest')),
    "record, other JSON": in_place_of(record.FILE, holding(b'{"a": [1, 2]}')),
    "record, binary": in_place_of(record.FILE, holding(bytes(range(256)))),
    "record, huge": in_place_of(record.FILE, huge),
    "bytes, missing": lambda home: (home / "request").unlink(),
    "bytes, too many": longer,
    **{f"record, {k}": in_place_of(record.FILE, v) for k, v in SOMETHING_ELSE.items()},
    **{f"bytes, {k}": in_place_of("request", v) for k, v in SOMETHING_ELSE.items()},
}

every_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


async def uploads_with(folder: Path, damage: Damage) -> tuple[Uploads, SessionId]:
    """Two sessions of 3 bytes, one of them damaged."""
    uploads = await Uploads.open(folder)
    whole = await uploads.create(WHOLE)
    await uploads.send(whole, b"abc", total=6, sender=WHOLE)
    named = await uploads.create()
    await uploads.send(named, b"abc", total=6)
    damage(uploads.home(named))
    return uploads, named


@every_damage
async def test_damage_is_told_in_one_line_that_says_where_and_what_to_do(
    folder: Path, damage: Damage, caplog: pytest.LogCaptureFixture
):
    await uploads_with(folder, damage)
    caplog.clear()
    await Uploads.open(folder)

    [line] = [message for message in caplog.messages if message.startswith("damaged")]
    assert str(folder / "BITS-Sessions") in line
    assert "remedy=" in line
    assert "\n" not in line


@every_damage
async def test_session_beside_a_damaged_one_goes_on(folder: Path, damage: Damage):
    _before, named = await uploads_with(folder, damage)
    again = await Uploads.open(folder)
    with refused(Reason.SESSION_NOT_FOUND):
        await again.send(named, b"def", first=3)
    [whole] = {path.name for path in again.homes} - {named}
    await again.send(SessionId(whole), b"def", first=3, sender=WHOLE)

    assert (folder / "whole.dat").read_bytes() == b"abcdef"


@every_damage
async def test_damaged_session_expires(folder: Path, damage: Damage):
    _before, named = await uploads_with(folder, damage)
    again = await Uploads.open(folder)
    assert named in again.on_disk
    again.clock.forward(LONG)
    await again.sessions.expire()

    assert again.on_disk == set()


async def test_file_that_a_link_leads_to_is_left_alone(folder: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"secret")
    damage = in_place_of("request", lambda path: path.symlink_to(elsewhere))
    uploads, named = await uploads_with(folder, damage)
    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.send(named, b"def", first=3)
    uploads.clock.forward(LONG)
    await uploads.sessions.expire()

    assert elsewhere.read_bytes() == b"secret"


@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
async def test_something_in_place_of_a_reply_is_none(folder: Path, put: Damage):
    uploads = await Uploads.open(folder)
    named = await uploads.create()
    put(uploads.home(named) / "response")
    before = handles()

    with pytest.raises(FileNotFoundError):
        await uploads.sessions.reply(named, None)
    assert handles() == before


def test_huge_record_is_not_read(tmp_path: Path):
    huge(tmp_path / record.FILE)
    tracemalloc.start()
    try:
        with pytest.raises(SessionDamaged):
            record.read(tmp_path)
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 1 << 20


# What is no session at all.


@pytest.fixture
async def strange(folder: Path, tmp_path: Path) -> dict[str, Path]:
    """Files, folders and links that are none of bitsd's."""
    uploads = await Uploads.open(folder)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / record.FILE).write_bytes(b"{}")
    (tmp_path / "home" / "request").write_bytes(b"abc")
    places = {
        "file": uploads.home(ID),
        "link": uploads.home(OTHER),
        "lower case": uploads.home(SessionId(OTHER.lower())),
        "notes": uploads.home(SessionId("notes.txt")),
        "folder that is buried": uploads.home(SessionId(f"closed-{ID}")),
    }
    for name, place in places.items():
        match name:
            case "link":
                place.symlink_to(tmp_path / "home")
            case "file" | "notes":
                place.write_bytes(b"abc")
            case _:
                place.mkdir()
    return places


async def test_strangers_are_told_and_left_alone(
    folder: Path, strange: dict[str, Path], caplog: pytest.LogCaptureFixture
):
    uploads = await Uploads.open(folder)
    lines = [line for line in caplog.messages if line.startswith("stranger")]
    uploads.clock.forward(LONG)
    await uploads.sessions.expire()
    left = [path.read_bytes() for path in strange.values() if path.is_file()]

    assert all(any(str(path) in line for line in lines) for path in strange.values())
    assert len(lines) == len(strange)
    assert all("remedy=" in line for line in lines)
    assert left == [b"abc", b"abc"]
    assert all(path.exists() for path in strange.values())
    assert (strange["link"] / record.FILE).read_bytes() == b"{}"


async def test_packet_for_a_file_finds_no_session(folder: Path, strange):
    uploads = await Uploads.open(folder)
    with refused(Reason.SESSION_NOT_FOUND):
        await uploads.send(ID, b"abc")


async def test_of_many_damaged_sessions_the_first_are_told(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    uploads = await Uploads.open(folder)
    for number in range(FEW + 5):
        home = uploads.home(SessionId(f"{{{number:08X}{ID[9:]}"))
        home.mkdir()
        (home / record.FILE).touch()
    await Uploads.open(folder)

    assert len(caplog.messages) == FEW + 1
    assert caplog.messages[-1] == "damaged more=5"


# What belongs to somebody else, or cannot be written.

FOREIGN = """
import asyncio, logging, sys
from datetime import timedelta
from pathlib import Path
from store_kit import Uploads, caller
from bitsd.disk import refusal_of
from bitsd.protocol.refusal import Refusal
from bitsd.protocol.wire import SessionId

logging.basicConfig(stream=sys.stdout, format="%(message)s")

async def main(folder, foreign, whole):
    uploads = await Uploads.open(Path(folder), sessions_per_user=3)
    try:
        await uploads.send(SessionId(foreign), b"def", first=3)
    except OSError as error:
        print("refused", refusal_of(error).reason.name)
    print("held", (await uploads.send(SessionId(whole), b"def", first=3,
        sender=caller("whole.dat"))).received)
    for number in range(2):
        await uploads.create(caller(f"{number}"))
    try:
        await uploads.create(caller("more"))
    except Refusal as refusal:
        print("refused", refusal.reason.name)
    uploads.clock.forward(timedelta(days=400))
    await uploads.sessions.expire()
    print("left", len(uploads.homes))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_folders_of_another_user_hinder_nobody(folder: Path):
    uploads = await Uploads.open(folder)
    named, whole = await uploads.create(), await uploads.create(WHOLE)
    await uploads.send(named, b"abc", total=6)
    await uploads.send(whole, b"abc", total=6, sender=WHOLE)
    litter = uploads.home(OTHER)
    litter.mkdir()
    grave = uploads.home(SessionId(f"closed-{ID}"))
    grave.touch()
    for path in (uploads.home(named), litter):
        path.chmod(0o700)
        as_another(path)
    child = (FOREIGN, folder, named, whole)
    said = await asyncio.to_thread(run_child, *child, under=as_anybody())
    lines = said.splitlines()

    told = {
        line.partition(" ")[0] for line in lines if str(uploads.home(named)) in line
    }
    assert told == {"damaged", "not-removed"}
    assert "refused STORAGE_FAILED" in lines
    assert "held 6" in lines
    assert "refused TOO_MANY_SESSIONS" in lines
    assert lines[-1] == "left 2"
    assert not grave.exists()


def as_another(path: Path) -> None:
    try:
        os.chown(path, 12345, 12345)
    except PermissionError:
        cannot_run("giving a folder away needs root")


async def test_sessions_that_could_not_be_written_are_told_at_the_start(folder: Path):
    uploads = await Uploads.open(folder)
    sessions = uploads.home(ID).parent
    sessions.chmod(0o555)
    config = folder.parent / "bitsd.toml"
    config.write_text(CONFIG, "utf-8")
    command = [*as_anybody(), sys.executable, "-m", "bitsd", "serve", "--config"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, config],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    sessions.chmod(0o755)

    assert done.returncode == 1
    assert is_one_line(done.stderr)
    assert f"{sessions} cannot be read and written by this" in done.stderr


LOCKED = """
import asyncio, sys
from pathlib import Path
from store_kit import Uploads, caller
from bitsd.disk import refusal_of

async def main(folder):
    uploads = await Uploads.open(folder)
    named = await uploads.create()
    sessions = folder / "BITS-Sessions"
    sessions.chmod(0o555)
    try:
        await uploads.create(caller("other.dat"))
    except OSError as error:
        print(refusal_of(error).reason.name, end=" ")
    print((await uploads.send(named, b"abc")).received, end=" ")
    sessions.chmod(0o755)
    await uploads.create(caller("other.dat"))
    print((await uploads.close(named)).status)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_sessions_that_cannot_be_written_any_more_let_clients_wait(folder: Path):
    child = (LOCKED, folder)
    said = await asyncio.to_thread(run_child, *child, under=as_anybody())

    assert said == "STORAGE_FAILED 3 200"
