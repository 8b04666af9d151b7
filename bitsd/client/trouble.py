"""Why there is no answer, in a sentence for whoever waits for one."""

import os
import ssl

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientHttpProxyError,
    ClientResponseError,
)

from .progress import TransferFailed

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


def no_answer(error: Exception, host: str, timeout_seconds: float) -> NoAnswer:
    """Turn an error of aiohttp into a sentence.

    Args:
        error: a ClientError, TimeoutError or UnicodeError.
        host: with its port, of the URL.
        timeout_seconds: for which nothing came.
    """
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
            return NoAnswer(_passing(error, host))


def _passing(error: Exception, host: str) -> str:
    """What may be another way the next time."""
    match error:
        case ClientConnectorDNSError():
            return f"cannot find {host}: {error.strerror}"
        case ClientConnectorError():
            return f"cannot connect to {host}: {_reason(error.os_error)}"
        case ClientResponseError(message=message):
            return f"what {host} answers is not HTTP: {message.partition(':')[0]}"
        case OSError():
            return f"the connection to {host} broke: {_reason(error)}"
        case _:
            return f"the connection to {host} broke"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio has longer words of its own
    return error.strerror or type(error).__name__
