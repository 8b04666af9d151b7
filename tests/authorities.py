"""CAs of tests: certificates right and wrong in every way, and revocation lists."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

DAY = timedelta(days=1)
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


#: What makes a certificate that of a CA.
AUTHORITY = (
    x509.BasicConstraints(ca=True, path_length=None),
    x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    ),
)


def named(subject: str) -> x509.Name:
    """A name as RFC 4514 writes it."""
    return x509.Name.from_rfc4514_string(subject)


def upn(text: str) -> x509.OtherName:
    """A user principal name, short enough for one octet of length."""
    octets = text.encode()
    return x509.OtherName(UPN, bytes((0x0C, len(octets))) + octets)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str, *chain: "Issued") -> None:
        """NAME.pem, with those that issued it, and NAME.key."""
        pems = [self.pem, *(each.pem for each in chain)]
        (folder / f"{name}.pem").write_bytes(b"".join(pems))
        (folder / f"{name}.key").write_bytes(self.key_pem)
        (folder / f"{name}.key").chmod(0o600)


def signed(
    subject: x509.Name,
    issuer: x509.Name | None = None,
    by: ec.EllipticCurvePrivateKey | None = None,
    *,
    extensions: Iterable[x509.ExtensionType] = (),
    begins: timedelta = -DAY,
    ends: timedelta = 90 * DAY,
) -> Issued:
    """A certificate of a new key; signed by itself if nobody else does."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer or subject,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        now + begins,
        now + ends,
    )
    # Strict clients, such as Python since 3.13, want to see whose key signed which.
    identifiers = (
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key((by or key).public_key()),
    )
    given = {type(extension): extension for extension in (*identifiers, *extensions)}
    for extension in given.values():
        critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
        builder = builder.add_extension(extension, critical=critical)
    return Issued(builder.sign(by or key, SHA256()), key)


@dataclass
class Authority:
    """A CA."""

    name: str = "CN=Example CA"
    issuer: "Authority | None" = None
    issued: Issued = field(init=False)

    def __post_init__(self) -> None:
        above = self.issuer
        self.issued = signed(
            named(self.name),
            above and above.subject,
            above and above.issued.key,
            extensions=AUTHORITY,
        )

    @property
    def subject(self) -> x509.Name:
        return self.issued.certificate.subject

    @property
    def pem(self) -> bytes:
        return self.issued.pem

    def issue(
        self,
        subject: str | x509.Name = "CN=alice",
        *alternatives: x509.GeneralName,
        usage: Sequence[ObjectIdentifier] = (CLIENT,),
        extensions: Iterable[x509.ExtensionType] = (),
        **times: timedelta,
    ) -> Issued:
        """A certificate; `begins` and `ends` are relative to now."""
        more = list(extensions)
        if alternatives:
            more.append(x509.SubjectAlternativeName(alternatives))
        if usage:
            more.append(x509.ExtendedKeyUsage(usage))
        name = named(subject) if isinstance(subject, str) else subject
        return signed(name, self.subject, self.issued.key, extensions=more, **times)

    def serve(self, *hosts: x509.GeneralName, **times: timedelta) -> Issued:
        """A server's certificate, for this machine unless hosts are given."""
        here = hosts or (x509.DNSName("localhost"),)
        return self.issue("CN=bitsd", *here, usage=(SERVER,), **times)

    def revoked(
        self,
        *issued: Issued,
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        signer: "Authority | None" = None,
    ) -> x509.CertificateRevocationList:
        """The list of what it revoked."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(
            self.subject, now + begins, now + ends
        )
        for each in issued:
            entry = x509.RevokedCertificateBuilder(
                each.certificate.serial_number, now + begins
            )
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign((signer or self).issued.key, SHA256())


def pem_of(*lists: x509.CertificateRevocationList) -> bytes:
    """Revocation lists as a file holds them."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in lists)
