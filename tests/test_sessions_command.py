"""`bitsd sessions`, without a server."""

import asyncio
import fcntl
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from processes import PROCESS_SECONDS, is_one_line
from store_kit import ID, OTHER, as_anybody, disk_in, new_session

from bitsd import inflight, sessions_command
from bitsd.caller import Caller
from bitsd.cli import main
from bitsd.columns import WIDTH
from bitsd.config import Directory, load
from bitsd.disk import Disk
from bitsd.protocol.refusal import Refusal
from bitsd.protocol.session import Destination, State
from bitsd.protocol.wire import CancelSession, SessionId
from bitsd.sessions import Sessions

THIRD = SessionId("{11111111-2222-4333-8444-AAAAAAAAAAAA}")
NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)

CONFIG = """
[[directory]]
url = "/in"
path = "in"
upload = true
session_timeout = "14d"

[[directory]]
url = "/closed"
path = "closed"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("in", "closed"):
        (tmp_path / name).mkdir()
    path = tmp_path / "bitsd.toml"
    path.write_text(CONFIG, "utf-8")
    return path


@pytest.fixture
def disk(config: Path) -> Disk:
    return disk_in(config.parent / "in")


def made(
    disk: Disk,
    named: SessionId = ID,
    octets: bytes = b"",
    *,
    touched: datetime | None = None,
    **facts: object,
) -> Path:
    """A session on disk; its folder."""
    disk.create(new_session(named, **facts))
    home = disk.request(named).parent
    (home / "request").write_bytes(octets)
    if touched is not None:
        for path in (*home.iterdir(), home):
            os.utime(path, (touched.timestamp(),) * 2)
    return home


def command(config: Path, *arguments: str) -> int:
    return main(["sessions", *arguments, "--config", str(config)])


def listed(config: Path, capsys) -> list[dict[str, object]]:
    assert command(config, "list", "--json") == 0
    out = capsys.readouterr().out
    assert out.isascii()
    return json.loads(out)


# What is shown.


def test_a_folder_that_nobody_uploaded_to_has_no_sessions(config: Path, capsys):
    assert command(config, "list") == 0
    assert capsys.readouterr().out == "no sessions\n"
    assert command(config, "expire") == 0
    assert capsys.readouterr().out == "nothing has timed out\n"
    assert not (config.parent / "in" / "BITS-Sessions").exists()


def test_keys_of_a_session_are_those_that_are_promised(
    config: Path, disk: Disk, capsys
):
    created = NOW - timedelta(seconds=100)
    made(disk, octets=bytes(5000), touched=NOW, created=created, total=20_000)
    (found,) = listed(config, capsys)
    ages = (found.pop("age_seconds"), found.pop("idle_seconds"))

    assert ages[0] - ages[1] == 100
    assert found == {
        "id": ID,
        "directory": "/in",
        "path": str(disk.request(ID).parent),
        "state": "timed-out",
        "held": 5000,
        "last_progress": "2024-03-01T12:00:00Z",
        "expires": "2024-03-15T12:00:00Z",
        "total": 20_000,
        "file": "report.dat",
        "url": "http://test/in/report.dat",
        "user": None,
        "client": "192.0.2.1",
        "created": "2024-03-01T11:58:20Z",
        "bytes_per_second": 50,
        "error": None,
    }


@pytest.mark.parametrize(
    ("facts", "octets", "state"),
    [
        ({}, b"", "receiving"),
        ({"total": 9}, b"12345", "receiving"),
        ({"total": 5}, b"12345", "delivering"),
        ({"total": 5, "state": State.WAIT_FOR_CLOSE}, b"12345", "complete"),
        ({"total": 5, "refused": 403}, b"12345", "refused"),
    ],
)
def test_state_of_a_session_is_told(
    config: Path, disk: Disk, capsys, facts, octets: bytes, state: str
):
    made(disk, octets=octets, **facts)
    (found,) = listed(config, capsys)

    assert found["state"] == state
    assert found["error"] == ("application: 403" if state == "refused" else None)


def test_damaged_sessions_are_shown_with_what_is_wrong(
    config: Path, disk: Disk, capsys
):
    (made(disk, octets=b"12345") / "session.json").write_bytes(b"{}")
    (made(disk, OTHER) / "request").unlink()
    found = {each["id"]: each for each in listed(config, capsys)}

    assert (found[ID]["state"], found[ID]["held"]) == ("damaged", 5)
    assert "is damaged" in str(found[ID]["error"])
    assert (found[OTHER]["state"], found[OTHER]["held"]) == ("damaged", 0)
    assert "has lost its request file" in str(found[OTHER]["error"])


def test_litter_is_no_session(config: Path, disk: Disk, capsys):
    (disk.request(ID).parent).mkdir()

    assert listed(config, capsys) == []


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, None), (0.999, None), (1, 1000), (4, 250)]
)
def test_rate_needs_a_second(seconds: float, expected: int | None):
    assert inflight.rate(1000, timedelta(seconds=seconds)) == expected


def test_table_is_aligned_and_fits(config: Path, disk: Disk, capsys):
    now = datetime.now(UTC)
    names = {"destination": "a/" + "b" * 60 + ".ckm", "user": "DOMAIN\\" + "x" * 40}
    made(disk, octets=bytes(1500), created=now, total=40 * 10**9, **names)
    closed = disk_in(config.parent / "closed")
    made(closed, OTHER, touched=now - timedelta(hours=5), user="bob", address="")
    other = disk.request(SessionId(OTHER.replace("6", "7"))).parent
    other.mkdir()
    (other / "session.json").touch()
    assert command(config, "list") == 0
    head, *lines = capsys.readouterr().out.splitlines()

    assert head.split() == [
        *("SESSION", "USER", "CLIENT", "FILE"),
        *("HELD/TOTAL", "RATE", "AGE", "IDLE", "STATE"),
    ]
    assert all(len(line) <= WIDTH for line in lines)
    assert {line[head.index("STATE") :] for line in lines} == {"receiving", "damaged"}
    text = "\n".join(lines)
    assert re.search(r"11111111  …x{15}  ", text)
    assert "0.0/40.0 GB" in text
    assert re.search(r"66666666 +bob +- +…losed/report.dat +0/\? B  0 B/s .* 5h ", text)


@pytest.mark.parametrize(
    ("held", "total", "shown"),
    [
        (0, None, "0/? B"),
        (999, 999, "999/999 B"),
        (1234, None, "1.2/? kB"),
        (0, 30_000_000, "0.0/30.0 MB"),
        (12 * 10**9, 40 * 10**9, "12.0/40.0 GB"),
        (1, 5 * 10**15, "0.0/5000.0 TB"),
    ],
)
def test_held_and_total_are_shown_in_one_unit(held: int, total: int | None, shown: str):
    assert sessions_command._part(held, total) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (1, "1 B"), (1500, "1.5 kB"), (12_345_678, "12.3 MB")],
)
def test_rates_are_shown_in_their_largest_unit(number: int, shown: str):
    assert sessions_command._amount(number) == shown


def test_directory_is_shown_where_there_are_several(config: Path, disk: Disk, capsys):
    made(disk)
    command(config, "list")
    assert " /in/report.dat " in capsys.readouterr().out

    config.write_text(CONFIG.partition("\n\n")[0], "utf-8")
    command(config, "list")
    assert " report.dat " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (59, "59s"), (60, "1m"), (7300, "2h")]
)
def test_times_are_shown_in_their_largest_unit(seconds: int, shown: str):
    assert sessions_command._time(seconds) == shown


def shown_ids(capsys) -> list[str]:
    return re.findall("^[0-9A-F-]+", capsys.readouterr().out, re.MULTILINE)


def test_ids_are_shown_as_long_as_tells_them_apart(config: Path, disk: Disk, capsys):
    made(disk)
    made(disk, OTHER)
    command(config, "list")
    assert set(shown_ids(capsys)) == {"11111111", "66666666"}

    made(disk, THIRD)
    command(config, "list")
    assert set(shown_ids(capsys)) == {
        "11111111-2222-4333-8444-5",
        "11111111-2222-4333-8444-A",
        "66666666-7777-4888-9999-A",
    }


def test_what_a_client_wrote_cannot_move_the_cursor(config: Path, disk: Disk, capsys):
    made(disk, destination="\x1b[2J\u202ea", user="eve\nroot")
    command(config, "list")
    command(config, "show", ID)
    out = capsys.readouterr().out

    assert not {"\x1b", "\u202e"} & set(out)
    assert "eve\\nroot" in out
    (found,) = listed(config, capsys)
    assert found["file"] == "\x1b[2J\u202ea"


# Which session is meant.


@pytest.mark.parametrize(
    "given",
    [
        "{11111111-2222-4333-8444-AAAAAAAAAAAA}",
        "11111111-2222-4333-8444-aaaaaaaaaaaa",
        "{11111111-2222-4333-8444-aa",
        "11111111-2222-4333-8444-A",
    ],
)
def test_id_may_be_short_and_in_any_case(config: Path, disk: Disk, capsys, given: str):
    made(disk)
    made(disk, THIRD, octets=b"1")
    assert command(config, "show", given, "--json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == THIRD
    assert command(config, "show", given) == 0
    out = capsys.readouterr().out
    assert f"id                {THIRD}\n" in out
    assert "created           2024-02-29 12:30:15+00:00\n" in out
    assert "user" not in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("1", "1 is the beginning of 2 ids; give more of it"),
        ("{DEADBEEF", "no session {DEADBEEF; see: bitsd sessions list"),
        ("2222-4333", "no session 2222-4333; see: bitsd sessions list"),
        ("", "no session ; see: bitsd sessions list"),
        ("\x1b[2J", "no session \\x1b[2J; see: bitsd sessions list"),
    ],
)
def test_id_that_is_none_or_of_two_is_told(
    config: Path, disk: Disk, capsys, given: str, said: str
):
    made(disk)
    made(disk, THIRD)

    assert command(config, "cancel", given) == 1
    assert capsys.readouterr().err == f"bitsd: {said}\n"


# What is ended.


def test_cancelled_session_is_gone_and_its_published_file_stays(
    config: Path, disk: Disk, capsys
):
    home = made(disk, octets=b"12345", total=5, state=State.WAIT_FOR_CLOSE)
    published = config.parent / "in" / "report.dat"
    published.hardlink_to(home / "request")

    assert command(config, "cancel", ID) == 0
    assert capsys.readouterr().out == f"cancelled {ID}, 5/5 B\n"
    assert not home.exists()
    assert published.read_bytes() == b"12345"


def refusal_of_cancelled(directory: Directory) -> str:
    """What the log of a server says of a packet that comes for the session."""
    caller = Caller(None, "", Destination("report.dat"))
    with pytest.raises(Refusal) as refused:
        asyncio.run(Sessions(directory).cancel(CancelSession(ID), caller))
    return refused.value.detail


def test_server_says_for_a_while_that_a_session_was_cancelled_by_hand(
    config: Path, disk: Disk, capsys
):
    made(disk)
    directory = load(config).directory[0]
    before = f"no session {ID}"
    assert command(config, "cancel", ID) == 0
    assert refusal_of_cancelled(directory) == f"{before}: cancelled by an operator"
    assert [*disk.strangers()] == [None]

    (word,) = (config.parent / "in" / "BITS-Sessions").iterdir()
    os.utime(word, (0, 0))
    assert command(config, "expire") == 0
    assert refusal_of_cancelled(directory) == before
    assert not word.exists()


def test_cancelled_session_is_told_to_programs(config: Path, disk: Disk, capsys):
    made(disk, user="alice")

    assert command(config, "cancel", ID, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cancelled"]["user"] == "alice"


@pytest.mark.parametrize("state", ["damaged", "timed-out"])
def test_session_that_no_packet_could_end_is_cancelled(
    config: Path, disk: Disk, capsys, state: str
):
    home = made(disk, touched=NOW if state == "timed-out" else None)
    if state == "damaged":
        (home / "session.json").write_bytes(b"")
    assert {each["state"] for each in listed(config, capsys)} == {state}

    assert command(config, "cancel", ID) == 0
    assert not home.exists()


def flight_in(config: Path) -> tuple[Directory, inflight.Flight]:
    """What the command saw a moment ago."""
    directory = load(config).directory[0]
    (found,) = inflight.flights(directory, datetime.now(UTC))
    return directory, found


def test_session_that_ended_meanwhile_is_told(config: Path, disk: Disk):
    home = made(disk)
    seen = flight_in(config)
    shutil.rmtree(home)

    with pytest.raises(sessions_command.Failed, match="has just ended by itself"):
        asyncio.run(sessions_command.end(*seen))


def test_session_that_nobody_lets_go_of_is_told(config: Path, disk: Disk):
    home = made(disk)
    seen = flight_in(config)
    with (home / "request").open("ab") as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        with pytest.raises(sessions_command.Failed, match="is in use"):
            asyncio.run(sessions_command.end(*seen, patience=0.05))

    assert home.exists()


# What times out.


def test_timed_out_sessions_go_as_with_a_sweep(config: Path, disk: Disk, capsys):
    old = datetime.now(UTC) - timedelta(days=15)
    gone = [made(disk, touched=old), made(disk, THIRD, touched=old)]
    (gone[1] / "session.json").write_bytes(b"")
    os.utime(gone[1] / "session.json", (0, 0))
    stays = made(disk, OTHER)
    disabled = made(disk_in(config.parent / "closed"), touched=old)

    assert command(config, "expire", "--dry-run") == 0
    told = capsys.readouterr().out.splitlines()
    assert sorted(told) == [f"would remove {ID}", f"would remove {THIRD}"]
    assert all(home.exists() for home in gone)

    assert command(config, "expire") == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"removed {ID}",
        f"removed {THIRD}",
    ]
    assert not any(home.exists() for home in gone)
    assert stays.exists()
    assert disabled.exists()


def test_session_in_use_is_not_removed(config: Path, disk: Disk, capsys):
    home = made(disk, touched=NOW)
    with (home / "request").open("rb") as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        assert command(config, "expire", "--json") == 1

    assert json.loads(capsys.readouterr().out) == {
        "dry_run": False,
        "removed": [],
        "kept": [ID],
    }
    assert home.exists()
    assert command(config, "expire") == 0


def test_session_in_use_is_told_to_people(config: Path, disk: Disk, capsys):
    home = made(disk, touched=NOW)
    with (home / "request").open("rb") as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        assert command(config, "expire") == 1

    assert capsys.readouterr().out == f"could not remove {ID}\n"


# What the system does not allow.


def as_another(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with the rights of a user who is not root."""
    file = ("--config", str(config))
    return subprocess.run(
        [*as_anybody(), sys.executable, "-m", "bitsd", "sessions", *arguments, *file],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROCESS_SECONDS,
    )


@pytest.mark.parametrize("arguments", [("list",), ("show", ID), ("cancel", ID)])
def test_record_of_another_user_is_one_line_that_says_who(
    config: Path, disk: Disk, arguments: tuple[str, ...]
):
    record = made(disk) / "session.json"
    record.chmod(0)
    done = as_another(config, *arguments)
    user = pwd.getpwuid(os.geteuid()).pw_name

    assert (done.returncode, done.stdout) == (1, "")
    assert is_one_line(done.stderr)
    assert f"{record}: Permission denied; run this as the server's user, {user}" in (
        done.stderr
    )


def test_request_of_another_user_cannot_be_cancelled(config: Path, disk: Disk):
    home = made(disk)
    (home / "request").chmod(0o400)
    done = as_another(config, "cancel", ID)

    assert done.returncode == 1
    assert is_one_line(done.stderr)
    assert "request: Permission denied; run this as" in done.stderr
    assert home.exists()


def test_folder_of_another_user_is_one_line(config: Path):
    (config.parent / "in").chmod(0o500)
    done = as_another(config, "list")

    assert done.returncode == 1
    assert is_one_line(done.stderr)
    assert "cannot be written by this user" in done.stderr


def test_folder_that_is_none_is_one_line(config: Path):
    directory = load(config).directory[0]
    (config.parent / "in" / "BITS-Sessions").symlink_to("BITS-Sessions")

    with (
        pytest.raises(sessions_command.Failed, match="Too many levels"),
        sessions_command._reading(directory),
    ):
        list(inflight.flights(directory, NOW))


def test_server_user_is_that_of_the_folder_where_nobody_uploaded(config: Path):
    assert inflight.owner_uid(load(config).directory[0]) == os.geteuid()


def test_user_without_a_name_is_a_number():
    assert sessions_command._name(2**31 - 7) == "number 2147483641"
