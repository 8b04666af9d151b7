"""What must hold of settings besides their types, and between them."""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from authorities import Authority
from msgspec import structs

from bitsd.cli import main
from bitsd.config import Config, ConfigError, from_table, load, warnings
from bitsd.destination import SESSIONS
from bitsd.offers import sign_in
from bitsd.rules import MAXIMUM_HOST_ID, MAXIMUM_URL, own_files
from bitsd.settings import Listen


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of the configuration file, with folders `in`, `in/below`, `other`."""
    (tmp_path / "in" / "below").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    return tmp_path


def listen(address: str) -> str:
    return f'[[listen]]\naddress = "{address}"\n'


def directory(url: str = "/in", path: str = "in", more: str = "") -> str:
    return f"[[directory]]\nurl = '{url}'\npath = '{path}'\n{more}\n"


USERS = 'users = "users"\n'


def make_users(base: Path) -> None:
    (base / "users").write_text("alice:*\n")


def loaded(text: str, base: Path) -> Config:
    return from_table(tomllib.loads(text), base)


def problems(text: str, base: Path) -> list[str]:
    """What is wrong; nothing if it can be used."""
    try:
        loaded(text, base)
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("address", "host", "port", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.0.0.2:8080", "127.0.0.2", 8080, True),
        ("[::1]:0", "::1", 0, True),
        ("localhost:65535", "localhost", 65535, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("192.0.2.1:80", "192.0.2.1", 80, False),
        ("[2001:db8::1]:80", "2001:db8::1", 80, False),
        ("[::ffff:192.0.2.1]:80", "::ffff:192.0.2.1", 80, False),
        ("bits.example.org:80", "bits.example.org", 80, False),
        ("localhost.example.org:80", "localhost.example.org", 80, False),
        ("unix:80", "unix", 80, False),
        ("myunix:80", "myunix", 80, False),
    ],
)
def test_an_address_of_tcp_has_a_host_and_a_port(base, address, host, port, loopback):
    (only,) = loaded(listen(address) + directory(), base).listen

    assert (only.host, only.port, only.path) == (host, port, None)
    assert only.loopback is loopback


@pytest.mark.parametrize("path", ["/run/bitsd", "/run/a:0", "/run/unix:/b", "/é"])
def test_an_address_of_a_socket_in_the_file_system_has_a_path(base, path):
    (only,) = loaded(listen(f"unix:{path}") + directory(), base).listen

    assert only.path == Path(path)
    assert only.loopback


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("", id="nothing"),
        pytest.param("8080", id="only a port"),
        pytest.param(":8080", id="no host"),
        pytest.param("*:8080", id="star"),
        pytest.param("127.0.0.1", id="no port"),
        pytest.param("127.0.0.1:", id="empty port"),
        pytest.param("127.0.0.1:http", id="name of a port"),
        pytest.param("127.0.0.1:65536", id="port over the largest"),
        pytest.param("127.0.0.1:-1", id="negative port"),
        pytest.param("127.0.0.1:\u0661", id="digit of another script"),
        pytest.param("http://127.0.0.1:80", id="URL"),
        pytest.param("::1:80", id="IPv6 without brackets"),
        pytest.param("[::1]", id="IPv6 without a port"),
        pytest.param("[:::1]:80", id="not IPv6"),
        pytest.param("[127.0.0.1]:80", id="IPv4 in brackets"),
        pytest.param("[::1]:65536", id="IPv6, port over the largest"),
        pytest.param("a b:80", id="space"),
        pytest.param("unix:", id="socket without a path"),
        pytest.param("unix:bitsd.sock", id="relative socket"),
        pytest.param("unix:/a\\u0000b", id="NUL in a path"),
        pytest.param("unix:/a\\nb", id="line end in a path"),
        pytest.param("unix:/" + "a" * 107, id="path longer than a socket's"),
        pytest.param("unix:/" + "é" * 54, id="path longer in bytes"),
    ],
)
def test_what_is_no_address_is_refused(base, address):
    (problem,) = problems(listen(address) + directory(), base)

    assert problem.startswith("listen[0].address: not an address: ")
    assert problem.endswith("; give HOST:PORT, [V6]:PORT or unix:/PATH")


def test_the_longest_path_of_a_socket_is_taken(base):
    assert problems(listen("unix:/" + "a" * 106) + directory(), base) == []


@pytest.mark.parametrize("address", ["127.0.0.1:80", "unix:/run/bitsd:0"])
def test_an_address_is_given_once(base, address):
    text = listen(address) + listen("127.0.0.1:1") + listen(address) + directory()

    assert problems(text, base) == ["listen[2].address: the same as that of listen[0]"]


def test_any_port_may_be_taken_twice(base):
    assert problems(listen("127.0.0.1:0") * 2 + directory(), base) == []


OPEN = "upload = true"
EXPOSED = (
    "directory[0].write: anyone who reaches {} could upload; set "
    "allow_anonymous_uploads = true if that is meant, or listen on 127.0.0.1"
)
LOCAL = listen("127.0.0.1:0")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0", "localhost:0", "unix:/run/bitsd"],
)
def test_anyone_on_this_machine_may_upload(base, address):
    assert problems(listen(address) + directory(more=OPEN), base) == []


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "bits.example.org:80", "unix:80"],
)
def test_uploads_from_other_machines_must_be_meant(base, address):
    text = LOCAL + listen(address) + directory(more=OPEN)

    assert problems(text, base) == [EXPOSED.format(address)]


@pytest.mark.parametrize(
    ("top", "more"),
    [
        pytest.param("", "upload = false", id="no uploads"),
        pytest.param("", "upload = true\nwrite = []", id="uploads of nobody"),
        pytest.param("", f"{OPEN}\nallow_anonymous_uploads = true", id="here"),
        pytest.param("allow_anonymous_uploads = true\n", OPEN, id="everywhere"),
    ],
)
def test_other_machines_are_no_problem_when_meant_or_harmless(base, top, more):
    assert problems(top + listen("0.0.0.0:80") + directory(more=more), base) == []


def test_the_guard_looks_at_each_directory(base):
    text = listen("0.0.0.0:80")
    text += directory(more=f"{OPEN}\nallow_anonymous_uploads = true")
    text += directory("/other", "other", OPEN)

    (problem,) = problems(text, base)

    assert problem.startswith("directory[1].write: anyone who reaches 0.0.0.0:80 ")


@pytest.mark.parametrize("url", ["/", "/in", "/in/", "/a/b", "/Ä", "/a..b", "/~"])
def test_a_path_of_a_url_is_taken(base, url):
    assert loaded(directory(url), base).directory[0].url == url


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("in", id="relative"),
        pytest.param("//", id="empty names"),
        pytest.param("/a//b", id="empty name"),
        pytest.param("/a b", id="space"),
        pytest.param("/a%20b", id="percent escape"),
        pytest.param("/a?b", id="query"),
        pytest.param("/a#b", id="fragment"),
        pytest.param("/a\\b", id="backslash"),
        pytest.param("/a\tb", id="control character"),
        pytest.param("/a\u0085b", id="control character beyond ASCII"),
        pytest.param("/a\u202eb", id="character that turns text around"),
        pytest.param("/.", id="dot"),
        pytest.param("/a/../b", id="dots"),
        pytest.param("http://host/in", id="whole URL"),
    ],
)
def test_what_is_no_path_of_a_url_is_refused(base, url):
    (problem,) = problems(directory(url), base)

    assert problem.startswith("directory[0].url: not a path such as /images: ")


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ("/a", "/a", True),
        ("/a", "/a/", True),
        ("/a", "/a/b", True),
        ("/a/b", "/a", True),
        ("/", "/a", True),
        ("/a", "/ab", False),
        ("/a/b", "/a/c", False),
        ("/a", "/A", False),
    ],
)
def test_urls_do_not_overlap(base, first, second, overlap):
    found = problems(directory(first, "in") + directory(second, "other"), base)

    assert found == [
        "directory[1].url: overlaps with that of directory[0]",
    ] * int(overlap)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("in", "in", True),
        ("in", "in/below", True),
        ("in/below", "in", True),
        ("in", "other/../in", True),
        ("in", "link", True),
        ("link", "in/below", True),
        (".", "other", True),
        ("in", "other", False),
        ("in", "in2", False),
    ],
)
def test_folders_are_not_shared(base, first, second, shared):
    (base / "in2").mkdir()
    (base / "link").symlink_to("in/below")
    found = problems(directory("/a", first) + directory("/b", second), base)

    assert found == ["directory[1].path: shared with that of directory[0]"] * int(
        shared
    )


def test_each_pair_of_directories_is_compared(base):
    text = directory("/a", "in") + directory("/b", "other")
    text += directory("/a/c", "in/below") + directory("/b", "in")

    assert problems(text, base) == [
        "directory[2].url: overlaps with that of directory[0]",
        "directory[2].path: shared with that of directory[0]",
        "directory[3].path: shared with that of directory[0]",
        "directory[3].url: overlaps with that of directory[1]",
        "directory[3].path: shared with that of directory[2]",
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("missing", "does not exist; make the folder"),
        ("file/below", "does not exist; make the folder"),
        ("dangling", "does not exist; make the folder"),
        ("circle", "does not exist; make the folder"),
        ("a" * 300, "does not exist; make the folder"),
        ("file", "is not a folder"),
    ],
)
def test_a_path_is_a_folder_that_exists(base, path, problem):
    (base / "file").touch()
    (base / "dangling").symlink_to("nothing")
    (base / "circle").symlink_to("circle")

    assert problems(directory(path=path), base) == [
        f"directory[0].path: {base / path} {problem}"
    ]


def test_a_path_that_no_file_system_takes_does_not_exist(base):
    text = '[[directory]]\nurl = "/in"\npath = "a\\u0000b"\n'

    assert problems(text, base) == [
        f"directory[0].path: {base}/a\\x00b does not exist; make the folder"
    ]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.touch(), id="file"),
        pytest.param(lambda path: path.symlink_to("below"), id="link to a folder"),
        pytest.param(lambda path: path.symlink_to("nothing"), id="dangling link"),
        pytest.param(lambda path: path.symlink_to(path), id="link to itself"),
    ],
)
def test_sessions_are_in_a_real_folder(base, make: Callable[[Path], None]):
    sessions = base / "in" / SESSIONS
    make(sessions)

    assert problems(directory(more=OPEN), base) == [
        f"directory[0].path: {sessions} must be a folder on the same file system"
    ]
    assert problems(directory(), base) == []


def test_sessions_of_an_earlier_run_are_no_problem(base):
    (base / "in" / SESSIONS).mkdir()

    assert problems(directory(more=OPEN), base) == []


# Root may do everything, so the command becomes another user once it is imported,
# and root again when it is done (for what a tool that watches it may have to write).
# It stands in the folder, for it could not walk there.
UNPRIVILEGED = """
import os, sys
from bitsd.cli import main
root = os.getuid() == 0
if root:
    os.setgroups([])
    os.setresgid(65534, 65534, 0)
    os.setresuid(65534, 65534, 0)
code = main(["check-config", "bitsd.toml"])
if root:
    os.seteuid(0)
    os.setegid(0)
sys.exit(code)
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that any user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "in").mkdir()
        (path / "bitsd.toml").write_text(directory(more=OPEN), "utf-8")
        yield path


def checked_unprivileged(folder: Path) -> list[str]:
    """What `bitsd check-config` says to a user who is not root."""
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == int(bool(done.stderr)), done.stderr
    return done.stderr.splitlines()


PATH = "bitsd: bitsd.toml: directory[0].path: in"


@pytest.mark.parametrize(
    ("mode", "sessions_mode", "expected"),
    [
        (0o777, 0o777, []),
        (0o000, 0o777, [f"{PATH} cannot be read by this user"]),
        (0o333, 0o777, [f"{PATH} cannot be read by this user"]),
        (0o666, 0o777, [f"{PATH} cannot be read by this user"]),
        (0o555, 0o777, [f"{PATH} cannot be written by this user, and upload is on"]),
        (0o777, 0o555, [f"{PATH}/{SESSIONS} cannot be read and written by this user"]),
        (0o777, 0o666, [f"{PATH}/{SESSIONS} cannot be read and written by this user"]),
        (0o777, 0o333, [f"{PATH}/{SESSIONS} cannot be read and written by this user"]),
    ],
    ids=lambda value: f"{value:03o}" if isinstance(value, int) else "",
)
def test_a_folder_must_be_open_to_the_user_of_the_server(
    shared, mode, sessions_mode, expected
):
    (shared / "in" / SESSIONS).mkdir()
    (shared / "in" / SESSIONS).chmod(sessions_mode)
    (shared / "in").chmod(mode)

    assert checked_unprivileged(shared) == expected


def test_a_folder_that_is_only_read_need_not_be_written(shared):
    (shared / "bitsd.toml").write_text(directory(), "utf-8")
    (shared / "in").chmod(0o555)

    assert checked_unprivileged(shared) == []


def test_a_configuration_that_this_user_may_not_read_is_told(shared):
    (shared / "bitsd.toml").chmod(0)

    assert checked_unprivileged(shared) == [
        "bitsd: bitsd.toml: cannot read it: Permission denied"
    ]


def test_sessions_behind_a_link_to_a_closed_folder_are_told(shared):
    (shared / "closed" / "sessions").mkdir(parents=True)
    (shared / "in" / SESSIONS).symlink_to("../closed/sessions")
    (shared / "in").chmod(0o777)
    (shared / "closed").chmod(0o000)

    assert checked_unprivileged(shared) == [
        f"{PATH}/{SESSIONS} must be a folder on the same file system"
    ]


@pytest.mark.parametrize("key", ["read", "write"])
@pytest.mark.parametrize("name", ["", " ", "@", "a:b", "**", "a\\nb", "@@a", "@*"])
def test_what_is_no_name_in_a_list_is_told(base, key, name):
    text = directory(more=f'{key} = ["*", "{name}"]')
    shown = name.replace("\\n", "\n")

    assert problems(text, base) == [
        (
            f'directory[0].{key}: {shown!r} is no name; give "*" for everyone, '
            '"@users" for who signs in, "@GROUP" or the name of a user'
        )
    ]


@pytest.mark.parametrize("group", ["users", "", "@a", "*", "a:b"])
def test_what_cannot_be_a_group_is_told(base, group):
    text = f'groups = {{ "{group}" = [] }}\n{directory()}'

    assert problems(text, base) == [f"groups: {group!r} cannot be the name of a group"]


@pytest.mark.parametrize("member", ["*", "@other", ""])
def test_groups_have_users_and_no_groups(base, member):
    text = f'groups = {{ imaging = ["alice", "{member}"] }}\n{directory()}'

    assert problems(text, base) == [
        f"groups.imaging: {member!r} is not the name of a user"
    ]


def test_group_of_a_list_has_to_be_there(base):
    make_users(base)
    text = USERS + directory(more="read = ['@imagign']")

    assert problems(text, base) == ["directory[0].read: no group 'imagign' in groups"]


@pytest.mark.parametrize("key", ["read", "write"])
@pytest.mark.parametrize("entry", ["alice", "@users"])
def test_where_names_are_listed_there_is_a_way_to_sign_in(base, key, entry):
    text = directory(more=f'{key} = ["{entry}"]')

    assert problems(text, base) == [
        (
            f"directory[0].{key}: nobody can sign in; "
            "set users, keytab, or client_ca of a [[listen]]"
        )
    ]


@pytest.mark.parametrize(
    ("way", "needed"),
    [
        ("basic", "needs users"),
        ("ntlm", "needs users"),
        ("negotiate", "needs users or keytab"),
        ("certificate", "needs client_ca of a [[listen]]"),
    ],
)
def test_a_way_to_sign_in_says_what_it_lacks(base, way, needed):
    text = directory(more=f'authentication = ["{way}"]')

    assert problems(text, base) == [f'directory[0].authentication: "{way}": {needed}']


def test_users_make_all_of_their_ways_possible(base):
    make_users(base)
    text = USERS + directory(more="write = ['alice']")
    config = loaded(text, base)

    assert [*sign_in(config, config.directory[0])] == ["negotiate", "ntlm", "basic"]


def test_the_order_of_the_ways_is_as_it_is_written(base):
    make_users(base)
    text = USERS + directory(more="authentication = ['basic', 'ntlm']")
    config = loaded(text, base)

    assert [*sign_in(config, config.directory[0])] == ["basic", "ntlm"]


def test_without_users_nobody_is_asked(base):
    config = loaded(directory(), base)

    assert not [*sign_in(config, config.directory[0])]


def test_file_of_users_is_read(base):
    (base / "users").write_text("alice:secret\n")
    text = USERS + directory()

    assert problems(text, base) == [
        (
            f"users: {base / 'users'}: line 1: the password of alice is not kept by "
            "Argon2id or bcrypt: set it again with `bitsd passwd`"
        )
    ]


# Files of our own

OWN = ("users", "keytab", "certificate", "key", "client_ca", "client_crl", "this file")

#: Where such a file is said to be, and whether clients of `in` come to it.
PLACES = {
    "beside the folder": ("private", False),
    "in the folder": ("in/private", True),
    "below it": ("in/below/private", True),
    "the way out": ("in/../private", False),
    "the way in": ("other/../in/private", True),
    "a folder whose name begins so": ("in2/private", False),
    "a link in the folder, to elsewhere": ("in/leads-out", True),
    "a link elsewhere, to the folder": ("leads-in", True),
    "through a link to the folder": ("also-in/private", True),
    "in a folder that is a link elsewhere": ("linked/private", True),
    "where that link leads": ("real/private", True),
}


def with_own(key: str, path: Path, config: Config) -> tuple[Config, Path | None]:
    """The configuration with one file of that name, or in it."""
    if key == "this file":
        return config, path
    if key in ("users", "keytab"):
        return structs.replace(config, **{key: path}), None
    listen = structs.replace(config.listen[0], **{key: path})
    return structs.replace(config, listen=(listen,)), None


@pytest.mark.parametrize("key", OWN)
@pytest.mark.parametrize(("place", "served"), PLACES.values(), ids=PLACES)
def test_files_of_our_own_are_in_no_folder_of_clients(base, key, place, served):
    for folder in ("in2", "real"):
        (base / folder).mkdir()
    (base / "linked").symlink_to("real")
    (base / "also-in").symlink_to("in/below")
    (base / "in" / "leads-out").symlink_to("../private")
    (base / "leads-in").symlink_to("in/private")
    text = directory() + directory("/linked", "linked")
    config, file = with_own(key, base / place, loaded(text, base))

    index = int("real" in place or "linked" in place)
    name = f"listen[0].{key}" if key in OWN[2:6] else key
    assert [*own_files(config, file)] == [
        (
            f"{name}: {base / place} is in the folder of directory[{index}], where "
            "clients could read or replace it; move it"
        )
    ] * int(served)


def test_each_file_of_our_own_that_clients_come_to_is_told(base):
    (base / "in" / "users").write_text("alice:*\n")
    (base / "bitsd.toml").write_text('users = "in/users"\n' + directory(path="."))

    with pytest.raises(ConfigError) as caught:
        load(base / "bitsd.toml")
    ends = "is in the folder of directory[0], where clients could read or replace it"
    assert caught.value.problems == [
        f"{base}/bitsd.toml: users: {base}/in/users {ends}; move it",
        f"{base}/bitsd.toml: this file: {base}/bitsd.toml {ends}; move it",
    ]


@pytest.mark.parametrize("key", ["certificate", "key"])
def test_file_of_tls_that_clients_come_to_is_told_by_check_config(base, capsys, key):
    where = {"certificate": "server.pem", "key": "server.key"}
    issued = Authority().serve()
    issued.write(base, "server")
    (base / where[key]).rename(base / "in" / where[key])
    where[key] = f"in/{where[key]}"
    tls = "".join(f'{name} = "{path}"\n' for name, path in where.items())
    config = base / "bitsd.toml"
    config.write_text(listen("127.0.0.1:0") + tls + directory())

    assert main(["check-config", str(config)]) == 1
    assert capsys.readouterr().err == (
        f"bitsd: {config}: listen[0].{key}: {base / where[key]} is in the folder of "
        "directory[0], where clients could read or replace it; move it\n"
    )


def test_keytab_has_to_be_there(base):
    text = f'keytab = "keys"\n{directory()}'

    assert problems(text, base) == [
        f"keytab: cannot read {base / 'keys'}: No such file or directory"
    ]


def test_trusted_proxies_are_addresses(base):
    text = f'trusted_proxies = ["::1", "unix", "proxy.example"]\n{directory()}'

    assert problems(text, base) == [
        (
            "trusted_proxies: 'proxy.example' does not appear to be an IPv4 or IPv6 "
            'network; give an address, a network such as "10.0.0.0/8", or "unix"'
        )
    ]


@pytest.mark.parametrize("kind", ["by-reference", "by-value"])
@pytest.mark.parametrize("url", ["", "notification_url = ''"])
def test_a_notification_needs_a_url(base, kind, url):
    text = directory(more=f"notification = '{kind}'\n{url}")

    assert problems(text, base) == [
        f"directory[0].notification_url: needed for notification = '{kind}'"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example/handle",
        "https://app.example:8443/handle?x=1",
        "http://[2001:db8::1]/",
        "//app.example/handle",
        "/handle",
        "../handle.aspx?x=1",
        "handle",
        "?x=1",
        "http://app.example/" + "a" * (MAXIMUM_URL - 19),
    ],
    ids=lambda url: url[:30],
)
def test_a_notification_url_is_absolute_or_relative(base, url):
    config = loaded(directory(more=f"notification_url = '{url}'"), base)

    assert config.directory[0].notification_url == url


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("ftp://app.example/", id="another scheme"),
        pytest.param("app.example:8080/handle", id="host for a scheme"),
        pytest.param("http:///handle", id="no host"),
        pytest.param("http:handle", id="scheme and a relative path"),
        pytest.param("http://:80/", id="port without a host"),
        pytest.param("//:80/", id="port without a host or scheme"),
        pytest.param("http://app.example:99999/", id="port over the largest"),
        pytest.param("http://app.example:0/", id="port 0"),
        pytest.param("http://app.example:a/", id="port that is no number"),
        pytest.param("http://[::1/", id="open bracket"),
        pytest.param("/a b", id="space"),
        pytest.param("/a\tb", id="control character"),
        pytest.param("/" + "a" * MAXIMUM_URL, id="too long"),
    ],
)
def test_what_is_no_notification_url_is_refused(base, url):
    assert problems(directory(more=f"notification_url = '{url}'"), base) == [
        (
            "directory[0].notification_url: give an http or https URL, or a relative "
            "one, of at most 2200 characters"
        )
    ]


@pytest.mark.parametrize(
    "host_id",
    ["node3", "node3.example.org", "192.0.2.1", "[2001:db8::1]", "a" * MAXIMUM_HOST_ID],
    ids=lambda host_id: host_id[:20],
)
def test_a_host_id_is_a_name_or_an_address(base, host_id):
    config = loaded(directory(more=f"host_id = '{host_id}'"), base)

    assert config.directory[0].host_id == host_id


@pytest.mark.parametrize(
    "host_id",
    [
        pytest.param("", id="nothing"),
        pytest.param("node3:8080", id="port"),
        pytest.param("[::1]:8080", id="IPv6 with a port"),
        pytest.param("http://node3", id="URL"),
        pytest.param("-node3", id="hyphen first"),
        pytest.param("node 3", id="space"),
        pytest.param("a" * (MAXIMUM_HOST_ID + 1), id="too long"),
    ],
)
def test_what_is_no_host_id_is_refused(base, host_id):
    assert problems(directory(more=f"host_id = '{host_id}'"), base) == [
        (
            "directory[0].host_id: not a host name or address without a port: "
            f"{host_id[:80]!r}"
        )
    ]


@pytest.mark.parametrize(
    ("suffix", "content_type"),
    [
        (".wim", "application/x-ms-wim"),
        (".7z", "application/x-7z-compressed"),
        (".txt", "text/plain; charset=utf-8"),
        (".a b", "image/svg+xml"),
        (".ß", "a/b;c=d"),
    ],
)
def test_a_suffix_has_a_content_type(base, suffix, content_type):
    text = directory(more=f"mime_types = {{ '{suffix}' = '{content_type}' }}")

    assert loaded(text, base).directory[0].mime_types == {suffix: content_type}


@pytest.mark.parametrize(
    ("suffix", "content_type"),
    [
        pytest.param("wim", "a/b", id="no dot"),
        pytest.param(".", "a/b", id="only a dot"),
        pytest.param(".tar.gz", "a/b", id="two suffixes"),
        pytest.param(".a/b", "a/b", id="slash"),
        pytest.param(".wim", "", id="no type"),
        pytest.param(".wim", "application", id="half a type"),
        pytest.param(".wim", "a/b;", id="parameter missing"),
        pytest.param(".wim", "a/b\tc", id="control character"),
        pytest.param(".wim", "a/ä", id="not ASCII"),
    ],
)
def test_what_is_no_content_type_is_refused(base, suffix, content_type):
    text = directory(more=f"mime_types = {{ '{suffix}' = '{content_type}' }}")

    assert problems(text, base) == [
        (
            f"directory[0].mime_types: {suffix!r} = {content_type!r}; "
            'write it as ".wim" = "application/x-ms-wim"'
        )
    ]


def test_suffixes_are_written_in_lower_case(base):
    text = directory(more="mime_types = { '.WIM' = 'a/b', '.xml' = 'text/xml' }")

    assert problems(text, base) == [
        "directory[0].mime_types: '.WIM'; write '.wim', which is for names in any case"
    ]


def test_an_address_that_was_never_checked_is_not_taken_for_loopback():
    assert not Listen(address="elsewhere").loopback


def test_sign_in_that_works_and_may_be_meant_otherwise_is_told(base):
    make_users(base)
    (base / "users").chmod(0o666)
    text = (
        'users = "users"\ngroups = { staff = ["alice", "bob"] }\n'
        + listen("127.0.0.1:0")
        + listen("0.0.0.0:80")
        + directory(
            more='write = ["@staff", "carol", "@users"]\nupload = true\n'
            'authentication = ["ntlm", "basic"]\nmaximum_upload_size = 1'
        )
        + directory("/other", "other", more="read = ['*', 'dora']")
    )

    first, *rest = warnings(loaded(text, base))
    assert first.startswith("users: ")
    assert rest == [
        "directory[0].write: 'carol' is not in the users file",
        "directory[0].write: 'bob' is not in the users file",
        (
            "directory[0].authentication: Basic is not offered at 0.0.0.0:80, where "
            "others read along; give it a certificate"
        ),
        (
            'directory[0].authentication: "ntlm": nobody can; add users with '
            "`bitsd passwd --ntlm`"
        ),
    ]


def test_others_may_vouch_for_users_who_are_not_in_the_file(base):
    make_users(base)
    text = (
        'users = "users"\n'
        + listen("127.0.0.1:0")
        + directory(more="read = ['bob']\nallow_basic_over_http = true")
    )
    config = structs.replace(loaded(text, base), keytab=base / "keytab")

    assert warnings(config) == [
        "directory[0].allow_basic_over_http: whoever is on the way reads passwords"
    ]


def test_users_that_vanish_are_told(base):
    make_users(base)
    config = loaded(USERS + directory(), base)
    (base / "users").unlink()

    assert warnings(config) == [f"users: {base / 'users'}: No such file or directory"]
