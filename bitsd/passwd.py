"""`bitsd passwd`: add users to the users file, change them, take them out.

Only the line of the user changes: what else stands in the file stays as it is, even
what bitsd cannot read.
"""

import argparse
import fcntl
import getpass
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .access import same
from .ntlm import nt_hash
from .passwords import hashed
from .users import ABSENT, DISABLED, NT_FIELD, Users, wrong_name

# A name that is not in the file cannot be kept out by it.
_STILL = (
    "(Kerberos and certificates still let the name in; to keep it out as well: "
    "--no-password, then --disable)"
)


class _Refused(Exception):
    """One line for whoever gave the command."""


@dataclass
class _Entry:
    """The line of a user, right or wrong.

    Attributes:
        stored: the hash, with what disables the user.
        fields: what follows it.
    """

    name: str
    stored: str = ABSENT
    fields: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        return ":".join([self.name, self.stored, *self.fields])

    @property
    def disabled(self) -> bool:
        return self.stored.startswith(DISABLED)

    @property
    def has_nt_hash(self) -> bool:
        return any(field.startswith(NT_FIELD) for field in self.fields)

    def keep(self, stored: str, nt: bytes | None) -> None:
        """Replace the hashes; a user who is disabled stays so."""
        self.stored = f"{DISABLED if self.disabled else ''}{stored}"
        self.fields = [text for text in self.fields if not text.startswith(NT_FIELD)]
        if nt is not None:
            self.fields.append(f"{NT_FIELD}{nt.hex()}")


#: From the entry of a user to the new one, each None if there is none, and what that
#: is in words.
_Change = Callable[[_Entry | None], tuple[_Entry | None, str]]


def define(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.add_argument("file", type=Path, metavar="FILE", help="made if missing")
    command.add_argument("user", metavar="USER")
    command.add_argument(
        "--stdin",
        action="store_true",
        help="the password is a line of standard input; else it is asked for",
    )
    command.add_argument(
        "--ntlm",
        action=argparse.BooleanOptionalAction,
        help="keep the NT hash, which sign-in by NTLM needs and which is as good as "
        "the password (default: if the user has one)",
    )
    instead = command.add_mutually_exclusive_group()
    for option, meaning in (
        ("--delete", "take the user out of the file; Kerberos and certificates stay"),
        ("--disable", "keep the user, who can no longer sign in, by whatever means"),
        ("--enable", "let the user sign in again, with the old password"),
        ("--no-password", "a user who signs in by Kerberos or certificate only"),
    ):
        instead.add_argument(option, action="store_true", help=meaning)
    command.set_defaults(run=_run, usage_error=command.error)


def _run(given: argparse.Namespace) -> int:
    asks = not (given.delete or given.disable or given.enable or given.no_password)
    if not asks and (given.stdin or given.ntlm is not None):
        given.usage_error("--stdin and --ntlm go with a new password")
    # A link stays: its target is replaced.
    file = Path(os.path.realpath(given.file))
    try:
        done = _changed(file, given, asks=asks)
    except _Refused as refused:
        print(f"bitsd: {refused}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"bitsd: cannot change {given.file}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{done}; a running server reads the file on SIGHUP (kill -HUP)")
    if given.ntlm:
        _warn(
            f"whoever reads the NT hash in {given.file} can sign in as the user "
            "without knowing the password"
        )
    for problem in _problems(file):
        _warn(problem)
    return 0


def _warn(problem: str) -> None:
    print(f"warning: {problem}", file=sys.stderr)


def _problems(file: Path) -> tuple[str, ...]:
    """What a server will say of the file, now that it has changed."""
    try:
        return Users.load(file).warnings
    except ValueError as error:
        return (str(error),)


def _changed(file: Path, given: argparse.Namespace, *, asks: bool) -> str:
    """Change the file; what was done, in words.

    Raises:
        _Refused: nothing was changed.
        OSError: likewise.
    """
    problem = wrong_name(given.user)
    if problem is not None:
        raise _Refused(problem)
    with _locked(file.parent):
        _read(file)  # what is wrong with it is said before anybody types a password
    change = _new_password(given) if asks else _other_change(given)
    with _locked(file.parent) as folder:
        lines = _read(file)
        place = _place(lines, given.user)
        entry = None if place.start == place.stop else _entry(lines[place][0])
        changed, done = change(entry)
        lines[place] = [] if changed is None else [changed.line]
        _replace(file, lines, folder)
    return f"{given.user if entry is None else entry.name}: {done}"


def _new_password(given: argparse.Namespace) -> _Change:
    password = _line_of_stdin() if given.stdin else _asked()
    if not password:
        raise _Refused("the password is empty; nothing was changed")
    stored = hashed(password)

    def change(entry: _Entry | None) -> tuple[_Entry, str]:
        done = ["added" if entry is None else "password changed"]
        entry = entry or _Entry(given.user)
        had = entry.has_nt_hash
        keeps = had if given.ntlm is None else given.ntlm
        entry.keep(stored, nt_hash(password) if keeps else None)
        if had or keeps:
            done.append(f"NT hash {_nt_change(had=had, keeps=keeps)}")
        if entry.disabled:
            done.append("still disabled (--enable)")
        return entry, ", ".join(done)

    return change


def _nt_change(*, had: bool, keeps: bool) -> str:
    if not keeps:
        return "taken out"
    return "changed, too" if had else "stored"


def _other_change(given: argparse.Namespace) -> _Change:
    def change(entry: _Entry | None) -> tuple[_Entry | None, str]:
        if given.no_password:
            done = "added, without a password" if entry is None else "has no password"
            entry = entry or _Entry(given.user)
            entry.keep(ABSENT, None)
            return entry, done
        if entry is None:
            raise _Refused(f"{given.file} has no user {given.user}")
        if given.delete:
            return None, f"deleted {_STILL}"
        entry.stored = entry.stored.removeprefix(DISABLED)
        if given.disable:
            entry.stored = f"{DISABLED}{entry.stored}"
        return entry, "disabled" if given.disable else "enabled"

    return change


def _line_of_stdin() -> str:
    # Without a standard input (<&-) there is none in Python, either.
    octets = b"" if sys.stdin is None else sys.stdin.buffer.readline()
    try:
        return octets.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise _Refused("the password is not UTF-8") from None


def _asked() -> str:
    """What is typed at the terminal, twice and unseen."""
    try:
        with warnings.catch_warnings():
            # It would go on and show what is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            password = getpass.getpass("New password: ")
            if not password or getpass.getpass("Password again: ") == password:
                return password
    except getpass.GetPassWarning:
        raise _Refused("there is no terminal to ask at: use --stdin") from None
    except UnicodeDecodeError:
        raise _Refused("the password is not text in your locale") from None
    except (EOFError, KeyboardInterrupt):
        raise _Refused("no password was given; nothing was changed") from None
    raise _Refused("the two passwords differ; nothing was changed")


def _read(file: Path) -> list[str]:
    """The lines of the file; none if there is no such file."""
    if file.exists() and not file.is_file():
        raise _Refused(f"{file} is not a file")
    try:
        octets = file.read_bytes()
    except FileNotFoundError:
        return []
    lines = octets.decode("utf-8", "surrogateescape").split("\n")
    return lines if lines[-1] else lines[:-1]


def _place(lines: list[str], user: str) -> slice:
    """Where the line of a user is, or would be."""
    found = [
        number
        for number, line in enumerate(lines)
        if same(_entry(line).name) == same(user)
    ]
    if len(found) > 1:
        numbers = " and ".join(str(number + 1) for number in found)
        raise _Refused(f"{user} stands in lines {numbers}: take one of them out")
    return slice(found[0], found[0] + 1) if found else slice(len(lines), len(lines))


def _entry(line: str) -> _Entry:
    name, *rest = line.rstrip(" \t\r").split(":")
    return _Entry(name, rest[0] if rest else "", rest[1:])


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder, open, in which no other `bitsd passwd` changes a file meanwhile.

    A lock on the file itself would be on one that is about to be replaced.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _replace(file: Path, lines: list[str], folder: int) -> None:
    """Put the lines into the file, at once or not at all."""
    octets = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    # Nobody else can read it (0600), as nobody is to read a new file of users.
    handle, name = tempfile.mkstemp(prefix=".passwd-", dir=file.parent)
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as temporary:
            _keep_owner(file, written)
            temporary.write(octets)
            temporary.flush()
            os.fsync(handle)
        written.replace(file)
    except BaseException:
        written.unlink()
        raise
    os.fsync(folder)


def _keep_owner(file: Path, written: Path) -> None:
    """Give what is written the owner, mode and access list of the old file."""
    try:
        old = file.stat()
    except FileNotFoundError:
        return
    try:
        os.chown(written, old.st_uid, old.st_gid)
    except PermissionError:
        raise _Refused(
            f"{file} belongs to another user or group: change it as that user or root"
        ) from None
    shutil.copystat(file, written)
