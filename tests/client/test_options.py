"""The options of all commands of a client."""

import argparse
import io
import sys
from pathlib import Path

import pytest

from bitsd.client import options as module
from bitsd.client.options import Options, add_options, options


def told(*arguments: str) -> Options:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return options(parser.parse_args(arguments))


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.delenv("BITSD_PASSWORD", raising=False)


def test_nothing_said_is_nobody_and_the_trust_of_the_system():
    assert told() == Options()


def test_all_is_told():
    said = ["--user", "a:b:c", "--auth", "ntlm", "--cert", "c", "--key", "k"]
    said += ["--ca", "a", "--header", "X: 1", "--header", "y:"]
    files = {"certificate": Path("c"), "key": Path("k"), "ca": Path("a")}

    assert told(*said) == Options(
        user="a",
        password="b:c",
        authentication="ntlm",
        headers=(("X", "1"), ("y", "")),
        **files,
    )


def test_cache_of_kerberos_needs_no_password():
    assert told("--user", ":") == Options(user="", password="")


def test_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BITSD_PASSWORD", "secret")

    assert told("--user", "a").password == "secret"


def test_password_is_asked_for_at_a_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "getpass", lambda prompt: prompt + "!")

    assert told("--user", "a").password == "Password of a: !"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "a"], "NAME:PASSWORD or BITSD_PASSWORD"),
        (["--auth", "ntlm"], "--auth goes with --user"),
        (["--key", "k"], "--key goes with --cert"),
        (["--header", "X"], "'X' is not 'NAME: VALUE'"),
        (["--header", "X Y: 1"], "is not 'NAME: VALUE'"),
        (["--header", "X: 1\r\nY: 2"], "is not 'NAME: VALUE'"),
        (["--header", "content-Length: 1"], "is for bitsd to say"),
    ],
)
def test_wrong_usage_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    with pytest.raises(SystemExit) as raised:
        told(*arguments)

    assert raised.value.code == 2
    assert said in capsys.readouterr().err
