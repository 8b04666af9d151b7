"""NTLM as a server checks it ([MS-NLMP]): NTLMv2, for users whose NT hash it has.

The response is checked over the octets that the client sent, not over what was read
from them: clients write the same things in several ways. Nothing but the users decides
what is taken, no variable of the environment and no file.
"""

import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher

from .md4 import md4
from .outcome import Continue, Denied, SignedIn

SIGNATURE = b"NTLMSSP\0"

#: What the server calls itself, whatever the name of the machine: it asks anybody who
#: connects for a name, and so would tell it to anybody.
SERVER = "BITSD"

_NEGOTIATE, _CHALLENGE, _AUTHENTICATE = 1, 2, 3

#: Where the fields of messages start and end ([MS-NLMP] 2.2.1).
_NEGOTIATE_SIZE = 16
_CHALLENGE_SIZE = 56
_AUTHENTICATE_SIZE = 64
_MIC = slice(72, 88)

#: 2.2.2.10, Windows 10 of no build: some clients leave room for their own version, and
#: so put their MIC where it belongs, only if there is one here.
_VERSION = b"\x0a\0\0\0\0\0\0\x0f"

#: [MS-NLMP] 2.2.2.7: the proof, then the part of an NTLMv2_CLIENT_CHALLENGE that is
#: always there.
_PROOF_SIZE = 16
_PAIRS_START = 28
_VERSIONS = b"\x01\x01"

#: NTLMv1 answers with so many octets.
_NTLM_V1_SIZE = 24

#: Seconds from 1601, where Windows starts to count, to 1970.
_EPOCH_SECONDS = 11_644_473_600


class Flag(IntFlag):
    """Those flags of [MS-NLMP] 2.2.2.5 that matter here."""

    UNICODE = 0x1
    OEM = 0x2
    REQUEST_TARGET = 0x4
    SIGN = 0x10
    SEAL = 0x20
    NTLM = 0x200
    ANONYMOUS = 0x800
    ALWAYS_SIGN = 0x8000
    TARGET_TYPE_SERVER = 0x20000
    EXTENDED_SESSIONSECURITY = 0x80000
    TARGET_INFO = 0x800000
    VERSION = 0x2000000
    KEY_128 = 0x20000000
    KEY_EXCH = 0x40000000
    KEY_56 = 0x80000000


#: What a client may ask for, and gets.
_GRANTED = (
    Flag.UNICODE
    | Flag.SIGN
    | Flag.SEAL
    | Flag.ALWAYS_SIGN
    | Flag.EXTENDED_SESSIONSECURITY
    | Flag.VERSION
    | Flag.KEY_128
    | Flag.KEY_EXCH
    | Flag.KEY_56
)

#: What our kind of signature needs.
_SIGNING = Flag.SIGN | Flag.EXTENDED_SESSIONSECURITY

#: [MS-NLMP] 2.2.2.1, the pairs that are sent and read here.
_END, _COMPUTER, _DOMAIN, _DNS_COMPUTER, _DNS_DOMAIN = 0, 1, 2, 3, 4
_FLAGS, _TIME, _BINDINGS = 6, 7, 10

#: In `_FLAGS`: the client made a MIC of all three messages.
_MIC_PROVIDED = 0x2

_NO_BINDINGS = bytes(16)

#: 3.4.5: constants that make keys of the session key, by who signs.
_TO_SERVER = b"session key to client-to-server %s key magic constant\0"
_TO_CLIENT = b"session key to server-to-client %s key magic constant\0"

HashOf = Callable[[str], bytes | None]


def nt_hash(password: str) -> bytes:
    """What NTLM keeps of a password, 16 bytes: who has it can sign in with it.

    [MS-NLMP] 3.3.2, NTOWF without the name of the user.
    """
    return md4(password.encode("utf-16-le", "surrogatepass"))


def response_key(hashed: bytes, user: bytes, domain: bytes) -> bytes:
    """NTOWFv2 of [MS-NLMP] 3.3.2, for names in the spelling of the client.

    Args:
        hashed: the NT hash.
        user: in UTF-16.
        domain: in UTF-16.
    """
    units = struct.unpack(f"<{len(user) // 2}H", user)
    upper = struct.pack(f"<{len(units)}H", *map(_upper, units))
    return _hmac_md5(hashed, upper + domain)


def _upper(unit: int) -> int:
    """Windows has one capital for one letter: that of the sharp s is the sharp s."""
    upper = chr(unit).upper()
    return ord(upper) if len(upper) == 1 else unit


@dataclass(frozen=True, slots=True)
class _Authenticate:
    """AUTHENTICATE_MESSAGE, [MS-NLMP] 2.2.1.3; names are in UTF-16."""

    message: bytes
    response: bytes
    domain: bytes
    user: bytes
    session_key: bytes
    flags: Flag

    @classmethod
    def read(cls, message: bytes) -> "_Authenticate":
        """Raises Denied if it is none."""
        if len(message) < _AUTHENTICATE_SIZE:
            raise Denied("NTLM message is cut")
        (flags,) = struct.unpack_from("<I", message, 60)
        domain, user = _field(message, 28), _field(message, 36)
        if not flags & Flag.UNICODE:
            domain, user = _from_oem(domain), _from_oem(user)
        if len(domain) % 2 or len(user) % 2:
            raise Denied("NTLM message has half a character in a name")
        response, key = _field(message, 20), _field(message, 52)
        return cls(message, response, domain, user, key, Flag(flags))

    @property
    def name(self) -> str:
        """The user as it was written, with the domain if there is one."""
        user = self.user.decode("utf-16-le", "replace")
        domain = self.domain.decode("utf-16-le", "replace")
        return f"{domain}\\{user}" if domain else user


def _field(message: bytes, at: int) -> bytes:
    """What a field points at ([MS-NLMP] 2.2.1)."""
    length, _allocated, start = struct.unpack_from("<HHI", message, at)
    if length and not _AUTHENTICATE_SIZE <= start <= len(message) - length:
        raise Denied("NTLM message has a field that lies outside of it")
    return message[start : start + length]


def _from_oem(name: bytes) -> bytes:
    """A name in a code page that nobody says: what is the same in all of them."""
    try:
        return name.decode("ascii").encode("utf-16-le")
    except UnicodeDecodeError:
        raise Denied(
            "NTLM client sends other letters than ASCII's, and no Unicode"
        ) from None


class Handshake:
    """One sign-in by NTLM: its challenge, and the one answer to that.

    Attributes:
        can_sign: who signed in asked for signatures.
        must_sign: who signed in made a MIC of the messages, and so can of SPNEGO's.
    """

    def __init__(self, hash_of: HashOf, binding: bytes | None) -> None:
        self.can_sign = False
        self.must_sign = False
        self._hash_of = hash_of
        self._binding = binding
        self._asked: bytes | None = None
        self._challenge = b""
        self._key = b""
        self._flags = Flag(0)

    def step(self, token: bytes) -> Continue | SignedIn:
        """Take a message. A first one begins anew; a challenge is good for one answer.

        Raises:
            Denied: the message is wrong, or comes at the wrong time.
        """
        if not token.startswith(SIGNATURE) or len(token) < _NEGOTIATE_SIZE:
            raise Denied("not an NTLM message")
        (number,) = struct.unpack_from("<I", token, len(SIGNATURE))
        if number == _NEGOTIATE:
            self._asked, self._challenge = token, _challenge(token)
            return Continue(self._challenge)
        asked, self._asked = self._asked, None
        if number != _AUTHENTICATE:
            raise Denied(f"NTLM message of type {number}")
        if asked is None:
            raise Denied("NTLM answer without a challenge")
        return self._checked(asked, _Authenticate.read(token))

    def _checked(self, asked: bytes, answer: _Authenticate) -> SignedIn:
        name = answer.name
        if not answer.user or not answer.response or answer.flags & Flag.ANONYMOUS:
            raise Denied("NTLM client wants to be nobody")
        if len(answer.response) == _NTLM_V1_SIZE:
            raise Denied("NTLMv1 is not taken: the client has to send NTLMv2", name)
        self._key = self._proven(answer, name)
        pairs = _pairs(answer.response[_PROOF_SIZE + _PAIRS_START :], name)
        self._check_binding(pairs.get(_BINDINGS, _NO_BINDINGS), name)
        flags = int.from_bytes(pairs.get(_FLAGS, b""), "little")
        provided = bool(flags & _MIC_PROVIDED)
        if provided and not _is_whole(asked, self._challenge, answer, self._key):
            raise Denied("NTLM messages were changed on the way", name)
        self._flags = answer.flags
        self.can_sign = _SIGNING in answer.flags
        self.must_sign = self.can_sign and provided
        return SignedIn(name, "ntlm", None)

    def _proven(self, answer: _Authenticate, name: str) -> bytes:
        """The session key; as much is computed for a user that there is not."""
        hashed = self._hash_of(name)
        key = response_key(hashed or bytes(16), answer.user, answer.domain)
        nonce = self._challenge[24:32]
        proof, blob = answer.response[:_PROOF_SIZE], answer.response[_PROOF_SIZE:]
        expected = _hmac_md5(key, nonce + blob)
        if not hmac.compare_digest(expected, proof) or hashed is None:
            why = "no NT hash of this user" if hashed is None else "wrong password"
            raise Denied(f"NTLM: {why}", name)
        if not blob.startswith(_VERSIONS):
            raise Denied("NTLM: not an NTLMv2 response", name)
        return _session_key(_hmac_md5(key, proof), answer)

    def _check_binding(self, sent: bytes, name: str) -> None:
        """RFC 5929 and [MS-NLMP] 3.1.5.1.2; without one of ours there is no check."""
        if self._binding is None or hmac.compare_digest(sent, _NO_BINDINGS):
            return
        # gss_channel_bindings_struct with no addresses, each of type 0 and length 0.
        ours = bytes(16) + struct.pack("<I", len(self._binding)) + self._binding
        if not hmac.compare_digest(sent, _md5(ours)):
            raise Denied("NTLM: signed in to another TLS connection than this", name)

    def sign(self, octets: bytes) -> bytes:
        """Our signature, as the first of this session."""
        return self._signed(_TO_CLIENT, octets)

    def verify(self, octets: bytes, signature: bytes) -> None:
        """Raises Denied unless the client signed this, as the first of this session."""
        if Flag.EXTENDED_SESSIONSECURITY not in self._flags:
            raise Denied("NTLM client cannot sign")
        if not hmac.compare_digest(self._signed(_TO_SERVER, octets), signature):
            raise Denied("NTLM: SPNEGO was changed on the way")

    def _signed(self, whose: bytes, octets: bytes) -> bytes:
        """3.4.4.2 for the first message, number 0."""
        number = bytes(4)
        signing = _md5(self._key + whose % b"signing")
        checksum = _hmac_md5(signing, number + octets)[:8]
        if Flag.KEY_EXCH in self._flags:
            checksum = _rc4(self._sealing_key(whose), checksum)
        return b"\1\0\0\0" + checksum + number

    def _sealing_key(self, whose: bytes) -> bytes:
        """SEALKEY of 3.4.5.3."""
        if Flag.KEY_128 in self._flags:
            size = 16
        else:
            size = 7 if Flag.KEY_56 in self._flags else 5
        return _md5(self._key[:size] + whose % b"sealing")


def _challenge(negotiate: bytes) -> bytes:
    """CHALLENGE_MESSAGE, [MS-NLMP] 2.2.1.2: with a new challenge each time."""
    (asked,) = struct.unpack_from("<I", negotiate, 12)
    flags = Flag(asked & _GRANTED) | Flag.NTLM | Flag.TARGET_INFO
    if Flag.UNICODE not in flags:
        flags |= Flag.OEM
    target = b""
    if asked & Flag.REQUEST_TARGET:
        flags |= Flag.TARGET_TYPE_SERVER | Flag.REQUEST_TARGET
        target = SERVER.encode("utf-16-le" if Flag.UNICODE in flags else "ascii")
    filetime = time.time_ns() // 100 + _EPOCH_SECONDS * 10**7
    server = SERVER.encode("utf-16-le")
    names = (_COMPUTER, _DOMAIN, _DNS_COMPUTER, _DNS_DOMAIN)
    pairs = [(kind, server) for kind in names]
    # With a time a client makes a MIC (3.1.5.1.2).
    pairs += [(_TIME, filetime.to_bytes(8, "little")), (_END, b"")]
    info = b"".join(struct.pack("<HH", kind, len(it)) + it for kind, it in pairs)
    message = struct.pack("<8sI", SIGNATURE, _CHALLENGE)
    message += _pointer(target, _CHALLENGE_SIZE)
    message += struct.pack("<I8s8x", flags, secrets.token_bytes(8))
    message += _pointer(info, _CHALLENGE_SIZE + len(target))
    return message + _VERSION + target + info


def _pointer(octets: bytes, start: int) -> bytes:
    return struct.pack("<HHI", len(octets), len(octets), start)


def _pairs(octets: bytes, name: str) -> dict[int, bytes]:
    """What the client says besides, up to the end that it marks."""
    pairs: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(octets):
        kind, length = struct.unpack_from("<HH", octets, at)
        if kind == _END:
            return pairs
        at += 4 + length
        pairs[kind] = octets[at - length : at]
    raise Denied("NTLM response is cut", name)


def _session_key(own: bytes, answer: _Authenticate) -> bytes:
    """ExportedSessionKey of 3.2.5.1.2."""
    if Flag.KEY_EXCH in answer.flags and len(answer.session_key) == len(own):
        return _rc4(own, answer.session_key)
    return own


def _is_whole(
    asked: bytes, challenge: bytes, answer: _Authenticate, key: bytes
) -> bool:
    """The three messages are those that the client saw."""
    message = answer.message
    blank = message[: _MIC.start] + bytes(16) + message[_MIC.stop :]
    expected = _hmac_md5(key, asked + challenge + blank)
    return hmac.compare_digest(expected, message[_MIC])


def _hmac_md5(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "md5")


def _md5(octets: bytes) -> bytes:
    return hashlib.md5(octets, usedforsecurity=False).digest()


def _rc4(key: bytes, octets: bytes) -> bytes:
    return Cipher(ARC4(key), mode=None).encryptor().update(octets)
