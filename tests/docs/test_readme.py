"""What the README shows is what happens."""

import gzip
import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from authorities import Authority
from cryptography.x509 import DNSName
from kerberos import realm

from bitsd.config import from_table, warnings
from bitsd.offers import sign_in

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
    text, _sign_in = blocks("toml")
    table = tomllib.loads(text.replace("/srv/medv/images", str(tmp_path)))

    assert from_table(table, tmp_path).directory[0].maximum_upload_size == 40 * 2**30


def test_the_configuration_of_sign_in_is_valid(tmp_path: Path):
    _first, text = blocks("toml")
    authority = Authority()
    authority.serve(DNSName("files.example.org")).write(tmp_path, "server")
    (tmp_path / "clients-ca.pem").write_bytes(authority.pem)
    images = tmp_path / "images"
    images.mkdir()
    for command in passwd_lines():
        run_bitsd(command, tmp_path, "secret")
    table = tomllib.loads(text.replace("/srv/medv/images", str(images)))
    with realm(tmp_path) as kerberos:
        table["keytab"] = str(kerberos.keytab)
        config = from_table(table, tmp_path)
        found = warnings(config)
    (directory,) = config.directory

    assert (*sign_in(config, directory),) == directory.authentication
    assert found == [
        "directory[0].maximum_upload_size: not set: one upload may fill the disk"
    ]


def passwd_lines() -> list[list[str]]:
    """Commands of the README by which there are users."""
    lines = re.findall(r"^bitsd (passwd [^#\n]*)", README, re.MULTILINE)
    assert len(lines) == 2
    return [[*line.split(), "--stdin"] for line in lines]


def run_bitsd(arguments: list[str], folder: Path, typed: str = "") -> str:
    """What a command prints."""
    return subprocess.run(
        [sys.executable, "-m", "bitsd", *arguments],
        cwd=folder,
        input=f"{typed}\n",
        env=os.environ | {"XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_clients_send_and_fetch_as_is_written(url: str, tmp_path: Path):
    (text,) = (block for block in blocks("sh") if "bitsd upload" in block)
    (tmp_path / "image.ckm").write_bytes(b"An image." * 1000)
    for line in text.replace("127.0.0.1:8080", url).splitlines():
        run_bitsd(line.split()[1:], tmp_path)
    copies = [tmp_path / name for name in ("copy.ckm", "mirror/image.ckm")]

    assert {copy.read_bytes() for copy in copies} == {b"An image." * 1000}


def test_questions_have_answers(url: str, tmp_path: Path):
    commands = re.findall(r"^\| `bitsd ([^`]+)` \|", README, re.MULTILINE)
    served = '[[directory]]\nurl = "/in"\npath = "images"\n'
    (tmp_path / "bitsd.toml").write_text(served)
    capture = gzip.decompress((ROOT / "tests/captures/simple.pcap.gz").read_bytes())
    (tmp_path / "capture.pcap").write_bytes(capture)
    (tmp_path / "images").mkdir(exist_ok=True)
    folder = f"http://{url}/images/"
    asked = [
        command.replace("https://files.example.org/MEDVImages/", folder).split()
        for command in commands
    ]
    for arguments in asked:
        if arguments[0] != "replay":
            assert run_bitsd(arguments, tmp_path)

    assert [arguments[0] for arguments in asked] == [
        "doctor",
        "sessions",
        "explain",
        "decode",
        "replay",
    ]


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
