"""A folder that follows a server."""

import asyncio
import io
import json
import random
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from processes import PROCESS_SECONDS, is_one_line, ran, started
from scripted import SILENCE, Asked, answer, scripted
from web_servers import nginx
from wire_client import until

from bitsd.cli import main
from bitsd.client import options
from bitsd.client.fetching import How
from bitsd.client.options import Options
from bitsd.client.partial import Here
from bitsd.client.progress import Event, Kind
from bitsd.client.replies import Version
from bitsd.client.sync import (
    Memory,
    Sync,
    Wanted,
    in_order,
    is_new,
    next_look,
)
from bitsd.client.sync_command import problem

H = "http://h/in"
TIME = "Sun, 13 Sep 2020 12:26:40 GMT"
LATER = "Sun, 13 Sep 2020 12:26:41 GMT"
HERE = Here(5, 1_600_000_000)


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ([f"{H}/a.txt"], [Wanted(f"{H}/a.txt")]),
        ([f"{H}/a.ckm"], [Wanted(f"{H}/a.ckm", f"{H}/a.ckm.index")]),
        ([f"{H}/a.CKM?x=y"], [Wanted(f"{H}/a.CKM?x=y", f"{H}/a.CKM.index?x=y")]),
        ([f"{H}/a b.ckm"], [Wanted(f"{H}/a%20b.ckm", f"{H}/a%20b.ckm.index")]),
        (
            [f"{H}/a.ckm", f"{H}/a.ckm.index", f"{H}/a.ckm"],
            [Wanted(f"{H}/a.ckm", f"{H}/a.ckm.index")],
        ),
        (
            [f"{H}/b.ckm.index", f"{H}/a.ckm"],
            [Wanted(f"{H}/b.ckm.index"), Wanted(f"{H}/a.ckm", f"{H}/a.ckm.index")],
        ),
    ],
)
def test_index_comes_before_its_image(urls, expected):
    assert in_order(urls) == expected


@pytest.mark.parametrize(
    ("there", "here", "known", "expected"),
    [
        ((5, '"a"', TIME), None, None, True),
        ((5, '"a"', TIME), None, (5, '"a"', TIME), True),
        ((5, '"a"', TIME), HERE, None, False),
        ((5, '"a"', TIME), HERE, (5, '"a"', TIME), False),
        ((5, '"b"', TIME), HERE, (5, '"a"', TIME), True),
        ((6, '"a"', TIME), HERE, (5, '"a"', TIME), True),
        ((5, '"a"', LATER), HERE, (5, '"a"', LATER), True),
        ((5, None, TIME), HERE, None, False),
        ((5, None, TIME), HERE, (5, None, TIME), False),
        ((5, '"a"', None), HERE, None, True),
        ((5, '"a"', None), HERE, (5, '"a"', None), False),
        ((5, '"b"', None), HERE, (5, '"a"', None), True),
        ((0, '"a"', TIME), Here(0, 1_600_000_000), None, False),
    ],
)
def test_what_counts_as_changed(there, here, known, expected):
    version = None if known is None else Version(*known, None)

    assert is_new(Version(*there, None), here, version) is expected


def test_clients_look_at_different_times():
    dice = random.Random(1)
    looks = [next_look(timedelta(seconds=100), dice) for _ in range(200)]

    assert 90 <= min(looks) < 91
    assert 109 < max(looks) <= 110


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ([f"{H}/a.ckm", f"{H}/b.ckm"], None),
        ([f"{H}/a.ckm", f"{H}/a.ckm"], None),
        ([f"{H}/a.ckm", "http://h/out/a.ckm"], "same name"),
        ([f"{H}/"], "does not name a file; give the URL of a file"),
        (["a.ckm"], "not a URL"),
        (["http://[/a"], "URL"),
    ],
)
def test_urls_have_names_of_their_own(urls, said):
    found = problem(urls)

    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize("text", ["", "{}", '{"a": 1}', "[]", '"a"', "\xff"])
def test_memory_that_makes_no_sense_is_none(tmp_path: Path, text: str):
    memory = Memory(tmp_path, tmp_path / "a", H)
    memory.remember(Version(5, '"a"', None, '"a"'))
    assert memory.recall() == Version(5, '"a"', None, '"a"')
    (kept,) = tmp_path.iterdir()
    kept.write_text(text, "latin-1")

    assert memory.recall() is None


def test_without_a_place_nothing_is_remembered(tmp_path: Path):
    (tmp_path / "file").touch()
    memory = Memory(tmp_path / "file" / "folder", tmp_path / "a", H)
    memory.remember(Version(5, None, None, None))

    assert memory.recall() is None


class Shelf:
    """Files on a scripted server; a number is a status in place of a file."""

    def __init__(self, **files: bytes | int) -> None:
        self.files = {name.replace("_", "."): what for name, what in files.items()}
        self.etags: dict[str, str] = {}
        self.modified: str | None = TIME

    def __call__(self, asked: Asked) -> bytes:
        name = asked.target.rpartition("/")[2]
        what = self.files.get(name, 404)
        if isinstance(what, int):
            return answer(what)
        fields = [("ETag", self.etags.get(name, '"1"'))]
        if self.modified:
            fields.append(("Last-Modified", self.modified))
        said = answer(200, *fields, body=what)
        return said[: len(said) - len(what)] if asked.method == "HEAD" else said


@pytest.fixture
def follow(tmp_path: Path):
    """Make a `Sync` of a server's files."""

    def made(url: str, *names: str) -> Sync:
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        events: list[Event] = []
        return Sync(
            folder=folder,
            urls=tuple(f"{url}/{name}" for name in names),
            options=Options(),
            how=How(retry_for=timedelta(0)),
            memory=tmp_path / "memory",
            tell=events.append,
        )

    return made


def asked(server) -> list[str]:
    found = [f"{each.method} {each.target.rpartition('/')[2]}" for each in server.asked]
    server.asked.clear()
    return found


async def test_image_is_fetched_after_its_index(follow):
    async with scripted(Shelf(a_ckm=b"image", a_ckm_index=b"index")) as server:
        sync = follow(server.url, "a.ckm")

        assert await sync.look()
        assert asked(server) == [
            "HEAD a.ckm.index",
            "GET a.ckm.index",
            "HEAD a.ckm",
            "GET a.ckm",
        ]
        assert (sync.folder / "a.ckm").read_bytes() == b"image"

        assert await sync.look()
        assert asked(server) == ["HEAD a.ckm.index", "HEAD a.ckm"]


async def test_image_without_an_index_is_fetched(follow):
    async with scripted(Shelf(a_ckm=b"image")) as server:
        assert await follow(server.url, "a.ckm").look()
        assert asked(server) == ["HEAD a.ckm.index", "HEAD a.ckm", "GET a.ckm"]


@pytest.mark.parametrize("status", [500, 403])
async def test_image_is_not_fetched_without_its_index(follow, status: int):
    shelf = Shelf(a_ckm=b"image", a_ckm_index=status, b=b"other")
    async with scripted(shelf) as server:
        sync = follow(server.url, "a.ckm", "b")

        assert not await sync.look()
        assert asked(server) == ["HEAD a.ckm.index", "HEAD b", "GET b"]

        shelf.files["a.ckm.index"] = b"index"
        assert await sync.look()
        assert asked(server) == [
            "HEAD a.ckm.index",
            "GET a.ckm.index",
            "HEAD a.ckm",
            "GET a.ckm",
            "HEAD b",
        ]


async def test_file_of_the_same_time_and_length_is_fetched_by_its_etag(follow):
    shelf = Shelf(a=b"one")
    async with scripted(shelf) as server:
        sync = follow(server.url, "a")
        await sync.look()
        shelf.files["a"], shelf.etags["a"] = b"two", '"2"'
        await sync.look()

    assert (sync.folder / "a").read_bytes() == b"two"


async def test_file_without_a_time_is_known_in_another_run(follow):
    shelf = Shelf(a=b"one")
    shelf.modified = None
    async with scripted(shelf) as server:
        await follow(server.url, "a").look()
        await follow(server.url, "a").look()

        assert asked(server) == ["HEAD a", "GET a", "HEAD a"]


async def test_file_that_was_here_before_is_remembered(follow):
    shelf = Shelf(a=b"one")
    async with scripted(shelf) as server:
        sync = follow(server.url, "a")
        await sync.look()
        for path in sync.memory.iterdir():
            path.unlink()
        await sync.look()
        shelf.etags["a"] = '"2"'
        await sync.look()

        assert asked(server) == ["HEAD a", "GET a", "HEAD a", "HEAD a", "GET a"]


async def test_file_that_is_gone_or_cannot_be_reached_fails(follow):
    shelf = Shelf(a=b"one", b=404)
    async with scripted(shelf) as server:
        sync = follow(server.url, "b", "a")

        assert not await sync.look()
        assert (sync.folder / "a").exists()

    assert not await sync.look()
    failed = [event for event in sync.tell.__self__ if event.event is Kind.FAILED]
    assert failed[0].file == "b"
    assert failed[0].reason == "there is no such file on the server"
    assert "cannot connect" in failed[-1].reason


async def test_fetch_that_fails_is_told(follow):
    def script(asked: Asked) -> bytes:
        return answer(200) if asked.method == "HEAD" else answer(404)

    async with scripted(script) as server:
        assert not await follow(server.url, "a").look()


async def test_program_looks_once(tmp_path: Path):
    folder = tmp_path / "new" / "folder"
    async with nginx(tmp_path / "nginx") as server:
        (server.root / "a.ckm").write_bytes(b"image")
        (server.root / "a.ckm.index").write_bytes(b"index")
        arguments = ("sync", f"{server.url}/a.ckm", str(folder), "--once")
        code, out, err = await ran(*arguments)

        assert (code, err) == (0, "")
        assert out == "a.ckm.index: fetched, 5 bytes\na.ckm: fetched, 5 bytes\n"
        assert (folder / "a.ckm").read_bytes() == b"image"
        assert [f"{each.method} {each.path}" for each in server.asked()] == [
            "HEAD /a.ckm.index",
            "GET /a.ckm.index",
            "HEAD /a.ckm",
            "GET /a.ckm",
        ]
        assert list((tmp_path / "state" / "bitsd" / "sync").iterdir())

        again = "a.ckm.index: already there, 5 bytes\na.ckm: already there, 5 bytes\n"
        assert await ran(*arguments) == (0, again, "")

        (server.root / "a.ckm").unlink()
        (server.root / "a.ckm.index").unlink()
        code, out, err = await ran(*arguments)

        assert (code, out) == (1, "")
        assert is_one_line(err)
        assert "a.ckm: there is no such file" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_program_looks_until_it_is_stopped(
    tmp_path: Path, number: signal.Signals
):
    folder = tmp_path / "folder"
    shelf = Shelf(a=503)
    async with scripted(shelf) as server:
        process = await started(
            "sync", f"{server.url}/a", str(folder), "--every", "1s", "--json"
        )
        await until(lambda: len(server.asked) > 0)
        shelf.files["a"] = b"one"
        told = []
        async with asyncio.timeout(PROCESS_SECONDS):
            while not told or told[-1]["event"] != "done":
                told.append(json.loads(await process.stdout.readline()))
            process.send_signal(number)
            _out, err = await process.communicate()

    assert process.returncode == 0
    assert is_one_line(err.decode())
    assert "503" in err.decode()
    assert [event["event"] for event in told] == ["failed", "started", "done"]
    assert told[-1]["reason"] == "fetched, 3 bytes"
    assert (folder / "a").read_bytes() == b"one"


def test_folder_that_cannot_be_made_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    code = main(["sync", f"{H}/a", str(tmp_path / "file" / "folder"), "--once"])
    out, err = capsys.readouterr()

    assert (code, out) == (1, "")
    assert is_one_line(err)
    assert "cannot make the folder" in err


@pytest.mark.parametrize("arguments", [(), (f"{H}/a",), (f"{H}/", "folder")])
def test_wrong_usage_of_sync(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(["sync", *arguments])

    assert ended.value.code == 2
    assert "usage: bitsd sync" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["download", "sync"])
@pytest.mark.parametrize("how", [KeyboardInterrupt, EOFError])
def test_prompt_may_be_left(
    command: str, how: type[BaseException], monkeypatch: pytest.MonkeyPatch
):
    def left(_prompt: str) -> str:
        raise how

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(options, "getpass", left)

    assert main([command, f"{H}/a", "folder", "--user", "me"]) == 130


async def test_options_of_sync_may_be_anywhere(tmp_path: Path):
    async with nginx(tmp_path / "nginx") as server:
        for name in ("a", "b"):
            (server.root / name).write_text(name)
        folder = tmp_path / "f"
        code, _out, err = await ran(
            *("sync", f"{server.url}/a", "--once", f"{server.url}/b"),
            *("--connections", "2", str(folder)),
        )

    assert (code, err) == (0, "")
    assert [path.name for path in sorted(folder.iterdir())] == ["a", "b"]


async def test_interrupted_look_is_told_by_its_code(tmp_path: Path):
    async with scripted(lambda _asked: SILENCE) as server:
        process = await started("sync", f"{server.url}/a", str(tmp_path), "--once")
        await until(lambda: len(server.asked) > 0)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PROCESS_SECONDS):
            out, err = await process.communicate()

    said = f"bitsd: {tmp_path}: interrupted; the same command goes on\n"
    assert (process.returncode, out, err) == (130, b"", said.encode())
