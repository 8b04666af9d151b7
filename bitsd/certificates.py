"""Whose a client's certificate is, by rules in order (protocol-notes/certificates.md).

What is compared is what a CA has signed: text for text, code point for code point.
TLS has found the certificate good before; here one that is odd is nobody's.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier

from .settings import CertificateRule

#: In a rule, for any value; as its user, for what that was.
ANY = "*"

#: What cryptography raises for what it cannot read.
UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)

# What Windows calls szOID_NT_PRINCIPAL_NAME: an otherName that is a UTF8String.
_UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING = 0x0C
_LONGEST_TEXT = 127  # octets; with more, their number is not in one octet

# Beside those of RFC 4514, as `openssl x509 -nameopt RFC2253` writes them.
_ATTRIBUTES = {
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "GN": NameOID.GIVEN_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "SN": NameOID.SURNAME,
    "title": NameOID.TITLE,
}

# What `*` may stand for. Nothing outside ASCII, where names that look alike differ
# and names that differ become one in lower case; nothing that means more than itself
# in a list of users, such as `*` and `@`.
_STARRED = re.compile(r"[\w.+$-]{1,64}", re.ASCII)

_EMAIL = re.compile(r"[!-?A-~]+@[!-?A-~]+")  # ASCII, and one @
_UPN_TEXT = re.compile(r"[^@\s]+@[^@\s]+")
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}")

_KINDS = ("subject", "email", "upn", "sha256")

# An RDN is a set of types, as dotted numbers, and values; [Name] is a sequence of them
# in the order of the certificate.
_Rdn: TypeAlias = frozenset[tuple[str, str | bytes]]
_Name: TypeAlias = tuple[_Rdn, ...]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What rules ask of a certificate; None, or nothing, for what cannot be read."""

    sha256: str
    subject: _Name | None
    issuer: _Name | None
    emails: tuple[str, ...]
    upns: tuple[str, ...]


def user_of(der: bytes, rules: Sequence[CertificateRule]) -> str | None:
    """The user of the first rule that fits a certificate; None: it is nobody's.

    Args:
        der: a certificate that TLS found good.
        rules: without problems.
    """
    try:
        shown = _shown(der)
    except UNREADABLE:
        return None
    for rule in rules:
        starred = _fits(rule, shown)
        if starred is not None:
            return starred.lower() if rule.user == ANY else rule.user
    return None


def _shown(der: bytes) -> _Shown:
    certificate = x509.load_der_x509_certificate(der)
    names = _alternative_names(certificate)
    return _Shown(
        hashlib.sha256(der).hexdigest(),
        _readable(lambda: certificate.subject),
        _readable(lambda: certificate.issuer),
        tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        tuple(
            text
            for name in names
            if isinstance(name, x509.OtherName) and name.type_id == _UPN
            for text in _utf8(name.value)
        ),
    )


def _readable(name: Callable[[], x509.Name]) -> _Name | None:
    try:
        return _plain(name())
    except UNREADABLE:
        return None


def _plain(name: x509.Name) -> _Name:
    return tuple(
        frozenset((part.oid.dotted_string, part.value) for part in rdn)
        for rdn in name.rdns
    )


def _alternative_names(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    try:
        oid = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        value = certificate.extensions.get_extension_for_oid(oid).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()
    return value if isinstance(value, x509.SubjectAlternativeName) else ()


def _utf8(der: bytes) -> Iterator[str]:
    """The text of a UTF8String, if that is all there is, and of at most 127 octets."""
    length = len(der) - 2
    if 0 <= length <= _LONGEST_TEXT and der[:2] == bytes((_UTF8_STRING, length)):
        try:
            yield der[2:].decode()
        except UnicodeDecodeError:
            return


def _fits(rule: CertificateRule, shown: _Shown) -> str | None:
    """What the rule's `*` stands for, or "" if it has none; None: it does not fit."""
    if rule.issuer is not None and shown.issuer != _written(rule.issuer):
        return None
    if rule.sha256 is not None:
        same = rule.sha256.replace(":", "").lower() == shown.sha256
        return "" if same else None
    if rule.email is not None:
        return _one(rule.email, shown.emails)
    if rule.upn is not None:
        return _one(rule.upn, shown.upns)
    if rule.subject is None or shown.subject is None:
        return None
    return _subject_fits(_written(rule.subject), shown.subject)


def _one(wanted: str, found: Iterable[str]) -> str | None:
    """As `_fits`, for the addresses of a certificate; two for one `*` are none."""
    local, _, domain = wanted.partition("@")
    if local != ANY:
        return "" if _lower(wanted) in map(_lower, found) else None
    starred = {
        _lower(one)
        for one, at, other in (address.partition("@") for address in found)
        if at and _lower(other) == _lower(domain)
    }
    return _star(starred.pop()) if len(starred) == 1 else None


def _lower(text: str) -> str:
    """In lower case as far as it is ASCII: `str.lower` makes a K of a kelvin sign."""
    return "".join(c.lower() if c.isascii() else c for c in text)


def _star(value: str | bytes) -> str | None:
    if isinstance(value, str) and _STARRED.fullmatch(value):
        return value
    return None


def _subject_fits(wanted: _Name, subject: _Name) -> str | None:
    if len(wanted) == 1 and len(wanted[0]) == 1:
        ((kind, _value),) = wanted[0]
        found = [part for rdn in subject for part in rdn if part[0] == kind]
        subject = (frozenset(found),) if len(found) == 1 else ()
    if len(subject) != len(wanted):
        return None
    starred = ""
    for rule, rdn in zip(wanted, subject, strict=True):
        fixed = frozenset(part for part in rule if part[1] != ANY)
        if fixed == rule == rdn:
            continue
        matched = _star_of(rule - fixed, rdn - fixed) if fixed <= rdn else None
        if matched is None:
            return None
        starred = matched
    return starred


def _star_of(stars: _Rdn, rest: _Rdn) -> str | None:
    """What the only star stands for: all that is left of an RDN."""
    if len(stars) != 1 or len(rest) != 1:
        return None
    ((kind, _any),), ((other, value),) = stars, rest
    return _star(value) if kind == other else None


@lru_cache(maxsize=256)
def _written(text: str) -> _Name:
    """A name as RFC 4514 writes it.

    Raises:
        ValueError: it is none.
    """
    return _plain(x509.Name.from_rfc4514_string(text, _ATTRIBUTES))


def problems(rule: CertificateRule) -> Iterator[str]:
    """A line for each thing that is wrong with a rule."""
    given = [kind for kind in _KINDS if getattr(rule, kind) is not None]
    if len(given) != 1:
        which = " and ".join(given) or "none"
        yield f"user: give one of {', '.join(_KINDS)} beside it; there is {which}"
    for kind in given:
        yield from _CHECKS[kind](getattr(rule, kind))
    if rule.issuer is not None:
        yield from _name_problems("issuer", rule.issuer, stars=0)
    if rule.user == ANY:
        if not any(_has_star(kind, getattr(rule, kind)) for kind in given):
            yield 'user: "*" needs a "*" in the rule, such as email = "*@example.org"'
    elif not _is_user(rule.user):
        yield f"user: not the name of a user: {rule.user!r}"


def _is_user(name: str) -> bool:
    odd = name.startswith("@") or ":" in name or ANY in name
    return bool(name) and name.isprintable() and name == name.strip() and not odd


def _has_star(kind: str, value: str) -> bool:
    if kind == "subject":
        return ANY in _values(value)
    return kind != "sha256" and value.startswith(f"{ANY}@")


def _values(name: str) -> list[str | bytes]:
    """Those of a name in RFC 4514; none if it is not one."""
    try:
        return [value for rdn in _written(name) for _kind, value in rdn]
    except ValueError:
        return []


def _name_problems(key: str, text: str, *, stars: int) -> Iterator[str]:
    values = _values(text)
    if not values:
        yield (
            f"{key}: not a name as RFC 4514 writes it: {text!r}; take the one that "
            f"openssl x509 -noout -{key} -nameopt RFC2253 prints"
        )
    starred = [value for value in values if ANY in str(value)]
    if len(starred) > stars or set(starred) - {ANY}:
        allowed = "one * at most, for a whole value" if stars else "no * in it"
        yield f"{key}: {allowed}: {text!r}"


def _subject_problems(text: str) -> Iterator[str]:
    yield from _name_problems("subject", text, stars=1)


def _email_problems(text: str) -> Iterator[str]:
    if not _EMAIL.fullmatch(text) or not _star_is_local(text):
        yield f"email: not an address, nor such as *@example.org: {text!r}"


def _upn_problems(text: str) -> Iterator[str]:
    if (
        not _UPN_TEXT.fullmatch(text)
        or not text.isprintable()
        or not _star_is_local(text)
    ):
        yield f"upn: not a name, nor such as *@corp.example.org: {text!r}"


def _star_is_local(text: str) -> bool:
    """A `*`, if there is one, is all that comes before the @."""
    return ANY not in text.removeprefix(f"{ANY}@")


def _sha256_problems(text: str) -> Iterator[str]:
    if not _THUMBPRINT.fullmatch(text):
        yield (
            f"sha256: not 64 hexadecimal digits: {text!r}; take those that "
            "openssl x509 -noout -fingerprint -sha256 prints"
        )


_CHECKS: dict[str, Callable[[str], Iterator[str]]] = {
    "subject": _subject_problems,
    "email": _email_problems,
    "upn": _upn_problems,
    "sha256": _sha256_problems,
}
