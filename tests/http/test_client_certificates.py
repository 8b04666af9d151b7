"""Who comes in where certificates are asked for, and new files under way."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from authorities import DAY, SERVER, Authority, Issued, pem_of
from cryptography import x509
from processes import PROCESS_SECONDS, Run, Running
from sites import Site
from store_kit import cannot_run
from wire_client import PATIENCE, Line, close, fragment, ping, request, until

from bitsd import journal
from bitsd.tls import ServerContext

EXAMPLES = Path(__file__).parents[2] / "examples"
ENTITY = bytes(range(250)) * 4000
HALF = len(ENTITY) // 2
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
TARGET = "/in/report.dat"

CONFIG = """
workers = {workers}

[[listen]]
address = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"
{tls}

[[directory]]
url = "/in"
path = "in"
upload = true
maximum_upload_size = "1GiB"
"""

ASKED = 'client_ca = "ca.pem"'
WITH_LIST = f'{ASKED}\nclient_crl = "crl.pem"'


@cache
def ca() -> Authority:
    return Authority()


@cache
def between() -> Authority:
    return Authority("CN=Between", ca())


@cache
def impostor() -> Authority:
    """Another CA of the same name."""
    return Authority()


def configured(folder: Path, tls: str, workers: int = 1) -> Path:
    """A configuration, and the files that it names."""
    (folder / "in").mkdir()
    ca().serve().write(folder, "server")
    (folder / "ca.pem").write_bytes(ca().pem)
    config = folder / "bitsd.toml"
    config.write_text(CONFIG.format(tls=tls, workers=workers), "utf-8")
    return config


Start = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start(tmp_path: Path):
    """Start a server in this process, with these lists of what is revoked."""
    sites: list[Site] = []

    async def started(*lists: x509.CertificateRevocationList) -> Site:
        config = configured(tmp_path, WITH_LIST if lists else ASKED)
        (tmp_path / "crl.pem").write_bytes(pem_of(*lists))
        sites.append(Site(config))
        await sites[-1].start()
        return sites[-1]

    yield started
    for site in sites:
        await site.lines.hang_up()
        await site.stop()


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., ssl.SSLContext]:
    """What a client knows: who signs servers, and its own certificate."""

    def known(*chain: Issued) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=ca().pem.decode())
        if chain:
            chain[0].write(tmp_path, "client", *chain[1:])
            context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        return context

    return known


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


async def dialled(url: str, context: ssl.SSLContext) -> Line:
    """A connection through TLS."""
    opened = asyncio.open_connection(
        "127.0.0.1", port_of(url), ssl=context, server_hostname="localhost"
    )
    return Line(*await opened)


async def fate(url: str, context: ssl.SSLContext) -> str:
    """What becomes of a ping: "200", or the alert that came and nothing else."""

    def tried() -> str:
        raw = socket.create_connection(("127.0.0.1", port_of(url)), PATIENCE)
        with raw:
            try:
                with context.wrap_socket(raw, server_hostname="localhost") as line:
                    line.sendall(ping("/in/"))
                    return line.recv(12).decode()[-3:]
            except ssl.SSLError as error:
                return error.reason or ""

    return await asyncio.to_thread(tried)


def own() -> tuple[Issued, ...]:
    return (ca().issue("CN=alice"),)


COMES_IN = {
    "of the CA": own,
    "of a CA between": lambda: (between().issue(), between().issued),
    "for no special use": lambda: (ca().issue(usage=()),),
    "for servers, too": lambda: (
        ca().issue(usage=(SERVER, x509.ExtendedKeyUsageOID.CLIENT_AUTH)),
    ),
}


def key_of(authority: Authority) -> x509.AuthorityKeyIdentifier:
    """What a certificate says of the key that signed it."""
    key = authority.issued.key.public_key()
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def by_no_ca() -> tuple[Issued, ...]:
    """Whoever has a certificate signs another one with it."""
    alice = ca().issue("CN=alice")
    forger = Authority("CN=alice", ca())
    forger.issued = alice
    return forger.issue("CN=bob"), alice


# TLS 1.2 has no alert of its own for it.
NO_CERTIFICATE = "SSLV3_ALERT_HANDSHAKE_FAILURE"

STAYS_OUT = {
    "none": (tuple, NO_CERTIFICATE, "the client sent no certificate"),
    "another CA": (
        lambda: (Authority("CN=Other CA").issue(),),
        "TLSV1_ALERT_UNKNOWN_CA",
        "the client's certificate: unable to get local issuer certificate",
    ),
    "another CA of the same name": (
        lambda: (impostor().issue("CN=alice"),),
        "TLSV1_ALERT_UNKNOWN_CA",
        "the client's certificate: unable to get local issuer certificate",
    ),
    "another CA of the same name, shown": (
        lambda: (impostor().issue("CN=alice"), impostor().issued),
        "TLSV1_ALERT_UNKNOWN_CA",
        "the client's certificate: self-signed certificate in certificate chain",
    ),
    "another CA that names the key of this one": (
        lambda: (impostor().issue("CN=alice", extensions=[key_of(ca())]),),
        "TLSV1_ALERT_DECRYPT_ERROR",
        "the client's certificate: certificate signature failure",
    ),
    "signed by itself": (
        lambda: (Authority("CN=alice").issued,),
        "TLSV1_ALERT_UNKNOWN_CA",
        "the client's certificate: self-signed certificate",
    ),
    "expired": (
        lambda: (ca().issue(begins=-2 * DAY, ends=-DAY),),
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "the client's certificate: certificate has expired",
    ),
    "early": (
        lambda: (ca().issue(begins=DAY),),
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "the client's certificate: certificate is not yet valid",
    ),
    "for servers": (
        lambda: (ca().issue(usage=(SERVER,)),),
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "the client's certificate: unsuitable certificate purpose",
    ),
    "without the CA between": (
        lambda: (between().issue(),),
        "TLSV1_ALERT_UNKNOWN_CA",
        "the client's certificate: unable to get local issuer certificate",
    ),
    "issued by one that is no CA": (
        by_no_ca,
        "TLSV1_ALERT_UNKNOWN_CA",
        "the client's certificate: invalid CA certificate",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", COMES_IN)
async def test_client_with_a_right_certificate_is_served(
    start: Start, client, which: str, version: ssl.TLSVersion
):
    site, context = await start(), client(*COMES_IN[which]())
    context.maximum_version = version

    assert await fate(site.url, context) == "200"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", STAYS_OUT)
async def test_client_without_one_gets_an_alert_and_not_one_byte(
    start: Start, client, caplog, which: str, version: ssl.TLSVersion
):
    shown, alert, why = STAYS_OUT[which]
    site, context = await start(), client(*shown())
    context.maximum_version = version
    if alert == NO_CERTIFICATE and version is ssl.TLSVersion.TLSv1_3:
        alert = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    caplog.set_level("INFO", "bitsd")
    got = await fate(site.url, context)

    assert got == alert
    assert caplog.messages == [f'handshake-failed client=127.0.0.1 detail="{why}"']
    await until(lambda: not site.connections)


@pytest.mark.parametrize("version", VERSIONS)
async def test_revoked_certificate_is_refused_and_others_are_not(
    start: Start, client, version: ssl.TLSVersion
):
    (alice,), (bob,) = own(), own()
    site = await start(ca().revoked(bob), between().revoked())
    fates = []
    for shown in ((alice,), (bob,), (between().issue(), between().issued)):
        context = client(*shown)
        context.maximum_version = version
        fates.append(await fate(site.url, context))

    assert fates == ["200", "SSLV3_ALERT_CERTIFICATE_REVOKED", "200"]


@pytest.mark.parametrize(
    ("lists", "alert", "why"),
    [
        pytest.param(
            lambda: (ca().revoked(begins=-2 * DAY, ends=-DAY),),
            "SSLV3_ALERT_CERTIFICATE_EXPIRED",
            "CRL has expired",
            id="expired",
        ),
        pytest.param(
            lambda: (ca().revoked(begins=DAY, ends=2 * DAY),),
            "SSLV3_ALERT_BAD_CERTIFICATE",
            "CRL is not yet valid",
            id="early",
        ),
        pytest.param(
            lambda: (between().revoked(),),
            "TLSV1_ALERT_UNKNOWN_CA",
            "unable to get certificate CRL",
            id="another CA",
        ),
        pytest.param(
            lambda: (ca().revoked(signer=impostor()),),
            "TLSV1_ALERT_DECRYPT_ERROR",
            "CRL signature failure",
            id="forged",
        ),
    ],
)
async def test_nobody_comes_in_by_a_list_that_does_not_count(
    start: Start, client, caplog, lists, alert: str, why: str
):
    site = await start(*lists())
    caplog.set_level("INFO", "bitsd")

    assert await fate(site.url, client(*own())) == alert
    assert caplog.messages[-1].endswith(f"the client's certificate: {why}\"")


async def test_one_ca_between_may_be_trusted_alone(start: Start, client):
    site = await start()
    (site.config.parent / "ca.pem").write_bytes(between().pem)
    assert site.server is not None
    await site.server.reload()

    assert await fate(site.url, client(between().issue())) == "200"
    assert await fate(site.url, client(*own())) == "TLSV1_ALERT_UNKNOWN_CA"


async def test_certificate_with_odd_names_makes_no_trouble(start: Start, client):
    """What Python's own dictionary of it could not hold."""
    oid = x509.SubjectAlternativeName.oid
    address = x509.UnrecognizedExtension(oid, b"\x30\x05\x81\x03a@\xff")
    site, odd = await start(), ca().issue("CN=x", extensions=[address])

    assert await fate(site.url, client(odd)) == "200"


async def test_what_is_no_tls_is_noted(start: Start, caplog):
    site = await start()
    caplog.set_level("INFO", "bitsd")
    line = await site.lines.dial(f"http://127.0.0.1:{port_of(site.url)}")
    await line.send(ping("/in/"))
    await line.ended()

    assert caplog.messages == [
        'handshake-failed client=127.0.0.1 detail="the client does not speak TLS"'
    ]


def record(octets: bytes) -> bytes:
    """A record of a handshake."""
    return b"\x16\x03\x01" + len(octets).to_bytes(2, "big") + octets


JUNK = bytes(1 << 20)
FLOODS = {
    "no TLS": (b"GET / HTTP/1.1\r\n\r\n", JUNK),
    "a record that is none": (record(bytes(1 << 14)), JUNK),
    "a hello without end": (record(b"\x01\x01\xff\x00"), record(bytes(1 << 14)) * 64),
}


@pytest.fixture
def kept(monkeypatch) -> list[ssl.MemoryBIO]:
    """What each TLS connection has of octets that it did not look at yet."""
    found: list[ssl.MemoryBIO] = []
    wrap = ServerContext.wrap_bio

    def wrapped(context, incoming, *arguments, **named):
        found.append(incoming)
        return wrap(context, incoming, *arguments, **named)

    monkeypatch.setattr(ServerContext, "wrap_bio", wrapped)
    return found


@pytest.mark.parametrize("which", FLOODS)
async def test_what_follows_a_handshake_that_failed_is_not_kept(
    start: Start, kept: list[ssl.MemoryBIO], monkeypatch, which: str
):
    monkeypatch.setattr("bitsd.handshakes.FAREWELL_SECONDS", PATIENCE)
    first, then = FLOODS[which]
    site = await start()
    line = await site.lines.dial(f"http://127.0.0.1:{port_of(site.url)}")
    await line.send(first)
    for _ in range(32):
        await line.send(then)
    line.finish()
    await line.ended()

    assert [each.pending for each in kept] == [0]


async def test_what_follows_the_last_answer_is_not_kept(
    start: Start, client, kept: list[ssl.MemoryBIO]
):
    site, context = await start(), client(*own())

    def flooded() -> None:
        raw = socket.create_connection(("127.0.0.1", port_of(site.url)), PATIENCE)
        with context.wrap_socket(raw, server_hostname="localhost") as line:
            line.sendall(request("GET", "/in/x", ("Connection", "close")))
            assert line.recv(1)
            with socket.socket(fileno=line.detach()) as bare, suppress(OSError):
                bare.settimeout(PATIENCE)
                for _ in range(32):
                    bare.sendall(JUNK)

    await asyncio.to_thread(flooded)
    await until(lambda: not site.connections)

    # One read of an event loop, at most: nothing is read on.
    assert kept[0].pending <= 256 * 1024


async def test_refusal_of_the_server_by_a_client_is_noted(start: Start, caplog):
    site = await start()
    caplog.set_level("INFO", "bitsd")
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    assert await fate(site.url, context) == "CERTIFICATE_VERIFY_FAILED"
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == [
        'handshake-failed client=127.0.0.1 detail="the client refuses: unknown ca"'
    ]


async def test_those_who_fail_by_the_dozen_do_not_fill_the_log(
    start: Start, client, caplog, monkeypatch
):
    monkeypatch.setattr(journal, "FEW_IN_A_WHILE", 2)
    site, context = await start(), client()
    caplog.set_level("INFO", "bitsd")
    for _ in range(5):
        assert await fate(site.url, context) != "200"

    assert len(caplog.messages) == 2


async def shown(url: str, context: ssl.SSLContext) -> bytes:
    """The certificate of the server that a new connection gets."""
    line = await dialled(url, context)
    handshake = line.writer.get_extra_info("ssl_object")
    octets: bytes = handshake.getpeercert(binary_form=True)
    await line.hang_up()
    return octets


def replace(folder: Path) -> Issued:
    """A new certificate where the old one was."""
    fresh = ca().serve(ends=10 * DAY)
    fresh.write(folder, "server")
    return fresh


async def test_new_files_are_for_new_connections_and_old_ones_live_on(
    start: Start, client, caplog
):
    site, context = await start(), client(*own())
    line = await dialled(site.url, context)
    named = await line.create(TARGET)
    packet = fragment(TARGET, named, 0, ENTITY, len(ENTITY))
    await line.send(packet[:-HALF])
    await until(lambda: site.held(named) > 0)
    fresh = replace(site.config.parent)
    caplog.set_level("INFO", "bitsd")
    assert site.server is not None
    await site.server.reload()
    seen = await shown(site.url, context)
    answer = await line.ask(packet[-HALF:])
    await line.hang_up()

    assert seen == fresh.der
    assert (answer.status, answer.received) == (200, len(ENTITY))
    reloaded, soon = caplog.messages[:2]
    ends = fresh.certificate.not_valid_after_utc.isoformat()
    assert reloaded.startswith("tls-reloaded certificate=")
    assert reloaded.endswith(f" expires={ends}")
    assert soon.startswith('tls detail="certificate: CN=bitsd in ')


async def test_with_a_mistake_the_old_files_stay(start: Start, client, caplog):
    site, context = await start(), client(*own())
    before = await shown(site.url, context)
    folder = site.config.parent
    replace(folder)
    (folder / "server.key").write_bytes(ca().serve().key_pem)
    (folder / "ca.pem").unlink()
    caplog.set_level("INFO", "bitsd")
    assert site.server is not None
    await site.server.reload()

    assert await shown(site.url, context) == before
    assert await fate(site.url, client()) != "200"
    key, missing, _reloaded, _refused = caplog.messages
    assert key.startswith('tls-not-reloaded detail="key: ')
    assert missing.startswith('tls-not-reloaded detail="client_ca: cannot read ')


async def test_expired_certificate_is_not_reloaded(start: Start, client, caplog):
    site, context = await start(), client(*own())
    before = await shown(site.url, context)
    ca().serve(begins=-2 * DAY, ends=-DAY).write(site.config.parent, "server")
    assert site.server is not None
    await site.server.reload()

    assert await shown(site.url, context) == before
    assert "expired on" in caplog.messages[0]


@pytest.mark.parametrize("version", VERSIONS)
async def test_revoked_client_cannot_resume_what_it_had(
    start: Start, client, version: ssl.TLSVersion
):
    """A ticket spares the certificate, but one from before new files is worthless."""
    (alice,) = own()
    site, context = await start(ca().revoked()), client(alice)
    context.maximum_version = version
    assert await fate(site.url, context) == "200"
    tickets: list[ssl.SSLSession] = []

    def resumed() -> str:
        raw = socket.create_connection(("127.0.0.1", port_of(site.url)), PATIENCE)
        session = tickets[0] if tickets else None
        with raw:
            try:
                with context.wrap_socket(
                    raw, server_hostname="localhost", session=session
                ) as line:
                    line.sendall(ping("/in/"))
                    status = line.recv(12).decode()[-3:]
                    assert line.session is not None
                    tickets.append(line.session)
                    return f"{status} {line.session_reused}"
            except ssl.SSLError as error:
                return error.reason or ""

    before = [await asyncio.to_thread(resumed) for _ in range(2)]
    (site.config.parent / "crl.pem").write_bytes(pem_of(ca().revoked(alice)))
    assert site.server is not None
    await site.server.reload()
    after = await asyncio.to_thread(resumed)

    assert before == ["200 False", "200 True"]
    assert after == "SSLV3_ALERT_CERTIFICATE_REVOKED"


# The real program


async def running(run: Run, config: Path) -> tuple[Running, str]:
    """A server that serves, and its URL."""
    server = await run("serve", "--config", str(config))
    said = await server.hear(r"^listening on https://127\.0\.0\.1:\d+$")
    return server, said.removeprefix("listening on ")


async def told(server: Running, word: str, times: int = 1) -> list[str]:
    """The lines of its log up to those with this word."""
    assert server.process.stderr is not None
    lines: list[str] = []
    async with asyncio.timeout(PROCESS_SECONDS):
        while sum(word in line for line in lines) < times:
            lines.append((await server.process.stderr.readline()).decode())
            assert lines[-1], lines
    return lines


async def test_uploads_go_on_while_two_workers_read_new_files(
    run: Run, client, tmp_path: Path
):
    server, url = await running(run, configured(tmp_path, ASKED, workers=2))
    context = client(*own())
    uploads = []
    for number in range(8):
        target = f"/in/{number}.dat"
        line = await dialled(url, context)
        server.lines.opened.append(line)
        named = await line.create(target)
        packet = fragment(target, named, 0, ENTITY, len(ENTITY))
        await line.send(packet[:-HALF])
        uploads.append((line, target, named, packet[-HALF:]))
    fresh = replace(tmp_path)
    server.process.send_signal(signal.SIGHUP)
    log = await told(server, "tls-reloaded", times=2)
    seen = {await shown(url, context) for _ in range(12)}
    for line, target, named, rest in uploads:
        answer = await line.ask(rest)
        assert (answer.status, answer.received) == (200, len(ENTITY))
        assert (await line.ask(close(target, named))).status == 200

    assert seen == {fresh.der}
    assert not [line for line in log if "Traceback" in line]
    for number in range(8):
        assert (tmp_path / "in" / f"{number}.dat").read_bytes() == ENTITY


async def test_worker_that_replaces_another_has_the_new_files(
    run: Run, client, tmp_path: Path
):
    server, url = await running(run, configured(tmp_path, ASKED, workers=2))
    fresh = replace(tmp_path)
    server.process.send_signal(signal.SIGHUP)
    await told(server, "tls-reloaded", times=2)
    os.kill(server.workers[0], signal.SIGKILL)
    await told(server, "worker-died")
    await until(lambda: len(server.workers) == 2)
    seen = {await shown(url, client(*own())) for _ in range(12)}

    assert seen == {fresh.der}


async def test_server_does_not_start_with_an_expired_certificate(
    run: Run, tmp_path: Path
):
    config = configured(tmp_path, ASKED)
    ca().serve(begins=-2 * DAY, ends=-DAY).write(tmp_path, "server")
    server = await run("serve", "--config", str(config))
    code, err = await server.end(signal.SIGCONT)

    assert code == 1
    assert len(err.splitlines()) == 1
    assert "listen[0].certificate" in err
    assert "expired on" in err


async def ran(*command: object, folder: Path, ca_file: str = "ca.pem"):
    """A program of the system: exit code and what it says."""
    if shutil.which(str(command[0])) is None:
        cannot_run(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=PIPE,
        stderr=PIPE,
        cwd=folder,
        start_new_session=True,
        env={**os.environ, "CURL_CA_BUNDLE": str(folder / ca_file)},
    )
    try:
        async with asyncio.timeout(PROCESS_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out.decode() + err.decode()


async def test_curl_uploads_with_a_certificate_and_not_without(
    run: Run, tmp_path: Path
):
    _server, url = await running(run, configured(tmp_path, ASKED))
    url = url.replace("127.0.0.1", "localhost")
    own()[0].write(tmp_path, "alice")
    (tmp_path / "report.dat").write_bytes(ENTITY)
    upload = (EXAMPLES / "upload.sh", "report.dat", f"{url}/in/report.dat")
    known = ("--cert", "alice.pem", "--key", "alice.key")
    code, said = await ran(*upload, *known, folder=tmp_path)
    without, err = await ran("curl", "-sS", f"{url}/in/report.dat", folder=tmp_path)

    assert (code, said) == (0, f"{url}/in/report.dat: 1000000 bytes uploaded\n")
    assert (tmp_path / "in" / "report.dat").read_bytes() == ENTITY
    assert without != 0
    assert "certificate required" in err


async def test_openssl_shows_the_new_certificate(run: Run, tmp_path: Path):
    server, url = await running(run, configured(tmp_path, ""))
    fresh = replace(tmp_path)
    server.process.send_signal(signal.SIGHUP)
    await told(server, "tls-reloaded")
    where = f"127.0.0.1:{port_of(url)}"
    script = f"openssl s_client -connect {where} </dev/null | openssl x509 -pubkey"
    _code, said = await ran("bash", "-c", script, folder=tmp_path)

    assert fresh.pem.decode() in said


async def test_certificates_of_the_example_are_good(run: Run, tmp_path: Path):
    """certificates.sh, as the page of certificates uses it."""
    script = EXAMPLES / "certificates.sh"
    config = configured(tmp_path, WITH_LIST)
    for line in (
        ("ca",),
        ("server", "127.0.0.1", "localhost"),
        ("client", "alice", "alice@example.org"),
        ("client", "bob"),
    ):
        code, said = await ran(script, *line, folder=tmp_path)
        assert (code, said) == (0, "")
    server, url = await running(run, config)

    async def get(who: str) -> str:
        known = ("--cert", f"{who}.pem", "--key", f"{who}.key")
        _code, said = await ran(
            "curl", "-sS", "-w", "%{http_code}", *known, f"{url}/in/x", folder=tmp_path
        )
        return said

    before = [await get("alice"), await get("bob")]
    await ran(script, "revoke", "bob", folder=tmp_path)
    server.process.send_signal(signal.SIGHUP)
    await told(server, "tls-reloaded")
    assert [said[-3:] for said in before] == ["404", "404"]
    assert (await get("alice"))[-3:] == "404"
    assert "certificate revoked" in await get("bob")
    alice = x509.load_pem_x509_certificate((tmp_path / "alice.pem").read_bytes())
    names = alice.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.RFC822Name) == ["alice@example.org"]
    assert (tmp_path / "alice.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ((), 2, "certificates.sh client USER [EMAIL]"),
        (("server",), 2, "certificates.sh client USER [EMAIL]"),
        (("client", "../alice"), 1, "certificates.sh: not a plain name: ../alice"),
        (("client", "alice"), 1, "certificates.sh: openssl ca failed"),
    ],
)
async def test_wrong_use_of_the_example_is_told(
    tmp_path: Path, line: tuple[str, ...], code: int, said: str
):
    ended, text = await ran(EXAMPLES / "certificates.sh", *line, folder=tmp_path)

    assert ended == code
    assert said in text
