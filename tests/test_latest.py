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
