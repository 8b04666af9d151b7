"""Names, connections and certificates."""

import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from clinic import OPTIONS, Bits, examined, symptoms, told
from scripted import scripted
from yarl import URL

from bitsd.doctor import road
from bitsd.doctor.patient import Patient
from bitsd.doctor.report import Findings
from bitsd.doctor.verdicts import Symptom

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return path


def served_with(leaf: trustme.LeafCert, *, asks: ssl.VerifyMode = ssl.CERT_NONE):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = asks
    return context


def leaf(name: str = "127.0.0.1", days: float = 90) -> trustme.LeafCert:
    now = datetime.now(UTC)
    ends = {"not_before": now - timedelta(days=200), "not_after": now + timedelta(days)}
    return AUTHORITY.issue_cert(name, **ends)


@asynccontextmanager
async def secure(context: ssl.SSLContext) -> AsyncIterator[str]:
    async with scripted(Bits(), context) as server:
        yield f"{server.url}/in/"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_good_certificate_is_no_fault(ca: Path, version: ssl.TLSVersion):
    context = served_with(leaf())
    context.maximum_version = context.minimum_version = version
    async with secure(context) as url:
        reached, findings = await examined(url, ca=ca)

    assert reached
    assert symptoms(findings) == []
    shown = version.name.replace("_", ".")
    assert told(findings, "tls").startswith(f"ok: {shown}, a certificate until 2")


async def test_certificate_that_ends_soon_is_a_note(ca: Path):
    async with secure(served_with(leaf(days=13))) as url:
        _reached, findings = await examined(url, ca=ca)

    assert symptoms(findings) == []
    assert told(findings, "tls").startswith("note: ")


@pytest.mark.parametrize(
    ("certificate", "trusted", "symptom", "code"),
    [
        (leaf(days=-1), True, Symptom.CERTIFICATE_DATE, "0x80072F05"),
        (leaf("127.0.0.9"), True, Symptom.CERTIFICATE_NAME, "0x80072F06"),
        (leaf("example.org"), True, Symptom.CERTIFICATE_NAME, "0x80072F06"),
        (leaf(), False, Symptom.CERTIFICATE_CA, "0x80072F0D"),
    ],
    ids=["expired", "another address", "another name", "unknown CA"],
)
async def test_what_is_behind_a_bad_certificate_is_examined_all_the_same(
    ca: Path,
    certificate: trustme.LeafCert,
    symptom: Symptom,
    code: str,
    *,
    trusted: bool,
):
    async with secure(served_with(certificate)) as url:
        reached, findings = await examined(url, ca=ca if trusted else None)
    (fault,) = findings.faults

    assert reached
    assert (fault.symptom, fault.code) == (symptom, code)
    assert told(findings, "fragments").startswith("ok")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_optional_client_certificate_is_a_fault(
    ca: Path, version: ssl.TLSVersion
):
    context = served_with(leaf(), asks=ssl.CERT_OPTIONAL)
    context.maximum_version = context.minimum_version = version
    async with secure(context) as url:
        _reached, findings = await examined(url, ca=ca)
    (fault,) = findings.faults

    assert (fault.symptom, fault.code) == (Symptom.CERTIFICATE_ASKED, "0x80072F0C")
    assert told(findings, "ping").startswith("ok")


async def test_client_certificate_that_is_given_is_no_fault(ca: Path, tmp_path: Path):
    mine = AUTHORITY.issue_cert("alice@example.org")
    path = tmp_path / "client.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(str(path))
    context = served_with(leaf(), asks=ssl.CERT_REQUIRED)
    async with secure(context) as url:
        _reached, findings = await examined(url, ca=ca, certificate=path)

    assert symptoms(findings) == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_required_client_certificate_is_told_each_time(
    ca: Path, version: ssl.TLSVersion
):
    context = served_with(leaf(), asks=ssl.CERT_REQUIRED)
    context.maximum_version = context.minimum_version = version
    async with secure(context) as url:
        found = [(await examined(url, ca=ca))[1] for _ in range(20)]

    # With TLS 1.3 the alert may come whenever the handshake is over.
    for findings in found:
        fault = next(x for x in findings.faults if x.code == "0x80072F0C")
        assert fault.symptom is Symptom.CERTIFICATE_ASKED
        assert any("give --cert" in finding.detail for finding in findings.all)
    assert len({tuple(symptoms(findings)) for findings in found}) == 1


async def silent_or_talking(ca: Path, context: ssl.SSLContext | None, **how: object):
    """What is found of a port that speaks no TLS that we know."""
    async with scripted(Bits(), context) as server:
        url = server.url.replace("http:", "https:")
        reached, findings = await examined(f"{url}/in/", ca=ca, **how)
    assert not reached
    return findings


async def test_port_without_tls_is_told(ca: Path):
    findings = await silent_or_talking(ca, None, timeout_seconds=0.2)

    assert symptoms(findings) == [Symptom.NO_TLS]
    assert told(findings, "tls") == "fault: no answer"


async def test_tls_that_is_too_old_is_told(ca: Path):
    context = served_with(leaf())
    context.set_ciphers("AES128-SHA")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    findings = await silent_or_talking(ca, context)

    assert symptoms(findings) == [Symptom.NO_TLS]


async def test_tls_port_is_no_http(ca: Path):
    async with scripted(Bits(), served_with(leaf())) as server:
        url = server.url.replace("https:", "http:")
        _reached, findings = await examined(f"{url}/in/", ca=ca)

    assert symptoms(findings) == [Symptom.NO_ANSWER]


async def test_name_that_nobody_has_is_told():
    reached, findings = await examined("http://no-such-name.invalid/in/")

    assert not reached
    assert symptoms(findings) == [Symptom.NO_NAME]
    assert told(findings, "name").startswith("fault: no-such-name.invalid: ")


async def test_name_that_is_none_is_told():
    reached, findings = await examined(f"http://{'a' * 64}.example/in/")

    assert not reached
    assert symptoms(findings) == [Symptom.NO_NAME]


async def test_port_that_is_closed_is_told():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        reached, findings = await examined(f"http://127.0.0.1:{port}/in/")

    assert not reached
    assert symptoms(findings) == [Symptom.NO_CONNECTION]
    assert told(findings, "connect") == (
        f"fault: 127.0.0.1 port {port}: Connection refused"
    )


async def test_address_without_an_answer_is_a_note_if_another_has_one():
    async with scripted(Bits()) as server:
        patient = Patient(URL(server.url), OPTIONS, None)
        findings = Findings(lambda _finding: None)
        assert await road._connect(patient, ["127.0.0.9", "127.0.0.1"], findings)

    port = patient.port
    assert re.fullmatch(
        rf"note: 127\.0\.0\.1 port {port} in \d+ ms, but 127\.0\.0\.9 port {port}: .+",
        told(findings, "connect"),
    )
