"""The way to the server, before any HTTP: name, connection, TLS."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bitsd.reasons import reason

from .line import Line
from .patient import Patient
from .report import Findings
from .verdicts import Symptom

#: A certificate that ends sooner is worth a word.
SOON = timedelta(days=14)

#: Nobody who is there takes longer to accept a connection, in seconds.
CONNECT_SECONDS = 10.0

#: Of a server that asks for a client certificate, and was given none.
ASKED = "the server asks for a client certificate; to examine it with one, give --cert"

_CERTIFICATE_REQUEST = 13  # RFC 8446 4, and RFC 5246 7.4

# Of X509_V_ERR in OpenSSL's x509_vfy.h.
_BAD_DATES = (9, 10)
_BAD_NAMES = (62, 63, 64)


async def reach(patient: Patient, findings: Findings) -> bool:
    """Whether the server can be reached at all."""
    addresses = await _resolve(patient, findings)
    if not addresses or not await _connect(patient, addresses, findings):
        return False
    return patient.tls is None or await _handshake(patient, patient.tls, findings)


async def _resolve(patient: Patient, findings: Findings) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            patient.host, patient.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        findings.fault("name", Symptom.NO_NAME, f"{patient.host}: {why}")
        return []
    addresses = [*dict.fromkeys(str(address[0]) for *_kind, address in found)]
    findings.ok("name", f"{patient.host} is {', '.join(addresses)}")
    return addresses


async def _connect(patient: Patient, addresses: list[str], findings: Findings) -> bool:
    """A connection to one of them is enough, as it is for a job."""
    failed = []
    for address in addresses:
        began = time.monotonic()
        try:
            line = await Line.dial(address, patient.port, CONNECT_SECONDS, None, "")
        except OSError as error:
            failed.append(f"{address} port {patient.port}: {reason(error)}")
            continue
        line.close()
        took = (time.monotonic() - began) * 1000
        told = f"{address} port {patient.port} in {took:.0f} ms"
        if failed:
            findings.note("connect", f"{told}, but {'; '.join(failed)}")
        else:
            findings.ok("connect", told)
        return True
    findings.fault("connect", Symptom.NO_CONNECTION, "; ".join(failed))
    return False


async def _handshake(patient: Patient, tls: ssl.SSLContext, findings: Findings) -> bool:
    """TLS as a job would have it; then with any certificate, to see what is behind."""
    asked = _requests(tls)
    try:
        line = await _verified(patient, tls, findings)
    except OSError as error:
        if asked and patient.options.certificate is None:
            findings.fault("tls", Symptom.CERTIFICATE_ASKED, ASKED)
        else:
            findings.fault("tls", Symptom.NO_TLS, reason(error))
        return False
    line.close()
    patient.certificate_asked = bool(asked)
    return True


async def _verified(patient: Patient, tls: ssl.SSLContext, findings: Findings) -> Line:
    """A connection, whether the certificate is right or not.

    Raises:
        OSError: there is none.
    """
    try:
        line = await patient.line()
    except ssl.SSLCertVerificationError as error:
        detail = f"{patient.host}: {error.verify_message}"
        findings.fault("tls", _symptom(error.verify_code), detail)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        return await patient.line()
    until = _until(line.peer_certificate)
    told = f"{line.tls_version}, a certificate until {until:%Y-%m-%d}"
    if until - datetime.now(UTC) < SOON:
        findings.note("tls", f"{told}, which is soon")
    else:
        findings.ok("tls", told)
    return line


def _symptom(verify_code: int) -> Symptom:
    if verify_code in _BAD_DATES:
        return Symptom.CERTIFICATE_DATE
    if verify_code in _BAD_NAMES:
        return Symptom.CERTIFICATE_NAME
    return Symptom.CERTIFICATE_CA


def _requests(tls: ssl.SSLContext) -> list[int]:
    """Gets an item for each time that the server asks for a client certificate."""
    asked: list[int] = []

    def heard(*message: object) -> None:
        _connection, direction, _version, _content, kind, _octets = message
        if direction == "read" and kind == _CERTIFICATE_REQUEST:
            asked.append(_CERTIFICATE_REQUEST)

    listen: Callable[..., None] = heard
    # No public way tells whether a certificate was asked for.
    tls._msg_callback = listen  # type: ignore[attr-defined] # noqa: SLF001
    return asked


def _until(certificate: dict[str, object]) -> datetime:
    seconds = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return datetime.fromtimestamp(seconds, UTC)
