import asyncio
import base64
import copy
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

if os.environ.get("BITSD_ALL_TESTS") != "1":
    # It is built only where the headers of MIT Kerberos are.
    pytest.importorskip("gssapi")

import gssapi
import kerberos as centre
from carrying import carrying
from gssapi.raw import ChannelBindings
from spnego_tokens import (
    ALICE,
    BINDING,
    KRB5,
    MS_KRB5,
    NEGOEX,
    check_changed,
    check_cut,
    denied,
    following,
    framed,
    initial,
    listed,
    state_of,
    users,
)
from store_kit import PATIENCE, cannot_run, run_child
from windows_clients import Liar, curl, sign_in

from bitsd import kerberos, spnego
from bitsd.negotiate import Acceptor
from bitsd.outcome import SignedIn

MECHANISM = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    with centre.realm(tmp_path_factory.mktemp("realm")) as made:
        yield made


@pytest.fixture
def alice(realm, monkeypatch):
    """The realm, of which this process has the tickets of alice."""
    realm.kinit("alice")
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    return realm


@pytest.fixture
def both(realm):
    return Acceptor(users, realm.keytab)


def initiator(service="HTTP@localhost", mechanism=None, flags=None, binding=None):
    """A client of MIT Kerberos."""
    name = gssapi.Name(service, gssapi.NameType.hostbased_service)
    bound = binding and ChannelBindings(application_data=binding)
    return gssapi.SecurityContext(
        name=name,
        usage="initiate",
        mech=mechanism or gssapi.MechType.kerberos,
        flags=flags,
        channel_bindings=bound,
    )


@pytest.mark.parametrize("binding", [None, BINDING])
@pytest.mark.parametrize("mechanism", [None, MECHANISM], ids=["bare", "spnego"])
@pytest.mark.parametrize("service", ["HTTP@localhost", "HTTP@127.0.0.1"])
def test_kerberos_signs_in_and_says_who_the_server_is(
    alice, both, service, mechanism, binding
):
    client = initiator(service, mechanism, binding=binding)

    signed_in = sign_in(both.start("negotiate", binding), client)

    assert (signed_in.name, signed_in.scheme) == ("alice", "kerberos")
    assert client.complete


def test_kerberos_needs_no_word_from_the_server(alice, both):
    client = initiator(flags=[gssapi.RequirementFlag.integrity])

    signed_in = both.start("negotiate", None).step(client.step())

    assert signed_in == SignedIn("alice", "kerberos", None)


def test_kerberos_has_the_second_number_of_windows(alice, both):
    token = initial([MS_KRB5, KRB5, spnego.NTLM], initiator().step())

    signed_in = both.start("negotiate", None).step(token)

    assert signed_in.name == "alice"
    # The client is told of the mechanism by the number that it used.
    assert MS_KRB5 in signed_in.token


def test_kerberos_is_left_to_the_keytab(alice, both, monkeypatch):
    token = initiator().step()
    monkeypatch.setenv("KRB5_CONFIG", "/nonexistent")
    monkeypatch.setenv("KRB5_KTNAME", "/nonexistent")
    monkeypatch.delenv("KRB5CCNAME")

    assert both.start("negotiate", None).step(token).name == "alice"


def test_keytab_may_be_replaced(alice, tmp_path):
    keytab = tmp_path / "keytab"
    shutil.copy(alice.keytab, keytab)
    acceptor = Acceptor(users, keytab)
    token = initiator().step()
    keytab.write_bytes(b"")

    with denied("nonexistent or empty"):
        acceptor.start("negotiate", None).step(token)
    shutil.copy(alice.keytab, keytab)
    assert acceptor.start("negotiate", None).step(token).name == "alice"


async def test_curl_signs_in_by_negotiate(realm, both):
    realm.kinit("bob")
    async with carrying(both, "Negotiate") as url:
        status, said = await asyncio.to_thread(
            curl, url, "--negotiate", "-u", ":", environment=realm.environment
        )

    assert (status, said) == (200, "bob by kerberos")


def mixed(alice, both):
    """SPNEGO with something first that nobody here knows, up to our MIC."""
    mechanisms = [NEGOEX, KRB5]
    exchange = both.start("negotiate", None)
    client = initiator()
    asked = exchange.step(initial(mechanisms, b"something"))
    assert state_of(asked) == (spnego.State.REQUEST_MIC, None, None)
    outcome = exchange.step(following(client.step()))
    state, token, mic = state_of(outcome)
    assert state == spnego.State.INCOMPLETE
    client.step(token)
    client.verify_signature(listed(mechanisms), mic)
    return exchange, client, listed(mechanisms)


def test_list_is_signed_by_both_if_the_first_is_not_taken(alice, both):
    exchange, client, mechanisms = mixed(alice, both)

    outcome = exchange.step(following(mic=client.get_signature(mechanisms)))

    assert outcome.name == "alice"
    assert state_of(outcome) == (spnego.State.COMPLETED, None, None)


def test_list_that_was_changed_on_the_way_is_denied(alice, both):
    exchange, client, _mechanisms = mixed(alice, both)

    with denied("Kerberos: "):
        exchange.step(following(mic=client.get_signature(listed([KRB5]))))


def test_list_is_not_signed_by_our_own_signature(alice, both):
    exchange, _client, _mechanisms = mixed(alice, both)
    kept = copy.copy(exchange)

    with denied("Kerberos: "):
        kept.step(following(mic=exchange._negotiation._handshake.sign(b"")))


def test_signature_of_the_list_cannot_be_left_out(alice, both):
    exchange, _client, _mechanisms = mixed(alice, both)

    with denied("says nothing"):
        exchange.step(following(state=b"\0"))


def test_nothing_of_the_mechanism_comes_after_its_last(alice, both):
    exchange, _client, _mechanisms = mixed(alice, both)

    with denied("after the last"):
        exchange.step(following(initiator().step()))


def test_kerberos_is_not_offered_without_a_keytab(alice):
    for token in (initiator().step(), initiator(mechanism=MECHANISM).step()):
        with denied("no mechanism of ours"):
            Acceptor(users, None).start("negotiate", None).step(token)


def test_kerberos_is_not_ntlm(alice, both):
    for mechanism in (None, MECHANISM):
        with denied("not an NTLM message"):
            both.start("ntlm", None).step(initiator(mechanism=mechanism).step())


@pytest.mark.parametrize("mechanism", [None, MECHANISM], ids=["bare", "spnego"])
def test_ticket_is_taken_once(alice, both, mechanism):
    token = initiator(mechanism=mechanism).step()
    both.start("negotiate", None).step(token)

    with denied("replay"):
        both.start("negotiate", None).step(token)


@pytest.mark.parametrize("ours", [b"", BINDING[:-1], BINDING + b"x"])
def test_ticket_bound_to_another_connection_is_denied(alice, both, ours):
    token = initiator(binding=BINDING).step()

    with denied("channel bindings"):
        both.start("negotiate", ours).step(token)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(BINDING, None), (b"", None), (None, BINDING)]
)
def test_ticket_without_a_binding_on_one_side_signs_in(alice, both, ours, theirs):
    token = initiator(binding=theirs).step()

    assert both.start("negotiate", ours).step(token).name == "alice"


def test_ticket_of_another_realm_is_denied(alice, tmp_path):
    with centre.realm(tmp_path / "other", "OTHER.TEST") as other:
        acceptor = Acceptor(users, other.keytab)

    with denied("Kerberos: "):
        acceptor.start("negotiate", None).step(initiator().step())


def test_ticket_for_another_server_of_that_name_is_denied(alice, tmp_path):
    with centre.realm(tmp_path / "other") as other:
        acceptor = Acceptor(users, other.keytab)

    with denied("Kerberos: "):
        acceptor.start("negotiate", None).step(initiator().step())


def test_ticket_for_a_service_that_is_not_in_the_keytab_is_denied(alice, both):
    alice.administer("addprinc -randkey smtp/localhost")

    with denied("Kerberos: "):
        both.start("negotiate", None).step(initiator("smtp@localhost").step())


ACCEPT = """
import base64, sys
from pathlib import Path
from bitsd.negotiate import Acceptor, Denied
acceptor = Acceptor(lambda _name: None, Path(sys.argv[1]))
try:
    signed_in = acceptor.start("negotiate", None).step(base64.b64decode(sys.argv[2]))
    print(signed_in.name)
except Denied as denied:
    print(denied.detail)
"""


def test_ticket_is_remembered_where_the_unit_says_beyond_a_restart(alice, tmp_path):
    unit = Path(__file__).parents[1].joinpath("examples", "bitsd.service").read_text()
    (named,) = re.findall(r"(?m)^Environment=(KRB5\w+)=%S/bitsd$", unit)
    token = base64.b64encode(initiator().step()).decode()
    under = ("env", f"{named}={tmp_path}")
    said = [run_child(ACCEPT, alice.keytab, token, under=under) for _ in range(2)]

    assert "\nStateDirectory=bitsd\n" in unit
    assert said == ["alice", "Kerberos: Request is a replay"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".rcache2"]


def test_no_ticket_is_taken_that_cannot_be_remembered(alice):
    token = base64.b64encode(initiator().step()).decode()
    under = ("env", "KRB5RCACHEDIR=/dev/null/none")

    assert "Not a directory" in run_child(ACCEPT, alice.keytab, token, under=under)


@pytest.mark.parametrize(("seconds", "said"), [("60", "alice"), ("172800", "expired")])
def test_ticket_that_expired_is_denied(alice, tmp_path, seconds, said):
    if shutil.which("gcc") is None:
        cannot_run("gcc is not installed")
    shim, source = tmp_path / "later.so", Path(__file__).with_name("later.c")
    command = ["gcc", "-shared", "-fPIC", "-o", shim, source]
    subprocess.run(command, check=True, timeout=PATIENCE)
    token = base64.b64encode(initiator().step()).decode()
    later = ("env", f"LD_PRELOAD={shim}", f"BITSD_LATER={seconds}")

    assert said in run_child(ACCEPT, alice.keytab, token, under=later)


def test_third_step_of_kerberos_is_denied(alice, both):
    client = initiator(flags=[gssapi.RequirementFlag.dce_style])

    with denied("third step"):
        both.start("negotiate", None).step(initial([KRB5], client.step()))


@pytest.mark.parametrize(
    ("client", "server", "name"),
    [
        ("alice@EXAMPLE.TEST", "HTTP/localhost@EXAMPLE.TEST", "alice"),
        ("Alice@EXAMPLE.TEST", "HTTP/localhost@EXAMPLE.TEST", "Alice"),
        ("alice@OTHER.TEST", "HTTP/localhost@EXAMPLE.TEST", "alice@OTHER.TEST"),
        ("alice@example.test", "HTTP/localhost@EXAMPLE.TEST", "alice@example.test"),
        ("alice/admin@EXAMPLE.TEST", "HTTP/localhost@EXAMPLE.TEST", "alice/admin"),
        ("PC1$@EXAMPLE.TEST", "HTTP/localhost@EXAMPLE.TEST", "PC1$"),
    ],
)
def test_principal_of_our_realm_is_a_user_without_it(client, server, name):
    assert kerberos.user_of(client, server.rpartition("@")[2]) == name


@pytest.mark.parametrize(
    ("client", "detail", "name"),
    [
        ("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", "to be nobody", None),
        ("WELLKNOWN/ANONYMOUS@EXAMPLE.TEST", "to be nobody", None),
        ("alice\\@OTHER@EXAMPLE.TEST", "escaped", "alice\\@OTHER@EXAMPLE.TEST"),
        ("a\\/b@EXAMPLE.TEST", "escaped", "a\\/b@EXAMPLE.TEST"),
    ],
)
def test_principal_that_is_nobody_is_denied(client, detail, name):
    with denied(detail, name):
        kerberos.user_of(client, "EXAMPLE.TEST")


# Realms of a keytab


@pytest.fixture(scope="module")
def other_keytab(tmp_path_factory):
    """Of a server of the same name in another realm."""
    folder = tmp_path_factory.mktemp("other") / "realm"
    with centre.realm(folder, "OTHER.TEST") as other:
        return other.keytab.read_bytes()


@pytest.mark.parametrize("first", ["ours", "the other"])
def test_user_of_one_of_two_realms_has_its_name(alice, other_keytab, tmp_path, first):
    """In each of them there may be an alice."""
    keytabs = [alice.keytab.read_bytes(), other_keytab]
    if first != "ours":
        keytabs.reverse()
    keytab = tmp_path / "keytab"
    keytab.write_bytes(keytabs[0] + keytabs[1][2:])
    acceptor = Acceptor(users, keytab)

    assert kerberos.realms(keytab) == {"EXAMPLE.TEST", "OTHER.TEST"}
    signed_in = acceptor.start("negotiate", None).step(initiator().step())
    assert signed_in.name == "alice@EXAMPLE.TEST"


def test_user_of_several_realms_is_the_whole_principal():
    assert kerberos.user_of("alice@EXAMPLE.TEST", None) == "alice@EXAMPLE.TEST"


def entry(realm, *, size=None, more=b""):
    """One of a keytab: of HTTP/localhost, without its key."""
    octets = struct.pack(">H", 2)
    for part in (realm, b"HTTP", b"localhost"):
        octets += struct.pack(">H", len(part)) + part
    octets += more
    return struct.pack(">i", len(octets) if size is None else size) + octets


A, B = entry(b"A.TEST"), entry(b"B.TEST")
HOLE = struct.pack(">i", -len(A)) + A
KEYTABS = {
    "none": (b"", set()),
    "one": (A, {"A.TEST"}),
    "one twice": (A + A, {"A.TEST"}),
    "two": (A + B, {"A.TEST", "B.TEST"}),
    "by case": (A + entry(b"a.test"), {"A.TEST", "a.test"}),
    "with a key": (entry(b"A.TEST", more=bytes(50)) + B, {"A.TEST", "B.TEST"}),
    "a hole between": (A + HOLE + B, {"A.TEST", "B.TEST"}),
    "only a hole": (HOLE, set()),
    "zeros at the end": (A + bytes(7), {"A.TEST"}),
    "not UTF-8": (entry(b"\xff"), {"\\xff"}),
}


@pytest.mark.parametrize(("octets", "found"), KEYTABS.values(), ids=KEYTABS)
def test_realms_are_those_of_all_entries(tmp_path, octets, found):
    keytab = tmp_path / "keytab"
    keytab.write_bytes(b"\5\2" + octets)

    assert kerberos.realms(keytab) == found


WRONG_KEYTABS = {
    "older": (b"\5\1" + A, "unknown format"),
    "nothing": (b"", "unknown format"),
    "text": (b"nonsense" * 9, "unknown format"),
    "cut in a name": (b"\5\2" + A + B[:6], "cannot be read: unpack_from requires"),
}


@pytest.mark.parametrize(("octets", "said"), WRONG_KEYTABS.values(), ids=WRONG_KEYTABS)
def test_keytab_whose_realms_cannot_be_told_signs_nobody_in(tmp_path, octets, said):
    keytab = tmp_path / "keytab"
    keytab.write_bytes(octets)

    with denied(said):
        kerberos.realms(keytab)


def test_keytab_that_went_away_signs_nobody_in(tmp_path):
    with denied("No such file"):
        kerberos.realms(tmp_path / "keytab")


@pytest.mark.parametrize("octets", [b"", b"nonsense"])
def test_keytab_without_keys_is_told(tmp_path, octets):
    keytab = tmp_path / "keytab"
    keytab.write_bytes(octets)

    with pytest.raises(ValueError, match=f"^keytab: cannot use {keytab}: .*empty$"):
        Acceptor(users, keytab)


def test_keytab_of_an_older_format_is_told(tmp_path):
    """MIT's library takes it, but nobody would get in by it."""
    octets = struct.pack("=h", 3)
    for part in (b"EXAMPLE.TEST", b"HTTP", b"localhost"):
        octets += struct.pack("=h", len(part)) + part
    octets += struct.pack("=IBhh", 0, 1, 18, 32) + bytes(32)
    keytab = tmp_path / "keytab"
    keytab.write_bytes(b"\5\1" + struct.pack("=i", len(octets)) + octets)

    with pytest.raises(
        ValueError, match=r"cannot use .*: keytab of an unknown format$"
    ):
        Acceptor(users, keytab)


def test_keytab_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"^keytab: cannot read .*: No such file"):
        Acceptor(users, tmp_path / "keytab")


def test_kerberos_is_available():
    assert kerberos.available() is None


WITHOUT = """
import sys
sys.modules["gssapi"] = None
from pathlib import Path
from bitsd import kerberos
from bitsd.negotiate import Acceptor
print(kerberos.available())
print(Acceptor(lambda _name: None, None).start("ntlm", None) is not None)
try:
    Acceptor(lambda _name: None, Path("/etc/krb5.keytab"))
except ValueError as error:
    print(error)
"""


def test_without_the_library_there_is_ntlm_and_no_kerberos():
    said, works, refused = run_child(WITHOUT).splitlines()

    assert said.startswith("Kerberos needs bitsd[windows-auth] to be installed")
    assert works == "True"
    assert refused == f"keytab: {said}"


@pytest.mark.parametrize("mechanism", [None, MECHANISM], ids=["bare", "spnego"])
def test_token_that_is_cut_signs_nobody_in(alice, both, mechanism):
    check_cut(both.start("negotiate", None), initiator(mechanism=mechanism))


@pytest.mark.parametrize("mechanism", [None, MECHANISM], ids=["bare", "spnego"])
def test_token_with_wrong_bits_is_denied_or_goes_on(alice, both, mechanism):
    check_changed(both.start("negotiate", None), initiator(mechanism=mechanism))


WRONG_TICKETS = {
    "empty ticket": (framed(KRB5, b""), "Kerberos: "),
    "nonsense for a ticket": (framed(KRB5, b"\1\0nonsense"), "Kerberos: "),
    "ticket in a ticket": (framed(KRB5, framed(KRB5, b"\1\0")), "Kerberos: "),
    "SPNEGO for a ticket": (initial([KRB5], initial([KRB5], b"")), "Kerberos: "),
    "NTLM for a ticket": (initial([KRB5], Liar(ALICE).negotiate()), "Kerberos: "),
}


@pytest.mark.parametrize(("token", "detail"), WRONG_TICKETS.values(), ids=WRONG_TICKETS)
def test_wrong_ticket_is_denied(both, token, detail):
    with denied(detail):
        both.start("negotiate", None).step(token)
