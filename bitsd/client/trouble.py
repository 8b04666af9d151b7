"""Why there is no answer, in a sentence for whoever waits for one."""

import ssl

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientHttpProxyError,
    ClientResponseError,
)

_PROXY_AUTHENTICATION_REQUIRED = 407


class NoAnswer(Exception):
    """A request that has no answer; says why.

    Attributes:
        final: trying again will not help.
    """

    def __init__(self, sentence: str, *, final: bool = False) -> None:
        super().__init__(sentence)
        self.final = final


def no_answer(error: Exception, host: str, timeout_seconds: float) -> NoAnswer:
    """Turn an error of aiohttp into a sentence.

    Args:
        error: a ClientError or TimeoutError.
        host: with its port, of the URL.
        timeout_seconds: for which nothing came.
    """
    match error:
        case TimeoutError():
            sentence = f"no answer from {host} within {timeout_seconds:g} s"
        case ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "other name")
            sentence = f"{host} is not trusted: {reason} (--ca names whom to trust)"
            return NoAnswer(sentence, final=True)
        case ClientConnectorDNSError():
            sentence = f"cannot find {host}: {error.strerror}"
        case ClientConnectorError():
            sentence = f"cannot connect to {host}: {_reason(error.os_error)}"
        case ClientHttpProxyError(status=status):
            sentence = f"the proxy does not connect to {host}: HTTP {status}"
            return NoAnswer(sentence, final=status == _PROXY_AUTHENTICATION_REQUIRED)
        case ClientResponseError(message=message):
            first = message.partition("\n")[0]
            sentence = f"what {host} answers is not HTTP: {first}"
        case OSError():
            sentence = f"the connection to {host} broke: {_reason(error)}"
        case _:
            sentence = f"the connection to {host} broke"
    return NoAnswer(sentence)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason}"
    return error.strerror or type(error).__name__
