"""What is believed of X-Forwarded-For, X-Forwarded-Proto and Forwarded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from bitsd.forwarded import Origin, Proxies, problem, proxied

PROXIES = Proxies(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "unix"])
PEER = "192.0.2.1"


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::5%eth0", True),
        ("2001:db9::5", False),
        ("", True),
        ("somebody", False),
    ],
)
def test_a_proxy_is_trusted_by_its_address(address, trusted):
    assert PROXIES.trusts(address) is trusted


def test_without_a_list_nobody_is_trusted():
    assert not any(map(Proxies().trusts, ["", "127.0.0.1", "::1"]))


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ([], Origin(PEER, None)),
        ([("X-Forwarded-For", "203.0.113.7")], Origin("203.0.113.7", None)),
        # What the client wrote itself comes before what the proxy added.
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.7")], Origin("203.0.113.7", None)),
        (
            [("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "203.0.113.7")],
            Origin("203.0.113.7", None),
        ),
        (
            [("X-Forwarded-For", "203.0.113.7, 10.0.0.9, 10.0.0.8")],
            Origin("203.0.113.7", None),
        ),
        ([("X-Forwarded-For", "10.0.0.9, 10.0.0.8")], Origin("10.0.0.9", None)),
        ([("X-Forwarded-For", "203.0.113.7:4711")], Origin("203.0.113.7", None)),
        ([("X-Forwarded-For", "[2001:db9::1]:4711")], Origin("2001:db9::1", None)),
        ([("X-Forwarded-For", "2001:db9::1")], Origin("2001:db9::1", None)),
        ([("X-Forwarded-For", "unknown")], Origin(PEER, None)),
        ([("X-Forwarded-For", "203.0.113.7, unknown")], Origin(PEER, None)),
        ([("X-Forwarded-For", "")], Origin(PEER, None)),
        ([("Forwarded", "for=203.0.113.7")], Origin("203.0.113.7", None)),
        (
            [("Forwarded", 'for="[2001:db9::1]:4711";proto=https;by=10.0.0.1')],
            Origin("2001:db9::1", "https"),
        ),
        (
            [("Forwarded", "for=1.1.1.1, proto=http; For=203.0.113.7")],
            Origin("203.0.113.7", "http"),
        ),
        ([("Forwarded", 'for="a,for=1.1.1.1"')], Origin(PEER, None)),
        # The older field is what most proxies write, and all they overwrite.
        (
            [("Forwarded", "for=1.1.1.1"), ("X-Forwarded-For", "203.0.113.7")],
            Origin("203.0.113.7", None),
        ),
        ([("X-Forwarded-Proto", "https")], Origin(PEER, "https")),
        ([("X-Forwarded-Proto", "https, HTTP")], Origin(PEER, "http")),
        ([("X-Forwarded-Proto", "gopher")], Origin(PEER, None)),
        ([("X-Forwarded-Proto", "")], Origin(PEER, None)),
    ],
)
def test_the_last_address_that_is_not_trusted_is_the_clients(fields, origin):
    assert PROXIES.origin(PEER, CIMultiDict(fields)) == origin


@given(st.text(), st.text())
def test_whatever_is_written_there_is_an_address_or_the_peers(one, other):
    headers = CIMultiDict([("X-Forwarded-For", one), ("Forwarded", other)])
    address, scheme = PROXIES.origin(PEER, headers)

    assert problem(address) is None
    assert scheme is None


@pytest.mark.parametrize(
    "name", ["Via", "via", "Forwarded", "X-Forwarded-For", "X-Real-IP"]
)
def test_a_proxy_is_known_by_what_it_writes(name):
    assert proxied(CIMultiDict([(name, "x")]))


def test_a_client_of_its_own_writes_none_of_it():
    assert not proxied(CIMultiDict([("User-Agent", "Microsoft BITS/7.8")]))


@pytest.mark.parametrize("entry", ["unix", "10.0.0.0/8", "::1", "192.0.2.1"])
def test_an_address_a_network_and_unix_can_be_trusted(entry):
    assert problem(entry) is None


@pytest.mark.parametrize("entry", ["", "proxy.example", "10.0.0.1/8", "10.0.0.0/33"])
def test_anything_else_is_said_to_be_none(entry):
    assert 'give an address, a network such as "10.0.0.0/8"' in problem(entry)
