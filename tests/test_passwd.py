"""`bitsd passwd`: what it writes, what it leaves alone, and what it says."""

import asyncio
import fcntl
import io
import os
import pty
import re
import resource
import shutil
import stat
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from processes import PROCESS_SECONDS, is_one_line
from store_kit import as_anybody, cannot_run
from wire_client import until

from bitsd.cli import main
from bitsd.ntlm import nt_hash
from bitsd.passwords import matches
from bitsd.users import User, Users

BCRYPT = "$2y$04$jusXEybHy.KMWwqW48SNqu51ijrwBn6CDzRQeQWD/yNZf9m8qe2He"
NT = nt_hash("secret").hex()

# What else may stand in a file: remarks, other kinds of hashes, other encodings.
OTHERS = b"# people\r\n\nold:$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9.:1970\n\xe9rik:x\n"

Passwd = Callable[..., int]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.htpasswd"


@pytest.fixture
def passwd(file: Path, monkeypatch: pytest.MonkeyPatch) -> Passwd:
    """The command in this process; with a password it is given --stdin."""

    def run(user: str, *options: str, password: bytes | None = None) -> int:
        if password is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(password)))
            options = (*options, "--stdin")
        return main(["passwd", str(file), user, *options])

    return run


def user_in(file: Path, name: str) -> User:
    user = Users.load(file).find(name)
    assert user is not None
    return user


def has(user: User, password: str) -> bool:
    return user.password is not None and matches(user.password, password)


def test_new_file_is_for_its_owner_only(passwd, file, capsys):
    assert passwd("alice", password=b"secret\n") == 0

    assert has(user_in(file, "alice"), "secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    out, err = capsys.readouterr()
    assert re.fullmatch(r"alice: added; .* SIGHUP \(kill -HUP\)\n", out)
    assert err == ""
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("sent", "password"),
    [
        (b"secret", "secret"),
        (b"secret\nof no use\n", "secret"),
        (b"secret\r\n", "secret"),
        (b" secret \n", " secret "),
        ("pässwörd\n".encode(), "pässwörd"),
        (b"a\0b\n", "a\0b"),
        (b"x" * 100 + b"\n", "x" * 100),
    ],
)
def test_password_is_one_line_of_standard_input(passwd, file, sent, password):
    assert passwd("alice", password=sent) == 0
    assert has(user_in(file, "alice"), password)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (b"\xff\n", "is not UTF-8"),
    ],
)
def test_password_that_is_none_changes_nothing(passwd, file, capsys, sent, says):
    assert passwd("alice", password=sent) == 1

    err = capsys.readouterr().err
    assert is_one_line(err)
    assert says in err
    assert not file.exists()


@pytest.mark.parametrize(
    ("line", "options", "result", "says"),
    [
        (b"Alice:x", "", "Alice:HASH", "Alice: password changed;"),
        (b"Alice", "", "Alice:HASH", "password changed;"),
        (b"alice:*", "", "alice:HASH", "password changed;"),
        (b"alice:x:A of B", "", "alice:HASH:A of B", "changed;"),
        (b"alice:!x", "", "alice:!HASH", "changed, still disabled"),
        (b"alice:x \r", "", "alice:HASH", "password changed;"),
        (b"alice:x", "--ntlm", f"alice:HASH:ntlm={NT}", "NT hash stored;"),
        (
            b"alice:x:ntlm=00:A",
            "",
            f"alice:HASH:A:ntlm={NT}",
            "password changed, NT hash changed, too;",
        ),
        (b"alice:x:ntlm=00", "--no-ntlm", "alice:HASH", "NT hash taken out;"),
        (b"alice:x", "--no-ntlm", "alice:HASH", "password changed;"),
    ],
)
def test_new_password_changes_the_line_of_its_user_and_no_other(
    passwd, file, capsys, *, line, options, result, says
):
    file.write_bytes(OTHERS + line + b"\ndave:*")
    assert passwd("alice", *options.split(), password=b"secret\n") == 0

    assert says in capsys.readouterr().out
    written = re.sub(rb"\$argon2id[^:\n]+", b"HASH", file.read_bytes())
    assert written == OTHERS + result.encode() + b"\ndave:*\n"


@pytest.mark.parametrize(
    ("line", "option", "result", "says"),
    [
        ("alice:x:ntlm=00", "--disable", "alice:!x:ntlm=00\n", "alice: disabled;"),
        ("alice:!x", "--disable", "alice:!x\n", "disabled;"),
        ("alice:!x", "--enable", "alice:x\n", "enabled;"),
        ("alice:x", "--enable", "alice:x\n", "enabled;"),
        ("alice:x:A:ntlm=00", "--no-password", "alice:*:A\n", "has no password;"),
        ("alice:!x", "--no-password", "alice:!*\n", "has no password;"),
        ("", "--no-password", "alice:*\n", "alice: added, without a password;"),
        ("alice:x", "--delete", "", "alice: deleted (Kerberos and certificates still"),
    ],
)
def test_other_changes_ask_for_no_password(
    passwd, file, capsys, *, line, option, result, says
):
    file.write_bytes(OTHERS + line.encode())
    assert passwd("ALICE" if line else "alice", option) == 0

    assert says in capsys.readouterr().out
    assert file.read_bytes() == OTHERS + result.encode()


def test_deleted_user_can_be_kept_out_as_is_said(passwd, file, capsys):
    file.write_bytes(b"alice:*\n")
    assert passwd("alice", "--delete") == 0
    said = re.findall("--[a-z-]+", capsys.readouterr().out)

    assert said == ["--no-password", "--disable"]
    assert [passwd("alice", option) for option in said] == [0, 0]
    assert not user_in(file, "alice").enabled


@pytest.mark.parametrize("option", ["--delete", "--disable", "--enable"])
@pytest.mark.parametrize("octets", [None, b"", b"# alice:x\nalice2:x\n"])
def test_user_who_is_not_there_cannot_be_changed(passwd, file, capsys, option, octets):
    if octets is not None:
        file.write_bytes(octets)
    assert passwd("alice", option) == 1

    err = capsys.readouterr().err
    assert is_one_line(err)
    assert f"{file} has no user alice" in err
    assert (file.read_bytes() if file.exists() else None) == octets


def test_risk_of_an_nt_hash_is_said(passwd, file, capsys):
    assert passwd("alice", "--ntlm", password=b"secret\n") == 0

    err = capsys.readouterr().err
    assert is_one_line(err)
    assert "without knowing the password" in err
    assert user_in(file, "alice").nt_hash == nt_hash("secret")


def test_file_that_others_can_read_is_warned_of(passwd, file, capsys):
    file.touch(0o644)
    assert passwd("alice", "--ntlm", password=b"secret\n") == 0

    risk, open_to_others = capsys.readouterr().err.splitlines()
    assert "without knowing the password" in risk
    assert open_to_others.startswith("warning: ")
    assert "chmod o-r" in open_to_others


def test_what_a_server_will_not_read_is_said(passwd, file, capsys):
    file.write_text("old:$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9.\n")
    assert passwd("alice", "--no-password") == 0

    err = capsys.readouterr().err
    assert is_one_line(err)
    assert "line 1: the password of old is not kept by Argon2id or bcrypt" in err


def test_user_who_stands_there_twice_is_left_to_its_owner(passwd, file, capsys):
    file.write_text("alice:*\nbob:*\nALICE:*\n")
    assert passwd("alice", "--delete") == 1

    assert "lines 1 and 3" in capsys.readouterr().err
    assert file.read_text() == "alice:*\nbob:*\nALICE:*\n"


@pytest.mark.parametrize("name", ["", "a:b", "@users", "#a", "*", "a\nb", "a" * 301])
def test_name_that_cannot_be_in_the_file_is_refused(passwd, file, capsys, name):
    assert passwd(name, "--no-password") == 1

    assert is_one_line(capsys.readouterr().err)
    assert not file.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--stdin", "--delete"],
        ["--ntlm", "--no-password"],
        ["--no-ntlm", "--disable"],
        ["--enable", "--disable"],
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(passwd, file, options):
    with pytest.raises(SystemExit) as stopped:
        passwd("alice", *options)

    assert stopped.value.code == 2
    assert not file.exists()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", " is not a file"),
        ("missing/users", "cannot change .*: No such file or directory"),
        ("file/users", "cannot change .*: Not a directory"),
        ("loop", "cannot change .*: Too many levels of symbolic links"),
        ("pipe", " is not a file"),
    ],
)
def test_file_that_cannot_be_is_one_line(tmp_path, capsys, path, says):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")

    assert main(["passwd", str(tmp_path / path), "alice", "--no-password"]) == 1
    err = capsys.readouterr().err
    assert is_one_line(err)
    assert re.search(says, err)


def test_wrong_file_is_said_before_a_password_is_asked_for(passwd, file, capsys):
    file.mkdir()

    assert passwd("alice", password=b"") == 1
    assert "is not a file" in capsys.readouterr().err


def test_link_stays_and_its_target_changes(tmp_path, file, passwd):
    (tmp_path / "real").mkdir()
    file.symlink_to("real/users")

    assert passwd("alice", "--no-password") == 0
    assert passwd("bob", "--no-password") == 0
    assert file.is_symlink()
    assert (tmp_path / "real" / "users").read_text() == "alice:*\nbob:*\n"


def test_owner_mode_and_access_list_of_the_file_stay(passwd, file):
    file.write_text("alice:*\n")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12345, 23456)
    with suppress(OSError):  # not every file system has them
        os.setxattr(file, "user.note", b"kept")
    old, noted = file.stat(), os.listxattr(file)
    assert passwd("alice", "--delete") == 0

    new = file.stat()
    assert new.st_ino != old.st_ino
    assert (new.st_uid, new.st_gid, new.st_mode) == (
        old.st_uid,
        old.st_gid,
        old.st_mode,
    )
    assert os.listxattr(file) == noted


@contextmanager
def no_room():
    """A file can get no longer than some bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_failure_leaves_the_old_file_and_nothing_else(passwd, file, capsys):
    file.write_text("bob:*\n")
    with no_room():
        assert passwd("alice", password=b"secret\n") == 1

    err = capsys.readouterr().err
    assert is_one_line(err)
    assert f"cannot change {file}: File too large" in err
    assert file.read_text() == "bob:*\n"
    assert list(file.parent.iterdir()) == [file]


def command(*arguments: object, under: tuple[str, ...] = ()) -> list[str]:
    return [*under, sys.executable, "-m", "bitsd", "passwd", *map(str, arguments)]


def ran(*arguments: object, **how) -> subprocess.CompletedProcess[str]:
    under = how.pop("under", ())
    return subprocess.run(
        command(*arguments, under=under),
        capture_output=True,
        text=True,
        check=False,
        timeout=PROCESS_SECONDS,
        **how,
    )


def test_file_of_another_is_left_alone(file):
    if os.geteuid() != 0:
        # Only root can give a file away.
        cannot_run("needs root")
    file.write_text("alice:*\n")
    os.chown(file, 12345, 12345)
    file.chmod(0o644)
    done = ran(file, "alice", "--delete", under=as_anybody())

    assert done.returncode == 1
    assert is_one_line(done.stderr)
    assert "belongs to another user or group" in done.stderr
    assert file.read_text() == "alice:*\n"
    assert list(file.parent.iterdir()) == [file]


def test_folder_that_cannot_be_written_is_one_line(file):
    file.write_text("alice:*\n")
    file.parent.chmod(0o555)
    done = ran(file, "alice", "--delete", under=as_anybody())
    file.parent.chmod(0o755)

    assert done.returncode == 1
    assert is_one_line(done.stderr)
    assert "cannot change" in done.stderr
    assert "Permission denied" in done.stderr
    assert file.read_text() == "alice:*\n"


def test_file_is_on_the_disk_before_it_has_its_name_and_the_name_then(tmp_path, file):
    if shutil.which("strace") is None:
        # What is shown is the order of calls of the system.
        cannot_run("strace is not installed")
    log = tmp_path / "log"
    strace = ("strace", "-y", "-o", str(log), "-e", "trace=fsync,rename")
    done = ran(file, "alice", "--no-password", under=strace)

    assert done.returncode == 0
    lines = [line for line in log.read_text().splitlines() if str(tmp_path) in line]
    calls = [re.findall(r"^(\w+)\(.*?([\w.-]+)[>\"]", line)[0] for line in lines]
    names = ["temporary" if "passwd-" in name else name for _call, name in calls]
    assert [call for call, _name in calls] == ["fsync", "rename", "fsync"]
    assert names == ["temporary", "temporary", tmp_path.name]


def waits_for_a_lock(process: Process) -> bool:
    assert process.returncode is None, "it did not wait"
    locks = Path("/proc/locks").read_text("ascii")
    return re.search(rf"-> FLOCK +\w+ +\w+ +{process.pid} ", locks) is not None


async def test_two_at_once_lose_nothing(tmp_path, file):
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    running = [
        await asyncio.create_subprocess_exec(*command(file, name, "--no-password"))
        for name in ("alice", "bob")
    ]
    for process in running:
        await until(lambda process=process: waits_for_a_lock(process))
    file.write_text("carol:*\n")
    os.close(folder)

    assert [await process.wait() for process in running] == [0, 0]
    assert sorted(file.read_text().split()) == ["alice:*", "bob:*", "carol:*"]


@pytest.mark.parametrize("stdin", ["closed", "null"])
def test_password_needs_somebody_who_types_it(file, stdin):
    under = ("sh", "-c", 'exec "$@" <&-', "sh") if stdin == "closed" else ()
    given = ["--stdin"] if stdin == "closed" else []
    done = ran(
        file,
        "alice",
        *given,
        under=under,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )

    assert done.returncode == 1
    assert is_one_line(done.stderr)
    assert not file.exists()


class Terminal:
    """The command at a terminal of its own, and what is seen there."""

    def __init__(self, *arguments: object) -> None:
        self._handle, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command(*arguments, under=("setsid", "--ctty")),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
        os.close(theirs)
        self.seen = b""

    def type(self, octets: bytes) -> None:
        """Type it once there is a prompt."""
        while not self.seen.endswith(b": "):
            self.seen += os.read(self._handle, 1000)
        self.seen += b"|"
        os.write(self._handle, octets)

    def end(self) -> tuple[int, str]:
        """Exit code and stderr; everything that was seen is in `seen`."""
        _out, err = self.process.communicate(timeout=PROCESS_SECONDS)
        with suppress(OSError):  # nobody has it open any more
            while octets := os.read(self._handle, 1000):
                self.seen += octets
        os.close(self._handle)
        return self.process.returncode, err.decode()


def test_password_is_asked_for_twice_and_never_shown(file):
    terminal = Terminal(file, "alice")
    terminal.type("pässwörd\n".encode())
    terminal.type("pässwörd\n".encode())

    assert terminal.end() == (0, "")
    shown = terminal.seen.decode().split()
    assert " ".join(shown) == "New password: | Password again: |"
    assert has(user_in(file, "alice"), "pässwörd")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([b"secret\n", b"Secret\n"], "the two passwords differ"),
        ([b"\n"], "the password is empty"),
        ([b"\x03"], "no password was given"),
        ([b"secret\n", b"\x04"], "no password was given"),
        ([b"\xff\n"], "not text in your locale"),
    ],
    ids=["differ", "empty", "ctrl-c", "ctrl-d", "latin-1"],
)
def test_password_that_is_not_given_changes_nothing(file, typed, says):
    file.write_text(f"alice:{BCRYPT}\n")
    terminal = Terminal(file, "alice")
    for octets in typed:
        terminal.type(octets)

    code, err = terminal.end()
    assert code == 1
    assert is_one_line(err)
    assert says in err
    assert file.read_text() == f"alice:{BCRYPT}\n"
