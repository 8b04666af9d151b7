"""Errors as sentences."""

import errno
import ssl

import pytest
from aiohttp import ClientOSError, ClientPayloadError

from bitsd.client.trouble import no_answer


def tls(reason: str) -> ssl.SSLError:
    """What OpenSSL says."""
    error = ssl.SSLError(1, f"[SSL: {reason}] in other words")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TimeoutError(), "no answer from server:1 within 300 s"),
        (
            ClientOSError(errno.EPIPE, "Broken pipe"),
            "the connection to server:1 broke: Broken pipe",
        ),
        (ClientOSError(), "the connection to server:1 broke: ClientOSError"),
        (ClientPayloadError(), "the connection to server:1 broke"),
        (
            tls("TLSV1_ALERT_INTERNAL_ERROR"),
            "the connection to server:1 broke: TLS: TLSV1_ALERT_INTERNAL_ERROR",
        ),
        (
            ClientOSError(1, "[SSL: BAD] in other words"),
            "the connection to server:1 broke: TLS: BAD",
        ),
    ],
)
def test_error_becomes_a_sentence(error: Exception, sentence: str):
    answer = no_answer(error, "server:1", 300.0)

    assert str(answer) == sentence
    assert answer.resumable


def test_name_that_cannot_be_one_is_final():
    answer = no_answer(UnicodeError("label too long"), "a..b:1", 300.0)

    assert str(answer) == "a..b:1 is not the name of a host"
    assert not answer.resumable


HANDSHAKE = (
    "server:1 refuses the TLS handshake: it wants a client certificate (give --cert), "
    "or has no cipher in common"
)


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (
            "TLSV13_ALERT_CERTIFICATE_REQUIRED",
            "server:1 wants a client certificate: give --cert",
        ),
        (
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
            HANDSHAKE,
        ),
        ("WRONG_VERSION_NUMBER", "server:1 speaks no TLS: use http://"),
        ("RECORD_LAYER_FAILURE", "server:1 speaks no TLS: use http://"),
    ],
)
def test_side_that_speaks_otherwise_is_final(reason: str, sentence: str):
    error = tls(reason)
    for each in (error, ClientOSError(*error.args)):
        answer = no_answer(each, "server:1", 300.0)

        assert str(answer) == sentence
        assert not answer.resumable
