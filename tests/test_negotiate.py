import asyncio
import hashlib
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from carrying import carrying
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from spnego_tokens import (
    ALICE,
    BINDING,
    KRB5,
    NEGOEX,
    check_changed,
    check_cut,
    denied,
    following,
    framed,
    initial,
    signs_in,
    state_of,
    users,
)
from store_kit import PATIENCE
from windows_clients import PASSWORD, Liar, curl, pyspnego, samba, sign_in

from bitsd import spnego
from bitsd.negotiate import MAXIMUM_TOKEN, Acceptor, end_point
from bitsd.outcome import SignedIn


@pytest.fixture
def ntlm_only():
    return Acceptor(users, None)


@pytest.mark.parametrize("scheme", ["ntlm", "negotiate"])
def test_bare_ntlm_signs_in_by_both_schemes(ntlm_only, scheme):
    exchange = ntlm_only.start(scheme, BINDING)

    signed_in = sign_in(exchange, pyspnego("OFFICE\\alice", binding=BINDING))

    assert signed_in == SignedIn("OFFICE\\alice", "ntlm", None)


def test_ntlm_of_samba_signs_in_by_spnego(ntlm_only):
    with samba("alice", helper="gss-spnego-client") as client:
        signed_in = sign_in(ntlm_only.start("negotiate", None), client)

    assert (signed_in.name, signed_in.scheme) == ("alice", "ntlm")


def test_ntlm_of_pyspnego_signs_in_by_spnego(ntlm_only):
    client = pyspnego("alice", protocol="negotiate")

    signed_in = sign_in(ntlm_only.start("negotiate", None), client)

    assert (signed_in.name, signed_in.scheme) == ("alice", "ntlm")
    assert client.complete


def ready_for_both():
    """A client of SPNEGO that offers Kerberos, too, and what its NTLM begins with."""
    client = pyspnego("alice", protocol="negotiate")
    token = spnego.initial(client.step()).token
    client._mech_list = ["1.2.840.113554.1.2.2", *client._mech_list]
    return client, token


def test_ntlm_signs_in_by_spnego_for_who_offers_kerberos_first(ntlm_only):
    client, token = ready_for_both()
    exchange = ntlm_only.start("negotiate", None)

    asked = exchange.step(initial([KRB5, spnego.NTLM], b"a ticket"))
    challenge = exchange.step(following(token))
    outcome = exchange.step(client.step(challenge.token))

    assert state_of(asked) == (spnego.State.REQUEST_MIC, None, None)
    assert (outcome.name, outcome.scheme) == ("alice", "ntlm")
    client.step(outcome.token)
    assert client.complete


NOW = datetime(2026, 11, 24, tzinfo=UTC)


WRONG = "NTLM: wrong password"


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
async def test_curl_signs_in_by_ntlm(ntlm_only, password):
    async with carrying(ntlm_only, "NTLM") as url:
        options = ("--ntlm", "-u", f"alice:{password}")
        status, said = await asyncio.to_thread(curl, url, *options)

    expected = (200, "alice by ntlm") if password == PASSWORD else (403, WRONG)
    assert (status, said) == expected


def downgraded(ntlm_only):
    """What a client of NTLM answers whose list somebody shortened."""
    client, token = ready_for_both()
    exchange = ntlm_only.start("negotiate", None)
    outcome = exchange.step(initial([spnego.NTLM], token))
    return exchange, spnego.response(client.step(outcome.token))


def test_list_without_the_better_mechanism_is_denied(ntlm_only):
    exchange, said = downgraded(ntlm_only)

    with denied("SPNEGO was changed on the way"):
        exchange.step(following(said.token, said.mic))


def test_list_without_the_better_mechanism_signs_nobody_in_without_a_mic(ntlm_only):
    exchange, said = downgraded(ntlm_only)

    outcome = exchange.step(following(said.token))

    assert state_of(outcome)[0] == spnego.State.INCOMPLETE
    with denied("SPNEGO was changed on the way"):
        exchange.step(following(mic=said.mic))


def test_client_that_cannot_sign_needs_no_mic(ntlm_only):
    liar = Liar(ALICE, flags=0x205)
    exchange = ntlm_only.start("negotiate", None)
    exchange.step(initial([KRB5, spnego.NTLM], b"a ticket"))
    challenge = state_of(exchange.step(following(liar.negotiate())))[1]

    outcome = exchange.step(following(liar.authenticate(challenge)))

    assert outcome.name == "alice"


def test_token_may_come_after_the_choice(ntlm_only):
    exchange = ntlm_only.start("negotiate", None)

    outcome = exchange.step(initial([spnego.NTLM]))

    assert state_of(outcome) == (spnego.State.INCOMPLETE, None, None)
    assert spnego.NTLM in outcome.token
    outcome = exchange.step(following(Liar(ALICE).negotiate()))
    assert state_of(outcome)[0] == spnego.State.INCOMPLETE
    assert spnego.NTLM not in outcome.token


def test_ntlm_without_users_is_denied_in_the_end():
    exchange = Acceptor(lambda _name: None, None).start("negotiate", None)

    with denied("no NT hash", "alice"):
        sign_in(exchange, pyspnego("alice"))


WRONG_TOKENS = {
    "nothing": (b"", "cut"),
    "one byte": (b"\x60", "cut"),
    "text": (b"h\3llo", "0x68"),
    "half a length": (b"\x60\x84\1", "cut"),
    "length without end": (b"\x60\x80\x06\1\0\0\0", "goes on"),
    "huge length": (b"\x60\x88" + b"\xff" * 8, "cut"),
    "no mechanism": (b"\x60\2\4\0", "names no mechanism"),
    "more than one": (initial([spnego.NTLM]) + b"\0", "goes on"),
    "unknown mechanism": (framed(b"\x2a\3", b""), "no mechanism of ours"),
    "unknown mechanisms": (initial([b"\x2a\3", NEGOEX]), "no mechanism of ours"),
    "no mechanisms": (initial([]), "names no mechanism"),
    "no list": (framed(spnego.SPNEGO, b"\xa0\2\x30\0"), "cut"),
    "no sequence": (framed(spnego.SPNEGO, b"\xa0\2\4\0"), "0x04"),
    "end without a beginning": (following(b"x"), "follows none"),
    "nonsense for NTLM": (initial([spnego.NTLM], b"nonsense"), "not an NTLM"),
    "64 KiB": (b"\0" * MAXIMUM_TOKEN, "0x00"),
    "more than 64 KiB": (b"\0" * (MAXIMUM_TOKEN + 1), "65537 bytes"),
    "64 KiB of mechanisms": (initial([b""] * 32750), "no mechanism of ours"),
    "64 KiB of one mechanism": (initial([b"\xff" * 65000]), "no mechanism of ours"),
}


@pytest.mark.parametrize(("token", "detail"), WRONG_TOKENS.values(), ids=WRONG_TOKENS)
def test_wrong_token_is_denied(ntlm_only, token, detail):
    with denied(detail):
        ntlm_only.start("negotiate", None).step(token)


def test_client_that_gives_up_is_denied(ntlm_only):
    exchange = ntlm_only.start("negotiate", None)
    exchange.step(initial([spnego.NTLM], Liar(ALICE).negotiate()))

    with denied("rejects"):
        exchange.step(following(b"x", state=b"\2"))


def test_client_cannot_declare_itself_signed_in(ntlm_only):
    exchange = ntlm_only.start("negotiate", None)
    exchange.step(initial([spnego.NTLM], Liar(ALICE).negotiate()))

    with denied("says nothing"):
        exchange.step(following(state=b"\0"))


def test_ntlm_within_spnego_does_not_end_outside_of_it(ntlm_only):
    liar, exchange = Liar(ALICE), ntlm_only.start("negotiate", None)
    challenge = state_of(exchange.step(initial([spnego.NTLM], liar.negotiate())))[1]

    with denied("without a challenge"):
        exchange.step(liar.authenticate(challenge))


def test_bare_ntlm_does_not_end_within_spnego(ntlm_only):
    liar, exchange = Liar(ALICE), ntlm_only.start("negotiate", None)
    challenge = exchange.step(liar.negotiate()).token

    with denied("without a challenge"):
        exchange.step(initial([spnego.NTLM], liar.authenticate(challenge)))


def test_after_a_wrong_token_everything_begins_anew(ntlm_only):
    liar, exchange = Liar(ALICE), ntlm_only.start("negotiate", None)
    challenge = exchange.step(liar.negotiate()).token
    with denied("cut"):
        exchange.step(b"")

    with denied("without a challenge"):
        exchange.step(liar.authenticate(challenge))
    assert sign_in(exchange, pyspnego("alice")).name == "alice"


def test_one_who_signed_in_does_not_do_so_twice(ntlm_only):
    exchange = ntlm_only.start("negotiate", None)
    client = pyspnego("alice", protocol="negotiate")
    last = client.step(exchange.step(client.step()).token)
    exchange.step(last)

    with denied("follows none"):
        exchange.step(last)


CLIENTS = {
    "bare": lambda: pyspnego("alice"),
    "SPNEGO": lambda: pyspnego("alice", protocol="negotiate"),
}


every_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


@every_client
def test_token_that_is_cut_signs_nobody_in(ntlm_only, client):
    check_cut(ntlm_only.start("negotiate", None), client())


@every_client
def test_token_with_wrong_bits_is_denied_or_goes_on(ntlm_only, client):
    check_changed(ntlm_only.start("negotiate", None), client())


@given(
    tokens=st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.builds(
                initial, st.lists(st.sampled_from([NEGOEX, spnego.NTLM])), st.binary()
            ),
            st.builds(following, st.binary(), st.none() | st.binary()),
            st.just(Liar(ALICE).negotiate()),
            st.builds(framed, st.sampled_from([KRB5, spnego.SPNEGO]), st.binary()),
        ),
        max_size=4,
    ),
)
def test_nonsense_signs_nobody_in(tokens):
    exchange = Acceptor(users, None).start("negotiate", None)

    assert not any(signs_in(exchange, token) for token in tokens)


def certificate(key, algorithm):
    """One that signs itself, as DER."""
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(1))
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_binding_has_the_hash_of_the_signature(name):
    key = ec.generate_private_key(ec.SECP256R1())
    der = certificate(key, getattr(hashes, name.upper())())

    assert end_point(der) == b"tls-server-end-point:" + hashlib.new(name, der).digest()


def test_binding_has_a_better_hash_than_a_weak_one(tmp_path):
    command = ["openssl", "req", "-x509", "-sha1", "-newkey", "rsa:2048", "-nodes"]
    command += ["-subj", "/CN=old", "-outform", "DER", "-keyout", tmp_path / "key"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE)
    der = done.stdout

    assert end_point(der) == b"tls-server-end-point:" + hashlib.sha256(der).digest()


def test_signature_without_a_hash_binds_nothing():
    assert end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None
