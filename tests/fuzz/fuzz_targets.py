"""What reads octets of others, each as a function that fails when it breaks a promise.

Atheris and Hypothesis call them with whatever they think of.
"""

import hmac
import json
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from bitsd import config, ntlm, record, spnego
from bitsd.destination import (
    MAXIMUM_NAME,
    REPLIES,
    SESSIONS,
    Folder,
    destination,
    names,
)
from bitsd.disk import Disk
from bitsd.forwarded import Proxies, proxied
from bitsd.negotiate import Acceptor
from bitsd.outcome import Continue, Denied, SignedIn
from bitsd.protocol.refusal import Refusal
from bitsd.protocol.wire import (
    MAXIMUM_NUMBER,
    Ack,
    CancelSession,
    CloseSession,
    CreateSession,
    Fragment,
    NotAnAck,
    Ping,
    SessionId,
    parse,
)
from bitsd.ranges import ALLOWANCE, ByteRange, Representation, decide
from bitsd.users import Users, wrong_name

ID = SessionId("{11111111-2222-4333-8444-555555555555}")
NOW = 1_800_000_000
SIZES = (0, 1, 2, 10, 1000, 2**31, 2**32 + 1, 2**63 - 1)
BOUNDARY = "boundary"


def text(data: bytes) -> str:
    """As aiohttp decodes a header."""
    return data.decode("utf-8", "surrogateescape")


def fields(data: bytes) -> list[tuple[str, str]]:
    """The octets as the lines of a header."""
    lines = (line.partition(":") for line in text(data).split("\n"))
    return [(name, value) for name, colon, value in lines if colon]


def is_clean(lines: list[tuple[str, str]]) -> bool:
    """Fields that can be sent: nothing in them ends a line or is no ASCII."""
    return all(part.isascii() and part.isprintable() for line in lines for part in line)


def packet(data: bytes) -> None:
    """A Packet that says the same when it is sent again, or a Refusal."""
    try:
        found = parse(fields(data))
    except Refusal as refusal:
        assert is_clean(Ack.refusing(refusal).fields())
        return
    kinds = (CreateSession, Ping, Fragment, CloseSession, CancelSession)
    assert isinstance(found, kinds)
    assert parse(found.fields()) == found


def ack(data: bytes) -> None:
    """An Ack that says the same when it is sent again, or none."""
    with suppress(NotAnAck):
        found = Ack.parse(200, fields(data))
        assert Ack.parse(200, found.fields()) == found


def content_range(data: bytes) -> None:
    """The bytes of the body at their place in the entity, or a Refusal."""
    value, _, length = text(data).partition("\n")
    asked = [
        ("BITS-Packet-Type", "Fragment"),
        ("BITS-Session-Id", ID),
        ("Content-Range", value),
        ("Content-Length", length),
    ]
    with suppress(Refusal):
        found = parse(asked)
        assert isinstance(found, Fragment)
        assert found.length == int(length) >= 0
        assert 0 <= found.first <= found.last + 1 <= found.total <= MAXIMUM_NUMBER


def download(data: bytes) -> None:
    """An answer whose bytes are all in the file, and as many as it says."""
    first, rest = data[:1] or b"\0", data[1:]
    method = "HEAD" if first[0] & 0x80 else "GET"
    size = SIZES[first[0] % len(SIZES)]
    offered = Representation(
        size=size, etag='"e"', last_modified=NOW - 100, content_type="text/plain"
    )
    answer = decide(method, fields(rest), offered, boundary=BOUNDARY, now=NOW)
    said = dict(answer.fields)
    ranges = [piece for piece in answer.pieces if isinstance(piece, ByteRange)]
    length = sum(
        piece.length if isinstance(piece, ByteRange) else len(piece)
        for piece in answer.pieces
    )
    assert answer.status in (200, 206, 304, 412, 416)
    assert len(said) == len(answer.fields)
    assert is_clean(list(answer.fields))
    assert all(0 <= piece.first <= piece.last < size for piece in ranges)
    assert sum(piece.length for piece in ranges) <= max(2 * size, ALLOWANCE)
    if method == "HEAD" or answer.status in (304, 412, 416):
        assert not answer.pieces
    else:
        assert int(said["Content-Length"]) == length
    assert answer.status != 206 or (method == "GET" and ranges)
    if answer.status == 206 and len(ranges) == len(answer.pieces):
        [only] = ranges
        assert said["Content-Range"] == f"bytes {only.first}-{only.last}/{size}"


def target(data: bytes) -> None:
    """The name of a file below the folder, or a Refusal."""
    with suppress(Refusal):
        path = names(text(data))
        wanted = destination(path)
        parts = wanted.split("/")
        assert tuple(parts) == path
        assert not {"", ".", ".."} & set(parts)
        assert parts[0].casefold() not in (SESSIONS.casefold(), REPLIES.casefold())
        assert all(len(part.encode()) <= MAXIMUM_NAME for part in parts)
        assert not set(wanted) & set('\\:*?"<>|\0\r\n')


def table(data: bytes) -> None:
    """A Config, or a ConfigError of printable lines."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict) and None not in leaves(found):
        configured(lambda: config.from_table(found, Path("/nonexistent")))


def leaves(found: object) -> Iterator[object]:
    """What is in there and contains nothing."""
    if isinstance(found, Mapping | list):
        inner = found.values() if isinstance(found, Mapping) else found
        for each in inner:
            yield from leaves(each)
    else:
        yield found


def configured(load: Callable[[], Any]) -> None:
    try:
        assert all(line.isprintable() for line in config.warnings(load()))
    except config.ConfigError as error:
        assert error.problems
        assert all(line.isprintable() for line in error.problems)


def toml(data: bytes) -> None:
    """A Config, or a ConfigError of printable lines."""
    path = folder() / "bitsd.toml"
    path.write_bytes(data)
    configured(lambda: config.load(path))


def session(data: bytes) -> None:
    """A Session as it was written, or a word on why there is none."""
    home = folder() / SESSIONS / ID
    home.mkdir(parents=True, exist_ok=True)
    (home / "request").touch()
    (home / record.FILE).write_bytes(data)
    with suppress(record.SessionNotFound):
        found = Disk(Folder(folder())).read(ID)
        before, _mtime = record.read(home)
        record.write(home, found, before.kept, durable=False)
        assert record.read(home)[0] == before


#: What nobody knows who sends octets.
HASH = bytes.fromhex("c0ffee00c0ffee00c0ffee00c0ffee00")


def negotiation(data: bytes) -> None:
    """Two tokens, the first as long as two octets say: an answer to each, or Denied."""
    length = int.from_bytes(data[:2], "big")
    exchange = Acceptor(lambda _name: HASH, None).start("negotiate", None)
    for token in (data[2 : 2 + length], data[2 + length :]):
        with suppress(Denied):
            assert isinstance(exchange.step(token), Continue)
        with suppress(Denied):
            found = spnego.initial(token)
            assert found.mechanisms
            assert found.listed in token
        with suppress(Denied):
            spnego.response(token)


def ntlm_answer(data: bytes) -> None:
    """Denied, or the name in the answer of one who knows the hash, and no other."""
    for message in (data, _proven(data)):
        handshake = ntlm.Handshake(lambda _name: HASH, b"")
        challenge = handshake.step(
            struct.pack("<8sII16x", ntlm.SIGNATURE, 1, 0x20088215)
        )
        assert isinstance(challenge, Continue)
        # The same each time, or nothing that is found could be found again.
        handshake._challenge = challenge.token[:24] + bytes(8) + challenge.token[32:]
        with suppress(Denied):
            outcome = handshake.step(message)
            assert message is not data or isinstance(outcome, Continue)
            if isinstance(outcome, SignedIn):
                assert outcome.name


def _proven(data: bytes) -> bytes:
    """The message with the proof that would be right, if it has room for one."""
    try:
        answer = ntlm._Authenticate.read(data)
    except Denied:
        return data
    key = ntlm.response_key(HASH, answer.user, answer.domain)
    _length, _room, start = struct.unpack_from("<HHI", data, 20)
    proof = hmac.digest(key, bytes(8) + answer.response[16:], "md5")
    return data[:start] + proof + data[start + 16 :]


def users_file(data: bytes) -> None:
    """Users that are found by their names, or a line that says what is wrong."""
    path = folder() / "users"
    path.write_bytes(data)
    try:
        users = Users.load(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: line ")
        assert str(error).isprintable()
        return
    found = list(users._by_key.values())
    assert len(users) == len(found)
    assert all(wrong_name(user.name) is None for user in found)
    assert all(users.find(user.name) is user for user in found)
    assert all(user.nt_hash is None or len(user.nt_hash) == 16 for user in found)
    assert users.decoy("nobody") in {None, *(user.password for user in found)}


def origin(data: bytes) -> None:
    """An address and a scheme, whatever a trusted proxy hands on."""
    sent = CIMultiDict(fields(data))
    proxied(sent)
    address, scheme = Proxies(("10.0.0.0/8", "unix")).origin("10.0.0.1", sent)
    assert str(ip_address(address)) == address
    assert scheme in (None, "http", "https")


_folders: list[tempfile.TemporaryDirectory[str]] = []


def folder() -> Path:
    """One of this process, removed at its end."""
    if not _folders:
        memory = Path("/dev/shm")
        at = memory if memory.is_dir() else None
        _folders.append(tempfile.TemporaryDirectory(dir=at))
    return Path(_folders[0].name)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        *(packet, ack, content_range, download, target, table, toml, session),
        *(negotiation, ntlm_answer, users_file, origin),
    )
}
