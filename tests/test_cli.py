"""What the command answers when it cannot do what was asked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bitsd.cli import main


@pytest.mark.parametrize(
    "option", [["--listen", "127.0.0.1:1"], ["--url", "/x"], ["--overwrite"]], ids=str
)
def test_options_of_a_folder_do_not_go_with_a_file(option: list[str], capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--config", "bitsd.toml", *option])

    assert stopped.value.code == 2
    assert "go with FOLDER" in capsys.readouterr().err


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("")

    assert main(["serve", str(tmp_path / "file" / "images")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_address_that_others_reach_is_refused_for_a_folder(tmp_path: Path, capsys):
    assert main(["serve", str(tmp_path / "images"), "--listen", "0.0.0.0:0"]) == 1
    assert "allow_anonymous_uploads" in capsys.readouterr().err


def test_command_that_is_interrupted_says_nothing(tmp_path: Path):
    pipe = tmp_path / "capture"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "bitsd", "decode", str(pipe)]
    # Once the pipe is opened by both, the command runs and waits for what is in it.
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE) as decoding,
        pipe.open("wb"),
    ):
        decoding.send_signal(signal.SIGINT)
        _out, err = decoding.communicate()

    assert (decoding.returncode, err) == (130, b"")
