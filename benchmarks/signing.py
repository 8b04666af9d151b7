"""A user who signs in, by Basic with each request or by NTLM once for a connection."""

import hmac
import re
import struct
from base64 import b64decode, b64encode
from typing import Literal

from bitsd.ntlm import SIGNATURE, nt_hash, response_key
from bitsd.passwords import hashed

from .client import Line, Unexpected, packet

Way = Literal["Basic", "NTLM"]

USER = "alice"
# Of a server that lives for a benchmark.
_PASSWORD = "correct horse"  # noqa: S105 - of a server that lives for a benchmark

# Unicode, signatures and 128 bits, as most clients ask for.
_FLAGS = 0x20088215

_CHALLENGE = re.compile(rb"\r\nWWW-Authenticate: NTLM (\S+)")


def users_file() -> str:
    """What the server has of the user."""
    return f"{USER}:{hashed(_PASSWORD)}:ntlm={nt_hash(_PASSWORD).hex()}\n"


def fields(way: Way | None) -> dict[str, str]:
    """What each request has of the user."""
    if way != "Basic":
        return {}
    said = b64encode(f"{USER}:{_PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {said}"}


def sign_in(line: Line, target: str) -> None:
    """The handshake of NTLM ([MS-NLMP])."""
    first = struct.pack("<8sII16x", SIGNATURE, 1, _FLAGS)
    challenge = _CHALLENGE.search(line.ask(_ping(target, first), expect=(401,)))
    if challenge is None:
        raise Unexpected("no challenge")
    last = _answer(b64decode(challenge[1]))
    line.ask(_ping(target, last), expect=(200,))


def _ping(target: str, token: bytes) -> bytes:
    said = f"NTLM {b64encode(token).decode()}"
    return packet(target, "Ping", Authorization=said)


def _answer(challenge: bytes) -> bytes:
    """AUTHENTICATE_MESSAGE, 2.2.1.3, with an NTLMv2 response that says no more."""
    user, blob = USER.encode("utf-16-le"), b"\1\1" + bytes(26 + 4)
    key = response_key(nt_hash(_PASSWORD), user, b"")
    proof = hmac.digest(key, challenge[24:32] + blob, "md5")
    head, at, body = struct.pack("<8sI", SIGNATURE, 3), 64, b""
    for field in (b"", proof + blob, b"", user, b"", b""):
        head += struct.pack("<HHI", len(field), len(field), at + len(body))
        body += field
    return head + struct.pack("<I", _FLAGS) + body
