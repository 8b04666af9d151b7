"""What a server offers, and which of it is taken."""

import pytest

from bitsd.client.signin import candidates, offers


@pytest.mark.parametrize(
    ("challenges", "expected"),
    [
        ([], {}),
        (["Negotiate", "NTLM"], {"negotiate": "", "ntlm": ""}),
        (
            ["Negotiate, NTLM, Basic realm=x"],
            {"negotiate": "", "ntlm": "", "basic": ""},
        ),
        (['Basic realm="a, NTLM b", charset="UTF-8"'], {"basic": ""}),
        (['Basic realm = "x\\", Digest"'], {"basic": ""}),
        (["NTLM TlRM/+9=="], {"ntlm": "TlRM/+9=="}),
        ([" NTLM  YQ== , Negotiate"], {"ntlm": "YQ==", "negotiate": ""}),
        (["NTLM two words"], {"ntlm": ""}),
        (["NTLM YQ==", "NTLM Yg=="], {"ntlm": "YQ=="}),
        (["=", ",,", "realm=x", "(x)"], {}),
    ],
)
def test_offers_are_read(challenges: list[str], expected: dict[str, str]):
    assert offers(challenges) == expected


@pytest.mark.parametrize(
    ("offered", "wanted", "expected"),
    [
        ("basic ntlm negotiate", "any", ["negotiate", "ntlm", "basic"]),
        ("basic ntlm", "basic", ["basic"]),
        ("ntlm", "basic", []),
        ("digest", "any", []),
    ],
)
def test_strongest_is_taken_first(offered: str, wanted: str, expected: list[str]):
    assert candidates(dict.fromkeys(offered.split(), ""), wanted) == expected
