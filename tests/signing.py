"""Signing in over real connections: a users file, and clients that answer a 401."""

import base64
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from store_kit import PATIENCE
from windows_clients import PASSWORD, Client
from wire_client import Answer, Line

from bitsd.cli import main

#: Whom the file of `write_users` has, all with `PASSWORD` and an NT hash.
NAMES = ("alice", "bob", "carol")


def passwd(file: Path, *options: str, said: str = "") -> None:
    """`bitsd passwd`, in a process of its own where it reads a password."""
    arguments = ["passwd", *options[:-1], str(file), options[-1]]
    if "--stdin" not in options:
        assert main(arguments) == 0
        return
    done = subprocess.run(
        [sys.executable, "-m", "bitsd", *arguments],
        input=f"{said}\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@cache
def _users() -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "users")
        passwd(file, "--ntlm", "--stdin", NAMES[0], said=PASSWORD)
        line = file.read_text("utf-8")
    # A hash is that of a password, whoever has it; each takes its time.
    return "".join(line.replace(NAMES[0], name) for name in NAMES)


def write_users(folder: Path, *, ntlm: bool = True) -> Path:
    """A users file that the program itself has made, with NT hashes or without."""
    path = folder / "users"
    text = _users()
    path.write_text(text if ntlm else re.sub(r":ntlm=\w+", "", text), "utf-8")
    path.chmod(0o600)
    return path


def with_field(octets: bytes, name: str, value: str) -> bytes:
    """The request with one more field."""
    return octets.replace(b"\r\nHost:", f"\r\n{name}: {value}\r\nHost:".encode(), 1)


def authorized(octets: bytes, scheme: str, token: bytes) -> bytes:
    """The request with a token to sign in by."""
    said = base64.b64encode(token).decode()
    return with_field(octets, "Authorization", f"{scheme} {said}")


def basic(octets: bytes, name: str, password: str = PASSWORD) -> bytes:
    """The request with a name and a password."""
    return authorized(octets, "Basic", f"{name}:{password}".encode())


def offers(answer: Answer) -> list[str]:
    """What an answer wants, in its order."""
    return [value for name, value in answer.fields if name == "WWW-Authenticate"]


def token_of(answer: Answer, scheme: str) -> bytes | None:
    """What an answer says to a client that signs in; None if nothing."""
    words = [offer.split(" ") for offer in offers(answer)]
    found = [
        base64.b64decode(word[1]) for word in words if word[0] == scheme and word[1:]
    ]
    assert len(found) < 2
    return found[0] if found else None


async def sign_in(
    line: Line,
    octets: bytes,
    client: Client,
    scheme: str = "NTLM",
    *,
    head: bool = False,
) -> Answer:
    """What a client ends with that sends a whole request with each of its tokens."""
    token = client.step()
    assert token is not None
    while True:
        answer = await line.ask(authorized(octets, scheme, token), head=head)
        said = token_of(answer, scheme)
        token = None if said is None else client.step(said)
        if answer.status != 401 or not token:
            return answer
