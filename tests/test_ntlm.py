import pytest

from bitsd.md4 import md4
from bitsd.ntlm import nt_hash

#: RFC 1320, appendix 5.
DIGESTS = {
    "": "31d6cfe0d16ae931b73c59d7e0c089c0",
    "a": "bde52cb31de33e46245e05fbdbd6fb24",
    "abc": "a448017aaf21d8525fc10ae87aa6729d",
    "message digest": "d9130a8164549fe818874806e1c7014b",
    "abcdefghijklmnopqrstuvwxyz": "d79e1c308aa5bbcdeea8ed63df412da9",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789": (
        "043f8582f241db351ce627e153e7f0e4"
    ),
    "1234567890" * 8: "e33b4ddc9c38f2199c3e7b164fcc0536",
}


@pytest.mark.parametrize(("text", "digest"), DIGESTS.items())
def test_md4_is_that_of_the_rfc(text, digest):
    assert md4(text.encode()).hex() == digest


def test_hash_of_a_password_is_that_of_the_specification():
    # [MS-NLMP] 4.2.2.1.2.
    assert nt_hash("Password").hex() == "a4f49c406510bdcab6824ee7c30fd852"


def test_password_may_hold_any_character():
    assert len(nt_hash("\udc80 Grüße \U0001f512")) == 16
