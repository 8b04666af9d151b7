"""What a program did to a folder, and told its client, in the order in which it did."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from store_kit import cannot_run

_TRACED = (
    "openat,openat2,open,creat,mkdir,mkdirat,write,writev,pwrite64,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,truncate,ftruncate,"
    "sendto,sendmsg"
)
_OF_FILES = {"write", "writev", "pwrite64", "ftruncate", "fsync", "fdatasync"}
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>")
_ARGUMENT = re.compile(r'(?:(\w+)<([^>]*)>)|"([^"]*)"(\.\.\.)?|([^\s,"\[\]{}]+)')


@dataclass(frozen=True)
class Made:
    """A file or folder that was not there."""

    path: str
    folder: bool = False


@dataclass(frozen=True)
class Written:
    """Bytes at the end of a file."""

    path: str
    octets: bytes


@dataclass(frozen=True)
class Resized:
    """A file that got another length."""

    path: str
    size: int


@dataclass(frozen=True)
class Synced:
    """All of a file, or all names of a folder, that came before."""

    path: str


@dataclass(frozen=True)
class Linked:
    """One more name of a file."""

    path: str
    name: str


@dataclass(frozen=True)
class Renamed:
    """Another name instead of the first."""

    path: str
    name: str


@dataclass(frozen=True)
class Removed:
    """A name that is gone."""

    path: str


@dataclass(frozen=True)
class Told:
    """What the client knows from here on."""

    facts: dict[str, object]


Call = Made | Written | Resized | Synced | Linked | Renamed | Removed | Told


def traced(log: Path) -> tuple[str, ...]:
    """A prefix for a command, of whose system calls the log then tells."""
    if shutil.which("strace") is None:
        cannot_run("strace is not installed")
    # Every byte of a string in hexadecimal, names included: nothing to unquote.
    how = ("-f", "-xx", "-y", "-s", "1000000", "-e", f"trace={_TRACED}")
    return ("strace", *how, "-o", str(log))


@dataclass(frozen=True)
class _Line:
    call: str
    arguments: list[tuple[str, str, str]]  # number of a handle, its name; or a text
    result: int

    def path(self, at: int) -> str:
        """Of a handle."""
        return self.arguments[at][1]

    def elsewhere(self, folder: Path) -> bool:
        """It is about an open file outside of a folder."""
        path = Path(self.path(0)) if self.call in _OF_FILES else folder
        return path.is_absolute() and not path.is_relative_to(folder)

    def text(self, at: int) -> str:
        """A string or a constant."""
        return self.arguments[at][2]

    def under(self, at: int) -> str:
        """A name that is relative to the handle before it."""
        return str(Path(self.path(at), self.text(at + 1)))


def _lines(log: Path) -> Iterator[_Line]:
    begun: dict[str, str] = {}
    for line in log.read_text("ascii").splitlines():
        if line.endswith("<unfinished ...>"):
            thread = line.split()[0]
            begun[thread] = line.removesuffix(" <unfinished ...>")
            continue
        if resumed := _RESUMED.match(line):
            line = begun.pop(resumed[1]) + line[resumed.end() :]
        if found := _LINE.match(line):
            yield _Line(found[2], list(map(_argument, _split(found[3]))), int(found[4]))


def _split(arguments: str) -> Iterator[re.Match[str]]:
    return _ARGUMENT.finditer(arguments)


def _argument(found: re.Match[str]) -> tuple[str, str, str]:
    assert found[4] is None, "strace left something of a string out"
    text = found[3] if found[3] is not None else found[5]
    return found[1] or "", _plain(found[2] or ""), _plain(text or "")


def _plain(text: str) -> str:
    """Without escapes, one character for a byte."""
    if not text.startswith("\\x"):
        return text
    return bytes.fromhex(text.replace("\\x", "")).decode("latin-1")


def calls(log: Path, folder: Path) -> list[Call]:
    """Those that changed what is in a folder, paths as from there, and the Acks."""
    found: list[Call] = []
    there: set[str] = set()
    for line in _lines(log):
        if line.result < 0 or line.elsewhere(folder):
            continue
        for call in _calls(line, there):
            if isinstance(call, Told):
                found.append(call)
            elif inside := _inside(call, str(folder)):
                _note(call, there)
                found.append(inside)
    return found


def _note(call: Call, there: set[str]) -> None:
    match call:
        case Made(path):
            there.add(path)
        case Linked(_, name):
            there.add(name)
        case Renamed(path, name):
            there.discard(path)
            there.add(name)
        case Removed(path):
            there.discard(path)


def _calls(line: _Line, there: set[str]) -> Iterator[Call]:
    match line.call:
        case "openat" | "openat2":
            yield from _opened(line, there)
        case "write" | "writev" if line.path(0).startswith("socket:"):
            yield from _told(line)
        case "write":
            yield from _written(line)
        case "fsync" | "fdatasync":
            yield Synced(line.path(0))
        case "sendto" | "sendmsg":
            yield from _told(line)
        case "ftruncate":
            yield Resized(line.path(0), int(line.text(1)))
        case _:
            yield _name(line)


def _opened(line: _Line, there: set[str]) -> Iterator[Call]:
    if line.call == "openat" and "O_CREAT" in line.text(2):
        path = line.under(0)
        if path not in there:
            yield Made(path)
        elif "O_TRUNC" in line.text(2):
            yield Resized(path, 0)
    else:
        words = " ".join(text for _, _, text in line.arguments[2:])
        assert "O_CREAT" not in words
        assert "O_TRUNC" not in words


def _written(line: _Line) -> Iterator[Call]:
    if line.arguments[0][0] == "1":
        for text in line.text(1).splitlines():
            if text.startswith("{"):
                yield Told(json.loads(text))
    else:
        octets = line.text(1).encode("latin-1")
        yield Written(line.path(0), octets[: line.result])


def _told(line: _Line) -> Iterator[Call]:
    """A response on a socket, if the client may build on it."""
    for _number, _path, text in line.arguments[1:]:
        if text.startswith("HTTP/1.1 200 "):
            received = re.search(r"(?i)received-content-range: (\d+)", text)
            yield Told({"acked": int(received[1])} if received else {})


def _name(line: _Line) -> Call:
    handles = line.call.endswith("at")
    path = line.under(0) if handles else line.text(0)
    match line.call.removesuffix("at"):
        case "mkdir":
            return Made(path, folder=True)
        case "rename":
            return Renamed(path, line.under(2) if handles else line.text(1))
        case "link":
            return Linked(path, line.under(2) if handles else line.text(1))
        case "unlink" | "rmdir":
            return Removed(path)
    raise AssertionError(f"nobody knows yet what {line.call} does")


def _inside(call: Call, folder: str) -> Call | None:
    """The call with paths relative to the folder; None for one elsewhere."""
    assert not isinstance(call, Told)
    facts = dict(vars(call))
    for key in ("path", "name"):
        if key in facts:
            path = Path(facts[key])
            if not path.is_relative_to(folder):
                return None
            facts[key] = str(path.relative_to(folder))
    return type(call)(**facts)
