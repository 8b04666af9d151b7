"""Why a connection failed, in a few words."""

import os
import ssl


def reason(error: OSError) -> str:
    """In the words of the system: asyncio has longer ones, with the address in them."""
    match error:
        case ssl.SSLError():
            return f"TLS: {_of_tls(error)}"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case TimeoutError():
            return "no answer"
        case OSError(strerror=str(words)):  # of a name, which has numbers of its own
            return words
        case ConnectionError():
            return "the server hung up"
        case _:  # asyncio puts several errors into one without a number
            return "no connection to any of its addresses"


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    return error.reason
