"""Words for what failed."""

import errno
import socket
import ssl

import pytest

from bitsd.reasons import reason


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 1)"),
            "Connection refused",
        ),
        (OSError(errno.ETIMEDOUT, "Connect call failed"), "Connection timed out"),
        (TimeoutError(), "no answer"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError(), "the server hung up"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed"),
            "no connection to any of its addresses",
        ),
    ],
)
def test_failure_is_told_in_the_words_of_the_system(error: OSError, told: str):
    assert reason(error) == told


def test_what_is_no_tls_is_told():
    came = ssl.MemoryBIO()
    came.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    tls = ssl.create_default_context()
    with pytest.raises(ssl.SSLError) as failed:
        tls.wrap_bio(came, ssl.MemoryBIO(), server_hostname="a").do_handshake()

    assert reason(failed.value) == f"TLS: {failed.value.reason}"
