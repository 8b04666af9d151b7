"""The users file: who there is, and by what each can be recognised.

It is the htpasswd of Apache and nginx, which ignore what follows a second colon:
`NAME:HASH[:FIELD...]`. The format and its reasons: protocol-notes/users.md
"""

import hmac
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from .access import same

#: Longest name in characters, as in IIS.
MAXIMUM_NAME = 300

#: Stands before the hash of a user who may not sign in, as in /etc/shadow.
DISABLED = "!"

#: Stands for the hash of a user who has no password.
ABSENT = "*"

#: Highest memory that a hash may take, in KiB: that of the "moderate" of libsodium.
MAXIMUM_MEMORY_KIB = 256 * 1024

#: Memory times passes, in KiB: about a second.
MAXIMUM_WORK_KIB = 1024 * 1024

#: Lanes, each of them a thread.
MAXIMUM_LANES = 16

#: Highest cost of bcrypt: about a second; each more takes twice as long.
MAXIMUM_COST = 14

#: Begins the field with the NT hash.
NT_FIELD = "ntlm="

_BASE64 = r"[A-Za-z0-9+/]"
# Whole groups, then one that ends in bits that are zero: Argon2 takes no other.
_OCTETS = rf"(?:{_BASE64}{{4}})*(?:{_BASE64}[AQgw]|{_BASE64}{{2}}[AEIMQUYcgkosw048])?"
# Salts have at least 8 bytes and hashes 4 (RFC 9106, 3.1); more than 64 are no use.
_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{0,9}),t=([1-9]\d{0,9}),p=([1-9]\d{0,9})"
    rf"\$(?={_BASE64}{{11,86}}\$){_OCTETS}\$(?={_BASE64}{{6,86}}\Z){_OCTETS}",
    re.ASCII,
)
# A salt has 128 bits, so of its last letter four are zero: bcrypt takes no other.
_BCRYPT = re.compile(
    r"\$2[aby]\$(0[4-9]|[1-9]\d)\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII
)
_NT_HASH = re.compile("[0-9A-Fa-f]{32}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in, or could.

    Attributes:
        name: in the spelling of the file.
        password: a hash by Argon2id or bcrypt; None for one who has no password.
        nt_hash: is as good as the password where NTLM is offered.
        enabled: whether the user may sign in, by whatever means.
    """

    name: str
    password: str | None
    nt_hash: bytes | None = None
    enabled: bool = True

    def __repr__(self) -> str:
        """Without what is secret: it may end in a log."""
        return f"User({self.name!r}, enabled={self.enabled})"


class Users:
    """The users of a file, at the time when it was read.

    Attributes:
        ntlm: somebody of them can sign in by NTLM.
        warnings: what is wrong about the file and no error, a sentence each.
    """

    def __init__(self, users: Iterable[User], warnings: Iterable[str] = ()) -> None:
        self._by_key: Mapping[str, User] = MappingProxyType(
            {same(user.name): user for user in users}
        )
        hashes = (user.password for user in self._by_key.values())
        self._hashes = tuple(stored for stored in hashes if stored is not None)
        self.ntlm = any(user.nt_hash for user in self._by_key.values())
        self.warnings = tuple(warnings)

    @classmethod
    def empty(cls) -> Self:
        """Nobody."""
        return cls(())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Those in a file.

        Raises:
            ValueError: one line that names the file, the line and what to do.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                octets = file.read()
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        users = list(_users(octets, path))
        return cls(users, exposed(path, mode, users))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_key)

    def find(self, name: str) -> User | None:
        """The user of that name, in any case of letters, enabled or not."""
        return self._by_key.get(same(name))

    def called(self, name: str) -> str:
        r"""Whom somebody means who signs in by this name, for all ways with a password.

        The name as it was written if the file has it; else without `DOMAIN\`, which
        many clients add, if the file has that; else also without `@domain`.
        """
        short = name.rpartition("\\")[2]
        found = (each for each in (name, short) if self.find(each) is not None)
        return next(found, bare(name))

    def decoy(self, name: str) -> str | None:
        """Somebody's hash, and for the same name always the same; None in no file.

        To check a password against it costs what it costs for somebody who is
        there. The choice depends on the file and nothing else: another process
        makes the same, and who has not read the file cannot tell which.
        """
        if not self._hashes:
            return None
        octets = same(name).encode("utf-8", "surrogatepass")
        drawn = hmac.digest(self._hashes[0].encode(), octets, "sha256")
        return self._hashes[int.from_bytes(drawn, "big") % len(self._hashes)]


def bare(name: str) -> str:
    r"""A name without what may say whose user that is, `DOMAIN\` and `@domain`."""
    return name.rpartition("\\")[2].partition("@")[0]


def wrong_name(name: str) -> str | None:
    """Why nobody can have this name."""
    if not name:
        return "a name is empty"
    if len(name) > MAXIMUM_NAME:
        return f"a name is longer than {MAXIMUM_NAME} characters"
    if not name.isprintable() or name != name.strip():
        return f"the name {name!r} has characters that cannot be seen"
    if ":" in name or "*" in name:
        return f"the name {name!r} has a colon or an asterisk"
    if name.startswith(("@", "#")):
        # Groups begin with the one, comments with the other.
        return f"the name {name!r} begins with {name[0]}"
    return None


def parsed(line: str) -> User:
    """The user of a line.

    Raises:
        ValueError: it says what is wrong, but not in which line.
    """
    name, *fields = line.rstrip(" \t\r").split(":")
    problem = wrong_name(name)
    if problem is not None:
        raise ValueError(problem)
    if not fields:
        raise ValueError(f"{name} has no hash: lines are NAME:HASH")
    stored = fields[0].removeprefix(DISABLED)
    problem = None if stored == ABSENT else _wrong_hash(stored)
    if problem is not None:
        raise ValueError(
            f"the password of {name} {problem}: set it again with `bitsd passwd`"
        )
    return User(
        name,
        None if stored == ABSENT else stored,
        _nt_hash(name, fields[1:]),
        not fields[0].startswith(DISABLED),
    )


def _wrong_hash(stored: str) -> str | None:
    """Why no password can be checked against this, or not in time."""
    dear = "is kept by a hash that takes too much memory or time to check"
    if match := _ARGON2.fullmatch(stored):
        memory, passes, lanes = map(int, match.groups())
        if memory < 8 * lanes:
            # RFC 9106, 3.1.
            return "is kept by Argon2id with too little memory"
        within = (
            memory <= MAXIMUM_MEMORY_KIB
            and memory * passes <= MAXIMUM_WORK_KIB
            and lanes <= MAXIMUM_LANES
        )
        return None if within else dear
    if match := _BCRYPT.fullmatch(stored):
        return None if int(match[1]) <= MAXIMUM_COST else dear
    return "is not kept by Argon2id or bcrypt"


def _nt_hash(name: str, fields: Iterable[str]) -> bytes | None:
    """That of a user; other fields are remarks, as nginx has them."""
    for field in fields:
        if field.startswith(NT_FIELD):
            digits = field.removeprefix(NT_FIELD)
            if _NT_HASH.fullmatch(digits) is None:
                raise ValueError(
                    f"the NT hash of {name} is not 32 hexadecimal digits: "
                    "set the password again with `bitsd passwd --ntlm`"
                )
            return bytes.fromhex(digits)
    return None


def _users(octets: bytes, path: Path) -> Iterator[User]:
    lines: dict[str, int] = {}
    for number, raw in enumerate(octets.split(b"\n"), 1):
        try:
            line = raw.decode()
            if line.startswith("#") or not line.strip():
                continue
            user = parsed(line)
        except UnicodeDecodeError:
            raise ValueError(f"{path}: line {number} is not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
        first = lines.setdefault(same(user.name), number)
        if first != number:
            raise ValueError(
                f"{path}: line {number}: {user.name} stands in line {first} already"
            )
        yield user


def exposed(path: Path, mode: int, users: Iterable[User]) -> Iterator[str]:
    """What others on this machine can do with the file, a sentence for each."""
    if mode & stat.S_IWOTH:
        yield f"{path}: anyone on this machine can change it: chmod o-w"
    if mode & stat.S_IROTH and any(user.nt_hash is not None for user in users):
        yield (
            f"{path}: anyone on this machine can read its NT hashes, and sign in "
            "with them: chmod o-r"
        )
