"""Files of TLS: what is wrong with them, one by one, and what an operator is told."""

import hmac
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pytest
from authorities import AUTHORITY, DAY, Authority, Issued, named, pem_of, signed
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtensionOID

from bitsd import tls
from bitsd.config import ConfigError, load, warnings
from bitsd.settings import Listen
from bitsd.tls import Handshake, ServerContext
from bitsd.tls_files import Material, TlsFiles, Unusable, covers, doubts, read

ROOT = "CN=Root"
BETWEEN = "CN=Between"


@cache
def root() -> Authority:
    return Authority(ROOT)


@cache
def between() -> Authority:
    return Authority(BETWEEN, root())


def day(offset: timedelta) -> str:
    return f"{datetime.now(UTC) + offset:%Y-%m-%d}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files right and wrong."""
    own = between().serve()
    own.write(tmp_path, "alone")
    own.write(tmp_path, "chain", between().issued, root().issued)
    own.write(tmp_path, "gap", root().issued)
    own.write(tmp_path, "turned", root().issued, between().issued)
    between().issued.write(tmp_path, "second", own)
    (tmp_path / "second.key").write_bytes(own.key_pem)
    root().serve(ends=-DAY, begins=-2 * DAY).write(tmp_path, "expired")
    root().serve(begins=DAY).write(tmp_path, "early")
    root().serve(ends=10 * DAY).write(tmp_path, "soon")
    root().serve().write(tmp_path, "other")
    root().issued.write(tmp_path, "root")
    (tmp_path / "both.pem").write_bytes(own.pem + own.key_pem)
    (tmp_path / "params.pem").write_bytes(
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
        b"-----END EC PARAMETERS-----\n" + own.key_pem + own.pem
    )
    (tmp_path / "der.pem").write_bytes(own.der)
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "damaged.pem").write_bytes(own.pem[:80] + own.pem[90:])
    (tmp_path / "damaged.key").write_bytes(own.key_pem[:80] + own.key_pem[90:])
    locked = own.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.key").write_bytes(locked)
    return tmp_path


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("alone.pem", "alone.key"),
        ("chain.pem", "chain.key"),
        ("both.pem", None),
        ("params.pem", None),
    ],
)
def test_certificate_and_its_key_are_used(folder: Path, certificate: str, key):
    context, _ours = ServerContext(
        TlsFiles(folder / certificate, key and folder / key)
    )._current

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("certificate", "key", "problem"),
    [
        ("none.pem", "alone.key", "certificate: cannot read {}/none.pem: No such file"),
        ("alone.pem", "none.key", "key: cannot read {}/none.key: No such file"),
        (".", "alone.key", "certificate: cannot read {}: Is a directory"),
        ("alone.pem", "other.key", "key: {0}/other.key is not the key of {0}/alone"),
        ("alone.pem", None, "key: {}/alone.pem has no private key in PEM format"),
        ("alone.pem", "text.pem", "key: {}/text.pem has no private key in PEM format"),
        ("alone.pem", "damaged.key", "key: {}/damaged.key has no private key in PEM"),
        ("alone.pem", "locked.key", "key: {}/locked.key has a password, which nobody"),
        ("text.pem", "alone.key", "{}/text.pem has no certificate in PEM format"),
        ("der.pem", "alone.key", "in PEM format; it is DER: openssl x509 -inform DER"),
        ("damaged.pem", "alone.key", "in PEM format; the one that is there is damaged"),
        ("expired.pem", "expired.key", "{}/expired.pem expired on "),
        ("early.pem", "early.key", "certificate: {}/early.pem is not valid before "),
        ("second.pem", "second.key", "certificate, CN=bitsd, has to come first"),
        ("gap.pem", "gap.key", "number 2, CN=Root, did not issue the one before it"),
        ("turned.pem", "turned.key", "number 2, CN=Root, did not issue the one before"),
    ],
)
def test_files_that_cannot_be_used_are_told_apart(
    folder: Path, certificate: str, key: str | None, problem: str
):
    with pytest.raises(Unusable) as caught:
        ServerContext(TlsFiles(folder / certificate, key and folder / key))

    (line,) = caught.value.problems
    assert problem.format(folder) in line
    assert line.startswith(("certificate: ", "key: "))
    assert str(caught.value) == line


def test_days_are_told(folder: Path):
    for name, offset in (("expired", -DAY), ("early", DAY)):
        with pytest.raises(Unusable, match=f" {day(offset)}; every client would"):
            ServerContext(TlsFiles(folder / f"{name}.pem", folder / f"{name}.key"))


def test_each_setting_has_its_own_problem(folder: Path):
    files = TlsFiles(*(folder / name for name in "abcd"))

    with pytest.raises(Unusable) as caught:
        ServerContext(files)

    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "certificate",
        "client_ca",
        "client_crl",
    ]


def test_key_that_openssl_finds_too_short_is_told(tmp_path: Path):
    key = rsa.generate_private_key(65537, 1024)
    now, name = datetime.now(UTC), named("CN=short")
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - DAY, now + DAY
    )
    pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "short.pem").write_bytes(pem + secret)

    with pytest.raises(Unusable, match=r"short\.pem: EE_KEY_TOO_SMALL$"):
        ServerContext(TlsFiles(tmp_path / "short.pem"))


def strange(issued: Issued) -> bytes:
    """The certificate, with a key of a kind that nobody knows."""
    p256, other = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030177")
    certificate = x509.load_der_x509_certificate(issued.der.replace(p256, other))
    return certificate.public_bytes(Encoding.PEM)


def test_key_of_another_kind_is_not_the_key(folder: Path):
    (folder / "strange.pem").write_bytes(strange(root().serve()))

    with pytest.raises(Unusable, match=r"alone\.key is not the key of"):
        ServerContext(TlsFiles(folder / "strange.pem", folder / "alone.key"))


def test_nothing_goes_through_a_handshake_that_failed(folder: Path):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ServerContext(TlsFiles(folder / "alone.pem", folder / "alone.key"))
    handshake = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(b"GET / HTTP/1.1\r\n\r\n")
    handshake.do_handshake()
    outgoing.read()

    assert isinstance(handshake, Handshake)
    assert handshake.failure is not None
    for blocked in (handshake.read, lambda: handshake.write(b"x"), handshake.unwrap):
        incoming.write(b"more")
        with pytest.raises(ssl.SSLWantReadError):
            blocked()
        assert incoming.pending == 0
    assert handshake.getpeercert(binary_form=True) is None
    assert (handshake.cipher(), handshake.compression()) == (None, None)
    assert (handshake.pending(), outgoing.pending) == (0, 0)


def shown(context: ServerContext) -> tuple[bytes, bytes]:
    """The certificate that a client gets, and what the server says of it."""
    theirs, ours = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client = trusting.wrap_bio(theirs, ours)
    server = context.wrap_bio(ours, theirs, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert isinstance(server, Handshake)
    return client.getpeercert(binary_form=True) or b"", server.ours


def test_files_replaced_while_they_are_read_are_known_for_what_they_are(
    folder: Path, monkeypatch
):
    """A sign-in that is bound to the certificate needs the one that clients see."""
    make, fresh = tls._context, [root().serve(), root().serve()]
    last = fresh[-1].der

    def replaced(material: Material) -> ssl.SSLContext:
        if fresh:
            fresh.pop(0).write(folder, "alone")
        return make(material)

    monkeypatch.setattr(tls, "_context", replaced)
    context = ServerContext(own(folder))

    assert shown(context) == (last, last)
    assert context.material.chain[0].public_bytes(Encoding.DER) == last


def expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 7.1."""
    label = b"tls13 " + label
    info = struct.pack(f">HB{len(label)}sxB", length, len(label), label, 1)
    return hmac.digest(secret, info, "sha384")[:length]


def key_updates(secret: bytes, number: int) -> bytes:
    """A client's records that ask for new keys of the server (RFC 8446 4.6.3)."""
    asking = b"\x18\x00\x00\x01\x01\x16"
    header = struct.pack(">BHH", 0x17, 0x0303, len(asking) + 16)
    octets = b""
    for _ in range(number):
        key, nonce = expanded(secret, b"key", 32), expanded(secret, b"iv", 12)
        octets += header + AESGCM(key).encrypt(nonce, asking, header)
        secret = expanded(secret, b"traffic upd", 48)
    return octets


def test_peer_that_wants_new_keys_all_the_time_is_cut(folder: Path):
    """Or the answers that it does not take would fill the memory."""
    theirs, ours = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    trusting.keylog_filename = str(folder / "secrets")
    client = trusting.wrap_bio(theirs, ours)
    server = ServerContext(own(folder)).wrap_bio(ours, theirs, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
    words = (folder / "secrets").read_text("ascii").split()
    secret = words[words.index("CLIENT_TRAFFIC_SECRET_0") + 2]
    updates = key_updates(bytes.fromhex(secret), 3000)
    half = len(updates) // 2
    ours.write(updates[:half])
    with pytest.raises(ssl.SSLWantReadError):
        server.read()
    ours.write(updates[half:])
    with pytest.raises(ConnectionAbortedError):
        server.read()


def own(folder: Path, **more: Path) -> TlsFiles:
    return TlsFiles(folder / "alone.pem", folder / "alone.key", **more)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none.pem", "client_ca: cannot read {}/none.pem: No such file or directory"),
        ("text.pem", "client_ca: {}/text.pem has no certificate in PEM format"),
        ("alone.pem", "client_ca: {}/alone.pem: CN=bitsd is no CA; give the certifi"),
        ("odd.pem", "client_ca: {}/odd.pem: CN=odd is no CA"),
    ],
)
def test_ca_that_cannot_be_used_is_told(folder: Path, name: str, problem: str):
    unreadable = x509.UnrecognizedExtension(ExtensionOID.BASIC_CONSTRAINTS, b"odd")
    odd = signed(named("CN=odd"), extensions=[unreadable])
    (folder / "odd.pem").write_bytes(odd.pem)
    with pytest.raises(Unusable) as caught:
        ServerContext(own(folder, client_ca=folder / name))

    (line,) = caught.value.problems
    assert line.startswith(problem.format(folder))


def test_no_client_without_a_certificate_where_there_is_a_ca(folder: Path):
    files = own(folder, client_ca=folder / "root.pem")
    context, _ours = ServerContext(files)._current

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF


@pytest.mark.parametrize("octets", [b"", b"no list", pem_of()])
def test_file_without_lists_is_told(folder: Path, octets: bytes):
    (folder / "crl").write_bytes(octets)
    files = own(folder, client_ca=folder / "root.pem", client_crl=folder / "crl")

    with pytest.raises(Unusable, match=r"crl has no revocation list in PEM or DER f"):
        ServerContext(files)


def damaged() -> bytes:
    return pem_of(root().revoked()).replace(b"A", b"B")


def test_damaged_list_is_told(folder: Path):
    (folder / "crl").write_bytes(pem_of(root().revoked()) + damaged())
    files = own(folder, client_ca=folder / "root.pem", client_crl=folder / "crl")

    with pytest.raises(Unusable, match=r"^client_crl: "):
        ServerContext(files)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_lists_are_read_in_both_formats(folder: Path, encoding: Encoding):
    crl = root().revoked().public_bytes(encoding)
    (folder / "crl").write_bytes(crl)
    files = own(folder, client_ca=folder / "root.pem", client_crl=folder / "crl")
    context, _ours = ServerContext(files)._current

    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    assert context.cert_store_stats()["crl"] == 1


Lists = Callable[[], bytes]


def told(files: TlsFiles) -> list[str]:
    now = datetime.now(UTC)
    return list(doubts(read(files, now), now))


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        pytest.param(lambda: pem_of(root().revoked()), [], id="good"),
        pytest.param(
            lambda: pem_of(root().revoked(ends=-DAY / 2), root().revoked()),
            [],
            id="an older one, too",
        ),
        pytest.param(
            lambda: pem_of(root().revoked(ends=-DAY / 2)),
            ["client_crl: the list of CN=Root is out of date: until there is a new"],
            id="expired",
        ),
        pytest.param(
            lambda: pem_of(root().revoked(begins=DAY / 2)),
            ["client_crl: the list of CN=Root is out of date: until there is a new"],
            id="early",
        ),
        pytest.param(
            lambda: pem_of(root().revoked(), between().revoked()),
            ["client_crl: the list of CN=Between is not signed by a CA of client_ca"],
            id="another CA, too",
        ),
        pytest.param(
            lambda: pem_of(root().revoked(signer=between())),
            [
                "client_crl: no list of CN=Root: no certificate that it issued is acc",
                "client_crl: the list of CN=Root is not signed by a CA of client_ca",
            ],
            id="only the same name",
        ),
    ],
)
def test_lists_by_which_nobody_comes_in_are_told(
    folder: Path, lists: Lists, expected: list[str]
):
    (folder / "crl").write_bytes(lists())
    files = own(folder, client_ca=folder / "root.pem", client_crl=folder / "crl")
    lines = told(files)

    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


def test_list_is_not_checked_with_a_key_of_another_kind(folder: Path):
    (folder / "strange.pem").write_bytes(strange(root().issued))
    (folder / "crl").write_bytes(pem_of(root().revoked()))
    files = own(folder, client_ca=folder / "strange.pem", client_crl=folder / "crl")

    assert [line[:30] for line in told(files)] == [
        "client_crl: no list of CN=Root",
        "client_crl: the list of CN=Roo",
    ]


def test_what_ends_soon_is_told(folder: Path):
    Authority("CN=Old").issued.write(folder, "old")
    ending = signed(
        named("CN=Ending"),
        extensions=AUTHORITY,
        ends=-DAY / 2,
    )
    ending.write(folder, "ending")
    files = TlsFiles(
        folder / "soon.pem", folder / "soon.key", client_ca=folder / "ending.pem"
    )

    soon = f"CN=bitsd in {folder}/soon.pem expires on {day(10 * DAY)}, in 9 days"
    assert told(files) == [
        f"certificate: {soon}",
        f"client_ca: CN=Ending expired on {day(-DAY / 2)}",
    ]
    assert told(own(folder)) == []


def test_key_that_everyone_can_read_is_told(folder: Path):
    key = folder / "alone.key"
    key.chmod(0o640)
    assert told(own(folder)) == []
    key.chmod(0o644)
    lines = told(own(folder))
    both = told(TlsFiles(folder / "both.pem"))

    assert lines == [f"key: every user of this machine can read {key}"]
    assert both == [f"key: every user of this machine can read {folder}/both.pem"]


def test_key_that_is_gone_is_no_doubt(folder: Path):
    now = datetime.now(UTC)
    material = read(own(folder), now)
    (folder / "alone.key").unlink()

    assert list(doubts(material, now)) == []


def test_name_that_is_empty_has_words(folder: Path):
    empty = signed(x509.Name([]), ends=DAY)
    empty.write(folder, "empty")
    (line,) = told(TlsFiles(folder / "empty.pem", folder / "empty.key"))

    assert line.startswith("certificate: the one without a name in ")


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("node3.example.org", True),
        ("NODE3.example.org", True),
        ("node3.example.org.", True),
        ("x.farm.example.org", True),
        ("farm.example.org", False),
        ("x.y.farm.example.org", False),
        ("xfarm.example.org", False),
        ("node4.example.org", False),
        ("example.org", False),
        ("localhost", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("[2001:db8::7]", True),
        ("[2001:DB8:0::7]", True),
        ("[2001:db8::8]", False),
    ],
)
def test_host_is_covered_as_clients_check_it(host: str, *, covered: bool):
    names = [x509.DNSName("Node3.Example.org"), x509.DNSName("*.farm.example.org")]
    names += [x509.IPAddress(ip_address(each)) for each in ("192.0.2.7", "2001:db8::7")]
    # A name that is no address, and an address that is no name.
    names += [x509.DNSName("192.0.2.8"), x509.DNSName("*")]

    assert covers(root().serve(*names).certificate, host) is covered


def test_host_in_the_subject_alone_is_not_covered():
    certificate = root().issue("CN=node3.example.org").certificate

    assert not covers(certificate, "node3.example.org")


CONFIG = """
[[listen]]
address = "127.0.0.1:0"

[[listen]]
address = "127.0.0.1:0"
certificate = "{0}.pem"
key = "{0}.key"
{1}

[[directory]]
url = "/in"
path = "in"
host_id = "{2}"

[[directory]]
url = "/out"
path = "out"
"""


@pytest.fixture
def config(folder: Path) -> Callable[..., Path]:
    """A configuration file."""
    for name in ("in", "out"):
        (folder / name).mkdir()

    def written(name: str, more: str = "", host: str = "localhost") -> Path:
        path = folder / "bitsd.toml"
        path.write_text(CONFIG.format(name, more, host), "utf-8")
        return path

    return written


def test_check_finds_what_is_wrong(config):
    with pytest.raises(ConfigError, match=r"listen\[1\]\.certificate: .*expired on"):
        load(config("expired"))


def test_check_warns_of_what_ends_and_of_hosts_that_are_not_covered(config):
    assert warnings(load(config("alone"))) == []
    soon, host = warnings(load(config("soon", host="node3.example.org")))

    assert soon.startswith("listen[1].certificate: CN=bitsd in ")
    assert host == (
        "directory[0].host_id: node3.example.org is not in the certificate of "
        "listen[1]: its clients cannot go on there"
    )


def test_files_that_go_while_they_are_checked_are_told(config, folder: Path):
    loaded = load(config("alone"))
    (folder / "alone.pem").unlink()

    why = f"cannot read {folder}/alone.pem: No such file or directory"
    assert warnings(loaded) == [f"listen[1].certificate: {why}"]


def test_rules_need_an_address_where_certificates_are_shown(config, folder: Path):
    rule = '[[certificate]]\nsubject = "CN=alice"\nuser = "alice"\n'
    with pytest.raises(ConfigError, match=r"certificate: no \[\[listen\]\] has a cli"):
        load(config("alone", rule))
    loaded = load(config("alone", f'client_ca = "root.pem"\n{rule}'))

    assert loaded.certificate[0].user == "alice"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ('subject = "alice"\nuser = "u"', "subject: not a name as RFC 4514 writes it"),
        ('subject = "CN=alice"', "user: is missing"),
        ('subjekt = "CN=alice"\nuser = "u"', "subjekt: unknown setting; did you mean"),
    ],
)
def test_wrong_rule_is_one_line(config, rule: str, problem: str):
    more = f'client_ca = "root.pem"\n[[certificate]]\n{rule}\n'
    with pytest.raises(ConfigError) as caught:
        load(config("alone", more))
    (line,) = caught.value.problems

    assert f": certificate[0].{problem}" in line


def test_certificate_of_a_client_alone_is_a_problem(folder: Path):
    listen = Listen(address="127.0.0.1:0", client_ca=folder / "root.pem")

    assert TlsFiles.of(listen) is None
