"""`bitsd init`: every profile works at once, and names only settings that exist."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from bitsd import settings
from bitsd.cli import main
from bitsd.config import load
from bitsd.init_command import PROFILES, profile

every_profile = pytest.mark.parametrize("name", PROFILES)


def uncommented(text: str) -> str:
    """With every decision taken, and what that takes the place of taken away."""
    tables = re.split(r"^(?=#?\[\[)", text, flags=re.MULTILINE)
    return "".join(map(decided, tables))


def decided(table: str) -> str:
    for key in re.findall(r"^#(\w+) = ", table, re.MULTILINE):
        table = re.sub(rf"^{key} = .*\n", "", table, flags=re.MULTILINE)
    return re.sub(r"^#(?=\S)", "", table, flags=re.MULTILINE)


def unknown(kind: type[msgspec.Struct], table: dict[str, Any]) -> set[str]:
    return table.keys() - {field.name for field in msgspec.structs.fields(kind)}


@every_profile
def test_profile_passes_at_once_and_serves_this_machine(
    name: str, tmp_path: Path, capsys
):
    assert main(["init", "--profile", name, str(tmp_path / "a site")]) == 0
    out = capsys.readouterr().out
    written = tmp_path / "a site" / "bitsd.toml"
    commands = [shlex.split(line) for line in out.splitlines() if line[:2] == "  "]

    assert [command[:2] for command in commands] == [
        ["bitsd", "check-config"],
        ["bitsd", "serve"],
        ["bitsd", "doctor"],
    ]
    assert main(commands[0][1:]) == 0
    config = load(written)
    assert [listen.loopback for listen in config.listen] == [True]
    assert [each.upload for each in config.directory] == [True]
    assert all(each.path.parent == written.parent for each in config.directory)
    where = f"http://{config.listen[0].address}{config.directory[0].url}/"
    assert commands[2][2] == where


@every_profile
def test_settings_that_are_left_to_decide_exist(name: str):
    text = uncommented(profile(name))
    table = tomllib.loads(text)

    assert len(table["listen"]) == 2
    assert {"users", "listen", "directory"} <= table.keys()
    assert unknown(settings.Config, table) == set()
    for listen in table["listen"]:
        assert unknown(settings.Listen, listen) == set()
        msgspec.convert({**listen}, settings.Listen, dec_hook=hook)
    for directory in table["directory"]:
        assert unknown(settings.Directory, directory) == set()
        assert {"write", "authentication"} <= directory.keys()


def hook(kind: type, value: object) -> object:
    return kind(value)


@every_profile
def test_profile_with_all_decisions_taken_can_be_used(name: str, tmp_path: Path):
    assert main(["init", "--profile", name, str(tmp_path)]) == 0
    (tmp_path / "bitsd.toml").write_text(uncommented(profile(name)), "utf-8")
    users = str(tmp_path / "users.htpasswd")
    for user in ("alice", "bob", "collector", "psd"):
        assert main(["passwd", "--no-password", users, user]) == 0
    (tmp_path / "tls").mkdir()
    leaf = trustme.CA().issue_cert("bits.example.org")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "tls" / "server.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "tls" / "server.key"))
    config = load(tmp_path / "bitsd.toml")

    assert [listen.loopback for listen in config.listen] == [True, False]
    assert "*" not in config.directory[0].write


@every_profile
def test_lines_are_prose_or_settings_and_of_one_width(name: str):
    for line in profile(name).splitlines():
        assert len(line) <= 90
        assert re.fullmatch(r"|# \S.*\S|#?[\w.]+ = .+|#?\[\[\w+\]\]", line), line


def test_psd_has_the_limits_that_its_deployments_expect(tmp_path: Path):
    main(["init", "--profile", "psd", str(tmp_path)])
    (logs,) = load(tmp_path / "bitsd.toml").directory

    assert logs.maximum_upload_size == 250_000_000
    assert logs.session_timeout.total_seconds() == 12 * 3600
    assert logs.overwrite


def test_folder_is_here_if_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)

    assert main(["init", "--profile", "medv"]) == 0
    assert capsys.readouterr().out.startswith("wrote bitsd.toml; read it, then:\n")
    assert {path.name for path in tmp_path.iterdir()} == {"bitsd.toml", "images"}


def test_file_that_is_there_stays(tmp_path: Path, capsys):
    (tmp_path / "bitsd.toml").write_text("mine")

    assert main(["init", "--profile", "medv", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "bitsd.toml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["bitsd.toml"]


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "file").touch()

    assert main(["init", "--profile", "medv", str(tmp_path / "file" / "x")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_profile_that_there_is_not_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["init", "--profile", "wsus"])

    assert stopped.value.code == 2
