"""Clients of Windows sign-in, each written by somebody else, and one that can lie."""

import base64
import hmac
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import spnego
from spnego.channel_bindings import GssChannelBindings
from store_kit import PATIENCE, cannot_run

from bitsd.negotiate import Exchange
from bitsd.ntlm import response_key
from bitsd.outcome import SignedIn

PASSWORD = "correct horse"


class Client(Protocol):
    """Who signs in: a token for a token; none first, and none in the end."""

    def step(self, token: bytes | None = None) -> bytes | None: ...


def sign_in(exchange: Exchange, client: Client) -> SignedIn:
    """All tokens there and back."""
    token = client.step()
    while token:
        outcome = exchange.step(token)
        if isinstance(outcome, SignedIn):
            if outcome.token is not None:
                client.step(outcome.token)
            return outcome
        token = client.step(outcome.token)
    raise AssertionError("client has nothing to say")


def pyspnego(
    user: str,
    password: str = PASSWORD,
    *,
    protocol: str = "ntlm",
    binding: bytes | None = None,
) -> spnego.ContextProxy:
    """The client of pyspnego, without Kerberos's library but for Kerberos."""
    own = spnego.NegotiateOptions.use_negotiate
    return spnego.client(
        user,
        password,
        hostname="localhost",
        service="HTTP",
        protocol=protocol,
        options=own if protocol == "negotiate" else spnego.NegotiateOptions.use_ntlm,
        channel_bindings=binding and GssChannelBindings(application_data=binding),
    )


@dataclass
class Samba:
    """`ntlm_auth` as a client, which asks by lines."""

    process: subprocess.Popen[str]

    def step(self, token: bytes | None = None) -> bytes | None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        question = f"TT {base64.b64encode(token).decode()}" if token else "YR"
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        _answer, _, said = self.process.stdout.readline().strip().partition(" ")
        return base64.b64decode(said) if said else None


@contextmanager
def samba(
    user: str,
    password: str = PASSWORD,
    *,
    domain: str = "",
    helper: str = "ntlmssp-client-1",
) -> Iterator[Samba]:
    """Samba's client for bare NTLM, or for SPNEGO."""
    if shutil.which("ntlm_auth") is None:
        cannot_run("ntlm_auth is not installed: winbind")
    command = ["ntlm_auth", f"--helper-protocol={helper}", "--configfile=/dev/null"]
    command += [f"--username={user}", f"--domain={domain}", f"--password={password}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Samba(process)
        finally:
            process.kill()


def curl(
    url: str, *options: str, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The status and the body that curl ends with."""
    if shutil.which("curl") is None:
        cannot_run("curl is not installed")
    command = ["curl", "-q", "-s", "-w", "\n%{http_code}", *options, url]
    done = subprocess.run(
        command,
        env=environment or os.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


#: What `Liar` asks for: Unicode, signatures, 128 bits.
FLAGS = 0x20088215


@dataclass
class Liar:
    """An NTLM client whose last message is said field by field.

    The proof is right for the NT hash, whatever it proves.
    """

    hashed: bytes
    user: str = "alice"
    domain: str = ""
    flags: int = FLAGS
    pairs: Mapping[int, bytes] = field(default_factory=dict)
    blob: bytes | None = None
    challenge: bytes = b""

    def negotiate(self) -> bytes:
        return struct.pack("<8sII16x", b"NTLMSSP\0", 1, self.flags)

    def authenticate(self, challenge: bytes) -> bytes:
        self.challenge = challenge
        return self.message(self.response())

    def response(self) -> bytes:
        """The right one."""
        sent = b"".join(
            struct.pack("<HH", kind, len(value)) + value
            for kind, value in self.pairs.items()
        )
        blob = b"\1\1" + bytes(26) + sent + bytes(4)
        if self.blob is not None:
            blob = self.blob
        key = response_key(self.hashed, *map(utf16, (self.user, self.domain)))
        return hmac_md5(key, self.challenge[24:32] + blob) + blob

    def message(
        self, response: bytes, *, user: bytes | None = None, key: bytes = b""
    ) -> bytes:
        names = [utf16(self.domain), utf16(self.user) if user is None else user, b""]
        return message(bytes(24), response, *names, key, flags=self.flags)


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


def hmac_md5(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "md5")


def message(*fields: bytes, flags: int) -> bytes:
    """AUTHENTICATE_MESSAGE with fields in the order of their pointers."""
    at, head = 88, struct.pack("<8sI", b"NTLMSSP\0", 3)
    for octets in fields:
        head += struct.pack("<HHI", len(octets), len(octets), at)
        at += len(octets)
    return head + struct.pack("<I24x", flags) + b"".join(fields)
