"""Why there is no answer, in a sentence for whoever waits for one."""

import os
import re
import ssl

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientHttpProxyError,
    ClientProxyConnectionError,
    ClientResponseError,
)

from .progress import TransferFailed

# What a TLS record is not, read as one.
_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"))

_SSL_WORDS = re.compile(r"\[SSL: (\w+)\]", re.ASCII)

_PROXY_AUTHENTICATION_REQUIRED = 407


class NoAnswer(TransferFailed):
    """A request that has no answer; says why.

    Args:
        final: trying again will not help.
        status: HTTP status, if there was an answer that is of no use.
    """

    def __init__(
        self, sentence: str, *, final: bool = False, status: int | None = None
    ) -> None:
        super().__init__(sentence, resumable=not final, status=status)


def no_answer(
    error: Exception, host: str, timeout_seconds: float, via: str | None = None
) -> NoAnswer:
    """Turn an error of aiohttp into a sentence.

    Args:
        error: a ClientError, TimeoutError or UnicodeError.
        host: with its port, of the URL.
        timeout_seconds: for which nothing came.
        via: the proxy on the way there, if there is one.
    """
    lasting = _lasting(error, host)
    if lasting is not None:
        return NoAnswer(lasting, final=True)
    match error:
        case UnicodeError():
            return NoAnswer(f"{host} is not the name of a host", final=True)
        case ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "other name")
            sentence = f"{host} is not trusted: {reason} (--ca names whom to trust)"
            return NoAnswer(sentence, final=True)
        case ClientHttpProxyError(status=status):
            sentence = f"the proxy does not connect to {host}: HTTP {status}"
            return NoAnswer(sentence, final=status == _PROXY_AUTHENTICATION_REQUIRED)
        case TimeoutError():
            return NoAnswer(f"no answer from {host} within {timeout_seconds:g} s")
        case _:
            return NoAnswer(_passing(error, host, via or host))


def _lasting(error: Exception, host: str) -> str | None:
    """Two sides that do not speak alike, which no further attempt changes."""
    if isinstance(error, ClientResponseError):
        # A TLS alert, as aiohttp writes a status line that is none.
        alert = r"b'\x15\x03" in error.message
        return f"{host} speaks TLS: use https://" if alert else None
    reason = _tls_reason(error)
    if reason in _NO_TLS:
        return f"{host} speaks no TLS: use http://"
    if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return f"{host} wants a client certificate: give --cert"
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        return (
            f"{host} refuses the TLS handshake: it wants a client certificate (give "
            "--cert), or has no cipher in common"
        )
    return None


def _tls_reason(error: Exception) -> str | None:
    """OpenSSL's name of what went wrong, if that was TLS.

    What breaks an open connection comes as an OSError with number and words of the
    ssl.SSLError; taken by the number it would be an EPERM.
    """
    inner = error.os_error if isinstance(error, ClientConnectorError) else error
    if isinstance(inner, ssl.SSLError):
        return inner.reason
    words = inner.strerror if isinstance(inner, OSError) else None
    match = _SSL_WORDS.match(words or "")
    return None if match is None else match[1]


def _passing(error: Exception, host: str, first: str) -> str:
    """What may be another way the next time.

    Args:
        first: whom the connection is made to.
    """
    match error:
        case ClientConnectorDNSError():
            return f"cannot find {first}: {error.strerror}"
        case ClientProxyConnectionError():
            return f"cannot connect to {first}: {_reason(error.os_error)}"
        case ClientConnectorError():
            return f"cannot connect to {host}: {_reason(error.os_error)}"
        case ClientResponseError(message=message):
            return f"what {host} answers is not HTTP: {message.partition(':')[0]}"
        case OSError():
            return f"the connection to {host} broke: {_reason(error)}"
        case _:
            return f"the connection to {host} broke"


def _reason(error: OSError) -> str:
    tls = _tls_reason(error)
    if tls is not None:
        return f"TLS: {tls}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio has longer words of its own
    return error.strerror or type(error).__name__
