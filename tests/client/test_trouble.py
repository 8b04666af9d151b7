"""Errors as sentences."""

import errno
import ssl

import pytest
from aiohttp import ClientOSError, ClientPayloadError

from bitsd.client.trouble import no_answer


def alert() -> ssl.SSLError:
    """What a server says that wants a certificate."""
    error = ssl.SSLError(1, "alert")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
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
            alert(),
            "the connection to server:1 broke: TLS: TLSV13_ALERT_CERTIFICATE_REQUIRED",
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
