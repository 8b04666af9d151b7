"""Targets that want out of the folder, and a tree that shows whether one got there."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

#: What no answer may ever hold.
SECRET = b"outside of the folder, or of a session"
PUBLIC = b"published"

#: Stands for a name that is there outside, or for one of the same length that is not.
NAME = "{name}"
THERE, ABSENT = "secret", "absent"

#: Stands for the absolute path of what is around the folder.
AROUND = "{around}"

#: A session that is not the attacker's.
VICTIM = "{11111111-2222-4333-8444-555555555555}"

DOTS = (
    *("..", ".", "%2e%2e", ".%2E", "%252e%252e", "..%00", "..%20", ".. ", "...", "..;"),
    *("\u2024\u2024", "\uff0e\uff0e", "%c0%ae%c0%ae", "%e2%80%a4%e2%80%a4", "..%0d%0a"),
    *("%uff0e%uff0e", "..::$DATA", "..%5c", "..\\", "%2e%2e%2f", "%252e%252e%252f"),
)
SLASHES = (
    *("/", "/", "/", "/", "//", "%2f", "%2F", "%5c", "\\", "%252f", "%255c", "%c0%af"),
    *("\u2215", "\u2044", "\uff0f", "%e2%88%95", "\u29f8", "/./", "/%2e/", "/../"),
)
OWN = (
    *("BITS-Sessions", "bits-sessions", "BITS%2DSessions", "%42its-sessions"),
    *(
        "BITS-Replies",
        "BITS-REPLIES",
        "BITS-Se\u017f\u017fions",
        "BITS-Sessions.",
        "BITS-S~1",
    ),
    *("BITS-Sessions::$DATA", "\uff22\uff29\uff34\uff33-Sessions", "BITS-Sessions%20"),
)
INSIDE = (
    *("sub", "a.dat", "new.dat", "link-out", "link-file", "link-in", "link-sessions"),
    *("up", "loop", VICTIM, "%7B11111111-2222-4333-8444-555555555555%7D"),
    *("request", "session.json", "response", "publish", "in", "in-2", "IN", ".", "~"),
)
ODD = (
    *(
        "CON",
        "nul.txt",
        "COM1.",
        "LPT\u00b9",
        "a:b",
        "a.dat::$DATA",
        "a.dat.",
        "a.dat%20",
    ),
    *(
        "%00",
        "a%00b",
        "%ff",
        "\udcff",
        "%",
        "%zz",
        "%0a",
        "*",
        "?",
        "#",
        "?x=/../",
        "%23",
    ),
    *(
        "%3f",
        ";",
        "+",
        "|",
        "x" * 256,
        "y" * 255,
        "z/" * 2100,
        "\u00e9" * 127,
        "%c3%a9",
    ),
    *("$HOME", "%7e", "\u202e", "\ufeff", "a\u0301", "proc/self/fd/1", "etc/passwd"),
)
STARTS = (
    *("/in/", "/in/", "/in/", "/in/", "/in", "/", "//", "/in/sub/", "http://test/in/"),
    *(
        f"/in/{AROUND}/",
        "/in/%2f",
        f"/in//{AROUND}/",
        "",
        "*",
        "test:80",
        "http://test",
    ),
    *("/in/sub/../", "/IN/", "/in-2/", "/in%2f", "file:///", "http://test/../in/../"),
)
ENDS = ("", "", "", NAME, NAME, f"/{NAME}", f"/{NAME}", "/", "?x", "#y", "/.", "/..")
PIECES = (*DOTS, *SLASHES, *OWN, *INSIDE, *ODD, NAME)

#: Each is one way out that was tried on some server.
WAYS = (
    *(f"/in/{dots}/{NAME}" for dots in DOTS),
    *(f"/in/{dots}{slash}{NAME}" for dots in ("..", "%2e%2e") for slash in SLASHES),
    *(f"/in/sub/up{slash}{NAME}" for slash in SLASHES),
    *(f"/in/{own}/{VICTIM}/request" for own in OWN),
    *(f"/in/BITS-Sessions{slash}{VICTIM}{slash}request" for slash in SLASHES),
    *(f"/in/{own}/{NAME}" for own in OWN),
    *(f"/in/{link}/{NAME}" for link in INSIDE),
    *(f"{start}{NAME}" for start in STARTS),
    *(f"/in/{odd}" for odd in ODD),
)


def random_target(random: Random) -> str:
    """Any of a great many."""
    if random.random() < 0.2:
        return random.choice(WAYS)
    middle = [
        random.choice(PIECES) + random.choice(("", "", *SLASHES))
        for _ in range(random.randint(0, 6))
    ]
    return random.choice(STARTS) + "".join(middle) + random.choice(ENDS)


def filled(target: str, name: str, around: Path) -> str:
    """The target for one of the two names, as a request line can hold it."""
    text = target.replace(NAME, name).replace(AROUND, str(around))
    for broken in " \t\r\n\0":
        text = text.replace(broken, "")
    return text


def set_out(around: Path, *, links: bool = True) -> None:
    """What is around the folder `in` and in it."""
    for place in (around, around / "in-2", around / "BITS-Sessions", around / "new"):
        place.mkdir(exist_ok=True)
        (place / THERE).write_bytes(SECRET)
    folder = around / "in"
    home = folder / "BITS-Sessions" / VICTIM
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    for name in (THERE, "request", "session.json"):
        (home / name).write_bytes(SECRET)
    (home.parent / THERE).write_bytes(SECRET)
    (folder / "a.dat").write_bytes(PUBLIC)
    if links:
        set_links(folder)


def set_links(folder: Path) -> None:
    """Those that are not there (any more)."""
    for name, to in (
        ("link-out", "../in-2"),
        ("link-file", f"../{THERE}"),
        ("link-in", "sub"),
        ("link-sessions", "BITS-Sessions"),
        ("sub/up", "../.."),
        ("up", ".."),
        ("loop", "loop"),
    ):
        path = folder / name
        if not path.is_symlink():
            path.unlink(missing_ok=True)
            path.symlink_to(to)


def untouchable(around: Path) -> Iterator[tuple[object, ...]]:
    """All that nobody may change: what is around the folder, and another's session."""
    for folder, folders, files in os.walk(around):
        if Path(folder) == around:
            folders.remove("in")
        yield from state(Path(folder), files)
    home = around / "in" / "BITS-Sessions" / VICTIM
    yield from state(home, [path.name for path in home.iterdir()])


def state(folder: Path, files: list[str]) -> Iterator[tuple[object, ...]]:
    """Whatever can be seen of them but the time they were read."""
    for path in (folder, *(folder / name for name in sorted(files))):
        seen = path.lstat()
        times = seen.st_mtime_ns, seen.st_ctime_ns
        octets = path.read_bytes() if path.is_file() else sorted(path.iterdir())
        yield str(path), seen.st_ino, seen.st_mode, seen.st_nlink, *times, octets


def published(folder: Path) -> set[Path]:
    """The files in the folder, but for those of sessions and what links lead to."""
    return {
        Path(place, name)
        for place, _folders, files in os.walk(folder)
        if "BITS-Sessions" not in Path(place).relative_to(folder).parts[:1]
        for name in files
        if not Path(place, name).is_symlink()
    }
