"""No spelling of a URL leads out of the folder, or into the sessions."""

from pathlib import Path

import pytest
from sites import Serve, Site
from wire_client import Answer, Line, create, fetch, fragment

SECRET = b"outside of the folder"
MALFORMED = ("0x80070057", "0x80070057", "0x5")

TRAVERSALS = [
    "/in/../secret",
    "/in/%2e%2e/secret",
    "/in/%2E%2E/secret",
    "/in/.%2e/secret",
    "/in/..%2fsecret",
    "/in/..%2Fsecret",
    "/in/%2e%2e%2fsecret",
    "/in/..%5csecret",
    "/in/..\\secret",
    "/in/%252e%252e/secret",
    "/in/sub/../../secret",
    "/in/sub/..%2f..%2fsecret",
    "/in/./../secret",
    "/in/%2e/../secret",
    "/in//../secret",
    "/in/....//secret",
    "/in/..;/secret",
    "/in/..%00/secret",
    "/in/..%00%2fsecret",
    "/in/..%20/secret",
    "/in/%20../secret",
    "/in/.../secret",
    "/in/%c0%ae%c0%ae/secret",
    "/in/%c0%ae%c0%ae%c0%afsecret",
    "/in/%e0%80%ae%e0%80%ae/secret",
    "/in/%uff0e%uff0e/secret",
    "/in/\uff0e\uff0e/secret",
    "/in/sub/../../../../../../../..{secret}",
    "/in/{secret}",
    "/in/%2f{secret}",
    "/in//{secret}",
    "/in/file:{secret}",
    "/in/../in/../secret",
    "/in%2f..%2fsecret",
    "/in/..?/secret",
    "/in/..%23/secret",
    "/../secret",
    "/secret",
    "//secret",
    "/in/..",
    "/in/../",
    "http://test/in/../secret",
    "http://test/in/%2e%2e/secret",
]

#: Ways to say BITS-Sessions; the session's id and file follow.
SESSIONS = [
    "BITS-Sessions",
    "bits-sessions",
    "BITS-SESSIONS",
    "BiTs-SeSsIoNs",
    "%42ITS-Sessions",
    "BITS%2DSessions",
    "%62%69%74%73%2d%73%65%73%73%69%6f%6e%73",
    "BITS-Sessions.",
    "BITS-Sessions%20",
    "BITS-Sessions%2e",
    "/BITS-Sessions",
    "./BITS-Sessions",
    "%2e/BITS-Sessions",
    "sub/../BITS-Sessions",
    "sub/%2e%2e/BITS-Sessions",
    "BITS-Sessions%00",
    "BITS-Sessions::$INDEX_ALLOCATION",
    "BITS-S~1",
]

DEVICES = [
    "CON",
    "con",
    "PRN",
    "AUX",
    "nul",
    "NUL.txt",
    "aux.ckm.index",
    "COM1",
    "com9.log",
    "LPT1",
    "lpt9.zip",
    "COM%C2%B9",
    "CONIN$",
    "sub/NUL",
    "NUL/report.dat",
]


def refused(answer: Answer) -> bool:
    """Not done, and not by a fault of ours."""
    return 400 <= answer.status < 500


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the sessions' own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "BITS-Sessions" not in path.parts
    }


@pytest.fixture
async def site(serve: Serve, tmp_path: Path) -> Site:
    """A server that overwrites, so that nothing but the path is in the way."""
    site = await serve(directory="overwrite = true")
    (tmp_path / "secret").write_bytes(SECRET)
    (site.folder / "sub").mkdir()
    return site


@pytest.fixture
async def line(site: Site) -> Line:
    return await site.dial()


@pytest.mark.parametrize("spelling", TRAVERSALS)
async def test_nothing_outside_is_read(line: Line, tmp_path: Path, spelling: str):
    target = spelling.replace("{secret}", str(tmp_path / "secret"))
    answer = await line.ask(fetch(target))

    assert refused(answer)
    assert SECRET not in answer.body


@pytest.mark.parametrize("spelling", TRAVERSALS)
async def test_nothing_outside_is_written(line: Line, tmp_path: Path, spelling: str):
    before = tree(tmp_path)
    target = spelling.replace("{secret}", str(tmp_path / "secret"))
    answer = await line.ask(create(target))

    assert refused(answer)
    assert answer.get("BITS-Packet-Type") == "Ack"
    assert answer.get("BITS-Session-Id") is None
    assert tree(tmp_path) == before


async def test_escapes_are_undone_once(site: Site, line: Line, tmp_path: Path):
    before = (tmp_path / "secret").read_bytes()
    await line.upload("/in/..%252fsecret", b"abc")

    assert (site.folder / "..%2fsecret").read_bytes() == b"abc"
    assert (tmp_path / "secret").read_bytes() == before


@pytest.mark.parametrize("spelling", SESSIONS)
async def test_sessions_are_not_read(line: Line, spelling: str):
    named = await line.create("/in/report.dat")
    await line.ask(fragment("/in/report.dat", named, 0, SECRET, 1000))
    quoted = named.replace("{", "%7B").replace("}", "%7D")
    for rest in (f"{quoted}/request", f"{named}/request", f"{quoted}/session.json"):
        answer = await line.ask(fetch(f"/in/{spelling}/{rest}"))
        assert refused(answer)
        assert SECRET not in answer.body


@pytest.mark.parametrize("spelling", SESSIONS)
async def test_sessions_are_not_written(site: Site, line: Line, spelling: str):
    named = await line.create("/in/report.dat")
    await line.ask(fragment("/in/report.dat", named, 0, SECRET, 1000))
    for rest in (f"{named}/request", f"{named}/session.json", "new.dat"):
        answer = await line.ask(create(f"/in/{spelling}/{rest}"))
        assert refused(answer)
        assert answer.get("BITS-Session-Id") is None

    assert site.sessions == [named]


@pytest.mark.parametrize("spelling", ["BITS-Sessions", "bits-sessions"])
async def test_name_of_the_sessions_is_not_a_file(line: Line, spelling: str):
    answer = await line.ask(create(f"/in/{spelling}"))

    assert refused(answer)


@pytest.mark.parametrize("name", ["BITS-Sessions", "BITS-Replies"])
async def test_reserved_name_is_free_further_down(site: Site, line: Line, name: str):
    (site.folder / "sub" / name).mkdir()
    await line.upload(f"/in/sub/{name}/report.dat", b"abc")

    assert (site.folder / "sub" / name / "report.dat").read_bytes() == b"abc"


# Links.


async def test_link_to_a_file_outside_is_not_read(
    site: Site, line: Line, tmp_path: Path
):
    (site.folder / "link").symlink_to(tmp_path / "secret")
    (site.folder / "chain").symlink_to("link")
    for name in ("link", "chain"):
        answer = await line.ask(fetch(f"/in/{name}"))
        assert refused(answer)
        assert SECRET not in answer.body


async def test_link_to_a_folder_outside_is_not_followed(
    site: Site, line: Line, tmp_path: Path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    (site.folder / "link").symlink_to(outside)
    read = await line.ask(fetch("/in/link/secret"))
    written = await line.ask(create("/in/link/new.dat"))
    replaced = await line.ask(create("/in/link/secret"))

    assert [refused(answer) for answer in (read, written, replaced)] == [True] * 3
    assert SECRET not in read.body
    assert tree(outside) == {"secret": SECRET}


async def test_folder_that_becomes_a_link_is_not_followed(
    site: Site, line: Line, tmp_path: Path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    named = await line.create("/in/sub/report.dat")
    (site.folder / "sub").rmdir()
    (site.folder / "sub").symlink_to(outside)
    answer = await line.ask(fragment("/in/sub/report.dat", named, 0, b"abc", 3))

    assert answer.status != 200
    assert tree(outside) == {}


async def test_link_at_the_destination_is_not_written_through(
    site: Site, line: Line, tmp_path: Path
):
    (site.folder / "link").symlink_to(tmp_path / "secret")
    created = await line.ask(create("/in/link"))
    named = created.get("BITS-Session-Id")
    if named is not None:
        await line.ask(fragment("/in/link", named, 0, b"abc", 3))

    assert (tmp_path / "secret").read_bytes() == SECRET


async def test_link_to_the_sessions_is_not_followed(site: Site, line: Line):
    (site.folder / "alias").symlink_to("BITS-Sessions")
    named = await line.create("/in/report.dat")
    await line.ask(fragment("/in/report.dat", named, 0, SECRET, 1000))
    read = await line.ask(fetch(f"/in/alias/{named}/request"))
    written = await line.ask(create(f"/in/alias/{named}/request"))

    assert (refused(read), refused(written)) == (True, True)
    assert SECRET not in read.body


async def test_link_inside_the_folder_is_followed(site: Site, line: Line):
    (site.folder / "alias").symlink_to("sub")
    await line.upload("/in/alias/report.dat", b"abc")

    assert (site.folder / "sub" / "report.dat").read_bytes() == b"abc"


# Names that are no file's.


@pytest.mark.parametrize("name", DEVICES)
async def test_name_of_a_device_is_refused(line: Line, name: str):
    answer = await line.ask(create(f"/in/{name}"))

    assert (answer.status, answer.error) == (400, MALFORMED)


@pytest.mark.parametrize(
    "name",
    [
        "a:b",
        "report.dat::$DATA",
        "a%3Ab",
        "a%2Ab",
        "a%3Fb",
        "a%22b",
        "a%3Cb",
        "a%7Cb",
        "a%5Cb",
        "a%2Fb",
        "a%00b",
        "a%0Ab",
        "a%7Fb",
        "dot.",
        "space%20",
        "%20",
        ".",
        "%2e",
    ],
)
async def test_name_that_windows_could_not_store_is_refused(line: Line, name: str):
    answer = await line.ask(create(f"/in/{name}"))

    assert (answer.status, answer.error) == (400, MALFORMED)


@pytest.mark.parametrize("name", ["CONSOLE.txt", "nul1", "com10", "acon", "lpt.txt"])
async def test_name_that_resembles_a_device_is_taken(site: Site, line: Line, name: str):
    await line.upload(f"/in/{name}", b"abc")

    assert (site.folder / name).read_bytes() == b"abc"


@pytest.mark.parametrize(("length", "status"), [(255, 200), (256, 400)])
async def test_length_of_a_name_has_a_limit(line: Line, length: int, status: int):
    answer = await line.ask(create("/in/" + "x" * length))

    assert answer.status == status


# Folders.


@pytest.mark.parametrize("target", ["/in/sub", "/in/sub/", "/in/", "/in"])
async def test_folder_is_no_destination(line: Line, target: str):
    answer = await line.ask(create(target))

    assert (answer.status, answer.error) == (400, MALFORMED)


@pytest.mark.parametrize("target", ["/in/none/report.dat", "/in/sub/none/x/y.dat"])
async def test_missing_parent_is_told(site: Site, line: Line, target: str):
    answer = await line.ask(create(target))

    assert answer.status == 404
    assert not (site.folder / "none").exists()


async def test_file_is_no_parent(site: Site, line: Line):
    (site.folder / "file").write_bytes(b"abc")
    answer = await line.ask(create("/in/file/report.dat"))

    assert refused(answer)
    assert (site.folder / "file").read_bytes() == b"abc"


async def test_parent_that_vanishes_is_told_with_the_last_fragment(
    site: Site, line: Line
):
    named = await line.create("/in/sub/report.dat")
    (site.folder / "sub").rmdir()
    octets = fragment("/in/sub/report.dat", named, 0, b"abc", 3)
    answer = await line.ask(octets)

    assert answer.status == 404

    (site.folder / "sub").mkdir()
    again = await line.ask(octets)

    assert (again.status, again.received) == (200, 3)
    assert (site.folder / "sub" / "report.dat").read_bytes() == b"abc"


@pytest.mark.parametrize("target", ["/in", "/in/", "/in/sub", "/in/sub/"])
async def test_folder_is_not_listed(site: Site, line: Line, target: str):
    (site.folder / "sub" / "report.dat").write_bytes(SECRET)
    answer = await line.ask(fetch(target))

    assert refused(answer)
    assert b"report" not in answer.body
