"""Whose a certificate is: by the first rule that fits it, and nobody's by accident."""

from functools import cache

import pytest
from authorities import UPN, Authority, Issued, named, signed, upn
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from bitsd.certificates import problems, user_of
from bitsd.settings import CertificateRule as Rule

DN = "CN=alice,OU=Imaging,O=Example"
CN = NameOID.COMMON_NAME


@cache
def ca() -> Authority:
    return Authority("CN=Example CA,O=Example")


def mail(text: str) -> x509.RFC822Name:
    """An address that may be none."""
    return x509.RFC822Name._init_without_validation(text)


def cn(value: str, kind: _ASN1Type | None = None) -> x509.NameAttribute:
    return x509.NameAttribute(CN, value, kind, _validate=False)


def rdns(*parts: list[x509.NameAttribute]) -> x509.Name:
    return x509.Name([x509.RelativeDistinguishedName(part) for part in parts])


def user(issued: Issued, *rules: Rule) -> str | None:
    return user_of(issued.der, rules)


def test_first_rule_that_fits_counts():
    alice = ca().issue(DN, mail("alice@example.org"))
    rules = [
        Rule(email="bob@example.org", user="bob"),
        Rule(subject="CN=alice", user="first"),
        Rule(email="alice@example.org", user="second"),
    ]

    assert user(alice, *rules) == "first"
    assert user(alice, *reversed(rules)) == "second"
    assert user(alice, rules[0]) is None
    assert user(alice) is None


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param("CN=alice", id="one attribute"),
        pytest.param("OU=Imaging", id="another attribute"),
        pytest.param(DN, id="whole"),
        pytest.param("2.5.4.3=alice", id="a number"),
        pytest.param("CN=\\61lice", id="escaped"),
        pytest.param("CN=*,OU=Imaging,O=Example", id="star in the whole"),
    ],
)
def test_subject_that_fits(subject: str):
    assert user(ca().issue(DN), Rule(subject=subject, user="u")) == "u"


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param("CN=Alice", id="case"),
        pytest.param("CN=alic", id="start"),
        pytest.param("CN=alice2", id="more"),
        pytest.param("CN=\u0430lice", id="Cyrillic a"),
        pytest.param("CN=alice\\00", id="NUL"),
        pytest.param("O=alice", id="other attribute"),
        pytest.param("CN=alice,OU=Imaging", id="a part"),
        pytest.param("O=Example,OU=Imaging,CN=alice", id="other order"),
        pytest.param("OU=Imaging,CN=alice,O=Example", id="mixed"),
        pytest.param("CN=alice+OU=Imaging,O=Example", id="one RDN"),
        pytest.param("CN=*,OU=Other,O=Example", id="star in another"),
        pytest.param("L=*", id="star for what is not there"),
        pytest.param("CN=*,L=Imaging,O=Example", id="other kind"),
        pytest.param(
            "CN=*+UID=7,OU=Imaging,O=Example", id="star and what is not there"
        ),
    ],
)
def test_subject_that_does_not_fit(subject: str):
    assert user(ca().issue(DN), Rule(subject=subject, user="u")) is None


@pytest.mark.parametrize(
    "kind", [_ASN1Type.PrintableString, _ASN1Type.BMPString, _ASN1Type.UTF8String]
)
def test_text_counts_and_not_how_it_is_encoded(kind: _ASN1Type):
    alice = ca().issue(rdns([cn("alice", kind)]))

    assert user(alice, Rule(subject="CN=alice", user="u")) == "u"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(rdns([cn("alice")], [cn("bob")]), id="two names"),
        pytest.param(rdns([cn("alice")], [cn("alice")]), id="twice the same"),
        pytest.param(rdns([cn("alice"), cn("bob")]), id="two in one RDN"),
        pytest.param(rdns([cn("alice\0.example.org")]), id="NUL"),
        pytest.param(rdns([cn("alice ")]), id="space after it"),
        pytest.param(rdns([cn("\u200balice")]), id="space of no width"),
        pytest.param(rdns([cn("ALICE")]), id="case"),
        pytest.param(x509.Name([]), id="empty"),
    ],
)
def test_odd_subject_is_nobodys(name: x509.Name):
    rules = [Rule(subject="CN=alice", user="u"), Rule(subject="CN=alice,O=*", user="u")]

    assert user(ca().issue(name), *rules) is None


def test_rdn_of_several_attributes_is_a_set():
    name = rdns([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])
    both = [cn("alice"), x509.NameAttribute(NameOID.USER_ID, "7")]
    alice = ca().issue(x509.Name([*name.rdns, x509.RelativeDistinguishedName(both)]))

    for subject in ("CN=alice+UID=7,O=Example", "UID=7+CN=alice,O=Example", "CN=alice"):
        assert user(alice, Rule(subject=subject, user="u")) == "u"
    assert user(alice, Rule(subject="UID=7+CN=*,O=Example", user="*")) == "alice"
    assert user(alice, Rule(subject="CN=alice,O=Example", user="u")) is None


def test_value_that_is_no_text_is_no_name():
    identifier = x509.NameAttribute(
        NameOID.X500_UNIQUE_IDENTIFIER, b"alice", _ASN1Type.BitString
    )
    alice = ca().issue(rdns([identifier]))

    assert user(alice, Rule(subject="2.5.4.45=*", user="*")) is None
    assert user(alice, Rule(subject="2.5.4.45=alice", user="u")) is None


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(email="alice@example.org", user="u"), "u"),
        (Rule(email="ALICE@Example.org", user="u"), "u"),
        (Rule(email="*@EXAMPLE.org", user="*"), "alice"),
        (Rule(email="*@example.org", user="staff"), "staff"),
        (Rule(email="*@example.com", user="*"), None),
        (Rule(email="*@ample.org", user="*"), None),
        (Rule(email="lice@example.org", user="u"), None),
        (Rule(upn="alice@example.org", user="u"), None),
        (Rule(upn="Al@corp.example.org", user="u"), "u"),
        (Rule(upn="*@corp.example.org", user="*"), "al"),
        (Rule(upn="*@corp.example.org", user="Staff"), "Staff"),
        (Rule(upn="*@example.org", user="*"), None),
        (Rule(email="al@corp.example.org", user="u"), None),
    ],
)
def test_alternative_name_fits(rule: Rule, expected: str | None):
    names = (x509.DNSName("pc1.example.org"), mail("alice@example.org"))
    alice = ca().issue("CN=x", *names, upn("AL@corp.example.org"))

    assert user(alice, rule) == expected


def test_address_in_the_subject_is_not_an_alternative_name():
    attribute = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "alice@example.org")
    alice = ca().issue(rdns([attribute]))

    assert user(alice, Rule(email="alice@example.org", user="u")) is None
    assert user(alice, Rule(subject="emailAddress=alice@example.org", user="u")) == "u"


# Of names that are too short or too long cryptography warns.
@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
@pytest.mark.parametrize(
    "local",
    [
        *("", "*", "@users", "a@b", "a b", "a\0", "a\n", "al\u0131ce", "\u212aarl"),
        *("a:b", "a/b", "a" * 65, '"alice"', "alice@corp.example.org"),
    ],
)
def test_star_stands_for_plain_names_only(local: str):
    rule = Rule(upn="*@corp.example.org", user="*")
    in_subject = Rule(subject="CN=*", user="*")
    odd = ca().issue(rdns([cn(local)]), upn(f"{local}@corp.example.org"))

    assert user(odd, rule, in_subject) is None


def test_star_that_could_stand_for_two_stands_for_none():
    names = [mail("alice@example.org"), mail("bob@example.org")]
    both = ca().issue("CN=x", *names)
    once = ca().issue("CN=x", *names[:1], mail("ALICE@example.org"))

    assert user(both, Rule(email="*@example.org", user="*")) is None
    assert user(both, Rule(email="bob@example.org", user="bob")) == "bob"
    assert user(once, Rule(email="*@example.org", user="*")) == "alice"


@pytest.mark.parametrize("text", ["alice@example.org\0.example.com", "alice", "@", ""])
def test_odd_address_is_nobodys(text: str):
    odd = ca().issue("CN=x", mail(text))
    rules = [Rule(email=f"{who}@example.org", user="u") for who in ("alice", "*")]

    assert user(odd, *rules) is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x0c", id="no length"),
        pytest.param(b"\x0c\x0dal@example.or", id="too short"),
        pytest.param(b"\x0c\x0eal@example.orgx", id="more behind it"),
        pytest.param(b"\x16\x0eal@example.org", id="other type"),
        pytest.param(b"\x0c\x0e\xffl@example.org", id="not UTF-8"),
    ],
)
def test_principal_name_in_another_form_is_nobodys(value: bytes):
    assert len(b"al@example.org") == 0x0E
    other = x509.OtherName(UPN, value)
    # This one would fit, but for the number of its kind.
    stranger = x509.OtherName(
        x509.ObjectIdentifier("1.2.3"), upn("al@example.org").value
    )
    odd = signed(named("CN=x"), extensions=[x509.SubjectAlternativeName([stranger])])
    rules = [Rule(upn=f"{who}@example.org", user="u") for who in ("al", "*")]

    assert user(odd, *rules) is None
    try:
        der = ca().issue("CN=x", other).der
    except ValueError:  # cryptography does not write what is no DER at all
        return
    assert user_of(der, rules) is None


def test_principal_name_of_the_same_form_is_somebodys():
    al = ca().issue("CN=x", x509.OtherName(UPN, b"\x0c\x0eal@example.org"))

    assert user(al, Rule(upn="al@example.org", user="u")) == "u"


@pytest.mark.parametrize("octets", [b"", b"alice@example.org", b"\x30\x02\xa3\x00"])
def test_unreadable_alternative_names_leave_the_subject(octets: bytes):
    oid = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
    odd = ca().issue(DN, extensions=[x509.UnrecognizedExtension(oid, octets)])

    assert user(odd, Rule(email="alice@example.org", user="u")) is None
    assert user(odd, Rule(subject="CN=alice", user="u")) == "u"


def test_thumbprint_fits_with_and_without_colons():
    alice, other = ca().issue(), ca().issue()
    digits = alice.certificate.fingerprint(
        # The same as the SHA-256 of its octets.
        x509.base.hashes.SHA256()
    ).hex()
    pairs = ":".join(digits[at : at + 2] for at in range(0, 64, 2)).upper()

    for sha256 in (digits, pairs):
        assert user(alice, Rule(sha256=sha256, user="u")) == "u"
        assert user(other, Rule(sha256=sha256, user="u")) is None


def test_same_subject_from_another_ca_is_another():
    other = Authority("CN=Example CA,O=Other")
    rule = Rule(subject="CN=alice", issuer="CN=Example CA,O=Example", user="u")

    assert user(ca().issue(), rule) == "u"
    assert user(other.issue(), rule) is None
    part = Rule(subject="CN=alice", issuer="CN=Example CA", user="u")
    assert user(ca().issue(), part) is None


def test_name_that_cannot_be_read_leaves_the_rest():
    """cryptography refuses an RDN that has the same attribute twice."""
    alice = ca().issue(rdns([cn("alice"), cn("alicf")]), mail("alice@example.org"))
    twice = alice.der.replace(b"alicf", b"alice")
    with pytest.raises(ValueError, match="duplicate"):
        _ = x509.load_der_x509_certificate(twice).subject

    assert user_of(twice, [Rule(subject="CN=alice", user="u")]) is None
    assert user_of(twice, [Rule(email="alice@example.org", user="u")]) == "u"


ALL = [
    Rule(subject="CN=*", user="*"),
    Rule(email="*@example.org", user="*"),
    Rule(upn="*@example.org", user="*"),
    Rule(sha256="0" * 64, user="u"),
]


@given(st.binary())
def test_octets_that_are_no_certificate_are_nobodys(octets: bytes):
    assert user_of(octets, ALL) is None


@cache
def whole() -> bytes:
    names = (mail("alice@example.org"), upn("alice@example.org"))
    return ca().issue(DN, *names).der


# What is odd about a number of a damaged certificate cryptography warns of.
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.data())
def test_damaged_certificate_never_raises(data):
    octets = bytearray(whole())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(octets) // 2, len(octets)))
    found = user_of(bytes(octets[:cut]), ALL)

    assert found is None or found.isascii()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(user="u"), ["user: give one of subject, email, upn, sha256 beside it"]),
        (
            Rule(subject="CN=a", email="a@b", user="u"),
            ["upn, sha256 beside it; there is subject and email"],
        ),
        (Rule(subject="CN=a", user="*"), ['user: "*" needs a "*" in the rule, such']),
        (Rule(sha256="0" * 64, user="*"), ['user: "*" needs a "*" in the rule, such']),
        (Rule(email="a@b", user="*"), ['user: "*" needs a "*" in the rule, such']),
        (Rule(subject="CN=a", user=""), ["user: not the name of a user: ''"]),
        (Rule(subject="CN=a", user="@x"), ["user: not the name of a user: '@x'"]),
        (Rule(subject="CN=a", user="a*"), ["user: not the name of a user: 'a*'"]),
        (Rule(subject="CN=a", user="a:b"), ["user: not the name of a user: 'a:b'"]),
        (Rule(subject="CN=a", user=" a"), ["user: not the name of a user: ' a'"]),
        (Rule(subject="CN=a", user="a\n"), ["user: not the name of a user: 'a\\n'"]),
        (Rule(subject="alice", user="u"), ["subject: not a name as RFC 4514 writes"]),
        (Rule(subject="", user="u"), ["subject: not a name as RFC 4514 writes it: ''"]),
        (Rule(subject="CN=a/O=b=", user="*"), ["user:"]),
        (Rule(subject="CN=*,O=*", user="*"), ["subject: one * at most, for a whole"]),
        (Rule(subject="CN=pc*", user="u"), ["subject: one * at most, for a whole val"]),
        (Rule(subject="CN=pc*", user="*"), ["subject: one *", 'user: "*" needs']),
        (Rule(email="alice", user="u"), ["email: not an address, nor such as *@exa"]),
        (Rule(email="a@b@c", user="u"), ["email: not an address, nor such as *@exa"]),
        (Rule(email="a*@b", user="u"), ["email: not an address, nor such as *@exam"]),
        (Rule(email="*@*", user="*"), ["email: not an address, nor such as *@exam"]),
        (Rule(email="\u00e4@b", user="u"), ["email: not an address, nor such as *@"]),
        (Rule(upn="alice", user="u"), ["upn: not a name, nor such as *@corp.example"]),
        (Rule(upn="a@b@c", user="u"), ["upn: not a name, nor such as *@corp.example"]),
        (Rule(upn="a@*", user="u"), ["upn: not a name, nor such as *@corp.example"]),
        (Rule(upn="a b@c", user="u"), ["upn: not a name, nor such as *@corp.example"]),
        (Rule(upn="a\x7f@c", user="u"), ["upn: not a name, nor such as *@corp.exam"]),
        (Rule(sha256="0" * 63, user="u"), ["sha256: not 64 hexadecimal digits: '00"]),
        (Rule(sha256="0:" * 32, user="u"), ["sha256: not 64 hexadecimal digits: '0"]),
        (Rule(sha256="g" * 64, user="u"), ["sha256: not 64 hexadecimal digits: 'gg"]),
        (Rule(subject="CN=a", issuer="x", user="u"), ["issuer: not a name as RFC 451"]),
        (Rule(subject="CN=a", issuer="CN=*", user="u"), ["issuer: no * in it: 'CN=*'"]),
    ],
)
def test_wrong_rule_is_told(rule: Rule, expected: list[str]):
    told = list(problems(rule))

    assert len(told) == len(expected)
    for line, part in zip(told, expected, strict=True):
        assert part in line


@pytest.mark.parametrize(
    "rule",
    [
        Rule(subject="CN=alice", user="alice"),
        Rule(subject="CN=*,O=Example\\, Inc.", issuer="CN=CA", user="*"),
        Rule(email="*@example.org", user="staff"),
        Rule(upn="m\u00fcller@example.org", user="m\u00fcller"),
        Rule(sha256="aB" * 32, user="DOMAIN\\alice"),
        Rule(sha256=":".join(["aB"] * 32), user="Alice Smith"),
    ],
)
def test_right_rule_has_no_problems(rule: Rule):
    assert list(problems(rule)) == []
