"""What an answer means that is not a success: whether to try again, and why not."""

from collections.abc import Mapping

from bitsd.advice import STATUSES
from bitsd.codes import HRESULTS, Retry
from bitsd.explain import retry
from bitsd.protocol.refusal import Hresult

# Of what an answer means for who runs this program, not a job of Windows.
_ADVICE: Mapping[int, str] = {
    401: "Give --user, or look at the name and the password.",
    407: "Give the proxy's user in the environment: "
    "https_proxy=http://USER:PASSWORD@HOST:PORT.",
}


def final(status: int, code: int | None) -> bool:
    """Trying again will not help ([MC-BUP] 3.1.5.2.1; a code outranks the status).

    Args:
        status: of an answer that is no success.
        code: HRESULT in it.
    """
    entry = None if code is None else HRESULTS.get(code)
    if entry is not None and entry.retry is Retry.NO:
        return True
    return retry(status) is not Retry.YES


def told(status: int, code: int | None) -> str:
    """An answer in words, with what to do about it."""
    spelt = f"HTTP {status}"
    if code is not None:
        spelt += f" with 0x{code:08X}"
    # The status knows better what was denied.
    entry = None if code in (None, Hresult.ACCESS_DENIED) else HRESULTS.get(code)
    row = entry or STATUSES.get(status)
    if row is None:
        return f"the server answers {spelt}"
    words = (
        f"the server answers {spelt}. {row.meaning} {_ADVICE.get(status, row.advice)}"
    )
    return words.rstrip(".")
