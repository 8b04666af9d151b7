"""What the README shows is what happens."""

import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitsd.config import from_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """`bitsd serve` as `make run` starts it, on a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bitsd", "serve", "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(b"listening on ")
        yield f"127.0.0.1:{port}"
        server.terminate()


def masked(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"\{[0-9A-F-]{36}\}", "{ID}", text.replace("\r", ""))
    return re.sub(r"Date: .*", "Date:", text)


def test_the_transcript_is_what_curl_shows(url: str, tmp_path: Path):
    (transcript,) = blocks("console")
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", transcript, re.MULTILINE)
    script = "\n".join(f"{command}; echo '<end>'" for command, _shown in steps)
    done = subprocess.run(
        ["bash", "-c", script.replace("127.0.0.1:8080", url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    answers = done.stdout.split("<end>\n")[:-1]

    assert [masked(answer).strip() for answer in answers] == [
        masked(shown).strip() for _command, shown in steps
    ]
    assert (tmp_path / "images" / "hello.txt").read_text() == "Hello, BITS."


def test_the_configuration_is_valid(tmp_path: Path):
    (text,) = blocks("toml")
    table = tomllib.loads(text.replace("/srv/medv/images", str(tmp_path)))

    assert from_table(table, tmp_path).directory[0].maximum_upload_size == 40 * 2**30


def test_the_code_is_explained():
    command = [sys.executable, "-m", "bitsd", "explain", "0x8020001F"]

    assert f"bitsd {' '.join(command[3:])}" in README
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_make_knows_the_targets():
    targets = [*re.findall(r"`make (\w+)`", README), "run"]
    for target in targets:
        dry = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=False
        )

        assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_a_link_leads_somewhere(link: str):
    assert (ROOT / link).exists()


def test_files_that_are_named_exist():
    names = re.findall(r"`((?:examples|tests)/[\w./-]+)", README)

    assert [name for name in names if not (ROOT / name).exists()] == []
    assert all(os.access(ROOT / name, os.X_OK) for name in names if "upload.sh" in name)
