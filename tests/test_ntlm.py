import copy
import socket
import struct
import sys
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from windows_clients import (
    FLAGS,
    PASSWORD,
    Liar,
    hmac_md5,
    message,
    pyspnego,
    samba,
    sign_in,
    utf16,
)

from bitsd.md4 import md4
from bitsd.ntlm import Handshake, nt_hash, response_key
from bitsd.outcome import Continue, Denied, SignedIn
from bitsd.users import bare

#: RFC 1320, appendix 5.
DIGESTS = {
    "": "31d6cfe0d16ae931b73c59d7e0c089c0",
    "a": "bde52cb31de33e46245e05fbdbd6fb24",
    "abc": "a448017aaf21d8525fc10ae87aa6729d",
    "message digest": "d9130a8164549fe818874806e1c7014b",
    "abcdefghijklmnopqrstuvwxyz": "d79e1c308aa5bbcdeea8ed63df412da9",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789": (
        "043f8582f241db351ce627e153e7f0e4"
    ),
    "1234567890" * 8: "e33b4ddc9c38f2199c3e7b164fcc0536",
}


@pytest.mark.parametrize(("text", "digest"), DIGESTS.items())
def test_md4_is_that_of_the_rfc(text, digest):
    assert md4(text.encode()).hex() == digest


def test_hash_of_a_password_is_that_of_the_specification():
    # [MS-NLMP] 4.2.2.1.2.
    assert nt_hash("Password").hex() == "a4f49c406510bdcab6824ee7c30fd852"


def test_password_may_hold_any_character():
    assert len(nt_hash("\udc80 Grüße \U0001f512")) == 16


#: [MS-NLMP] 4.2.1 and 4.2.4: what all examples share, and those of NTLMv2.
USER, DOMAIN, WORKSTATION = "User", "Domain", "COMPUTER"
NONCE = bytes.fromhex("0123456789abcdef")
KEY = "0c868a403bfd7a93a3001ef22ef02e3f"
PROOF = "68cd0ab851e51c96aabc927bebef6a1c"
SESSION_KEY = b"\x55" * 16
ENCRYPTED_SESSION_KEY = "c5dad2544fc9799094ce1ce90bc9d03e"
PUBLISHED_FLAGS = 0xE28A8233
PAIRS = (
    "02000c0044006f006d00610069006e0001000c005300650072007600650072000000000000000000"
)
BLOB = bytes.fromhex("0101" + 14 * "00" + 8 * "aa" + 4 * "00" + PAIRS)
RESPONSE = bytes.fromhex(PROOF) + BLOB


def users(name):
    return {"alice": ALICE, "user": nt_hash("Password")}.get(bare(name).lower())


ALICE = nt_hash(PASSWORD)


def handshake(binding=None):
    return Handshake(users, binding)


def published():
    """A handshake that sent the challenge of the examples."""
    made = handshake()
    made.step(struct.pack("<8sII", b"NTLMSSP\0", 1, PUBLISHED_FLAGS))
    made._challenge = bytes(24) + NONCE
    return made


def published_answer(response=RESPONSE):
    names = [utf16(DOMAIN), utf16(USER), utf16(WORKSTATION)]
    key = bytes.fromhex(ENCRYPTED_SESSION_KEY)
    return message(bytes(24), response, *names, key, flags=PUBLISHED_FLAGS)


def lie(made, liar):
    """Where an answer of a client leads to that says what it wants."""
    return made.step(liar.authenticate(made.step(liar.negotiate()).token))


@contextmanager
def denied(detail, name="alice"):
    with pytest.raises(Denied) as caught:
        yield
    assert detail in caught.value.detail
    assert caught.value.name == name


def test_key_is_that_of_the_specification():
    key = response_key(nt_hash("Password"), utf16(USER), utf16(DOMAIN))

    assert key.hex() == KEY


def test_response_of_the_specification_signs_in():
    assert published().step(published_answer()) == SignedIn(
        "Domain\\User", "ntlm", None
    )


@pytest.mark.parametrize("at", [0, 15, 16, 40, len(RESPONSE) - 1])
def test_response_of_the_specification_does_not_if_it_is_changed(at):
    changed = bytearray(RESPONSE)
    changed[at] ^= 1

    with denied("wrong password", "Domain\\User"):
        published().step(published_answer(bytes(changed)))


def test_session_key_is_that_of_the_specification():
    made = published()
    made.step(published_answer())

    assert made._key == SESSION_KEY


def test_signature_is_that_of_the_specification():
    made = published()
    made.step(published_answer())
    # 4.2.4.4 signs after it has sealed: what it sealed shows what RC4 makes of zeros.
    text = utf16("Plaintext")
    sealed = bytes.fromhex("54e50165bf1936dc996020c1811b0f06fb5f")
    stream = bytes(a ^ b for a, b in zip(text, sealed, strict=True))
    checksum = bytes.fromhex("70352851f2564309")
    expected = bytes(a ^ b for a, b in zip(checksum, stream[:8], strict=True))

    made.verify(text, b"\1\0\0\0" + expected + bytes(4))


@pytest.mark.parametrize(
    ("name", "upper"),
    [("grüße", "GRÜßE"), ("ŉx", "ŉX"), ("élan", "ÉLAN"), ("𐐨", "𐐨"), ("", "")],
)
def test_capitals_are_those_of_windows(name, upper):
    spelt = response_key(ALICE, utf16(name), b"")

    assert spelt == hmac_md5(ALICE, utf16(upper))


@pytest.mark.parametrize(
    ("user", "domain", "name"),
    [
        ("alice", "", "alice"),
        ("alice", "OFFICE", "OFFICE\\alice"),
        ("ALICE", "office", "office\\ALICE"),
        ("OFFICE\\alice", "", "OFFICE\\alice"),
        ("alice@office.example", "", "alice@office.example"),
        ("alice@office.example", "DESK", "DESK\\alice@office.example"),
    ],
)
def test_user_is_who_is_written_with_the_domain(user, domain, name):
    assert lie(handshake(), Liar(ALICE, user, domain)).name == name


@pytest.mark.parametrize("domain", ["", "OFFICE"])
def test_client_of_samba_signs_in(domain):
    name = f"{domain}\\alice" if domain else "alice"
    with samba("alice", domain=domain) as client:
        assert sign_in(handshake(), client) == SignedIn(name, "ntlm", None)


def test_client_of_samba_is_denied_with_a_wrong_password():
    with samba("alice", "wrong") as client, denied("wrong password"):
        sign_in(handshake(), client)


def test_names_and_passwords_may_have_any_letters():
    made = Handshake({"grüße": nt_hash("Straße ☃")}.get, None)

    with samba("grüße", "Straße ☃") as client:
        assert sign_in(made, client).name == "grüße"


@pytest.mark.parametrize("user", ["alice", "OFFICE\\alice", "alice@office"])
def test_client_of_pyspnego_signs_in(user):
    assert sign_in(handshake(), pyspnego(user)) == SignedIn(user, "ntlm", None)


@pytest.mark.parametrize("password", ["wrong", "", PASSWORD.upper()])
def test_client_of_pyspnego_is_denied_with_a_wrong_password(password):
    with denied("wrong password"):
        sign_in(handshake(), pyspnego("alice", password))


def test_user_without_a_hash_is_denied_by_name():
    with denied("no NT hash", "mallory"):
        sign_in(handshake(), pyspnego("mallory"))


def calls(user):
    """What is called while somebody is denied, in this order."""
    made = handshake()
    client = Liar(nt_hash("wrong"), user)
    answer = client.authenticate(made.step(client.negotiate()).token)
    seen = []

    def see(frame, event, argument):
        if event == "call":
            seen.append(frame.f_code.co_qualname)
        elif event == "c_call":
            seen.append(argument.__qualname__)

    sys.setprofile(see)
    try:
        made.step(answer)
    except Denied:
        sys.setprofile(None)
    return seen


def test_nobody_and_a_wrong_password_are_the_same_work():
    assert len(calls("alice")) > 10
    assert calls("alice") == calls("carol")


def test_each_challenge_is_another():
    made = handshake()
    asked = Liar(ALICE).negotiate()

    assert len({made.step(asked).token[24:32] for _ in range(100)}) == 100


def test_challenge_tells_nothing_of_the_machine():
    token = handshake().step(Liar(ALICE, flags=FLAGS | 4).negotiate()).token

    assert utf16("BITSD") in token
    assert utf16(socket.gethostname()).lower() not in token.lower()


def test_answer_without_a_challenge_is_denied():
    with denied("without a challenge", None):
        handshake().step(Liar(ALICE).message(b""))


def test_answer_to_the_challenge_of_another_is_denied():
    liar = Liar(ALICE)
    made, other = handshake(), handshake()
    made.step(liar.negotiate())
    answer = liar.authenticate(other.step(liar.negotiate()).token)

    with denied("wrong password"):
        made.step(answer)


def test_challenge_is_good_for_one_answer():
    made, liar = handshake(), Liar(ALICE)
    answer = liar.authenticate(made.step(liar.negotiate()).token)
    made.step(answer)

    with denied("without a challenge", None):
        made.step(answer)


def test_challenge_is_not_good_for_a_second_try():
    made, liar = handshake(), Liar(ALICE)
    answer = liar.authenticate(made.step(liar.negotiate()).token)
    with denied("cut", None):
        made.step(answer[:40])

    with denied("without a challenge", None):
        made.step(answer)


def test_second_first_message_begins_anew():
    made, liar = handshake(), Liar(ALICE)
    first = liar.authenticate(made.step(liar.negotiate()).token)
    second = made.step(liar.negotiate()).token

    with denied("wrong password"):
        copy.copy(made).step(first)
    assert made.step(liar.authenticate(second)).name == "alice"


@pytest.mark.parametrize("domain", ["", "OFFICE"])
def test_nobody_is_denied(domain):
    with denied("to be nobody", None):
        lie(handshake(), Liar(ALICE, "", domain))


def test_null_session_is_denied():
    liar = Liar(ALICE)
    made = handshake()
    made.step(liar.negotiate())

    with denied("to be nobody", None):
        made.step(liar.message(b""))


def test_null_session_is_denied_also_with_a_name():
    with denied("to be nobody", None):
        lie(handshake(), Liar(ALICE, flags=FLAGS | 0x800))


@pytest.mark.parametrize("level", ["0", "1", "2", "5"])
def test_ntlm_v1_is_denied_whatever_the_environment(monkeypatch, level):
    monkeypatch.setenv("LM_COMPAT_LEVEL", level)
    client = pyspnego("alice")
    made = handshake()

    if level == "5":
        assert sign_in(made, client).name == "alice"
        return
    with denied("NTLMv1 is not taken"):
        sign_in(made, client)


def test_users_of_the_environment_are_nobody(monkeypatch, tmp_path):
    file = tmp_path / "users"
    file.write_text(f"OFFICE:mallory:{PASSWORD}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(file))

    with denied("no NT hash", "OFFICE\\mallory"):
        sign_in(handshake(), pyspnego("OFFICE\\mallory"))


BINDING = b"tls-server-end-point:" + bytes(range(32))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(BINDING, BINDING), (BINDING, None), (None, BINDING), (b"", None), (None, None)],
)
def test_binding_that_fits_or_is_absent_signs_in(ours, theirs):
    client = pyspnego("alice", binding=theirs)

    assert sign_in(handshake(ours), client).name == "alice"


@pytest.mark.parametrize("ours", [BINDING[:-1] + b"x", b"", BINDING.upper()])
def test_binding_to_another_connection_is_denied(ours):
    with denied("another TLS connection"):
        sign_in(handshake(ours), pyspnego("alice", binding=BINDING))


def test_binding_of_zeros_is_none():
    liar = Liar(ALICE, pairs={10: bytes(16)})

    assert lie(handshake(BINDING), liar).name == "alice"


def captured():
    """A handshake, and what a client answers that makes a MIC."""
    made, client = handshake(), pyspnego("alice")
    answer = client.step(made.step(client.step()).token)
    return made, answer


def test_stripped_mic_is_denied():
    made, answer = captured()

    with denied("changed on the way"):
        made.step(answer[:72] + bytes(16) + answer[88:])


def test_mic_that_is_promised_has_to_be_there():
    with denied("changed on the way"):
        lie(handshake(), Liar(ALICE, pairs={6: b"\2\0\0\0"}))


@pytest.mark.parametrize("at", [12, 13, 14, 15, 32])
def test_first_message_that_was_changed_on_the_way_is_denied(at):
    made, client = handshake(), pyspnego("alice")
    asked = bytearray(client.step())
    asked[at] ^= 1
    answer = client.step(made.step(bytes(asked)).token)

    with pytest.raises(Denied):
        made.step(answer)


def test_answer_that_is_cut_is_denied_wherever_that_is():
    made, answer = captured()

    for length in range(len(answer)):
        with pytest.raises(Denied):
            copy.copy(made).step(answer[:length])
    assert made.step(answer).name == "alice"


def test_answer_signs_nobody_in_whichever_bit_is_wrong():
    made, answer = captured()

    for at in range(8 * len(answer)):
        changed = bytearray(answer)
        changed[at // 8] ^= 1 << at % 8
        with suppress(Denied):
            # One bit makes a first message of it.
            assert isinstance(copy.copy(made).step(bytes(changed)), Continue)


@given(octets=st.binary(max_size=300), kind=st.integers(0, 4))
def test_nonsense_is_denied(octets, kind):
    made = published()
    message = struct.pack("<8sI", b"NTLMSSP\0", kind) + octets

    with suppress(Denied):
        assert isinstance(made.step(message), Continue)
    with pytest.raises(Denied):
        made.step(octets)


@pytest.mark.parametrize("length", range(16))
def test_message_of_a_few_bytes_is_denied(length):
    with denied("not an NTLM message", None):
        handshake().step(Liar(ALICE).negotiate()[:length])


def test_challenge_of_a_client_is_denied():
    made = handshake()
    challenge = made.step(Liar(ALICE).negotiate()).token

    with denied("of type 2", None):
        made.step(challenge)


@pytest.mark.parametrize(
    ("blob", "detail"),
    [
        (b"\2\1" + bytes(30), "not an NTLMv2 response"),
        (b"\1\1" + bytes(26), "cut"),
        (b"\1\1" + bytes(26) + b"\1\0\2", "cut"),
        (b"\1\1" + bytes(26) + b"\1\0\2\0x", "cut"),
    ],
)
def test_response_that_is_proven_but_wrong_is_denied(blob, detail):
    with denied(detail):
        lie(handshake(), Liar(ALICE, blob=blob))


def answered(liar, **said):
    made = handshake()
    liar.challenge = made.step(liar.negotiate()).token
    return made.step(liar.message(liar.response(), **said))


@pytest.mark.parametrize("start", [0, 63, 250, 2**32 - 1])
@pytest.mark.parametrize("at", [20, 28, 36, 52])
def test_field_that_lies_outside_of_the_message_is_denied(at, start):
    made, liar = handshake(), Liar(ALICE, domain="OFFICE")
    answer = bytearray(liar.authenticate(made.step(liar.negotiate()).token))
    struct.pack_into("<HHI", answer, at, 8, 8, start)

    with denied("lies outside", None):
        made.step(bytes(answer))


def test_half_a_character_is_denied():
    with denied("half a character", None):
        answered(Liar(ALICE), user=b"abc")


OEM = FLAGS & ~1 | 2


def test_client_without_unicode_signs_in():
    assert answered(Liar(ALICE, flags=OEM), user=b"alice").name == "alice"


def test_client_without_unicode_has_to_do_with_ascii():
    with denied("no Unicode", None):
        answered(Liar(ALICE, flags=OEM), user=b"\x84lice")


@pytest.mark.parametrize("flag", ["request", "nothing"])
def test_target_is_named_if_that_was_asked_for(flag):
    asked = FLAGS if flag == "request" else FLAGS & ~4
    challenge = handshake().step(Liar(ALICE, flags=asked).negotiate()).token

    assert bool(challenge[12]) == (flag == "request")


#: SIGN, EXTENDED_SESSIONSECURITY, KEY_128, KEY_EXCH, KEY_56
STRENGTHS = [0x20080010, 0xA0080010, 0x80080010, 0x00080010]


@pytest.mark.parametrize("exchanged", [0, 0x40000000], ids=["own key", "exchanged"])
@pytest.mark.parametrize("strength", STRENGTHS, ids=hex)
def test_signatures_are_those_of_pyspnego(strength, exchanged):
    flags = 0x205 | strength | exchanged
    made, client = handshake(), pyspnego("alice")
    client._context_req = flags
    signed_in = sign_in(made, client)
    signature = client.sign(b"a list")

    assert signed_in.name == "alice"
    assert made.must_sign
    made.verify(b"a list", signature)
    client.verify(b"another", made.sign(b"another"))
    with denied("changed on the way", None):
        made.verify(b"a lisp", signature)
    with denied("changed on the way", None):
        made.verify(b"a list", made.sign(b"a list"))


def test_signature_of_the_old_kind_is_denied():
    made = handshake()
    lie(made, Liar(ALICE, flags=FLAGS & ~0x80000))

    assert not made.can_sign
    with denied("cannot sign", None):
        made.verify(b"", bytes(16))
