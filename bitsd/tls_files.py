"""Certificates, keys and revocation lists: read, and checked before they are used."""

import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from .certificates import UNREADABLE
from .settings import Listen

#: A certificate that ends within it is told of.
SOON = timedelta(days=30)

_Read = TypeVar("_Read")

_KEY = re.compile(
    rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL
)
_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


class Unusable(Exception):
    """Files that TLS cannot be spoken with.

    Attributes:
        problems: a line each: setting, file, what is wrong, what to do.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where they are, as in the settings of an address."""

    certificate: Path
    key: Path | None = None
    client_ca: Path | None = None
    client_crl: Path | None = None

    @classmethod
    def of(cls, listen: Listen) -> Self | None:
        """Those of an address; None if it speaks plain HTTP."""
        if listen.certificate is None:
            return None
        return cls(listen.certificate, listen.key, listen.client_ca, listen.client_crl)

    @property
    def key_holder(self) -> Path:
        """The file that has the key."""
        return self.key or self.certificate


@dataclass(frozen=True, slots=True)
class Material:
    """What was in the files.

    Attributes:
        chain: the server's certificate, its issuer, and so on.
        authorities: CAs of clients; with none, clients need no certificate.
        lists: of what CAs revoked; with none, that is not asked.
    """

    files: TlsFiles
    chain: tuple[x509.Certificate, ...]
    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]

    @property
    def expires(self) -> datetime:
        """When the first of the chain does."""
        return min(each.not_valid_after_utc for each in self.chain)


def read(files: TlsFiles, now: datetime) -> Material:
    """Read and check files; blocks.

    Raises:
        Unusable: with everything that is wrong.
    """
    problems: list[str] = []

    def attempt(reading: Callable[[], _Read], otherwise: _Read) -> _Read:
        try:
            return reading()
        except ValueError as error:
            problems.append(str(error))
            return otherwise

    def chain() -> tuple[x509.Certificate, ...]:
        found = _certificates("certificate", files.certificate)
        _check_time(files.certificate, found[0], now)
        _check_key(files, found)
        _check_order(files.certificate, found)
        return found

    material = Material(
        files,
        attempt(chain, ()),
        attempt(lambda: _authorities(files.client_ca), ()),
        attempt(lambda: _lists(files.client_crl), ()),
    )
    if problems:
        raise Unusable(problems)
    return material


def _octets(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{setting}: cannot read {path}: {error.strerror}") from None


def _certificates(setting: str, path: Path) -> tuple[x509.Certificate, ...]:
    octets = _octets(setting, path)
    try:
        return tuple(x509.load_pem_x509_certificates(octets))
    except UNREADABLE:
        pass
    hint = ""
    with suppress(*UNREADABLE):
        x509.load_der_x509_certificate(octets)
        hint = f"; it is DER: openssl x509 -inform DER -in {path} -out NEW"
    if b"-----BEGIN CERTIFICATE-----" in octets:
        hint = "; the one that is there is damaged"
    raise ValueError(f"{setting}: {path} has no certificate in PEM format{hint}")


def _check_time(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        begins = _day(certificate.not_valid_before_utc)
        raise ValueError(
            f"certificate: {path} is not valid before {begins}; every client would "
            "refuse it: look at the clock"
        )
    if now > certificate.not_valid_after_utc:
        ended = _day(certificate.not_valid_after_utc)
        raise ValueError(
            f"certificate: {path} expired on {ended}; every client would refuse it: "
            "renew it"
        )


def _check_key(files: TlsFiles, chain: tuple[x509.Certificate, ...]) -> None:
    path = files.key_holder
    match = _KEY.search(_octets("key", path))
    wanting = f"key: {path} has no private key in PEM format"
    if match is None:
        raise ValueError(wanting)
    try:
        public = load_pem_private_key(match[0], None).public_key()
    except TypeError:
        raise ValueError(
            f"key: {path} has a password, which nobody is there to type; "
            f"take it off: openssl pkey -in {path} -out NEW"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(wanting) from None
    owned = [number for number, each in enumerate(chain) if _key_of(each) == public]
    if not owned:
        raise ValueError(f"key: {path} is not the key of {files.certificate}")
    if owned[0]:
        raise ValueError(
            f"certificate: {files.certificate}: the server's own certificate, "
            f"{_named(chain[owned[0]].subject)}, has to come first"
        )


def _key_of(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except UNREADABLE:
        return None


def _check_order(path: Path, chain: tuple[x509.Certificate, ...]) -> None:
    for number, (one, issuer) in enumerate(pairwise(chain), 2):
        if not _issued(one, issuer):
            raise ValueError(
                f"certificate: {path}: number {number}, {_named(issuer.subject)}, did "
                "not issue the one before it; each has to follow what it issued"
            )


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _authorities(path: Path | None) -> tuple[x509.Certificate, ...]:
    if path is None:
        return ()
    found = _certificates("client_ca", path)
    for each in found:
        if not _is_authority(each):
            raise ValueError(
                f"client_ca: {path}: {_named(each.subject)} is no CA; "
                "give the certificates of those that issue those of clients"
            )
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    return basic.value.ca


def _lists(path: Path | None) -> tuple[x509.CertificateRevocationList, ...]:
    if path is None:
        return ()
    octets = _octets("client_crl", path)
    pem = _LIST.findall(octets)
    try:
        if not pem:
            return (x509.load_der_x509_crl(octets),)
        return tuple(map(x509.load_pem_x509_crl, pem))
    except UNREADABLE:
        raise ValueError(
            f"client_crl: {path} has no revocation list in PEM or DER format"
        ) from None


def pem(material: Material) -> tuple[str, bytes]:
    """The CAs of clients, and the lists of what they revoked."""
    cas = "".join(
        each.public_bytes(Encoding.PEM).decode() for each in material.authorities
    )
    return cas, b"".join(each.public_bytes(Encoding.PEM) for each in material.lists)


def doubts(material: Material, now: datetime) -> Iterator[str]:
    """A line for each thing that works now and that an operator has to know of."""
    for each in material.chain:
        if each.not_valid_after_utc - now < SOON:
            yield (
                f"certificate: {_named(each.subject)} in {material.files.certificate} "
                f"{_ends(each.not_valid_after_utc, now)}"
            )
    if _everyone_reads(material.files.key_holder):
        yield f"key: every user of this machine can read {material.files.key_holder}"
    for each in material.authorities:
        if each.not_valid_after_utc - now < SOON:
            until = _ends(each.not_valid_after_utc, now)
            yield f"client_ca: {_named(each.subject)} {until}"
    if material.files.client_crl is not None:
        yield from _list_doubts(material, now)


def _list_doubts(material: Material, now: datetime) -> Iterator[str]:
    for ca in material.authorities:
        lists = [each for each in material.lists if _signed(each, ca)]
        if not lists:
            yield (
                f"client_crl: no list of {_named(ca.subject)}: "
                "no certificate that it issued is accepted"
            )
        elif not any(_current(each, now) for each in lists):
            yield (
                f"client_crl: the list of {_named(ca.subject)} is out of date: until "
                "there is a new one, no certificate that it issued is accepted"
            )
    for each in material.lists:
        if not any(_signed(each, ca) for ca in material.authorities):
            yield (
                f"client_crl: the list of {_named(each.issuer)} is not signed by a CA "
                "of client_ca: it counts only if clients send that CA's certificate"
            )


def _signed(revoked: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    if revoked.issuer != ca.subject:
        return False
    try:
        # Whatever kinds of keys there are, one that signs no lists is a TypeError.
        return revoked.is_signature_valid(ca.public_key())  # type: ignore[arg-type]
    except UNREADABLE:
        return False


def _current(revoked: x509.CertificateRevocationList, now: datetime) -> bool:
    until = revoked.next_update_utc
    return revoked.last_update_utc <= now and (until is None or now <= until)


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether clients take a certificate for the server of that name (RFC 6125).

    Args:
        host: a name, an IPv4 address, or an IPv6 address in brackets.
    """
    try:
        oid = x509.SubjectAlternativeName
        names = certificate.extensions.get_extension_for_class(oid).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    try:
        return ip_address(host.strip("[]")) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        wanted = host.lower().rstrip(".")
    _first, _, domain = wanted.partition(".")
    found = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return wanted in found or (bool(domain) and f"*.{domain}" in found)


def _everyone_reads(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # it was there a moment ago
        return False


def _named(name: x509.Name) -> str:
    return name.rfc4514_string() or "the one without a name"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _ends(moment: datetime, now: datetime) -> str:
    if moment < now:
        return f"expired on {_day(moment)}"
    return f"expires on {_day(moment)}, in {(moment - now).days} days"
