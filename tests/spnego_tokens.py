"""Tokens of SPNEGO as a client says them, and what they lead to."""

import copy
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from windows_clients import PASSWORD

from bitsd import spnego
from bitsd.ntlm import nt_hash
from bitsd.outcome import Denied, SignedIn
from bitsd.users import bare

ALICE = nt_hash(PASSWORD)
BINDING = b"tls-server-end-point:" + bytes(range(32))
NEGOEX = bytes.fromhex("2b06010401823702021e")
KRB5, MS_KRB5 = spnego.KERBEROS


def users(name):
    return ALICE if bare(name).lower() == "alice" else None


@contextmanager
def denied(detail, name=None):
    with pytest.raises(Denied) as caught:
        yield
    assert detail in caught.value.detail
    assert "\n" not in caught.value.detail
    assert caught.value.name == name


def initial(mechanisms, token=None, mic=None):
    """NegTokenInit."""
    listed = b"".join(spnego._element(6, mechanism) for mechanism in mechanisms)
    fields = [(0, 0x30, listed), (2, 4, token), (3, 4, mic)]
    return framed(spnego.SPNEGO, spnego._element(0xA0, sequence(fields)))


def following(token=None, mic=None, state=None):
    """NegTokenResp."""
    fields = [(0, 0x0A, state), (2, 4, token), (3, 4, mic)]
    return spnego._element(0xA1, sequence(fields))


def sequence(fields):
    return spnego._element(
        0x30,
        b"".join(
            spnego._element(0xA0 + number, spnego._element(tag, octets))
            for number, tag, octets in fields
            if octets is not None
        ),
    )


def framed(mechanism, octets):
    return spnego._element(0x60, spnego._element(6, mechanism) + octets)


def state_of(outcome):
    """negState, and the token and the MIC that came with it."""
    fields = spnego._fields(spnego._only(outcome.token, 0xA1))
    return fields[0][-1], spnego._octets(fields, 2), spnego._octets(fields, 3)


def listed(mechanisms):
    return spnego.initial(initial(mechanisms)).listed


def sent(exchange, client):
    """What a client says, each with the exchange as it finds it."""
    token = client.step()
    while token:
        yield copy.deepcopy(exchange), token
        outcome = exchange.step(token)
        if isinstance(outcome, SignedIn):
            return
        token = client.step(outcome.token)


def signs_in(exchange, token):
    """Whether somebody gets in; whatever is wrong is Denied."""
    with suppress(Denied):
        return isinstance(exchange.step(token), SignedIn)
    return False


def check_cut(exchange, client):
    """The last token of a client signs nobody in if it is cut, wherever that is."""
    *_before, (waiting, token) = sent(exchange, client)
    for length in range(len(token)):
        assert not signs_in(copy.deepcopy(waiting), token[:length])


def check_changed(exchange, client):
    """Whatever is wrong in a token of a client, the worst is Denied."""
    turns = list(sent(exchange, client))

    @settings(deadline=None)
    @given(st.data())
    def check(data):
        waiting, token = data.draw(st.sampled_from(turns))
        changed = bytearray(token)
        for at in data.draw(st.lists(st.integers(0, len(token) - 1), min_size=1)):
            changed[at] ^= data.draw(st.integers(1, 255))
        signs_in(copy.deepcopy(waiting), bytes(changed))

    check()
