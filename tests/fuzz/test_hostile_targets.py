"""For any target: nothing outside the folder is read, written, made or told of."""

import asyncio
import os
import re
import shutil
import signal
import sys
import sysconfig
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event, Thread

import pytest
from hostile_targets import (
    ABSENT,
    ENDS,
    PIECES,
    PUBLIC,
    SECRET,
    STARTS,
    THERE,
    VICTIM,
    WAYS,
    filled,
    published,
    random_target,
    set_links,
    set_out,
    untouchable,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import Running
from sites import CONFIG, EVERYBODY, Site
from store_kit import cannot_run
from wire_client import Answer, Line, close, create, fetch, fragment

BODY = b"new bytes"
TAKES_ALL = "overwrite = true\nsessions_per_user = 100000"

targets = st.builds(
    "{}{}{}".format,
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=8).map("".join),
    st.sampled_from(ENDS),
)


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a place, for thousands of files are made."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        set_out(Path(name))
        yield Path(name)


@pytest.fixture
async def site(around: Path) -> AsyncIterator[Site]:
    """A server that takes all, so that nothing but the path is in the way."""
    site = Site(around / "bitsd.toml")
    site.config.write_text(
        CONFIG.format(top="", directory=TAKES_ALL, who=EVERYBODY), "utf-8"
    )
    await site.start()
    yield site
    await site.lines.hang_up()
    await site.stop()


@dataclass
class Attacker:
    """Sends targets to a server, on connections that may be closed on it."""

    site: Site
    line: Line | None = None

    async def ask(self, octets: bytes, *, head: bool = False) -> Answer:
        if self.line is None:
            self.line = await self.site.dial()
        answer = await self.line.ask(octets, head=head and b"/in" in octets)
        if answer.get("Connection") == "close":
            await self.line.hang_up()
            self.line = None
        return answer

    async def visit(self, target: str) -> list[object]:
        """Read it, and write it if that may be; what can be learned by that."""
        folder = self.site.folder
        before = published(folder)
        got = await self.ask(fetch(target))
        created = await self.ask(create(target))
        told: list[object] = [got.status, got.body, created.status, created.error]
        assert SECRET not in got.body
        named = created.get("BITS-Session-Id")
        if created.status == 200 and named is not None:
            sent = await self.ask(fragment(target, named, 0, BODY, len(BODY)))
            await self.ask(close(target, named))
            told += [sent.status, sent.error]
            if sent.status == 200:
                assert len(published(folder) - before) <= 1
                assert sum(path.read_bytes() == BODY for path in published(folder)) == 1
                self.clear(folder)
        return told

    def clear(self, folder: Path) -> None:
        """As it was."""
        for path in published(folder):
            if path.read_bytes() == BODY:
                path.unlink()
        (folder / "a.dat").write_bytes(PUBLIC)
        set_links(folder)


async def check(attacker: Attacker, target: str) -> None:
    around = attacker.site.folder.parent
    before = list(untouchable(around))
    there = await attacker.visit(filled(target, THERE, around))
    absent = await attacker.visit(filled(target, ABSENT, around))

    assert there == absent, target
    assert list(untouchable(around)) == before, target


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(target=targets)
async def test_nothing_outside_is_touched_or_told_of(site: Site, target: str):
    attacker = Attacker(site)
    await check(attacker, target)
    await site.lines.hang_up()


@pytest.mark.parametrize("part", range(4))
async def test_no_known_way_leads_out(site: Site, part: int):
    attacker = Attacker(site)
    for target in WAYS[part::4]:
        await check(attacker, target)


# Look-alikes are names as any other.


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("..\u2215secret", id="division slash"),
        pytest.param("..\u2044secret", id="fraction slash"),
        pytest.param("..\uff0fsecret", id="full-width slash"),
        pytest.param("\u2024\u2024", id="one dot leaders"),
        pytest.param("\uff0e\uff0e", id="full-width dots"),
        pytest.param(
            "\uff22\uff29\uff34\uff33-Sessions", id="full-width reserved name"
        ),
        pytest.param("\uff23\uff2f\uff2e", id="full-width device"),
        pytest.param("%2e%2e", id="escaped twice"),
    ],
)
async def test_name_that_only_looks_like_another_is_a_name(site: Site, name: str):
    before = list(untouchable(site.folder.parent))
    line = await site.dial()
    await line.upload(f"/in/{name.replace('%', '%25')}", BODY)

    assert (site.folder / name).read_bytes() == BODY
    assert list(untouchable(site.folder.parent)) == before


# Links that change while they are followed.


def flip(folder: Path, to: str, over: Event) -> None:
    """Be a folder and a link in turn, as fast as can be."""
    flipping, real, link = (folder / name for name in ("flip", "real", "link"))
    link.symlink_to(to)
    while not over.is_set():
        flipping.rename(real)
        link.rename(flipping)
        flipping.rename(link)
        real.rename(flipping)


@pytest.mark.parametrize("to", ["../in-2", "BITS-Sessions", f"BITS-Sessions/{VICTIM}"])
async def test_link_that_flips_lets_nothing_out_or_in(site: Site, to: str):
    folder, over = site.folder, Event()
    (folder / "flip").mkdir()
    (folder / "flip" / THERE).write_bytes(PUBLIC)
    before = list(untouchable(folder.parent))
    thread = Thread(target=flip, args=(folder, to, over))
    thread.start()
    try:
        attacker = Attacker(site)
        for number in range(150):
            got = await attacker.ask(fetch(f"/in/flip/{THERE}"))
            assert got.status in (200, 404)
            assert got.body in (PUBLIC, b"Not Found\n")
            target = f"/in/flip/{number}"
            created = await attacker.ask(create(target))
            if named := created.get("BITS-Session-Id"):
                await attacker.ask(fragment(target, named, 0, BODY, len(BODY)))
                await attacker.ask(close(target, named))
    finally:
        over.set()
        thread.join()

    assert list(untouchable(folder.parent)) == before
    assert {path.parent.name for path in published(folder)} <= {"flip", "in"}


# What the kernel saw.

QUOTED = re.compile(r'(?:\w+<([^<>]*)>, )?"((?:[^"\\]|\\.)*)"')
OPENED = re.compile(r"= \d+<([^<>]*)>$")
CODE = {
    Path(path).resolve()
    for path in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())
} | {Path(__file__).resolve().parents[2] / "bitsd"}
BEGIN, END = "/in/the-first-of-them", "/in/the-last-of-them"


def outside(log: list[str], folder: Path) -> list[str]:
    """The calls of a log that name, or reach, what is not in the folder.

    A link may be followed to learn that it leads out, but by O_PATH alone, which
    reads nothing and tells no one.
    """
    return [line for line in log if not all(allowed(line, folder))]


def allowed(line: str, folder: Path) -> Iterator[bool]:
    named = QUOTED.findall(line)
    if "readlink" in line:  # the other one is what it found
        named = named[:1]
    for base, octets in named:
        name = octets.encode("latin-1").decode("unicode_escape")
        yield is_inside(os.path.normpath(Path(base, name)), folder)
    for opened in OPENED.findall(line):
        yield is_inside(opened, folder) or "O_PATH" in line


def is_inside(path: str, folder: Path) -> bool:
    found = Path(path)
    inside = found == folder or found.is_relative_to(folder)
    # Python may look at each folder on the way to its own code.
    code = any(
        found.is_relative_to(each) or each.is_relative_to(found) for each in CODE
    )
    return inside or code or re.fullmatch(r"/proc/self/fd/\d+(/.*)?", path) is not None


async def test_kernel_saw_no_path_outside(around: Path):
    if shutil.which("strace") is None:
        cannot_run("strace is not installed")
    config, log = around / "bitsd.toml", around / "log"
    config.write_text(
        CONFIG.format(top="", directory=TAKES_ALL, who=EVERYBODY), "utf-8"
    )
    options = "-f -y -s 9000 -e trace=%file -e signal=none -o"
    process = await asyncio.create_subprocess_exec(
        "strace",
        *(*options.split(), log, sys.executable, "-m", "bitsd"),
        *("serve", "--config", config),
        stdout=PIPE,
        stderr=DEVNULL,
    )
    server = Running(process)
    try:
        await server.hear(r"^listening on ")
        await attack(server, Random(4), around)
    finally:
        [traced] = server.workers
        os.kill(traced, signal.SIGTERM)
        await server.process.wait()
        await server.lines.hang_up()
    lines = calls(log.read_text("latin-1").splitlines())
    first = next(at for at, line in enumerate(lines) if BEGIN[4:] in line)
    last = next(at for at, line in enumerate(lines) if END[4:] in line)
    seen = lines[first:last]

    assert len(seen) > 2000
    assert outside(seen, around / "in") == []


def calls(log: list[str]) -> list[str]:
    """Each on one line, where a call of another thread had come between."""
    begun: dict[str, str] = {}
    whole: list[str] = []
    for line in log:
        pid, _, text = line.partition(" ")
        if text.endswith(" <unfinished ...>"):
            begun[pid] = text.removesuffix(" <unfinished ...>")
        elif " resumed>" in text:
            whole.append(begun.pop(pid) + text.partition(" resumed>")[2])
        else:
            whole.append(text)
    return whole


async def attack(server: Running, random: Random, around: Path) -> None:
    """Thousands of targets, read and written."""
    chosen = [*WAYS, *(random_target(random) for _ in range(800))]
    line = await server.dial()
    await line.ask(fetch(BEGIN))
    for target in (filled(each, THERE, around) for each in chosen):
        for octets in (fetch(target), create(target)):
            answer = await line.ask(octets)
            assert SECRET not in answer.body
            if named := answer.get("BITS-Session-Id"):
                await line.ask(fragment(target, named, 0, BODY, len(BODY)))
            if answer.get("Connection") == "close":
                line = await server.dial()
    await line.ask(fetch(END))


def test_path_outside_is_seen_in_a_log(tmp_path: Path):
    folder = tmp_path / "in"
    inside = [
        f'1 openat(AT_FDCWD</>, "{folder}/a", O_RDONLY) = 5<{folder}/a>',
        f'1 linkat(AT_FDCWD</>, "{folder}/a", 7<{folder}/sub>, "b", 0) = 0',
        f'1 openat(AT_FDCWD</>, "{folder}/link", O_RDONLY|O_PATH) = 5<{tmp_path}/x>',
        '1 readlink("/proc/self/fd/5", "...", 4096) = 9',
    ]
    outer = [
        f'1 openat(AT_FDCWD</>, "{folder}/../x", O_RDONLY) = -1 ENOENT',
        f'1 newfstatat(AT_FDCWD</>, "{folder}-2", {{}}, 0) = 0',
        f'1 linkat(AT_FDCWD</>, "{folder}/a", 7<{folder}>, "../b", 0) = 0',
        f'1 openat(AT_FDCWD</>, "{folder}/link", O_RDONLY) = 5<{tmp_path}/x>',
        '1 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = -1 ENOENT',
    ]

    assert outside(inside + outer, folder) == outer
