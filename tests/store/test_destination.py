"""The only way from a URL to a file, without a server in front of it."""

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from store_kit import cannot_run, failed, handles, refused, small_disk

from bitsd.destination import Folder, destination, names
from bitsd.protocol.refusal import Reason, Refusal
from bitsd.protocol.session import Destination

SECRET = b"outside of the folder, or of a session"
PUBLIC = b"published"


@pytest.fixture(scope="module")
def trap(tmp_path_factory) -> Path:
    """A folder with everything in it that must not be followed."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_bytes(SECRET)
    folder = outside / "in"
    sessions = folder / "BITS-Sessions" / "{S}"
    sessions.mkdir(parents=True)
    (sessions / "request").write_bytes(SECRET)
    (folder / "sub").mkdir()
    for inside in ("a.dat", "sub/b.dat", "..%2fsecret", "BITS-Sessions-2"):
        (folder / inside).write_bytes(PUBLIC)
    (folder / "in-file").symlink_to("sub/b.dat")
    (folder / "in-folder").symlink_to("sub")
    (folder / "out-file").symlink_to("../secret")
    (folder / "out-folder").symlink_to("..")
    (folder / "sub" / "up").symlink_to("../..")
    (folder / "sessions").symlink_to("BITS-Sessions")
    (folder / "request").symlink_to("BITS-Sessions/{S}/request")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    (outside / "in-sibling").mkdir()
    (outside / "in-sibling" / "secret").write_bytes(SECRET)
    (folder / "sibling").symlink_to("../in-sibling")
    return folder


# Targets into names.


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param("/in/a.dat", ("in", "a.dat"), id="plain"),
        pytest.param("/in/sub/", ("in", "sub", ""), id="slash at the end"),
        pytest.param("/", ("",), id="root"),
        pytest.param("//in///a.dat", ("in", "a.dat"), id="doubled slashes"),
        pytest.param("/in/a.dat?x=/../y", ("in", "a.dat"), id="query"),
        pytest.param("/in/a.dat#x/y", ("in", "a.dat"), id="fragment"),
        pytest.param("/in/a%3Fb", ("in", "a?b"), id="escaped question mark"),
        pytest.param("/in/%252e", ("in", "%2e"), id="decoded once"),
        pytest.param("/in/%2e%2e", ("in", ".."), id="dots are names here"),
        pytest.param("/in/a%2Fb", ("in", "a/b"), id="slash in a name"),
        pytest.param("/in/a+b", ("in", "a+b"), id="plus is no space"),
        pytest.param("/in/%C3%A9", ("in", "\u00e9"), id="escaped UTF-8"),
        pytest.param("/in/\u00e9", ("in", "\u00e9"), id="raw UTF-8"),
        pytest.param("/in/\udcc3\udca9", ("in", "\u00e9"), id="raw octets"),
        pytest.param("http://h/in/a", ("in", "a"), id="absolute form"),
        pytest.param("HTTPS://h:8443/in/a", ("in", "a"), id="absolute form, port"),
        pytest.param("http://h", ("",), id="absolute form without a path"),
        pytest.param("*", ("",), id="asterisk form"),
    ],
)
def test_target_is_split_and_decoded_once(target: str, path: tuple[str, ...]):
    assert names(target) == path


@pytest.mark.parametrize(
    "target",
    ["/%", "/%2", "/%zz", "/a%%41", "/%u0041", "/%2 0", "/%c3", "/%ff", "/%c0%ae"],
)
def test_broken_escape_or_text_is_refused(target: str):
    with refused(Reason.MALFORMED):
        names(target)


def test_raw_octets_that_are_no_text_are_refused():
    with refused(Reason.MALFORMED):
        names(b"/in/\xff".decode("utf-8", "surrogateescape"))


# Names into a destination.


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(["a"], id="short"),
        pytest.param(["a.dat"], id="plain"),
        pytest.param(["sub", "deep", "a.dat"], id="folders"),
        pytest.param([".hidden"], id="dot first"),
        pytest.param(["..a"], id="two dots first"),
        pytest.param([" a"], id="space first"),
        pytest.param(["a b;c=d&e,f"], id="signs"),
        pytest.param(["%2e%2e"], id="percent signs"),
        pytest.param(["{0}~$"], id="braces"),
        pytest.param(["\u65e5\u672c\u8a9e.ckm"], id="not latin"),
        pytest.param(["a" * 255], id="255 bytes"),
        pytest.param(["\u00e9" * 127], id="254 bytes"),
        pytest.param(["sub", "BITS-Sessions"], id="reserved name further down"),
        pytest.param(["BITS-Sessions-2"], id="resembles a reserved name"),
        pytest.param(["console"], id="begins as a device"),
        pytest.param(["com"], id="device without a number"),
        pytest.param(["com10"], id="device of two digits"),
        pytest.param(["a.con"], id="device as a suffix"),
    ],
)
def test_name_is_taken_as_it_is(path: list[str]):
    assert destination(tuple(path)) == "/".join(path)


@pytest.mark.parametrize(
    "name",
    [
        *(".", "..", "...", "a.", "a ", " ", ". ", "..\x00", "a/b", "../a", "\\"),
        *("a\\b", "c:", "a:b", "*", "?", '"', "<", ">", "|", "\x00", "a\nb", "\x1f"),
        *("\x7f", "a" * 256, "\u00e9" * 128, "con", "CON", "Prn", "aux", "nul"),
        *("nul.txt", "NUL.tar.gz", "com0", "com1", "COM9.log", "lpt0", "LPT3"),
        *("com\u00b9", "com\u00b2.x", "lpt\u00b3", "conin$", "CONOUT$"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("where", ["first", "last"])
def test_name_that_means_something_else_is_refused(name: str, where: str):
    with refused(Reason.MALFORMED):
        destination((name, "a") if where == "first" else ("a", name))


@pytest.mark.parametrize("name", ["con .txt", "NUL  .tar.gz"])
def test_device_may_have_spaces_before_its_suffix(name: str):
    with refused(Reason.MALFORMED):
        destination((name,))


@pytest.mark.parametrize("path", [[], [""], ["sub", ""]], ids=str)
def test_path_that_ends_in_a_slash_is_a_folder(path: list[str]):
    with refused(Reason.IS_A_FOLDER):
        destination(tuple(path))


@pytest.mark.parametrize(
    "name",
    ["BITS-Sessions", "bits-sessions", "BITS-REPLIES", "BITS-Replies", "bits-seßions"],
)
@pytest.mark.parametrize("rest", [[], ["a.dat"]], ids=["itself", "below"])
def test_reserved_folder_is_denied(name: str, rest: list[str]):
    with refused(Reason.ACCESS_DENIED):
        destination((name, *rest))


# Destinations into files.


def opened(folder: Path, name: str) -> bytes:
    with Folder(folder).open(Destination(name)) as file:
        return file.read()


def opened_now(folder: Path, name: str) -> bytes:
    with Folder(folder).open_now(Destination(name)) as file:
        return file.read()


@pytest.mark.parametrize(
    "name", ["a.dat", "sub/b.dat", "in-file", "in-folder/b.dat", "out-folder/in/a.dat"]
)
def test_file_inside_is_opened_whatever_links_led_there(trap: Path, name: str):
    assert opened(trap, name) == PUBLIC


OUTSIDE = [
    "out-file",
    "out-folder/secret",
    "sub/up/secret",
    "sibling/secret",
    "request",
    "sessions/{S}/request",
    "BITS-Sessions/{S}/request",
    "../secret",
    "../in-sibling/secret",
    "sub/../../secret",
    "/etc/passwd",
    "loop",
    "dangling",
    "nothing",
    "a.dat/b",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_else_is_opened(trap: Path, name: str):
    with failed():
        opened(trap, name)


@pytest.mark.parametrize("name", ["a.dat", "sub/b.dat", "BITS-Sessions-2"])
def test_file_in_memory_is_opened_at_once_or_in_a_thread(trap: Path, name: str):
    assert opened(trap, name) == PUBLIC  # so it is in memory

    with suppress(BlockingIOError):  # a kernel or a sandbox without openat2
        assert opened_now(trap, name) == PUBLIC


@pytest.mark.parametrize("name", [*OUTSIDE, "in-file", "in-folder/b.dat"])
def test_what_is_opened_at_once_is_behind_no_link(trap: Path, name: str):
    with failed():
        opened_now(trap, name)


@pytest.mark.parametrize("name", ["in-file", "in-folder/b.dat", "..%2fsecret"])
def test_links_and_dots_are_looked_at_more_closely(trap: Path, name: str):
    with pytest.raises(BlockingIOError):
        opened_now(trap, name)


def test_folder_that_became_a_link_is_looked_at_more_closely(tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.dat").write_bytes(PUBLIC)
    served = Folder(folder)
    folder.rename(tmp_path / "moved")
    folder.symlink_to("moved")

    with pytest.raises(BlockingIOError):
        served.open_now(Destination("a.dat"))


@pytest.mark.parametrize(
    "name",
    [
        "out-folder/new",
        "sub/up/new",
        "sibling/new",
        "sessions/new",
        "sessions/{S}/new",
        "BITS-Sessions/new",
        "../new",
        "/tmp/new",
        "a.dat/new",
        "in-file/new",
        "nothing/new",
        "loop/new",
    ],
)
def test_parent_is_inside_and_no_session(trap: Path, name: str):
    with failed(), Folder(trap).parent(Destination(name)):
        pass


def test_parent_behind_a_link_inside_is_the_folder_itself(trap: Path):
    with Folder(trap).parent(Destination("in-folder/new")) as (handle, name):
        same = os.path.samestat(os.fstat(handle), (trap / "sub").stat())

    assert (same, name) == (True, "new")


def test_folder_behind_a_link_is_served_by_its_own_name(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.dat").write_bytes(PUBLIC)
    (tmp_path / "link").symlink_to("real")

    assert opened(tmp_path / "link", "a.dat") == PUBLIC


def test_root_of_the_file_system_may_be_served(tmp_path: Path):
    (tmp_path / "a.dat").write_bytes(PUBLIC)

    assert opened(Path("/"), str(tmp_path / "a.dat").lstrip("/")) == PUBLIC


def test_missing_folder_cannot_be_served(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["a.dat", "sub", *OUTSIDE])
def test_no_handle_is_left_open(trap: Path, name: str):
    before = handles()
    folder = Folder(trap)
    for use in (folder.open, folder.open_now, folder.parent):
        try:
            with use(Destination(name)):
                pass
        except OSError:
            pass

    assert handles() == before


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/cwd/{path.relative_to(Path.cwd())}")


def null_device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        cannot_run("making a device needs root")


@pytest.mark.parametrize("make", [pipe, listening, null_device, Path.mkdir])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, monkeypatch, make):
    # The path of a socket may not be long; a pipe without a writer would wait.
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "odd")

    with pytest.raises(FileNotFoundError):
        opened(tmp_path, "odd")
    with pytest.raises((FileNotFoundError, BlockingIOError)):
        opened_now(tmp_path, "odd")


def test_other_file_system_is_no_place_to_publish(tmp_path: Path):
    folder = Folder(tmp_path)
    with (
        small_disk(tmp_path / "other"),
        failed(errno.EXDEV),
        folder.parent(Destination("other/new")),
    ):
        pass


# Any target whatever.

PIECES = [
    *("/", "//", "/", ".", "..", "/../", "%2e", "%2E%2e", "%2f", "%5c", "\\", "%00"),
    *("in", "sub", "a.dat", "b.dat", "secret", "in-file", "in-folder", "out-file"),
    *("out-folder", "up", "sibling", "in-sibling", "sessions", "loop", "request"),
    *("BITS-Sessions", "bits-sessions", "%42ITS-Sessions", "{S}", "%7bS%7d", "%25"),
    *("?", "#", ":", " ", "%20", "\u00e9", "%c3%a9", "%ff", "\uff0e", "x" * 300),
]
targets = (
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
    | st.text()
    | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
).map("/".__add__)


@settings(max_examples=400, deadline=None)
@given(target=targets)
@example(target="/..%2fsecret")
@example(target="/out-folder/secret")
@example(target="/" + "a/" * 3000 + "a")
def test_any_target_is_a_file_inside_or_none(trap: Path, target: str):
    folder = Folder(trap)
    try:
        wanted = destination(names(target))
        with folder.parent(wanted) as (handle, name):
            place = Path(f"/proc/self/fd/{handle}").readlink()
            assert place == trap or place.is_relative_to(trap)
            assert not place.is_relative_to(trap / "BITS-Sessions")
            assert "/" not in name
            assert name not in ("", ".", "..")
        with folder.open(wanted) as file:
            assert file.read() == PUBLIC
    except (Refusal, OSError):
        return
