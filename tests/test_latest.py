from pathlib import Path

import pytest

from bitsd.config import Config, ConfigError, load
from bitsd.latest import Latest

TEXT = """
users = "users"

[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/in"
path = "in"
read = ["{reader}"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "users").write_text("alice:*\n")
    path = tmp_path / "bitsd.toml"
    path.write_text(TEXT.format(reader="alice"))
    return path


def test_what_changed_is_there_when_it_was_read_again(config: Path):
    latest = Latest(load(config), lambda: load(config))
    config.write_text(TEXT.format(reader="bob"))
    (config.parent / "users").write_text("bob:*\n")
    before = latest.config.directory[0].read, latest.users.find("bob")
    latest.renew()

    assert before == (("alice",), None)
    assert latest.config.directory[0].read == ("bob",)
    assert latest.users.find("bob") is not None


#: What may change in a file, and whether all of it counts then.
CHANGES = {
    "nothing": ("", "", True),
    "a list": ('["alice"]', '["bob"]', True),
    "the list of those who upload": ('path = "in"', 'path = "in"\nwrite = []', True),
    "a group": ("[[listen]]", '[groups]\nimaging = ["bob"]\n\n[[listen]]', True),
    "ways to sign in": (
        'path = "in"',
        'path = "in"\nauthentication = ["basic"]',
        True,
    ),
    "an address": ("127.0.0.1", "127.0.0.2", False),
    "a URL": ("/in", "/out", False),
    "a folder": ('path = "in"', 'path = "out"', False),
    "uploads": ('path = "in"', 'path = "in"\nupload = true', False),
    "another file of users": ('"users"', '"others"', False),
    "a limit": ("[[listen]]", "maximum_connections = 7\n\n[[listen]]", False),
    "one more directory": (
        "[[directory]]",
        '[[directory]]\nurl = "/out"\npath = "out"\n\n[[directory]]',
        False,
    ),
}


@pytest.mark.parametrize(("old", "new", "counts"), CHANGES.values(), ids=CHANGES)
def test_lists_count_if_nothing_has_changed_that_they_are_for(
    config: Path, old: str, new: str, counts
):
    (config.parent / "out").mkdir()
    (config.parent / "others").write_text("carol:*\n")
    latest = Latest(load(config), lambda: load(config))
    before = latest.config
    config.write_text(config.read_text().replace(old, new))
    (config.parent / "users").write_text("bob:*\n")

    assert latest.renew() is counts
    assert latest.config == (load(config) if counts else before)
    assert latest.users.find("bob") is not None


def test_what_waits_for_a_restart_is_told_each_time(config: Path):
    latest = Latest(load(config), lambda: load(config))
    text = config.read_text()
    config.write_text(text.replace("127.0.0.1", "127.0.0.2"))
    told = [latest.renew(), latest.renew()]
    config.write_text(text)

    assert [*told, latest.renew()] == [False, False, True]


@pytest.mark.parametrize("broken", ["users", "bitsd.toml"])
def test_what_cannot_be_read_leaves_both_as_they_were(config: Path, broken: str):
    latest = Latest(load(config), lambda: load(config))
    before = latest.config, latest.users
    config.write_text(TEXT.format(reader="bob"))
    (config.parent / broken).write_text("nonsense")

    with pytest.raises(ConfigError, match=broken):
        latest.renew()
    assert (latest.config, latest.users) == before


def test_users_that_were_there_a_moment_ago_are_told_of(config: Path):
    known = load(config)
    (config.parent / "users").unlink()

    with pytest.raises(ConfigError, match=r"^users: .*No such file"):
        Latest(known)


def test_without_users_there_are_none():
    latest = Latest(Config(listen=(), directory=()))
    latest.renew()

    assert len(latest.users) == 0
